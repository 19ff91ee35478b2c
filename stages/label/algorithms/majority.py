"""Majorities: the class that most sources say, pixel by pixel or sample by sample."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from hyperloom.stages.base import UNKNOWN

SLACK = 1e-6
"""What rounding to float32 may take of a share: seven of ten votes are .69999999."""


def vote(
    maps: Sequence[np.ndarray],
    weights: Sequence[float | np.ndarray],
    classes: int,
    quorum: float = 0.0,
    smooth: float = 0.0,
    shares: Sequence[np.ndarray | None] = (),
    unknown: int = UNKNOWN,
) -> tuple[np.ndarray, np.ndarray]:
    """The winning class of each pixel, (N, ...) like the maps, and its share of the weight that voted, float32 in 0..1.

    `maps` are (N, H, W) uint8, or (N,) ints, with `unknown` for an abstention; each has a weight, of everywhere or of
    each pixel. Where `shares` has (N, ..., classes) for a map, its vote is split so. Where several classes have the
    same weight, the map listed first that chose one of them decides; where nobody votes the class is unknown and the
    share 0. With `smooth` the votes of the surroundings count too, by a Gaussian of so many pixels. A weight or a share
    that is no number (NaN, infinite) is no vote: a blur would carry it over all.
    """
    scores = np.zeros((classes, *maps[0].shape), np.float32)
    for i, (labels, weight) in enumerate(zip(maps, weights, strict=True)):
        weight, split = _numbers(weight), _numbers(shares[i]) if shares else None
        for class_ in range(classes):
            scores[class_] += weight * ((labels == class_) if split is None else split[..., class_])
    voted = scores.sum(0) > 0
    if smooth:
        scores = _blurred(scores, smooth)
    best, total = scores.max(0), scores.sum(0)
    tied = scores >= best * (1 - SLACK)  # sums of the same weights in another order are a tie
    winner = np.full(maps[0].shape, unknown, maps[0].dtype)
    for labels in maps:
        for class_ in range(classes):
            winner[(winner == unknown) & (labels == class_) & tied[class_]] = class_
    around = voted & (winner == unknown)  # what nobody here chose can win only by surroundings or second thoughts
    winner[around] = scores.argmax(0)[around]
    share = np.divide(best, total, out=np.zeros_like(best), where=voted)
    winner[~voted | (share < quorum - SLACK)] = unknown
    return winner, share


def mean_share(share: np.ndarray) -> np.ndarray:
    """The mean of each sample's shares over the places where anybody voted, (N,); 0 where nobody did."""
    flat = share.reshape(len(share), -1).astype(np.float64)
    return flat.sum(1) / np.maximum((flat > 0).sum(1), 1)


def _numbers(values: Any) -> Any:
    """float32, 0 in the place of what is no number; None stays None."""
    return None if values is None else np.nan_to_num(np.float32(values), posinf=0, neginf=0)


def _blurred(scores: np.ndarray, sigma: float) -> np.ndarray:
    import cv2

    flat = scores.reshape(-1, *scores.shape[-2:])
    return np.stack([cv2.GaussianBlur(s, (0, 0), sigma) for s in flat]).reshape(scores.shape)
