"""Soft segmentation by colour: a few smooth layers that tell apart what is coloured differently, without classes.

After Leordeanu, Sukthankar and Sminchisescu, Generalized Boundaries from Multiple Image Interpretations (PAMI 2014):
every patch of a grid asks of each colour how much more of it there is in the patch than in the picture, which is a
soft figure-ground segmentation; the main directions in which all these segmentations vary are the layers.
"""

from __future__ import annotations

import cv2
import numpy as np


def soft_colors(rgb: np.ndarray, layers: int, seeds: int, bins: int, sigma: float) -> np.ndarray:
    """(H, W, layers) float32, each layer from 0 to 1, of an (H, W, 3) uint8 RGB picture; the first tells most apart.

    `seeds` patches along each side of the picture; colours are told apart in `bins` steps an axis of CIE Lab, blurred
    by one; `sigma` pixels of smoothing. A layer's bright side is the lighter one. A picture of a single colour, or a
    layer beyond what differs, is 0.5 all over.
    """
    codes = _codes(rgb, bins)
    used, codes = np.unique(codes, return_inverse=True)
    codes = codes.reshape(rgb.shape[:2])
    near = _nearness(used, bins)
    whole = np.bincount(codes.ravel(), minlength=len(used)).astype(np.float64)
    rows, columns = _cut(rgb.shape[0], seeds), _cut(rgb.shape[1], seeds)
    counts = [np.bincount(codes[np.ix_(r, c)].ravel(), minlength=len(used)) for r in rows for c in columns]
    patches = np.stack(counts)
    figure = patches @ near / patches.sum(1, keepdims=True)
    ground = whole @ near / whole.sum()
    tables = (figure / (figure + ground)).T  # (colours, patches): how much a colour belongs to each patch
    share = whole / whole.sum()
    centred = tables - share @ tables
    values, vectors = np.linalg.eigh((centred * share[:, None]).T @ centred)
    scores = np.full((len(used), layers), 0.5)
    light = used // (bins * bins) + 0.5
    for layer, k in enumerate(np.argsort(values)[::-1][:layers]):
        if values[k] > 1e-9:
            vector = centred @ vectors[:, k]
            if share @ (vector * (light - share @ light)) < 0:  # an eigenvector's sign means nothing
                vector = -vector
            scores[:, layer] = (vector - vector.min()) / max(vector.max() - vector.min(), 1e-12)
    picture = scores[codes].astype(np.float32)
    if sigma:
        picture = cv2.GaussianBlur(picture, (0, 0), sigma).reshape(picture.shape)
    return np.clip(picture, 0, 1)


def _cut(length: int, parts: int) -> list[np.ndarray]:
    """0 to `length` in up to `parts` runs."""
    return [run for run in np.array_split(np.arange(length), parts) if len(run)]


def _codes(rgb: np.ndarray, bins: int) -> np.ndarray:
    """(H, W) colour of each pixel in steps of CIE Lab as one number, lightness first."""
    lab = cv2.cvtColor(rgb.astype(np.float32) / 255, cv2.COLOR_RGB2LAB)
    steps = (lab - (0, -100, -100)) / (100, 200, 200) * bins
    light, green, blue = np.moveaxis(np.clip(steps, 0, bins - 1).astype(np.int64), -1, 0)
    return (light * bins + green) * bins + blue


def _nearness(used: np.ndarray, bins: int) -> np.ndarray:
    """(colours, colours): how much a colour counts as another, a Gaussian of one step."""
    axes = np.stack([used // (bins * bins), used // bins % bins, used % bins], -1).astype(np.float64)
    squared = ((axes[:, None] - axes) ** 2).sum(-1)
    return np.exp(-squared / 2)
