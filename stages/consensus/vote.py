"""Weighted majority over class maps."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

UNKNOWN = 255


def vote(
    maps: Sequence[np.ndarray], weights: Sequence[float], classes: int, quorum: float = 0.0, smooth: float = 0.0
) -> tuple[np.ndarray, np.ndarray]:
    """The winning class of each pixel, (N, H, W) uint8, and its share of the weight that voted, float32 in 0..1.

    `maps` are (N, H, W) uint8 with 255 for an abstention, one for each of `weights`. Where several classes have the
    same weight, the map listed first that chose one of them decides; where nobody votes the class is 255 and the share
    0. With `smooth` the votes of the surroundings count too, by a Gaussian of so many pixels.
    """
    scores = np.zeros((classes, *maps[0].shape), np.float32)
    for class_ in range(classes):
        for labels, weight in zip(maps, weights, strict=True):
            scores[class_] += np.float32(weight) * (labels == class_)
    voted = scores.sum(0) > 0
    if smooth:
        scores = _blurred(scores, smooth)
    best, total = scores.max(0), scores.sum(0)
    tied = scores >= best * (1 - 1e-6)  # sums of the same weights in another order are a tie
    winner = np.full(maps[0].shape, UNKNOWN, np.uint8)
    for labels in maps:
        for class_ in range(classes):
            winner[(winner == UNKNOWN) & (labels == class_) & tied[class_]] = class_
    around = voted & (winner == UNKNOWN)  # what nobody here chose can win only by the votes of the surroundings
    winner[around] = scores.argmax(0)[around]
    share = np.divide(best, total, out=np.zeros_like(best), where=voted)
    winner[~voted | (share < quorum - 1e-6)] = UNKNOWN
    return winner, share


def _blurred(scores: np.ndarray, sigma: float) -> np.ndarray:
    import cv2

    flat = scores.reshape(-1, *scores.shape[-2:])
    return np.stack([cv2.GaussianBlur(s, (0, 0), sigma) for s in flat]).reshape(scores.shape)
