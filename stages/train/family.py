"""Families: trainings of one step that differ in nothing but their seed, and which of them stands for all."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from hyperloom.stages.measure.measure import directions
from hyperloom.stages.train.stopping import EarlyStop


def best(figures: Sequence[Mapping[str, float]], tasks: Mapping[str, Any], stop: EarlyStop | None) -> tuple[int, str]:
    """The place of the training that is best by validation, and the figure that says so: what early stopping looks at,
    else that of the first task (name -> modality) which was measured in all. (0, "") where none was."""
    if stop is not None:
        keys = [f"val.{stop.metric}"]
    else:
        keys = [key for task in tasks for key in figures[0] if key.rpartition(".")[0] == f"val.{task}"]
    for key in keys:
        values = [mine.get(key, math.nan) for mine in figures]
        if all(map(math.isfinite, values)):
            task, _, measure = key.removeprefix("val.").rpartition(".")
            choose = max if directions(tasks[task])[measure] else min
            return values.index(choose(values)), key
    return 0, ""
