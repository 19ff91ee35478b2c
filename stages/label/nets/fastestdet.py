"""FastestDet's output: a one-scale, anchor-free grid of detections, as published at github.com/dog-qiuqiu/FastestDet.

The tensor is (5 + classes, h, w): objectness, tx, ty, tw, th, and class probabilities. A cell's centre is at
`(column + tanh tx) / w`, its width is `sigmoid tw`, and its score `objectness^0.6 * class^0.4`.
"""

from __future__ import annotations

import numpy as np

from hyperloom.stages.label.boxes import BoxDecoder
from hyperloom.stages.modality import Size


class FastestDet(BoxDecoder):
    """Decoder of FastestDet's grid into boxes; the rest (threshold, suppression, groups, drawing) is `BoxDecoder`."""

    def rows(self, raw: np.ndarray, size: Size) -> np.ndarray:
        height, width = raw.shape[1:]
        grid = raw.astype(np.float32)
        y, x = np.mgrid[:height, :width].astype(np.float32)
        centre_x, centre_y = (x + np.tanh(grid[1])) / width, (y + np.tanh(grid[2])) / height
        half_w, half_h = _sigmoid(grid[3]) / 2, _sigmoid(grid[4]) / 2
        class_ = grid[5:].argmax(0)
        score = np.clip(grid[0], 0, 1) ** 0.6 * np.clip(grid[5:].max(0), 0, 1) ** 0.4
        sides = [centre_x - half_w, centre_y - half_h, centre_x + half_w, centre_y + half_h]
        return np.stack([s.ravel() for s in (*sides, score, class_.astype(np.float32))], axis=1)


def _sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-np.clip(x, -60, 60)))
