"""Objectives: the loss of one task against one column of targets.

`build` returns a function from a prediction (N, C, *sites) and a target to the loss of each site and whether the site
is labelled, both (N, *sites): pixels of a raster, steps of a series, nothing more where a sample has one label. Who
reduces them (`stages.objective.reduction` for the criterion) decides on missing samples, sources, confidence and
workers, and leaves out what the modality does not know (`Modality.teaching`); here unlabelled is what the loss could
not be computed of: an id that is no class, a value that is not finite. Predictions are logits for classes and
standardised values for regressions; a `target` comes prepared (`stages.network.processors`, `target`): ids,
probabilities, or values on the prediction's scale.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, TypeAlias

from pydantic import BeforeValidator, Field, model_validator

from hyperloom.pipeline.errors import PluginError
from hyperloom.pipeline.plugins import Plugin, of

if TYPE_CHECKING:
    import torch

    from hyperloom.stages.objective.reduction import Loss

    PixelLoss: TypeAlias = Callable[[torch.Tensor, torch.Tensor], tuple[torch.Tensor, torch.Tensor]]

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
        (`stages.objective.reduction.SetLoss`)."""
        from hyperloom.stages.objective.reduction import SiteLoss

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
        from hyperloom.stages.objective.reduction import SumLoss

        return SumLoss([o.loss(class_counts) for o in self.of], self.weights or (1.0,) * len(self.of))


def _listed(value: Any) -> Any:
    return {"type": "sum", "of": value} if isinstance(value, list) else value


Chosen: TypeAlias = Annotated[One, BeforeValidator(_listed)]
"""The objective that a recipe names for a target: one, or several in a list, which are added."""


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
