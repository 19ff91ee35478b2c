"""Objectives of regions: how well the classes' regions overlap, which counts a rare class as much as a frequent one.

    losses: {semantic@consensus: [cross-entropy, {type: lovasz}]}

Each is a mean over the classes that occur among the labelled sites; a class that does not occur there says nothing.
Soft targets have regions too: what prediction p and target t share is (p + t - |p - t|) / 2, which is p t where t is 0
or 1, and at its best where p = t (Wang et al. 2023, "Dice semimetric losses"). By themselves these objectives are slow
to start, so they are mostly added to one of sites.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from hyperloom.stages.objective.base import Objective
from hyperloom.stages.objective.imbalance import shares

if TYPE_CHECKING:
    import torch

    from hyperloom.stages.objective.reduction import Loss


class Tversky(Objective):
    """1 - TP / (TP + alpha FP + beta FN), to the power of `gamma` (Salehi, Erdogmus & Gholipour 2017; the power after
    Abraham & Khan 2019). A larger `beta` finds more of a rare class. `over` the global batch, or each sample."""

    revision: ClassVar[int] = 1
    fits: ClassVar[tuple[str, ...]] = ("segmentation", "soft")
    alpha: float = Field(0.3, gt=0)
    beta: float = Field(0.7, gt=0)
    gamma: float = Field(1.0, gt=0)
    over: Literal["batch", "sample"] = "batch"

    @property
    def of_sets(self) -> bool:
        return self.over == "batch"

    def loss(self, class_counts: Sequence[float] | None) -> Loss:
        from hyperloom.stages.objective.reduction import SetLoss

        return SetLoss(regions, _areas, self.value, self.over == "sample")

    def value(self, areas: torch.Tensor) -> torch.Tensor:
        """From areas (..., 3, C) to the mean over classes, (...)."""
        shared, answered, truth = areas.unbind(-2)
        falsely, missed = self.alpha * (answered - shared), self.beta * (truth - shared)
        index = shared / (shared + falsely + missed).clamp(min=1e-9)
        occurs = truth > 0
        lost = (1 - index).clamp(min=0)
        if self.gamma != 1:
            lost = lost.clamp(min=1e-9) ** self.gamma
        return (lost * occurs).sum(-1) / occurs.sum(-1).clamp(min=1)


class Dice(Tversky):
    """1 - 2 TP / (2 TP + FP + FN): the Tversky index of 1/2 and 1/2 (Milletari, Navab & Ahmadi 2016)."""

    alpha: float = Field(0.5, gt=0)
    beta: float = Field(0.5, gt=0)


class Jaccard(Tversky):
    """1 - TP / (TP + FP + FN), intersection over union: the Tversky index of 1 and 1 (Wang et al. 2023, "Jaccard metric
    losses")."""

    alpha: float = Field(1.0, gt=0)
    beta: float = Field(1.0, gt=0)


class Lovasz(Objective):
    """Lovász-softmax (Berman, Rannen Triki & Blaschko 2018): the convex closure of the Jaccard loss in the errors of
    the sites of each sample. Weights of sites are areas of theirs."""

    revision: ClassVar[int] = 1
    fits: ClassVar[tuple[str, ...]] = ("segmentation",)

    def loss(self, class_counts: Sequence[float] | None) -> Loss:
        from hyperloom.stages.objective.reduction import SetLoss

        return SetLoss(regions, _lovasz, lambda values: values, each=True)


def regions(prediction: torch.Tensor, target: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """From logits (N, C, *sites) and ids (N, *sites) or probabilities (N, C, *sites) to what is answered and what is
    true, both (N, C, S), and which sites are labelled, (N, *sites). Unlabelled ones are true of no class."""
    truth, labelled = shares(target, prediction.float())
    return prediction.float().softmax(1).flatten(2), truth.flatten(2), labelled


def _areas(answered: torch.Tensor, truth: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """(N, 3, C): what both share, what is answered, what is true."""
    import torch

    parts = (torch.minimum(answered, truth), answered, truth)  # the smaller one is (p + t - |p - t|) / 2
    return torch.stack([(part * weight).sum(2) for part in parts], 1)


def _lovasz(answered: torch.Tensor, truth: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """The mean over the classes that occur in a sample, (N,)."""
    import torch

    errors, order = ((truth - answered).abs() * (weight > 0)).sort(2, descending=True)
    inside = (truth * weight).gather(2, order)
    outside = ((1 - truth) * weight).gather(2, order)
    area = inside.sum(2, keepdim=True)
    jaccard = 1 - (area - inside.cumsum(2)) / (area + outside.cumsum(2)).clamp(min=1e-9)
    steps = torch.cat([jaccard[:, :, :1], jaccard[:, :, 1:] - jaccard[:, :, :-1]], 2)
    occurs = area[:, :, 0] > 0
    return ((errors * steps).sum(2) * occurs).sum(1) / occurs.sum(1).clamp(min=1)
