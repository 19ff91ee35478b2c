"""Schedules: how the learning rate changes over a training, as a recipe names them.

    schedule: linear
    schedule: {type: step, at: [0.5, 0.75], factor: 0.1}

Every rate is a share of the optimizer's `lr`. It first rises over the optimizer's `warmup`; what comes then is a
function of how much of the rest is done and of the optimizer's `floor`. A schedule that looks at more than that gives
an object of its own from `build`; its `state_dict` goes into checkpoints. Imports no torch.
"""

from __future__ import annotations

import math
from itertools import pairwise
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from pydantic import Field, field_validator

from hyperloom.pipeline.plugins import Plugin
from hyperloom.stages.train.optimizers import Optimizer

if TYPE_CHECKING:
    import torch


class Rates(Protocol):
    """What sets the rate of each group of an optimizer; torch's schedulers do."""

    def step(self) -> None:
        """After each update."""

    def get_last_lr(self) -> list[float]:
        """The present rate of each group."""

    def state_dict(self) -> dict[str, Any]:
        """Tensors and plain values."""

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from there."""


class Schedule(Plugin):
    """Base of schedules."""

    def after(self, done: float, floor: float) -> float:
        """The share of the highest rate once `done` (0..1) of the updates after the warm-up are made."""
        raise TypeError(f"the schedule {self.type!r} has no after()")

    def rate(self, update: int, updates: int, optimizer: Optimizer) -> float:
        """The share of the highest rate in update `update` (from 0) of `updates`."""
        warm = round(optimizer.warmup * updates)
        if update < warm:
            return (update + 1) / (warm + 1)
        return self.after(min(1.0, (update - warm) / max(1, updates - warm)), optimizer.floor)

    def build(self, built: torch.optim.Optimizer, updates: int, optimizer: Optimizer) -> Rates:
        """What sets the rates of `built`, which `optimizer` built, over `updates` updates."""
        from torch.optim.lr_scheduler import LambdaLR

        return LambdaLR(built, lambda update: self.rate(update, updates, optimizer))


class CosineSchedule(Schedule):
    """Half a cosine down to the floor (Loshchilov & Hutter 2017)."""

    revision: ClassVar[int] = 1

    def after(self, done: float, floor: float) -> float:
        return floor + (1 - floor) * (1 + math.cos(math.pi * done)) / 2


class Linear(Schedule):
    """A straight line down to the floor; with `hold` only after that share (warm-up, stable, decay: Hu et al. 2024)."""

    revision: ClassVar[int] = 1
    hold: float = Field(0.0, ge=0, lt=1)

    def after(self, done: float, floor: float) -> float:
        return 1 - (1 - floor) * max(0.0, done - self.hold) / (1 - self.hold)


class Constant(Schedule):
    """The highest rate to the end."""

    revision: ClassVar[int] = 1

    def after(self, done: float, floor: float) -> float:
        return 1.0


class Step(Schedule):
    """The rate times `factor` at each of the shares `at`, and never below the floor."""

    revision: ClassVar[int] = 1
    at: tuple[float, ...] = (0.5, 0.75)
    factor: float = Field(0.1, gt=0, lt=1)

    @field_validator("at")
    @classmethod
    def _rising(cls, value: tuple[float, ...]) -> tuple[float, ...]:
        if not value or any(not 0 < v < 1 for v in value) or any(a >= b for a, b in pairwise(value)):
            raise ValueError("shares of the updates after the warm-up, rising, each between 0 and 1")
        return value

    def after(self, done: float, floor: float) -> float:
        return max(floor, self.factor ** sum(done >= share for share in self.at))
