"""Grouping: from maps of classes, centres and offsets to instances (Panoptic-DeepLab, Cheng et al., CVPR 2020).

Centres are the peaks of the centre map; each pixel that is no background goes to the centre that is nearest to where
its offset points; an instance has the class that its pixels name most surely. No learned suppression, no boxes.
"""

from __future__ import annotations

import numpy as np

from hyperloom.stages.modality.packed import Unpacked, boxes_of

FAINT = 0.1
"""Peaks below this are no centres."""
APART = 24
"""A peak is the highest of a square whose side is the picture's shorter one divided by this, of 3 pixels at least."""


def grouped(maps: np.ndarray, most: int) -> Unpacked:
    """The instances of one picture, at most `most`, by falling score. `maps` (H, W, K + 4): probabilities of K classes
    and of background, of a centre, and its place to the right and below, in shares of width and height."""
    height, width, channels = maps.shape
    kinds = channels - 4
    centres = _peaks(maps[..., kinds + 1], most)
    things = maps[..., : kinds + 1].argmax(-1) < kinds
    if not len(centres) or not things.any():
        return _none((height, width))
    rows, columns = np.nonzero(things)
    at = maps[rows, columns]
    x, y = (columns + 0.5) / width + at[:, kinds + 2], (rows + 0.5) / height + at[:, kinds + 3]
    scale = np.array([width, height]) / min(height, width)
    aims = (np.stack([x, y], 1) * scale)[:, None]
    middles = (centres[:, :2] + 0.5) / [width, height] * scale
    owner = np.square(aims - middles[None]).sum(-1).argmin(1)
    masks = np.zeros((len(centres), height, width), bool)
    masks[owner, rows, columns] = True
    sums = np.zeros((len(centres), kinds))
    np.add.at(sums, owner, at[:, :kinds])
    sizes = masks.sum((1, 2))
    shares = sums / np.maximum(sizes, 1)[:, None]
    scores = np.clip(centres[:, 2] * shares.max(1), 0, 1)
    order = np.argsort(-scores, kind="stable")
    order = order[sizes[order] > 0]
    count = len(order)
    return Unpacked(
        np.arange(1, count + 1),
        shares.argmax(1)[order],
        scores[order].astype(np.float32),
        np.zeros(count, bool),
        boxes_of(masks[order]),
        masks[order],
    )


def _peaks(heat: np.ndarray, most: int) -> np.ndarray:
    """(n, 3): column, row and height of the highest places of their neighbourhoods, the highest first."""
    import cv2

    side = max(3, min(heat.shape) // APART | 1)
    near = cv2.dilate(np.ascontiguousarray(heat, np.float32), np.ones((side, side), np.uint8))
    rows, columns = np.nonzero((heat >= near) & (heat >= FAINT))
    heights = heat[rows, columns]
    order = np.argsort(-heights, kind="stable")
    kept: list[int] = []
    for i in order:  # a plateau has many highest places, of which the first counts
        if all(max(abs(rows[i] - rows[k]), abs(columns[i] - columns[k])) > side // 2 for k in kept):
            kept.append(int(i))
        if len(kept) == most:
            break
    return np.stack([columns[kept], rows[kept], heights[kept]], 1) if kept else np.zeros((0, 3))


def _none(size: tuple[int, int]) -> Unpacked:
    whole, number = np.zeros(0, np.int64), np.zeros(0, np.float32)
    return Unpacked(whole, whole, number, np.zeros(0, bool), np.zeros((0, 4), np.float32), np.zeros((0, *size), bool))
