"""Balancers: from per-task losses to one step direction.

A balancer owns the backward pass and the agreement over workers, because some methods need the gradient of every task
over the whole global batch (MGDA, CAGrad) and not only a sum. Invariants: a task without a label in the global batch
moves nothing, neither weights nor the balancer's own parameters; the step is the same however many workers share the
batch, up to the rounding of sums. Balancers do not know what the losses are.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar

from pydantic import Field, field_validator

from hyperloom.pipeline.plugins import Plugin

if TYPE_CHECKING:
    from torch import nn


class Balancer(Plugin):
    """Base of balancers."""

    per_task: ClassVar[bool] = False
    """Does it take the gradient of each task on its own? Then it needs the whole parameters in each process."""

    def build(self, tasks: Sequence[str], regression: Sequence[bool]) -> nn.Module:
        """A module as `stages.balance.weighting.Weighting` describes; its own parameters are trained with the model's.
        `regression[i]` says whether task i is a regression or a classification. Raises PluginError."""
        raise TypeError(f"the balancer {self.type!r} has no build()")

    def check(self, tasks: Sequence[str]) -> None:
        """Raises ValueError when this balancer names what is no task."""

    def remedy(self, task: str, first: bool) -> str:
        """What a recipe may change where `task` is not learned and others beside it are; `first`: is it the first?"""
        return "`balancer: leading` lets it set the pace" if first else "put it first, under `balancer: leading`"


class Static(Balancer):
    """Fixed weights, 1 unless given: the baseline of every other balancer."""

    revision: ClassVar[int] = 1
    weights: dict[str, float] = Field(default_factory=dict)

    @field_validator("weights")
    @classmethod
    def _positive(cls, value: dict[str, float]) -> dict[str, float]:
        if any(w < 0 for w in value.values()):
            raise ValueError("a task's weight cannot be negative")
        return value

    def check(self, tasks: Sequence[str]) -> None:
        unknown = sorted(set(self.weights) - set(tasks))
        if unknown:
            raise ValueError(f"the balancer weighs {', '.join(unknown)}, but the tasks are {', '.join(tasks)}")

    def remedy(self, task: str, first: bool) -> str:
        weight = f"`weights: {{{task}: {2 * self.weights.get(task, 1.0) or 1.0:g}}}` weighs it more"
        return f"{weight}, and {super().remedy(task, True)}" if first else weight

    def build(self, tasks: Sequence[str], regression: Sequence[bool]) -> nn.Module:
        from hyperloom.stages.balance import weighting

        return weighting.Fixed([self.weights.get(t, 1.0) for t in tasks])


class Uncertainty(Balancer):
    """Learned homoscedastic uncertainty (Kendall, Gal & Cipolla 2018)."""

    revision: ClassVar[int] = 1

    def build(self, tasks: Sequence[str], regression: Sequence[bool]) -> nn.Module:
        from hyperloom.stages.balance import weighting

        return weighting.LogVariance([0.5 if r else 1.0 for r in regression])


class Leading(Balancer):
    """The first task leads: the gradients of all others together have at most `share` of the norm of its own on the
    weights that tasks share, measured every `every` updates (see `stages.balance.leading`)."""

    revision: ClassVar[int] = 1
    per_task: ClassVar[bool] = True
    share: float = Field(0.1, gt=0)
    every: int = Field(20, gt=0)

    def remedy(self, task: str, first: bool) -> str:
        size, result = ("smaller", "leaves it more") if first else ("larger", "gives it more of the first task's pace")
        return f"a {size} `share` of `balancer: leading` (now {self.share:g}) {result}"

    def build(self, tasks: Sequence[str], regression: Sequence[bool]) -> nn.Module:
        from hyperloom.stages.balance import leading

        return leading.LeadingWeights(len(tasks), self.share, self.every)
