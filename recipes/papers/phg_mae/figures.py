"""Figures of the study: mean IoU from confusion matrices, agreement along optical flow, intervals, the verdict rule.

An outcome is, for each test drive, confusion matrices (S, B, K, K + 1): seeds of training, blocks of consecutive
frames, true class, told class (the last column: no answer). Frames of a drive look alike and so do trainings on the
same drives, so an interval resamples drives, then seeds and blocks within each, never single frames (a hierarchical
bootstrap). Both sides of a comparison are resampled together. With three drives the interval is about as wide as from
the worst drive to the best, which is what three drives can tell.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from hyperloom.stages.verdict.claims import HOLDS, REVERSED, UNSHOWN, VerdictWord

DRAWS = 2000
Matrices = Mapping[str, np.ndarray]
"""Test drive -> (S, B, K, K + 1) counts of pixels."""
Compare = Callable[[np.ndarray, np.ndarray], np.ndarray]


def word(low: float, high: float, at: float = 0.0) -> VerdictWord:
    """The verdict rule: `holds` if the whole interval lies above `at`, `reversed` if below, else `not shown`."""
    return HOLDS if low > at else REVERSED if high < at else UNSHOWN


def miou(matrix: np.ndarray) -> np.ndarray:
    """Mean intersection over union, (...) from (..., K, K + 1), of the classes that the truth has."""
    hit = np.diagonal(matrix[..., :-1], axis1=-2, axis2=-1)
    truth, told = matrix.sum(-1), matrix[..., :-1].sum(-2)
    scores = np.divide(hit, truth + told - hit, out=np.zeros(hit.shape), where=truth + told > hit)
    occurs = truth > 0
    return np.where(occurs, scores, 0).sum(-1) / np.maximum(occurs.sum(-1), 1)


def compared(ours: Matrices, theirs: Matrices, how: Compare = np.subtract, at: float = 0.0) -> dict[str, Any]:
    """Mean IoU of two outcomes and their comparison with a 95 % interval and its verdict, as JSON.

    `how` compares two mean IoUs (their difference by default); `at` is what the verdict compares with.
    """

    def values(drive: str, weights: np.ndarray) -> np.ndarray:
        """(D, S) for D weights of the blocks, (D, B)."""
        sides = [miou(np.tensordot(weights, m[drive], (1, 1))) for m in (ours, theirs)]
        return how(*sides)

    blocks = {d: m.shape[1] for d, m in ours.items()}
    means = [np.mean([miou(m[d].sum(1)).mean() for d in ours]) for m in (ours, theirs)]
    return _sides(*means) | _told(values, blocks, at)


def compared_numbers(ours: Matrices, theirs: Matrices, block: int = 16) -> dict[str, Any]:
    """The same for numbers (S, N) by drive, one for each of N consecutive frames; blocks of `block` are resampled."""

    def values(drive: str, weights: np.ndarray) -> np.ndarray:
        difference = ours[drive] - theirs[drive]
        starts = np.arange(0, difference.shape[1], block)
        sums, sizes = np.add.reduceat(difference, starts, 1), np.diff([*starts, difference.shape[1]])
        return (weights @ sums.T) / (weights @ sizes)[:, None]

    blocks = {d: -(-v.shape[1] // block) for d, v in ours.items()}
    means = [np.mean([v.mean() for v in side.values()]) for side in (ours, theirs)]
    return _sides(*means) | _told(values, blocks, 0.0)


def agreement(maps: np.ndarray, flow: np.ndarray) -> np.ndarray:
    """Temporal consistency (N - 1,): the share of pixels that keep their class from a frame to the next.

    `maps` (N, H, W) are class ids, 255 unknown, of consecutive frames; `flow` (N, H, W, 2) says in pixels (x, y) where
    each pixel was in the frame before. Pixels from outside, or that either frame leaves unknown, are left out.
    """
    height, width = maps.shape[1:]
    rows, columns = np.mgrid[:height, :width]
    shares = []
    for before, now, moved in zip(maps, maps[1:], flow[1:], strict=False):
        x, y = np.rint(columns + moved[..., 0]).astype(int), np.rint(rows + moved[..., 1]).astype(int)
        inside = (x >= 0) & (x < width) & (y >= 0) & (y < height)
        was = before[y.clip(0, height - 1), x.clip(0, width - 1)]
        counts = inside & (was != 255) & (now != 255)
        shares.append((was == now)[counts].mean() if counts.any() else np.nan)
    return np.array(shares)


def _sides(ours: float, theirs: float) -> dict[str, Any]:
    return {"ours": round(float(ours), 4), "theirs": round(float(theirs), 4)}


def _told(values: Callable[[str, np.ndarray], np.ndarray], blocks: Mapping[str, int], at: float) -> dict[str, Any]:
    """`values` gives a drive's figure by seed, (D, S), for D weightings of its blocks."""
    generator = np.random.default_rng(0)
    drives = list(blocks)
    plain = {d: round(float(values(d, np.ones((1, blocks[d]))).mean()), 4) for d in drives}
    draws = np.zeros((len(drives), len(drives), DRAWS))
    for i, drive in enumerate(drives):
        for copy in range(len(drives)):  # a drive that is drawn twice is resampled twice
            weights = generator.multinomial(blocks[drive], np.full(blocks[drive], 1 / blocks[drive]), DRAWS)
            each = values(drive, weights.astype(float))
            seeds = generator.integers(each.shape[1], size=each.shape)
            draws[i, copy] = np.take_along_axis(each, seeds, 1).mean(1)
    chosen = generator.integers(len(drives), size=(len(drives), DRAWS))
    resampled = draws[chosen, np.arange(len(drives))[:, None], np.arange(DRAWS)].mean(0)
    low, high = (round(float(q), 4) for q in np.percentile(resampled, (2.5, 97.5)))
    mean = round(float(np.mean(list(plain.values()))), 4)
    return {"mean": mean, "interval": [low, high], "by_drive": plain, "verdict": word(low, high, at)}
