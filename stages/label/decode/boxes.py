"""Detections as a map: each group of a detector's classes is a channel, each object a box filled with its score.

So a detector's answer is a dense modality like any other: (H, W, groups) float32 in 0..1, 0 where nothing was found.
Where boxes of a group overlap, the higher score stands.
"""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from pydantic import Field

from hyperloom.stages.label.decode.decoders import Decoder
from hyperloom.stages.modality import Size


class BoxDecoder(Decoder):
    """A detector whose tensor is (n, 6) rows `left, top, right, bottom, score, class`, as exports with NMS inside give.

    Coordinates are pixels of the network's input, or in 0..1 where `relative`. `groups` holds, for each channel of the
    output, the detector's classes that it shows.
    """

    spatial: ClassVar[bool] = False
    groups: tuple[tuple[int, ...], ...] = Field(min_length=1)
    threshold: float = Field(0.4, ge=0, le=1)
    overlap: float = Field(0.45, gt=0, le=1)
    """Non-maximum suppression: of two boxes of a class with a larger intersection over union, the weaker goes."""
    relative: bool = False

    def ready(self, modality: Any, column: str) -> None:
        if len(modality.shape) != 3 or modality.shape[-1] != len(self.groups):
            expected = f"a dense modality of {len(self.groups)} channels, one a group"
            raise ValueError(f"{column}: this decoder makes {expected}; the modality's shape is {modality.shape}")

    def rows(self, raw: np.ndarray, size: Size) -> np.ndarray:
        """(n, 6) float32 rows `left, top, right, bottom, score, class`, coordinates in 0..1 of the frame."""
        rows = raw.reshape(-1, 6).astype(np.float32)
        if not self.relative:
            rows[:, :4] /= np.array([size[1], size[0], size[1], size[0]], np.float32)
        return rows

    def tile(self, raw: np.ndarray, layout: str, size: Size) -> np.ndarray:
        rows = self.rows(raw, size)
        rows = rows[rows[:, 4] >= self.threshold]
        return suppress(rows, self.overlap)

    def finish(self, whole: np.ndarray, modality: Any) -> np.ndarray:
        height, width, channels = modality.shape
        scores = np.zeros((height, width, channels), np.float32)
        channel = {c: i for i, group in enumerate(self.groups) for c in group}
        for left, top, right, bottom, score, class_ in whole:
            if int(class_) not in channel:
                continue
            y = slice(int(max(0, np.floor(top * height))), int(min(height, np.ceil(bottom * height))))
            x = slice(int(max(0, np.floor(left * width))), int(min(width, np.ceil(right * width))))
            area = scores[y, x, channel[int(class_)]]
            np.maximum(area, score, out=area)
        return scores


def suppress(rows: np.ndarray, overlap: float) -> np.ndarray:
    """Greedy non-maximum suppression within each class: the rows kept, best first."""
    rows = rows[np.argsort(-rows[:, 4], kind="stable")]
    kept: list[int] = []
    for i in range(len(rows)):
        rivals = rows[[k for k in kept if rows[k, 5] == rows[i, 5]]]
        if not len(rivals) or _iou(rows[i], rivals).max() <= overlap:
            kept.append(i)
    return rows[kept]


def _iou(row: np.ndarray, others: np.ndarray) -> np.ndarray:
    low, high = np.maximum(row[:2], others[:, :2]), np.minimum(row[2:4], others[:, 2:4])
    shared = np.prod(np.clip(high - low, 0, None), axis=1)
    area = np.prod(row[2:4] - row[:2]) + np.prod(others[:, 2:4] - others[:, :2], axis=1) - shared
    return shared / np.maximum(area, 1e-9)
