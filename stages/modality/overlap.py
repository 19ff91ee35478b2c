"""Overlap: how far two things in a picture are one and the same, as intersection over union."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

HALF = 0.5
"""From which two things are one."""
CORNER = 2.0**-24
"""What rounding to float32 can do to a side, in shares of the picture."""
MOST_ROUNDING = 1e-3
"""Of boxes of hardly an area, whose overlap says little."""


def of_boxes(one: np.ndarray, other: np.ndarray, crowd: np.ndarray | None = None) -> np.ndarray:
    """(n, m) float64 of corners (n, 4) and (m, 4); of crowds (m,) over the first's area alone."""
    one, other = one.astype(np.float64), other.astype(np.float64)
    low, high = np.maximum(one[:, None, :2], other[None, :, :2]), np.minimum(one[:, None, 2:], other[None, :, 2:])
    inside = np.clip(high - low, 0, None).prod(-1)
    areas = [(b[:, 2:] - b[:, :2]).prod(-1) for b in (one, other)]
    rest = areas[1][None] - inside
    union = areas[0][:, None] + (rest if crowd is None else np.where(crowd, 0, rest))
    return np.asarray(inside / np.maximum(union, 1e-12))


def rounding(one: np.ndarray, other: np.ndarray, crowd: np.ndarray | None = None) -> np.ndarray:
    """(n, m) float64: by how much `of_boxes` may be off, as corners are float32 shares of the picture. In pixels, where
    most people draw, boxes often overlap by a half exactly."""
    one, other = one.astype(np.float64), other.astype(np.float64)
    sides = [(b[:, 2:] - b[:, :2]) for b in (one, other)]
    around = 2 * (sides[0].sum(-1)[:, None] + sides[1].sum(-1)[None])
    first, second = sides[0].prod(-1)[:, None], sides[1].prod(-1)[None]
    union = np.maximum(first, second if crowd is None else np.where(crowd, 0, second))
    return np.asarray(np.minimum(CORNER * around / np.maximum(union, 1e-12), MOST_ROUNDING))


def most(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """(n, m) float64: the largest overlap that corners (n, 4) and (m, 4) may have, as they are rounded; this is what a
    border such as HALF is compared with."""
    return of_boxes(one, other) + rounding(one, other)


def of_class(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """(n, m) float64, `most` of rows of boxes, corners and class; 0 where classes differ."""
    return np.asarray(most(one[:, :4], other[:, :4]) * (one[:, None, 4] == other[None, :, 4]))


def of_masks(one: np.ndarray, other: np.ndarray, crowd: np.ndarray | None = None) -> np.ndarray:
    """(n, m) float64 of masks (n, H, W) and (m, H, W); of crowds (m,) over the first's area alone."""
    a, b = (m.reshape(len(m), m.shape[1] * m.shape[2]).astype(np.float32) for m in (one, other))  # also of none
    shared = (a @ b.T).astype(np.float64)  # exact: sums of ones
    first, second = a.sum(1, dtype=np.float64)[:, None], b.sum(1, dtype=np.float64)[None]
    union = first + second - shared
    if crowd is not None:
        union = np.where(crowd[None], np.broadcast_to(first, union.shape), union)
    return np.asarray(shared / np.maximum(union, 1))


def matched(overlap: np.ndarray, least: float) -> int:
    """How many pairs of (n, m) fit at least so well, each thing in one pair, the best pairs first."""
    left, pairs = overlap.copy(), 0
    while left.size and left.max() >= least:
        row, column = np.unravel_index(int(left.argmax()), left.shape)
        left[row], left[:, column] = -1, -1
        pairs += 1
    return pairs


def agreement(pairs: Iterable[tuple[int, int, np.ndarray]]) -> np.ndarray:
    """(N,) of how many things there are in one and in the other, and their overlap (0 where classes differ): twice the
    pairs that are one thing through the things of both; NaN where there are none."""
    shares = []
    for one, other, shared in pairs:
        shares.append(2 * matched(shared, HALF) / (one + other) if one + other else np.nan)
    return np.array(shares, np.float64)
