"""Faces by BlazeFace (Bazarevsky et al., 2019), the network of 256 pixels for pictures that nobody mirrored.

The package's LiteRT file is run as any other, so that TensorFlow, which the package asks for, is not needed. The
picture is brought to a square with bars; of each anchor the network gives a box in pixels of that square beside its
centre, and a score before its sigmoid.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from hyperloom.stages.label.decode.activation import sigmoid
from hyperloom.stages.label.decode.detections import suppressed
from hyperloom.stages.label.packages.packaged import PACKAGES, class_of
from hyperloom.stages.label.runtimes.litert import LiteRTSession

SIDE = 256
GRIDS = ((16, 2), (8, 6))
"""Cells along a side, and anchors a cell."""
OVERLAP = 0.3


@dataclass(frozen=True)
class FaceRows:
    """(n, 6) x0, y0, x1, y1 in shares, class 0, score; best first."""

    rows: np.ndarray

    def value(self, modality: Any) -> Any:
        kind = class_of("face", modality)
        if kind is None:
            raise ValueError(f"faces are of the class 'face', and the modality has {', '.join(modality.classes)}")
        sides = ("x0", "y0", "x1", "y1")
        rows = self.rows[: modality.most].tolist()
        return [{**dict(zip(sides, row)), "class": kind, "score": row[5]} for row in rows]


class Faces:
    def __init__(self, threshold: float, threads: int):
        (path,) = PACKAGES["blazeface"].files()
        self._net, self._threshold, self._anchors = LiteRTSession(path, (0, 1), threads), threshold, _anchors()

    def __call__(self, value: np.ndarray, modality: Any) -> FaceRows:
        height, width = value.shape[:2]
        square, scale, offset = _square(value)
        tensors = self._net(square[None], (0, 1))
        boxes = next(t for t in tensors if t.shape[-1] > 1)[0]
        scores = sigmoid(next(t for t in tensors if t.shape[-1] == 1)[0, :, 0])
        keep = scores >= self._threshold
        centre = boxes[keep, :2] + self._anchors[keep] * SIDE
        half = boxes[keep, 2:4] / 2
        corners = np.concatenate([centre - half, centre + half], 1)
        corners = (corners - np.tile(offset, 2)) / scale / np.array([width, height] * 2, np.float32)
        rows = np.column_stack([corners.clip(0, 1), np.zeros(len(corners)), scores[keep]]).astype(np.float32)
        return FaceRows(suppressed(rows, OVERLAP))


def _anchors() -> np.ndarray:
    """(896, 2) centres x, y in shares, in the network's order."""
    centres = []
    for cells, count in GRIDS:
        y, x = np.mgrid[:cells, :cells]
        centres.append(np.stack([x, y], -1).reshape(-1, 1, 2).repeat(count, 1).reshape(-1, 2).astype(np.float32) + 0.5)
        centres[-1] /= cells
    return np.concatenate(centres)


def _square(picture: np.ndarray) -> tuple[np.ndarray, float, np.ndarray]:
    """(SIDE, SIDE, 3) float32 in -1..1 with grey bars; the scale, and where the picture begins (x, y)."""
    import cv2

    height, width = picture.shape[:2]
    scale = SIDE / max(height, width)
    size = max(1, round(width * scale)), max(1, round(height * scale))
    left, top = (SIDE - size[0]) // 2, (SIDE - size[1]) // 2
    square = np.zeros((SIDE, SIDE, 3), np.float32)
    resized = cv2.resize(picture, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
    square[top : top + size[1], left : left + size[0]] = resized / np.float32(127.5) - 1
    return square, scale, np.array([left, top], np.float32)
