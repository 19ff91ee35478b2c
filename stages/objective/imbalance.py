"""Objectives for rare classes and thin things: what counts more than its number of pixels.

    losses: {soft@teacher: {type: boundary, of: kl, width: 2, weight: 4}}

See also `balance` of the two cross-entropies, and `stages.objective.regions`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field, field_validator

from hyperloom.stages.base import UNKNOWN
from hyperloom.stages.objective.base import Objective, One, class_shares, class_weights, mean_weight
from hyperloom.stages.transfer import Held

if TYPE_CHECKING:
    import torch

    from hyperloom.stages.objective.base import PixelLoss

CLASSES = ("segmentation", "category", "soft")


class Focal(Objective):
    """Cross-entropy in which class c of a site counts |t - p| ** `gamma`, so what is right already counts little (Lin
    et al. 2017; with soft answers t as in Li et al. 2020, "Generalized focal loss"). `balance` as of cross-entropy."""

    revision: ClassVar[int] = 1
    fits: ClassVar[tuple[str, ...]] = CLASSES
    gamma: float = Field(2.0, ge=0)
    balance: float = Field(0.0, ge=0, le=1)

    def build(self, class_counts: Sequence[float] | None) -> PixelLoss:
        weight = Held(class_weights(class_counts, self.balance)) if self.balance else None

        def sites(prediction: torch.Tensor, target: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            truth, labelled = shares(target, prediction)
            log = prediction.log_softmax(1)
            loss = -(truth * (truth - log.exp()).abs() ** self.gamma * log).sum(1)
            return loss if weight is None else loss * mean_weight(weight.on(truth.device), truth), labelled

        return sites


class LogitAdjusted(Objective):
    """Cross-entropy of logits to which `tau` times the logarithm of each class's frequency is added while training, so
    that what is learned is balanced over classes (Menon et al. 2021)."""

    revision: ClassVar[int] = 1
    fits: ClassVar[tuple[str, ...]] = CLASSES
    tau: float = Field(1.0, gt=0)

    def build(self, class_counts: Sequence[float] | None) -> PixelLoss:
        prior = Held((class_shares(class_counts).clamp(min=1e-8).log() * self.tau).float())

        def sites(prediction: torch.Tensor, target: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            truth, labelled = shares(target, prediction)
            shift = prior.on(prediction.device).view(1, -1, *[1] * (prediction.ndim - 2))
            return -(truth * (prediction + shift).log_softmax(1)).sum(1), labelled

        return sites


class Boundary(Objective):
    """The objective `of`, in which a pixel counts `weight` times that has another class within `width` pixels to a side
    (after U-Net's map of borders, Ronneberger, Fischer & Brox 2015). Unlabelled pixels are no other class."""

    revision: ClassVar[int] = 1
    fits: ClassVar[tuple[str, ...]] = ("segmentation", "soft")
    of: One
    width: int = Field(1, gt=0)
    weight: float = Field(4.0, gt=0)

    @field_validator("of")
    @classmethod
    def _of_sites(cls, value: Any) -> Any:
        if type(value).build is Objective.build:
            raise ValueError(f"of: {value.type} has no loss a pixel; a boundary weighs one that has")
        return value

    def takes(self, modality: Any) -> bool:
        return super().takes(modality) and self.of.takes(modality)

    def build(self, class_counts: Sequence[float] | None) -> PixelLoss:
        pixels = self.of.build(class_counts)

        def sites(prediction: torch.Tensor, target: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            loss, labelled = pixels(prediction, target)
            return loss * (1 + (self.weight - 1) * self._near(target, labelled)), labelled

        return sites

    def _near(self, target: torch.Tensor, labelled: torch.Tensor) -> torch.Tensor:
        """1 where another class is near, else 0: (N, H, W)."""
        import torch
        from torch.nn.functional import max_pool2d

        ids = (target if target.ndim == 3 else target.argmax(1)).float()
        side = 2 * self.width + 1
        most = max_pool2d(torch.where(labelled, ids, -1.0), side, 1, self.width)
        least = -max_pool2d(torch.where(labelled, -ids, -float(UNKNOWN)), side, 1, self.width)
        return (labelled & (most != least)).to(ids.dtype)


def shares(target: torch.Tensor, prediction: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """What is true of each class, (N, C, *sites) floats, and which sites are labelled, (N, *sites), of ids or of
    probabilities."""
    import torch

    if target.ndim == prediction.ndim:
        return target.to(prediction.dtype), target.sum(1) > 0.5
    labelled = (target >= 0) & (target < prediction.shape[1])
    ids = torch.where(labelled, target.long(), 0)[:, None]
    truth = torch.zeros_like(prediction).scatter_(1, ids, 1.0)
    return truth * labelled[:, None], labelled
