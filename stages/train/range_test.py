"""The range test: a rate for a training, found in its first batches (Smith 2017, "Cyclical Learning Rates").

    optimizer: {lr: auto}

From the weights that the training begins with, the rate rises evenly in its logarithm over `UPDATES` updates, and the
smoothed loss falls, stands still and rises again. The rate of the training is a `PART` of the one at which the loss was
lowest: there it already costs more than it gains. Then everything is put back, weights, data, averages, so the
training is what it would have been with that number in its recipe. It follows from seed and data alone; a training that
is resumed has the rate in its checkpoint.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import torch

from hyperloom.stages.network.model import Columns
from hyperloom.stages.train.learners import Setup, UpdateBatch, UpdateMethod

LOW, HIGH = 1e-4, 1e-1
UPDATES = 100
PART = 0.2
REMEMBERED = 0.9
"""Share of the smoothed loss that is kept from one update to the next."""
SETTLED = 10
"""Updates after which the smoothed loss is more than the few batches it began with: one easy batch is no low loss."""
WORSE = 2.0
"""The test ends early where the smoothed loss is so many times what it was once settled."""


def find(
    setup: Setup,
    learner: UpdateMethod,
    prepare: Callable[[int, Columns], UpdateBatch],
    batches: Iterable[Columns],
    parts: dict[str, Any],
) -> float:
    """The rate for `setup`, whose optimizer was built with `PROBED` rates; `parts` are put back to what they were. All
    ranks call it together."""
    before = {name: copy.deepcopy(part.state_dict()) for name, part in parts.items()}
    groups = setup.optimizer.param_groups
    factors = [group["lr"] / groups[0]["lr"] for group in groups]
    losses: list[float] = []
    stream: Iterator[Columns] = iter(batches)
    for number in range(UPDATES):
        for group, factor in zip(groups, factors, strict=True):
            group["lr"] = rate_of(number) * factor
        setup.model.train()
        losses.append(_loss(setup, learner, prepare(number, next(stream))))
        if not math.isfinite(losses[-1]) or _worse(smoothed(losses)):
            break
    del stream
    for name, part in parts.items():
        part.load_state_dict(before[name])
    return chosen(losses)


def rate_of(number: int) -> float:
    """The rate of update `number` of the test."""
    return float(LOW * (HIGH / LOW) ** (number / (UPDATES - 1)))


def chosen(losses: Sequence[float]) -> float:
    """The rate that the losses of the test, at rising rates, speak for; two digits of it are as many as it is worth."""
    smooth = smoothed([v for v in losses if math.isfinite(v)])
    first = min(SETTLED, len(smooth)) - 1
    lowest = min(range(first, len(smooth)), key=smooth.__getitem__) if smooth else 0
    return float(f"{PART * rate_of(lowest):.2g}")


def smoothed(losses: Sequence[float]) -> list[float]:
    """An exponential average of the losses so far, without the pull of its beginning."""
    average, values = 0.0, []
    for i, loss in enumerate(losses, 1):
        average = REMEMBERED * average + (1 - REMEMBERED) * loss
        values.append(average / (1 - REMEMBERED**i))
    return values


def _worse(smooth: Sequence[float]) -> bool:
    return len(smooth) > SETTLED and smooth[-1] > WORSE * max(smooth[SETTLED - 1], 1e-9)


def set_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Make `rate` the rate of an optimizer, groups with factors of their own keeping these."""
    first = optimizer.param_groups[0]["lr"]
    for group in optimizer.param_groups:
        group["lr"] = group["initial_lr"] = rate * group["lr"] / first


def _loss(setup: Setup, learner: UpdateMethod, batch: UpdateBatch) -> float:
    """The losses of an update, each of the global batch, added up; a loss that is no number is for who reads it."""
    values = setup.world.sum(learner.update(batch).losses.values.clone())
    return float(values.sum())
