"""Weighted majority over class maps."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

UNKNOWN = 255


def vote(
    maps: Sequence[np.ndarray], weights: Sequence[float], classes: int, quorum: float = 0.0
) -> tuple[np.ndarray, np.ndarray]:
    """The winning class of each pixel, (...) uint8, and its share of the weight that voted, (...) float32 in 0..1.

    `maps` are (...) uint8 with 255 for an abstention, one for each of `weights`. Where several classes have the same
    weight, the map listed first that chose one of them decides; where nobody votes the class is 255 and the share 0.
    """
    scores = np.zeros((classes, *maps[0].shape), np.float32)
    for class_ in range(classes):
        for labels, weight in zip(maps, weights, strict=True):
            scores[class_] += np.float32(weight) * (labels == class_)
    best, total = scores.max(0), scores.sum(0)
    tied = scores >= best * (1 - 1e-6)  # sums of the same weights in another order are a tie
    winner = np.full(maps[0].shape, UNKNOWN, np.uint8)
    for labels in maps:
        for class_ in range(classes):
            winner[(winner == UNKNOWN) & (labels == class_) & tied[class_]] = class_
    share = np.divide(best, total, out=np.zeros_like(best), where=total > 0)
    winner[(total == 0) | (share < quorum - 1e-6)] = UNKNOWN
    return winner, share
