"""How far sources are apart in each sample, how sure they are, and how wrong: the figures that samples are sorted by.

Larger is worse for all but confidence. They are for finding samples, not for judging: rasters are looked at in at most
`SIDE` x `SIDE` pixels, and boxes and points by the share that has no counterpart.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any

import numpy as np

from hyperloom.stages.consensus.agreement import agreement
from hyperloom.stages.picture import Mark

SIDE = 64
NEAR = 0.05
"""Points nearer than this share of the picture are counterparts."""
OVERLAP = 0.5
"""Boxes whose intersection over union is this are counterparts."""

ColumnPair = tuple[np.ndarray, np.ndarray]


def disagreement(columns: Mapping[str, ColumnPair], modality: Any) -> np.ndarray | None:
    """(N,) mean over all pairs of columns, NaN where fewer than two say something; None without a measure."""
    figures = [apart(one, other, modality) for one, other in combinations(columns.values(), 2)]
    known = [f for f in figures if f is not None]
    return _mean(known) if known else None


def apart(one: ColumnPair, other: ColumnPair, modality: Any) -> np.ndarray | None:
    """(N,) how far two columns differ: the share of sites with another answer, the mean difference, or an angle."""
    both = one[1] & other[1]
    if _marked(one[0], modality):
        values = [
            _unmatched(modality.marks(a), modality.marks(b)) if known else math.nan
            for a, b, known in zip(one[0], other[0], both, strict=True)
        ]
        return np.array(values, np.float32)
    left, right = (_thin(v, modality) for v in (one[0], other[0]))
    figures = agreement({"a": (left, one[1]), "b": (right, other[1])}, modality)
    for name, sign in (("equal:a|b", -1), ("angle:a|b", 1), ("mae:a|b", 1)):
        if name in figures:
            return (figures[name] if sign > 0 else 1 - figures[name]).astype(np.float32)
    return None


def confidence(pair: ColumnPair, modality: Any) -> np.ndarray | None:
    """(N,) how sure a column is: the mean of its highest probabilities, or of the scores of its boxes."""
    values, valid = pair
    if modality.soft:
        sure = _thin(values, modality).max(-1).reshape(len(values), -1).mean(1)
    elif _marked(values, modality) and values.ndim == 3 and values.shape[-1] == 6:
        known = np.isfinite(values[..., 5])
        sure = np.where(known, values[..., 5], 0).sum(1) / np.maximum(known.sum(1), 1)
        valid = valid & known.any(1)
    else:
        return None
    return np.where(valid, sure, np.nan).astype(np.float32)


def _marked(values: np.ndarray, modality: Any) -> bool:
    return len(values) > 0 and modality.marks(values[0]) is not None


def _thin(values: np.ndarray, modality: Any) -> np.ndarray:
    """Every n-th pixel of rasters, so that no side has more than `SIDE`."""
    if modality.height_width is None or values.ndim < 3:
        return values
    step = max(1, -(-max(values.shape[1:3]) // SIDE))
    return values[:, ::step, ::step]


def _unmatched(one: Sequence[Mark], other: Sequence[Mark]) -> float:
    """The share of marks, of both, without a counterpart of their kind in the other."""
    total = len(one) + len(other)
    free = list(other)
    for mark in one:
        best = max(free, key=lambda m: _likeness(mark, m), default=None)
        if best is not None and _likeness(mark, best) > 0:
            free.remove(best)
    return (total - 2 * (len(other) - len(free))) / total if total else 0.0


def _likeness(one: Mark, other: Mark) -> float:
    """0 for no counterparts. (A colour stands for a class, or for the name of a point.)"""
    if one.colour != other.colour:
        return 0.0
    if (one.x0, one.y0) == (one.x1, one.y1):
        distance = math.hypot(one.x0 - other.x0, one.y0 - other.y0)
        return max(0.0, 1 - distance / NEAR)
    width = min(one.x1, other.x1) - max(one.x0, other.x0)
    height = min(one.y1, other.y1) - max(one.y0, other.y0)
    if width <= 0 or height <= 0:
        return 0.0
    shared = width * height
    areas = [(m.x1 - m.x0) * (m.y1 - m.y0) for m in (one, other)]
    iou = shared / max(sum(areas) - shared, 1e-12)
    return iou if iou >= OVERLAP else 0.0


def _mean(figures: Sequence[np.ndarray]) -> np.ndarray:
    stacked = np.stack(figures)
    known = np.isfinite(stacked)
    total = np.where(known, stacked, 0).sum(0)
    return np.where(known.any(0), total / np.maximum(known.sum(0), 1), np.nan).astype(np.float32)
