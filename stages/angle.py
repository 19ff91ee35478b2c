"""Angles between directions."""

from __future__ import annotations

import numpy as np


def degrees(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """(...) float64 in 0..180: the angle between vectors (..., C) of whatever length, but none: directions that were
    stored in a few digits, or are the mean of several, have not quite length one. Exact near 0 and 180 too, where a
    cosine is blunt (Kahan 2006)."""
    units = (v.astype(np.float64) for v in (one, other))
    one, other = (v / np.linalg.norm(v, axis=-1, keepdims=True) for v in units)
    return np.degrees(2 * np.arctan2(np.linalg.norm(one - other, axis=-1), np.linalg.norm(one + other, axis=-1)))
