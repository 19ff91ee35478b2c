"""Learners: the method of one update, as a recipe names it.

    learner: {type: "mine:Sharpness", radius: 0.05}

A learner owns what happens between a batch and the next: which networks see it, how often, what of the losses flows
back, when the optimizer steps. The loop owns the rest: what is shown of a batch, the schedule, the average, checkpoints
and the curve. Most methods are the default one with a method or two replaced (`stages.train.descent.Descent`), as
sharpness-aware minimisation, which looks twice before it steps, or a mean teacher, which adds a loss. Imports no torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from pydantic import Field, field_validator

from hyperloom.pipeline.config import as_tuple
from hyperloom.pipeline.plugins import Plugin
from hyperloom.stages.modality import Modality

if TYPE_CHECKING:
    import torch
    from torch import nn

    from hyperloom.stages.network.model import MultiTask
    from hyperloom.stages.network.visible import Visible
    from hyperloom.stages.train.criterion import Criterion, Losses
    from hyperloom.stages.train.job import Job
    from hyperloom.stages.world import World


PLAIN = "&plain"


@dataclass(frozen=True)
class UpdateBatch:
    """What update `number` (from 0) learns from: this rank's part of the global batch, on its device, changed by the
    augmentations, and what the mask lets the network see of it."""

    number: int
    columns: dict[str, torch.Tensor]
    visible: Visible


@dataclass(frozen=True)
class Update:
    """What an update was: its number from 1, its losses, the balancer's sum of them, the norm of the gradient, which
    must be finite or the training ends."""

    number: int
    losses: Losses
    total: torch.Tensor
    norm: torch.Tensor


@dataclass
class Setup:
    """What a learner works with. All of it is in checkpoints already; a learner keeps what it adds."""

    job: Job
    """Its seed, batch, clip and so on; in a phase, the job of that phase."""
    world: World
    device: torch.device
    model: MultiTask
    criterion: Criterion
    """From columns and what is visible of them to a loss a task."""
    balancer: Any
    """From losses to gradients (`stages.balance.weighting.Weighting`)."""
    optimizer: torch.optim.Optimizer
    parameters: list[nn.Parameter] = field(default_factory=list)
    """What moves at present: of the model, the objectives without a target, the balancers."""


class UpdateMethod(Protocol):
    """A learner at work, on one rank."""

    def update(self, batch: UpdateBatch) -> Update:
        """Make one update of `setup.parameters`. All ranks call it together; what it leaves must follow from the seed,
        the batch and its state alone, and be the same on all ranks."""

    def state_dict(self) -> dict[str, Any]:
        """What it keeps between updates: tensors and plain values."""

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from there."""


class Learner(Plugin):
    """Base of learners."""

    terms: ClassVar[tuple[str, ...]] = ()
    """Losses that the method adds to those of tasks and extras, which the balancer and the curve see by these names."""

    plain: ClassVar[bool] = False
    """Does it want to see the inputs as they were before their light was changed? They are in the batch then, as
    `column + PLAIN`, and went through the same geometry and the same blend."""
    copies: ClassVar[bool] = False
    """Does it hold a whole network beside the one that is taught? Then weights cannot be split over workers."""

    def check(self, tasks: Mapping[str, Modality]) -> None:
        """Raises ValueError when the tasks are none for this method."""

    def build(self, setup: Setup) -> UpdateMethod:
        """The method at work; called once, with the model initialised and nothing loaded from a checkpoint."""
        raise TypeError(f"the learner {self.type!r} has no build()")


class Gradient(Learner):
    """One step of the optimizer along the balanced gradient of the global batch."""

    revision: ClassVar[int] = 1

    def build(self, setup: Setup) -> UpdateMethod:
        from hyperloom.stages.train.descent import Descent

        return Descent(setup)


class MeanTeacher(Learner):
    """A mean teacher (Tarvainen & Valpola 2017): an average of the student's own weights, which is shown every input in
    full and in its own light, and the mean squared difference of the student's answers from its answers (probabilities
    of classes, standardised numbers), so unlabelled pictures teach too. What the student sees besides (`mask`,
    `colour`) is the noise. Its weight rises as exp(-5 (1 - t)^2) over the share `rise` of the updates; the loss is
    `mean-teacher` to the balancer. `ema` keeps the teacher in place of the student."""

    revision: ClassVar[int] = 1
    terms: ClassVar[tuple[str, ...]] = ("mean-teacher",)
    plain: ClassVar[bool] = True
    copies: ClassVar[bool] = True
    decay: float = Field(0.999, ge=0, lt=1)
    weight: float = Field(1.0, gt=0)
    rise: float = Field(0.3, ge=0, le=1)
    of: tuple[str, ...] = ()
    """Tasks; by default all that are of classes or numbers."""

    _tuple = field_validator("of", mode="before")(as_tuple)

    def check(self, tasks: Mapping[str, Modality]) -> None:
        from hyperloom.stages.objective.hints import answered

        if unknown := [t for t in self.of if t not in tasks]:
            raise ValueError(f"{self.type}: of: {unknown[0]} is no task; they are {', '.join(tasks)}")
        if not any(answered(m) for t, m in tasks.items() if t in self.of or not self.of):
            raise ValueError(f"{self.type}: no task is of classes or numbers")

    def build(self, setup: Setup) -> UpdateMethod:
        from hyperloom.stages.train.consistency import Consistency

        return Consistency(setup, self)
