"""Padding: rows that are used come first, and the rest of a value is filled up."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def filled(rows: np.ndarray, shape: Sequence[int], rest: float) -> np.ndarray:
    """`rows` (n, ...) as `shape`, `rest` after them, in their own dtype."""
    full = np.full(shape, rest, rows.dtype)
    full[: len(rows)] = rows
    return full


def some(random: np.random.Generator, most: int) -> int:
    """How many of `most` rows an example uses: one or more."""
    return int(random.integers(1, most + 1))
