"""Sums: the statistics that figures are made of, plain JSON, which add up exactly however the work was spread."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import numpy as np

Sums = dict[str, Any]
"""Statistic -> an integer, a float, or (nested) lists of them."""


def merged(parts: Iterable[Sums]) -> Sums:
    """Statistics of several batches: counts add as integers, sums by `math.fsum` (exactly rounded, in any order).

    A statistic that a part lacks (motion, where there is no frame before) counts as nothing there.
    """
    gathered: dict[str, list[Any]] = {}
    for part in parts:
        for key, value in part.items():
            gathered.setdefault(key, []).append(value)
    return {key: _added(values) for key, values in gathered.items()}


def _added(values: list[Any]) -> Any:
    if isinstance(values[0], list):
        return np.sum(values, axis=0).tolist()
    return math.fsum(values) if any(isinstance(v, float) for v in values) else sum(values)
