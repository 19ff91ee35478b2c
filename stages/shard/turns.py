"""Turns: angles that come round, such as headings from 0 to 360 degrees.

Means, errors and losses of numbers take 359 and 1 degrees for 358 apart, whoever makes them: a consensus, an ensemble,
a measure. What comes round is told from what does not (slopes, roll of a car) by the unit and by the numbers, which
reach over nearly a whole turn and no further. It only says so; a modality of one's own with a measure of its own is
taken to know. Imports no numpy.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from hyperloom.stages import quantity
from hyperloom.stages.modality import Modality

NEARLY = 0.95
"""The share of a turn that its numbers reach over."""


def sentence(column: str, modality: Modality, statistics: Mapping[str, Any]) -> str:
    """What is to be said of a column with these statistics; empty where it does not come round."""
    factor = quantity.factor(modality.meaning.unit, "rad")
    if factor is None or modality.measure != "numbers" or getattr(modality, "kind", None) == "scalar":
        return ""
    turn = 2 * math.pi / factor
    ends = zip(statistics.get("min", ()), statistics.get("max", ()), strict=True)
    round_ = next(((low, high) for low, high in ends if _comes_round(low / turn, high / turn)), None)
    if round_ is None:
        return ""
    low, high = round_
    unit = modality.meaning.unit
    return (
        f"{column} reaches from {low:.4g} to {high:.4g} {unit}, nearly a whole turn: if it comes round there, means, "
        "errors and losses take neighbours on both sides of the end for a turn apart. Next: its cosine and sine as a "
        "vector of two numbers, or a modality of your own that knows"
    )


def _comes_round(low: float, high: float) -> bool:
    """In shares of a turn: over nearly all of one, from 0 or from -1/2 on."""
    rounding = 1e-3
    inside = (low >= -rounding and high <= 1 + rounding) or (low >= -0.5 - rounding and high <= 0.5 + rounding)
    return inside and high - low >= NEARLY
