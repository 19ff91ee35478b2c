"""Segmenters without training: the user says what a class typically looks like, the nearest description wins."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import cv2
import numpy as np

from hyperloom.stages.base import UNKNOWN
from hyperloom.stages.label.algorithms.features import SCALES, FeatureTable

Descriptions = Mapping[int, Sequence[Mapping[str, float]]]
"""Class id -> what it may look like: feature -> typical value. A description need not name every feature."""


def nearest_description(features: FeatureTable, descriptions: Descriptions) -> tuple[np.ndarray, np.ndarray]:
    """The class of the nearest description, (...) uint8, and its distance, (...) float32.

    The distance is the root mean square over the features that the description names, each on its scale.
    """
    shape = next(iter(features.values())).shape
    best, winner = np.full(shape, np.inf, np.float32), np.full(shape, UNKNOWN, np.uint8)
    for class_, looks in descriptions.items():
        for look in looks:
            squares = [
                ((features[name] - np.float32(value)) / np.float32(SCALES[name])) ** 2 for name, value in look.items()
            ]
            distance = np.sqrt(np.mean(squares, axis=0, dtype=np.float32))
            nearer = distance < best
            best[nearer], winner[nearer] = distance[nearer], class_
    return winner, best


def clustered(features: FeatureTable, clusters: int) -> tuple[np.ndarray, FeatureTable]:
    """k-means over the pixels of one picture: (H, W) cluster numbers, and each cluster's mean features, (clusters,).

    Features count on their scales. Centres come from every third pixel, seeded by a constant: the same picture gives
    the same clusters.
    """
    names = sorted(features)
    shape = features[names[0]].shape
    points = np.stack([features[n].ravel() / np.float32(SCALES[n]) for n in names], -1).astype(np.float32)
    some = np.ascontiguousarray(points[::3])
    cv2.setRNGSeed(0)
    stop = (cv2.TERM_CRITERIA_EPS + cv2.TERM_CRITERIA_MAX_ITER, 12, 0.02)
    centres = cv2.kmeans(some, min(clusters, len(some)), np.empty(0), stop, 1, cv2.KMEANS_PP_CENTERS)[2]
    labels = ((centres**2).sum(-1) - 2 * points @ centres.T).argmin(-1)
    return labels.reshape(shape), {n: centres[:, k] * np.float32(SCALES[n]) for k, n in enumerate(names)}


def color_scores(
    rgb: np.ndarray, prototypes: Sequence[np.ndarray], softness: float, light: float, sigma: float
) -> np.ndarray:
    """(K, H, W) float32 in 0..1: how near each pixel is to the nearest of each class's colours, smoothed over `sigma`.

    `prototypes` are (P, 3) uint8 RGB for each class. Distances are Euclidean in CIE Lab with lightness counted `light`
    times, after a gain that gives the frame a median lightness of 50; a distance of `softness` scores exp(-1/2).
    """
    lab = _lab(rgb)
    lab[..., 0] += 50 - np.median(lab[..., 0])
    lab[..., 0] *= light
    lengths = (lab**2).sum(-1, keepdims=True)
    scores = []
    for colors in prototypes:
        targets = _lab(np.asarray(colors, np.uint8)[None])[0] * np.array([light, 1, 1], np.float32)
        squared = (lengths - 2 * lab @ targets.T + (targets**2).sum(-1)).min(-1)
        score = np.exp(-np.maximum(squared, 0) / np.float32(2 * softness**2))
        scores.append(cv2.GaussianBlur(score, (0, 0), sigma) if sigma else score)
    return np.stack(scores)


def _lab(rgb: np.ndarray) -> np.ndarray:
    return cv2.cvtColor(rgb.astype(np.float32) / 255, cv2.COLOR_RGB2LAB)
