"""Prediction: from what a network gives to values of a modality, and what a column may take that is no task.

A prediction (N, ...) is what a head's `finish` gives: probabilities of classes, chances, or numbers in their units.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np

if TYPE_CHECKING:
    import torch

    from hyperloom.stages.modality.base import Modality


@dataclass(frozen=True)
class Offered:
    """What a trained model can give: its tasks, and the channels of its features, of pixels and of whole samples."""

    tasks: Mapping[str, Modality]
    planes: int
    pooled: int


class Taken(NamedTuple):
    """What a column takes of a prediction: the mean of `task`, a task's spread, or features."""

    what: Literal["mean", "spread", "planes", "pooled"]
    task: str = ""


class Predicted:
    """The part of a modality that says what comes of a network's output."""

    def answer(self, mean: np.ndarray) -> np.ndarray:
        """(N, *shape) in the dtype of memory, from predictions (N, ...): the likeliest class, the middle one of the
        levels, every label or pair that is likelier than not; numbers as they are."""
        return mean

    def decided(self, mean: torch.Tensor) -> torch.Tensor | None:
        """What `answer` makes, of predictions on a device, where that is much smaller than these; else None."""
        return None

    def taken(self, offered: Offered) -> Taken | None:
        """What a column of this modality takes from a model that has no task of its name; None for nothing."""
        return None

    def apart(self, one: np.ndarray, other: np.ndarray) -> float:
        """The largest difference between two runtimes' predictions (N, ...) of the same samples, NaN left out."""
        return float(np.nanmax(np.abs(one - other)))
