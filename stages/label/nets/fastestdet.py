"""FastestDet's output: a one-scale, anchor-free grid of detections, as published at github.com/dog-qiuqiu/FastestDet.

The tensor is (5 + classes, h, w): objectness, tx, ty, tw, th, and class probabilities. A cell's centre is at
`(column + tanh tx) / w`, its width is `sigmoid tw`, and its score `objectness^0.6 * class^0.4`.
"""

from __future__ import annotations

from typing import Literal

import numpy as np

from hyperloom.stages.label.decode.activation import Activation
from hyperloom.stages.label.decode.boxes import BoxDecoder
from hyperloom.stages.label.decode.decoders import Raw
from hyperloom.stages.label.decode.detections import DetectionDecoder
from hyperloom.stages.modality import Size


class FastestDet(BoxDecoder):
    """Decoder of FastestDet's grid into boxes; the rest (threshold, suppression, groups, drawing) is `BoxDecoder`."""

    def rows(self, raw: np.ndarray, size: Size) -> np.ndarray:
        corners, scores = _cells(raw)
        return np.column_stack([corners, scores.max(1), scores.argmax(1).astype(np.float32)])


class FastestDetBoxes(DetectionDecoder):
    """The same grid as the modality `boxes`, one box at most a cell."""

    units: Literal["pixels", "shares"] = "shares"
    activation: Activation = "none"

    def _parts(self, raw: Raw, classes: int) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
        corners, scores = _cells(raw)
        return corners, self._classes(scores, classes), None


def _cells(raw: Raw) -> tuple[np.ndarray, np.ndarray]:
    """Of (5 + classes, h, w): corners (h * w, 4) in shares of the frame, and scores (h * w, classes)."""
    grid = np.asarray(raw, np.float32)
    height, width = grid.shape[1:]
    y, x = np.mgrid[:height, :width].astype(np.float32)
    centre_x, centre_y = (x + np.tanh(grid[1])) / width, (y + np.tanh(grid[2])) / height
    half_w, half_h = _sigmoid(grid[3]) / 2, _sigmoid(grid[4]) / 2
    sides = [centre_x - half_w, centre_y - half_h, centre_x + half_w, centre_y + half_h]
    scores = np.clip(grid[0], 0, 1) ** 0.6 * np.clip(grid[5:], 0, 1) ** 0.4
    return np.stack([side.ravel() for side in sides], 1), scores.reshape(len(scores), -1).T


def _sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-np.clip(x, -60, 60)))
