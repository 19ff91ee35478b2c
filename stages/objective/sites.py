"""Objectives of sites: classes, probabilities, numbers, directions, levels and points, each site by itself."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from hyperloom.stages.objective.base import LEAST, Objective, class_weights, mean_weight
from hyperloom.stages.transfer import Held, constant

if TYPE_CHECKING:
    import torch

    from hyperloom.stages.objective.base import PixelLoss

NO_CLASS = -1


class CrossEntropy(Objective):
    """Cross-entropy against class ids of pixels, samples, bytes or tags. `balance` > 0 weighs class c by
    frequency(c) ** -balance, so that the average labelled pixel weighs 1; a class that never occurs gets no weight."""

    revision: ClassVar[int] = 1
    fits: ClassVar[tuple[str, ...]] = ("segmentation", "category", "text", "tags")
    balance: float = Field(0.0, ge=0, le=1)
    smoothing: float = Field(0.0, ge=0, lt=1)

    def build(self, class_counts: Sequence[float] | None) -> PixelLoss:
        from torch.nn.functional import cross_entropy

        weight = Held(class_weights(class_counts, self.balance)) if self.balance else None

        def pixels(prediction: torch.Tensor, target: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            ids = target.long()
            scale = None if weight is None else weight.on(prediction.device)
            labelled = (ids >= 0) & (ids < prediction.shape[1])
            loss = cross_entropy(
                prediction,
                ids.where(labelled, NO_CLASS),
                scale,
                ignore_index=NO_CLASS,
                reduction="none",
                label_smoothing=self.smoothing,
            )
            return loss, labelled

        return pixels


class SoftCrossEntropy(Objective):
    """Kullback-Leibler divergence from a teacher's probabilities, both sides softened by `temperature` and scaled by
    its square (Hinton, Vinyals & Dean 2015). A site whose probabilities sum to nothing is unlabelled. `balance` as of
    cross-entropy: a site weighs what the teacher's probabilities there make of the classes' weights."""

    revision: ClassVar[int] = 1
    fits: ClassVar[tuple[str, ...]] = ("soft", "vector")
    temperature: float = Field(1.0, gt=0)
    balance: float = Field(0.0, ge=0, le=1)

    def build(self, class_counts: Sequence[float] | None) -> PixelLoss:
        from torch.nn.functional import kl_div, log_softmax

        weight = Held(class_weights(class_counts, self.balance)) if self.balance else None

        def pixels(prediction: torch.Tensor, target: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            labelled = target.sum(1) > 0.5
            teacher, student = target.clamp(min=LEAST), prediction
            if self.temperature != 1:  # powers of every pixel's every class take as long as the rest of the loss
                teacher, student = teacher ** (1 / self.temperature), prediction / self.temperature
            teacher = teacher / teacher.sum(1, keepdim=True)
            loss = kl_div(log_softmax(student, 1), teacher, reduction="none").sum(1) * self.temperature**2
            return loss if weight is None else loss * mean_weight(weight.on(target.device), target), labelled

        return pixels


class Huber(Objective):
    """Quadratic below `delta` standard deviations, linear above; averaged over channels."""

    revision: ClassVar[int] = 1
    delta: float = Field(1.0, gt=0)

    def build(self, class_counts: Sequence[float] | None) -> PixelLoss:
        from torch.nn.functional import huber_loss

        def pixels(prediction: torch.Tensor, target: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            finite, labelled = _finite(target)
            return huber_loss(prediction, finite, reduction="none", delta=self.delta).mean(1), labelled

        return pixels


class L1(Objective):
    """Absolute error in standard deviations, averaged over channels."""

    revision: ClassVar[int] = 1

    def build(self, class_counts: Sequence[float] | None) -> PixelLoss:
        def pixels(prediction: torch.Tensor, target: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            finite, labelled = _finite(target)
            return (prediction - finite).abs().mean(1), labelled

        return pixels


class Cosine(Objective):
    """1 - cosine of the angle between directions; a target of length zero is unlabelled."""

    revision: ClassVar[int] = 1
    fits: ClassVar[tuple[str, ...]] = ("dense", "vector")

    def build(self, class_counts: Sequence[float] | None) -> PixelLoss:
        from torch.nn.functional import cosine_similarity

        def pixels(prediction: torch.Tensor, target: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            finite, labelled = _finite(target)
            return 1 - cosine_similarity(prediction, finite, dim=1), labelled & (finite != 0).any(1)

        return pixels


class FeatureMatching(Objective):
    """A teacher's features, matched through the task's own head as projector (FitNets, Romero et al. 2015): squared
    error after both are made of mean 0 and deviation 1 over channels, so that only their pattern counts."""

    revision: ClassVar[int] = 1
    fits: ClassVar[tuple[str, ...]] = ("dense", "vector")

    def build(self, class_counts: Sequence[float] | None) -> PixelLoss:
        from torch.nn.functional import mse_loss

        def normal(x: torch.Tensor) -> torch.Tensor:
            return (x - x.mean(1, keepdim=True)) / (x.var(1, unbiased=False, keepdim=True) + 1e-6).sqrt()

        def pixels(prediction: torch.Tensor, target: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            finite, labelled = _finite(target)
            return mse_loss(normal(prediction), normal(finite), reduction="none").mean(1), labelled

        return pixels


class BinaryCrossEntropy(Objective):
    """Each class or pair on its own, yes or no; 255 is unlabelled. `positive` weighs what is there more than what is
    not, for rare classes and sparse graphs."""

    revision: ClassVar[int] = 1
    fits: ClassVar[tuple[str, ...]] = ("multilabel", "graph")
    positive: float = Field(1.0, gt=0)

    def build(self, class_counts: Sequence[float] | None) -> PixelLoss:
        from torch.nn.functional import binary_cross_entropy_with_logits as bce

        def sites(prediction: torch.Tensor, target: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            labelled = target <= 1
            truth = (target == 1).to(prediction.dtype)
            weight = constant(self.positive, prediction.dtype, prediction.device)
            return bce(prediction, truth, reduction="none", pos_weight=weight), labelled

        return sites


class Cumulative(Objective):
    """The likelihood of an ordered level under a cumulative link (McCullagh 1980), from the logits of lying above each
    threshold; below 0 is unlabelled."""

    revision: ClassVar[int] = 1
    fits: ClassVar[tuple[str, ...]] = ("ordinal",)

    def build(self, class_counts: Sequence[float] | None) -> PixelLoss:
        from hyperloom.stages.network.pooled_heads import level_probabilities

        def sites(prediction: torch.Tensor, target: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            chances = level_probabilities(prediction)
            labelled = (target >= 0) & (target < chances.shape[1])
            chance = chances.gather(1, target.where(labelled, 0)[:, None])[:, 0]
            return -chance.clamp(min=1e-6).log(), labelled

        return sites


class KeypointsLoss(Objective):
    """Places of visible points by their distance (huber), in shares of the picture times `scale`, and whether each
    point is visible by cross-entropy."""

    revision: ClassVar[int] = 1
    fits: ClassVar[tuple[str, ...]] = ("keypoints",)
    scale: float = Field(10.0, gt=0)

    def build(self, class_counts: Sequence[float] | None) -> PixelLoss:
        from torch.nn.functional import binary_cross_entropy_with_logits, huber_loss

        def sites(prediction: torch.Tensor, target: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            finite, labelled = _finite(target)
            visible = finite[:, 2]
            place = huber_loss(prediction[:, :2] * self.scale, finite[:, :2] * self.scale, reduction="none").mean(1)
            seen = binary_cross_entropy_with_logits(prediction[:, 2], visible, reduction="none")
            return place * visible + seen, labelled

        return sites


def _finite(target: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    return target.nan_to_num(0.0, 0.0, 0.0), target.isfinite().all(1)
