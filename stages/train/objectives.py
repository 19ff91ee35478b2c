"""Objectives: the loss of one task against one column of targets, site by site.

`build` returns a function from a prediction (N, C, *sites) and a target to the loss of each site and whether the site
is labelled, both (N, *sites): pixels of a raster, steps of a series, nothing more where a sample has one label. Who
reduces them (`stages.train.reduction` for the criterion) decides on missing samples, sources, confidence and workers,
and leaves out what the modality does not know (`Modality.teaching`); here unlabelled is what the loss could not be
computed of: an id that is no class, a value that is not finite. Objectives of whole regions are in
`stages.train.regions`, those for rare classes in `stages.train.imbalance`. Predictions are logits for classes and
standardised values for regressions; a `target` comes prepared (`stages.network.processors`, `target`): ids,
probabilities, or values on the prediction's scale. Losses of boxes are in `stages.train.centres`; objectives without a
target in `stages.train.extras`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, TypeAlias

from pydantic import BeforeValidator, Field, model_validator

from hyperloom.pipeline.errors import PluginError
from hyperloom.pipeline.plugins import Plugin, of
from hyperloom.stages.transfer import Held, constant

if TYPE_CHECKING:
    import torch

    from hyperloom.stages.train.reduction import Loss

    PixelLoss: TypeAlias = Callable[[torch.Tensor, torch.Tensor], tuple[torch.Tensor, torch.Tensor]]

NO_CLASS = -1
LEAST = 1e-8
"""A chance below this counts as this: less than what is kept of soft answers."""
NUMBERS = ("dense", "image", "clip", "vector", "series", "audio")


def types_of(modality: Any) -> list[str]:
    """The type of a modality and those it derives from, as recipes name them."""
    return [k.__name__.lower() for k in type(modality).__mro__]


class Objective(Plugin):
    """Base of objectives. `fits` names the types of modality that it takes as targets, with those derived from them."""

    fits: ClassVar[tuple[str, ...]] = NUMBERS

    @property
    def of_sets(self) -> bool:
        """Does it say something of all sites of a batch together, so that a worker cannot take its share in parts?"""
        return False

    def takes(self, modality: Any) -> bool:
        return not set(self.fits).isdisjoint(types_of(modality))

    def build(self, class_counts: Sequence[float] | None) -> PixelLoss:
        """`class_counts` are the training pixels of each class in this column, or the shares that its probabilities
        give them, where it has classes."""
        raise TypeError(f"the objective {self.type!r} has no build()")

    def loss(self, class_counts: Sequence[float] | None) -> Loss:
        """How the batch's loss comes from what `build` gives. One that is no sum over sites replaces this
        (`stages.train.reduction.SetLoss`)."""
        from hyperloom.stages.train.reduction import SiteLoss

        return SiteLoss(self.build(class_counts))


One: TypeAlias = Annotated[Any, of("objective")]


class Sum(Objective):
    """Several objectives of one target, over the sites that all of them have labels for. A list is short for it:
    `losses: {semantic: [cross-entropy, dice]}`."""

    revision: ClassVar[int] = 1
    of: tuple[One, ...] = Field(min_length=1)
    weights: tuple[float, ...] = ()
    """One an objective; 1 where none are given."""

    @model_validator(mode="after")
    def _one_weight_each(self) -> Sum:
        if self.weights and len(self.weights) != len(self.of):
            raise ValueError(f"weights: expected {len(self.of)}, one an objective, got {len(self.weights)}")
        if any(w < 0 for w in self.weights):
            raise ValueError("weights: an objective's weight cannot be negative")
        return self

    @property
    def of_sets(self) -> bool:
        return any(objective.of_sets for objective in self.of)

    def takes(self, modality: Any) -> bool:
        return all(objective.takes(modality) for objective in self.of)

    def loss(self, class_counts: Sequence[float] | None) -> Loss:
        from hyperloom.stages.train.reduction import SumLoss

        return SumLoss([o.loss(class_counts) for o in self.of], self.weights or (1.0,) * len(self.of))


def _listed(value: Any) -> Any:
    return {"type": "sum", "of": value} if isinstance(value, list) else value


Chosen: TypeAlias = Annotated[One, BeforeValidator(_listed)]
"""The objective that a recipe names for a target: one, or several in a list, which are added."""


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


def class_shares(class_counts: Sequence[float] | None) -> torch.Tensor:
    """How much of what is labelled each class is, (C,) float64. Raises PluginError where nothing is known of it."""
    import torch

    if class_counts is None:
        raise PluginError(
            "an objective wants to know how often each class occurs in a column that does not say so. Next: leave out "
            "its balance, or take another objective"
        )
    share = torch.tensor(class_counts, dtype=torch.float64)
    return share / share.sum().clamp(min=1e-12)


def class_weights(class_counts: Sequence[float] | None, power: float) -> torch.Tensor:
    """frequency ** -power of each class, (C,) float32, so that the average labelled site weighs 1; 0 for a class that
    never occurs. Raises PluginError."""
    import torch

    share = class_shares(class_counts)
    raw = torch.where(share > 0, share.clamp(min=1e-12) ** -power, 0.0)
    return (raw / (raw * share).sum().clamp(min=1e-12)).float()


def mean_weight(weight: torch.Tensor, probabilities: torch.Tensor) -> torch.Tensor:
    """What sites weigh whose classes are known by `probabilities` (N, C, *sites): (N, *sites)."""
    return (probabilities * weight.view(1, -1, *[1] * (probabilities.ndim - 2))).sum(1)


def _finite(target: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    return target.nan_to_num(0.0, 0.0, 0.0), target.isfinite().all(1)
