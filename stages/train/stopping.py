"""Early stopping: end when validation has not improved for a while, and keep the weights of its best moment.

    stop: {metric: semantic.miou, patience: 5, every: 100}

It depends on updates alone, never on time or on when a run was resumed, so all of it is meaning (Prechelt 1998, "Early
Stopping - But When?"). The learning rate still follows the whole number of updates; where there is none, the rate
begins to fall when patience has run out (`stages.train.length`). Imports no torch.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import Field, field_validator

from hyperloom.pipeline.config import Config


class EarlyStop(Config):
    """`metric` is `task.measure` of the split `val`; it is looked at every `every` updates, in place of
    `validate_every`, and must be better by more than `change`, in its own unit, to count as progress."""

    metric: str = ""
    """Left out: the figure that the first task is judged by."""
    patience: int = Field(5, gt=0)
    """How many looks in a row may pass without progress."""
    every: int = Field(100, gt=0)
    change: float = Field(0.0, ge=0)
    share: float = Field(0.0, ge=0, lt=1)
    """Wait at least this share of the updates made so far, whatever `patience` says."""

    @field_validator("metric")
    @classmethod
    def _known(cls, value: str) -> str:
        from hyperloom.stages.measure.measure import figures_known

        task, _, measure = value.rpartition(".")
        if not value:
            return value
        if not task or measure not in figures_known():
            raise ValueError(f"{value!r} is no task.measure; measures are {', '.join(figures_known())}")
        return value

    @property
    def task(self) -> str:
        return self.metric.rpartition(".")[0]

    @property
    def measure(self) -> str:
        return self.metric.rpartition(".")[2]

    def resolved(self, figures: Mapping[str, str]) -> EarlyStop:
        """With the metric that is meant, by the figure of each task (in their order) that is validated."""
        task = next(iter(figures), "")
        return self if self.metric or not task else self.model_copy(update={"metric": f"{task}.{figures[task]}"})

    def better(self, one: float, other: float, higher: bool) -> bool:
        """Is `one` progress over `other`, where `higher` figures are better? A figure that is no number never is."""
        return (one - other if higher else other - one) > self.change


@dataclass
class Best:
    """The best moment so far: its update, the metric there, and the weights (name -> tensor on the CPU)."""

    update: int = 0
    value: float | None = None
    weights: dict[str, Any] | None = None

    def offer(
        self, stop: EarlyStop, higher: bool, update: int, figures: dict[str, float], weights: Callable[[], Any]
    ) -> None:
        """Take the weights of `update` if it is better (see `EarlyStop.better`); a look at which nothing was measured
        is none."""
        value = figures.get(f"val.{stop.metric}")
        if value is None or not math.isfinite(value):
            return
        if self.value is None or stop.better(value, self.value, higher):
            self.update, self.value = update, value
            self.weights = {k: v.detach().cpu().clone() for k, v in weights().items()}

    def exhausted(self, stop: EarlyStop, update: int) -> bool:
        """Has patience run out at `update`?"""
        waited = update - self.update
        return self.value is not None and waited >= max(stop.patience * stop.every, stop.share * update)
