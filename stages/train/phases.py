"""Phases: a training in stretches that teach differently, in their order.

    phases:
      - {name: pretrain, share: 0.6, targets: [], extras: [views], freeze: []}
      - {name: heads, share: 0.1, freeze: [trunk], restart: true}
      - {name: all, share: 0.3, mask: {type: modality, keep: 0.7}}

What a phase does not say is as the step says. Weights, optimizer, average and the position in the data go on over the
borders. Recipe side; imports no torch.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import accumulate, pairwise
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field, field_validator, model_validator

from hyperloom.pipeline.config import Config
from hyperloom.pipeline.plugins import of
from hyperloom.stages.objective.base import Chosen

if TYPE_CHECKING:
    from hyperloom.stages.train.stage import Train


class Phase(Config):
    """One stretch of a training: its number of `updates`, or its `share` of all."""

    name: str = ""
    updates: int | None = Field(None, gt=0)
    share: float | None = Field(None, gt=0, le=1)
    targets: tuple[str, ...] | None = None
    """Tasks or columns of the step's targets; heads of tasks that are not taught rest."""
    extras: tuple[str, ...] | None = None
    losses: dict[str, Chosen] = {}
    """Go before the step's."""
    mask: Annotated[Any, of("mask")] | None = None
    sampler: Annotated[Any, of("sampler")] | None = None
    """Shares of the data sets; a phase with shares of its own goes through them from their start."""
    balancer: Annotated[Any, of("balancer")] | None = None
    freeze: tuple[str, ...] | None = None
    """In place of the step's."""
    restart: bool = False
    """The learning rate's schedule begins anew, over the updates up to the next restart."""

    @field_validator("targets", "extras", "freeze", mode="before")
    @classmethod
    def _listed(cls, value: Any) -> Any:
        return (value,) if isinstance(value, str) else value

    @model_validator(mode="after")
    def _long(self) -> Phase:
        if (self.updates is None) == (self.share is None):
            raise ValueError("give either updates or a share of them")
        return self

    def teaches(self, task: str, column: str) -> bool:
        """Does a target of the step count in this phase?"""
        return self.targets is None or task in self.targets or column in self.targets


def total(phases: Sequence[Phase]) -> int | None:
    """The updates of all phases; None where they are shares."""
    counts = [p.updates for p in phases if p.updates is not None]
    return sum(counts) if counts else None


def borders(phases: Sequence[Phase], updates: int) -> list[int]:
    """Where each phase begins, and `updates`. Raises ValueError when one of them would have no update."""
    if total(phases) is None:
        ends = [round(updates * share) for share in accumulate(p.share or 0.0 for p in phases)]
    else:
        ends = list(accumulate(p.updates or 0 for p in phases))
    starts = [0, *ends[:-1], updates]
    empty = [i for i, (a, b) in enumerate(pairwise(starts), 1) if a >= b]
    if empty:
        raise ValueError(f"phase {empty[0]} has no update of the {updates}. Next: give it a larger share")
    return starts


def check(stage: Train) -> None:
    """Raises ValueError when phases contradict the step, or name what it has not."""
    phases = stage.phases
    shares = [p.share for p in phases if p.share is not None]
    if shares and len(shares) < len(phases):
        raise ValueError("phases: give either all their updates or all their shares")
    if shares and not math.isclose(sum(shares), 1.0, abs_tol=1e-6):
        raise ValueError(f"phases: their shares add up to {sum(shares):g}, not to 1")
    for i, phase in enumerate(phases, 1):
        for mistake in _mistakes(stage, phase):
            raise ValueError(f"phase {i}{f' ({phase.name})' if phase.name else ''}: {mistake}")


def _mistakes(stage: Train, phase: Phase) -> Iterator[str]:
    known = {*stage.targets, *(c for columns in stage.targets.values() for c in columns)}
    if unknown := [t for t in phase.targets or () if t not in known]:
        yield f"{unknown[0]!r} is no target; they are {', '.join(sorted(known))}"
    if unknown := [e for e in phase.extras or () if e not in stage.extras]:
        yield f"{unknown[0]!r} is none of the extras, {', '.join(stage.extras) or 'of which there are none'}"
    if phase.targets == () and not (stage.extras if phase.extras is None else phase.extras):
        yield "nothing teaches"
    if phase.sampler is not None and isinstance(stage.data, str):
        yield "sampler: there is one data set alone"
    if phase.balancer is not None and stage.parallel == "fsdp" and phase.balancer.per_task:
        yield f"parallel: the balancer {phase.balancer.type!r} needs whole gradients; use ddp"
    try:
        stage.model.check_parts(stage.inputs, stage.targets, phase.freeze or ())
        if phase.mask is not None:
            phase.mask.check(stage.inputs)
        if phase.balancer is not None:
            phase.balancer.check(stage.losing)
    except ValueError as error:
        yield str(error)
