"""Objectives: the loss of one task against one column of targets, pixel by pixel.

`build` returns a function from a prediction (N, C, H, W) and a target to the loss of each pixel and whether the pixel
is labelled, both (N, H, W); who reduces them (the loop) decides on missing samples, sources and workers. Unlabelled is
a class id of 255, or a value that is not finite. Predictions are logits for classes and standardised values
for regressions; a `target` comes prepared by the model: ids, probabilities, or values on the prediction's scale.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, ClassVar, TypeAlias

from pydantic import Field

from pipeline.plugins import Plugin

if TYPE_CHECKING:
    import torch

    PixelLoss: TypeAlias = Callable[[torch.Tensor, torch.Tensor], tuple[torch.Tensor, torch.Tensor]]

UNKNOWN = 255


class Objective(Plugin):
    """Base of objectives. `fits` names the types of modality that it takes as targets."""

    fits: ClassVar[tuple[str, ...]] = ("dense",)

    def build(self, class_counts: Sequence[float] | None) -> PixelLoss:
        """`class_counts` are the training pixels of each class in this column, where it has classes."""
        raise TypeError(f"the objective {self.type!r} has no build()")


class CrossEntropy(Objective):
    """Cross-entropy against class ids. `balance` > 0 weighs class c by frequency(c) ** -balance, so that the average
    labelled pixel weighs 1; a class that never occurs gets no weight."""

    revision: ClassVar[int] = 1
    fits: ClassVar[tuple[str, ...]] = ("segmentation",)
    balance: float = Field(0.0, ge=0, le=1)
    smoothing: float = Field(0.0, ge=0, lt=1)

    def build(self, class_counts: Sequence[float] | None) -> PixelLoss:
        import torch
        from torch.nn.functional import cross_entropy

        weight = None
        if self.balance:
            share = torch.tensor(class_counts, dtype=torch.float64)
            share = share / share.sum().clamp(min=1)
            raw = torch.where(share > 0, share.clamp(min=1e-12) ** -self.balance, 0.0)
            weight = (raw / (raw * share).sum().clamp(min=1e-12)).float()

        def pixels(prediction: torch.Tensor, target: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            ids = target.long()
            scale = None if weight is None else weight.to(prediction.device)
            loss = cross_entropy(
                prediction, ids, scale, ignore_index=UNKNOWN, reduction="none", label_smoothing=self.smoothing
            )
            return loss, ids != UNKNOWN

        return pixels


class SoftCrossEntropy(Objective):
    """Kullback-Leibler divergence from a teacher's probabilities, both sides softened by `temperature` and scaled by
    its square (Hinton, Vinyals & Dean 2015). A pixel whose probabilities sum to nothing is unlabelled."""

    revision: ClassVar[int] = 1
    fits: ClassVar[tuple[str, ...]] = ("soft",)
    temperature: float = Field(1.0, gt=0)

    def build(self, class_counts: Sequence[float] | None) -> PixelLoss:
        from torch.nn.functional import kl_div, log_softmax

        def pixels(prediction: torch.Tensor, target: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            labelled = target.sum(1) > 0.5
            teacher = target.clamp(min=1e-6) ** (1 / self.temperature)
            teacher = teacher / teacher.sum(1, keepdim=True)
            student = log_softmax(prediction / self.temperature, 1)
            return kl_div(student, teacher, reduction="none").sum(1) * self.temperature**2, labelled

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

    def build(self, class_counts: Sequence[float] | None) -> PixelLoss:
        from torch.nn.functional import cosine_similarity

        def pixels(prediction: torch.Tensor, target: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            finite, labelled = _finite(target)
            return 1 - cosine_similarity(prediction, finite, dim=1), labelled & (finite.square().sum(1) > 1e-6)

        return pixels


def _finite(target: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    return target.nan_to_num(0.0, 0.0, 0.0), target.isfinite().all(1)
