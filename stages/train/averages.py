"""Averages of weights: an exponential average that is warm from the beginning.

A decay of .999 remembers a thousand updates; over forty the average would be the weights of the first. So the decay
rises with the updates: after u of them it is at most (1 + u) / (10 + u), which reaches .9 after 80 and .99 after 890
(as TensorFlow's ExponentialMovingAverage has it). It follows from the number of the update alone, so a resumed training
goes on with the same.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch


def decay_after(updates: int, decay: float) -> float:
    """The decay after so many updates."""
    return min(decay, (1 + updates) / (10 + updates))


def warming(decay: float, updates: Callable[[], int]) -> Callable[[Any, Any, Any], None]:
    """What moves an `AveragedModel` towards the weights of an update (`multi_avg_fn`); `updates` tells how many came
    before it. The count that the model keeps may be on a device, and asking it would wait for that."""

    @torch.no_grad()
    def move(average: Any, weights: Any, count: Any) -> None:
        torch._foreach_lerp_(average, weights, 1 - decay_after(updates(), decay))

    return move
