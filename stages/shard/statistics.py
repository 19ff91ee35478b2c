"""Statistics of columns: gathered while shards are written, merged exactly into the step's manifest.

A `Tally` sees the rows of one shard as they lie on disk. Values of one or two bytes (images, classes, probabilities,
float16 maps) are counted value by value, so every figure follows from exact counts; wider floats are summed in
float64. What a tally gives is small, JSON-able and additive: `merged` of all shards does not depend on how the rows
were dealt to them, but for the last bits of float64 sums, whose order is fixed.
Histograms pool the channels. Pixels are not weighted; missing rows are counted and otherwise left out.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from stages.modality import Modality, Segmentation
from stages.picture import UNKNOWN

BINS = 32
_EXACT = 1 << 24
"""OpenCV counts in float32, exact up to here: more values than that go in several calls."""


def edges(modality: Modality) -> list[float]:
    """Edges of the histogram's bins: even over a known range, else powers of two around zero; the last is closed."""
    if modality.stored == np.uint8:
        top = 256.0 if modality.dtype == np.uint8 else 1.0
        return [top * i / BINS for i in range(BINS + 1)]
    limits = getattr(modality, "range", None)
    if limits:
        return [limits[0] + (limits[1] - limits[0]) * i / BINS for i in range(BINS + 1)]
    powers = [2.0**k for k in range(-8, 17, 2)]
    return [-math.inf, *(-p for p in reversed(powers)), 0.0, *powers, math.inf]


class Tally:
    """Figures of one column of one shard."""

    def __init__(self, modality: Modality):
        self.modality = modality
        self.rows = self.missing = 0
        self._channels = 1 if isinstance(modality, Segmentation) else modality.channels
        self._counts: np.ndarray | None = None
        self._sums = {name: np.zeros(self._channels) for name in ("sum", "square")}
        self._min, self._max = np.full(self._channels, np.inf), np.full(self._channels, -np.inf)
        self._histogram = np.zeros(len(edges(modality)) - 1, np.int64)
        if modality.stored.itemsize <= 2:
            self._counts = np.zeros((self._channels, 256**modality.stored.itemsize), np.int64)

    def add(self, rows: np.ndarray, valid: np.ndarray) -> None:
        """Count rows of the dtype on disk, (N, *shape); where `valid` (N,) is false a row is missing."""
        self.rows += len(rows)
        self.missing += int(len(valid) - valid.sum())
        rows = rows if valid.all() else rows[valid]
        if len(rows):
            values = rows.reshape(-1, self._channels)
            (self._sum if self._counts is None else self._count)(values)

    def figures(self) -> dict[str, Any]:
        """What was seen, additive: to be kept in the shard's record."""
        head = {"rows": self.rows, "missing": self.missing}
        if isinstance(self.modality, Segmentation):
            assert self._counts is not None
            counts = self._counts[0]
            return {**head, "classes": counts[: self.modality.channels].tolist(), "unknown": int(counts[UNKNOWN])}
        if self.rows == self.missing:
            return head
        if self._counts is not None:
            self._from_counts()
        return {
            **head,
            "count": int(np.prod(self.modality.shape)) // self._channels * (self.rows - self.missing),
            **{name: values.tolist() for name, values in self._sums.items()},
            "min": self._min.tolist(),
            "max": self._max.tolist(),
            "histogram": self._histogram.tolist(),
        }

    def _count(self, values: np.ndarray) -> None:
        import cv2

        assert self._counts is not None
        bins = self._counts.shape[1]
        codes = values.view(np.uint8 if bins == 256 else np.uint16)
        for start in range(0, len(codes), _EXACT):
            part = np.ascontiguousarray(codes[start : start + _EXACT])[:, None, :]
            for channel in range(self._channels):
                found = cv2.calcHist([part], [channel], None, [bins], [0, bins])
                self._counts[channel] += found.reshape(-1).astype(np.int64)

    def _sum(self, values: np.ndarray) -> None:
        wide = values.astype(np.float64)
        self._sums["sum"] += wide.sum(0)
        self._sums["square"] += (wide * wide).sum(0)
        self._min, self._max = np.minimum(self._min, wide.min(0)), np.maximum(self._max, wide.max(0))
        self._histogram += np.histogram(wide, edges(self.modality))[0]

    def _from_counts(self) -> None:
        assert self._counts is not None
        bins = self._counts.shape[1]
        codes = np.arange(bins, dtype=np.uint8 if bins == 256 else np.uint16).view(self.modality.stored)
        for channel, counts in enumerate(self._counts):
            there = np.flatnonzero(counts)
            seen, weight = self.modality.to_memory(codes[there]).astype(np.float64), counts[there]
            self._sums["sum"][channel] = math.fsum(seen * weight)
            self._sums["square"][channel] = math.fsum(seen * seen * weight)
            self._min[channel], self._max[channel] = seen.min(), seen.max()
            self._histogram += np.histogram(seen, edges(self.modality), weights=weight)[0].astype(np.int64)


def merged(modality: Modality, figures: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """One column's statistics over many shards.

    {"rows", "missing" (share)} and, for segmentation, {"classes": {name: pixels}, "unknown": pixels}; else, unless
    every row is missing, {"mean", "std", "min", "max"} (each a list, one number a channel, in the units of memory) and
    "histogram" {"edges", "counts"} (null stands for an infinite edge).
    """
    rows, missing = sum(f["rows"] for f in figures), sum(f["missing"] for f in figures)
    head: dict[str, Any] = {"rows": rows, "missing": missing / rows if rows else 0.0}
    if isinstance(modality, Segmentation):
        pixels = [sum(column) for column in zip(*(f["classes"] for f in figures), strict=True)]
        classes = dict(zip(modality.classes, pixels or [0] * modality.channels, strict=True))
        return {**head, "classes": classes, "unknown": sum(f["unknown"] for f in figures)}
    seen = [f for f in figures if "count" in f]
    if not seen:
        return head
    count = sum(f["count"] for f in seen)
    mean = [math.fsum(column) / count for column in zip(*(f["sum"] for f in seen), strict=True)]
    square = [math.fsum(column) / count for column in zip(*(f["square"] for f in seen), strict=True)]
    return {
        **head,
        "mean": mean,
        "std": [math.sqrt(max(0.0, s - m * m)) for s, m in zip(square, mean, strict=True)],
        "min": [min(column) for column in zip(*(f["min"] for f in seen), strict=True)],
        "max": [max(column) for column in zip(*(f["max"] for f in seen), strict=True)],
        "histogram": {
            "edges": [e if math.isfinite(e) else None for e in edges(modality)],
            "counts": [sum(column) for column in zip(*(f["histogram"] for f in seen), strict=True)],
        },
    }
