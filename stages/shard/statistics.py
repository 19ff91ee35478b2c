"""Statistics of columns: gathered while shards are written, merged exactly into the step's manifest.

A `ColumnCounter` sees the rows of one shard as they lie on disk. Values of one or two bytes (images, classes,
probabilities, float16 maps) are counted value by value, so every figure follows from exact counts; wider floats are
summed in float64. Its report is small, JSON-able and additive: `merged` of all shards does not depend on how the rows
were dealt to them, but for the last bits of float64 sums, whose order is fixed.
Histograms pool the channels. Pixels are not weighted; missing rows are counted and otherwise left out. What a
modality's numbers or classes are, `Modality.tallied` says: pixels, samples, the lengths of texts, the classes of boxes.
What single samples are like is kept beside it (`stages.shard.summaries`), in the record of each shard only.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from hyperloom.stages.modality import Modality
from hyperloom.stages.shard import wild
from hyperloom.stages.shard.summaries import ClassSummaries, NumberSummaries, summaries_of

BINS = 32
PAIRS = 1 << 18
"""From so many codes on counting them by twos pays."""
_EXACT = 1 << 24
"""OpenCV counts in float32, exact up to here: more values than that go in several calls."""


def edges(modality: Modality) -> list[float]:
    """Edges of the histogram's bins: even over a known range, else powers of two around zero; the last is closed."""
    if modality.limits:
        lowest, highest = modality.limits
        return [lowest + (highest - lowest) * i / BINS for i in range(BINS + 1)]
    powers = [2.0**k for k in range(-8, 17, 2)]
    return [-math.inf, *(-p for p in reversed(powers)), 0.0, *powers, math.inf]


class ColumnCounter:
    """Figures of one column of one shard."""

    def __init__(self, modality: Modality):
        self.modality = modality
        self.rows = self.missing = 0
        self._seen: ClassCounts | Codes | ValueSums | None = None
        self._words: Counter[str] | None = None
        self._samples: NumberSummaries | ClassSummaries | None = None

    def add(self, rows: np.ndarray, valid: np.ndarray) -> None:
        """Count rows of the dtype on disk, (N, *shape); where `valid` (N,) is false a row is missing."""
        index = np.flatnonzero(valid) + self.rows
        self.rows += len(rows)
        self.missing += int(len(valid) - valid.sum())
        rows = rows if valid.all() else rows[valid]
        if len(rows):
            values = self.modality.tallied(rows)
            if self._seen is None:
                self._seen = self._kind(values)(self.modality, values)
                self._samples = summaries_of(self.modality, rows, values)
            known = self._known(rows, values)
            self._seen.add(values if known is None else values[known])
            if self._samples is not None:
                self._samples.add(values, index, isinstance(self._seen, Codes), known)
            if isinstance(self._seen, Codes | ValueSums) and self._seen.sizes and len(values) % len(index) == 0:
                self._seen.sizes.note(wild.furthest(values, len(index), known), index)
            words = self.modality.counted_words(rows)
            self._words = words if self._words is None else self._words + (words or Counter())

    def figures(self) -> dict[str, Any]:
        """What was seen, additive: to be kept in the shard's record."""
        head: dict[str, Any] = {"rows": self.rows, "missing": self.missing}
        head |= {} if self._words is None else {"words": dict(sorted(self._words.items()))}
        head |= {} if self._samples is None else {"samples": self._samples.figures()}
        if self._seen is not None:
            return {**head, **self._seen.figures()}
        if self.modality.counted:
            return {**head, "classes": [0] * len(self.modality.counted), "unknown": 0}
        return head

    def _known(self, rows: np.ndarray, values: np.ndarray) -> np.ndarray | None:
        """(n,) bool: which of the `values` (n, channels) of `rows` are of sites that are known; None where all are, and
        where they are no sites."""
        if self.modality.counted or rows.dtype.kind not in "fu":
            return None
        known = self.modality.known(rows).reshape(-1)
        return known if known.shape == values.shape[:1] and not known.all() else None

    def _kind(self, values: np.ndarray) -> type[ClassCounts | Codes | ValueSums]:
        if self.modality.counted:
            return ClassCounts
        return Codes if values.dtype == self.modality.stored and values.dtype.itemsize <= 2 else ValueSums


class ClassCounts:
    """Counts of class ids; what is no class is unknown."""

    def __init__(self, modality: Modality, values: np.ndarray):
        self._classes = len(modality.counted)
        self._counts = np.zeros(self._classes + 1, np.int64)

    def add(self, ids: np.ndarray) -> None:
        if ids.dtype == np.uint8:
            counts = code_counts(ids.reshape(-1, 1), 256)[0]
            self._counts[:-1] += counts[: self._classes]
            self._counts[-1] += counts[self._classes :].sum()
        else:
            known = np.where((ids >= 0) & (ids < self._classes), ids, self._classes)
            self._counts += np.bincount(known.reshape(-1), minlength=self._classes + 1)

    def figures(self) -> dict[str, Any]:
        return {"classes": self._counts[:-1].tolist(), "unknown": int(self._counts[-1])}


class Codes:
    """Numbers of one or two bytes, counted code by code, so that every figure follows from exact counts."""

    def __init__(self, modality: Modality, values: np.ndarray):
        self.modality = modality
        self.sizes = wild.Magnitudes(values.shape[1]) if wild.looked_at(modality) else None
        self._counts = np.zeros((values.shape[1], 256**values.dtype.itemsize), np.int64)

    def add(self, values: np.ndarray) -> None:
        bins = self._counts.shape[1]
        self._counts += code_counts(values.view(np.uint8 if bins == 256 else np.uint16), bins)

    def figures(self) -> dict[str, Any]:
        bins = self._counts.shape[1]
        codes = np.arange(bins, dtype=np.uint8 if bins == 256 else np.uint16).view(self.modality.stored)
        moments = Moments(len(self._counts))
        histogram = np.zeros(len(edges(self.modality)) - 1, np.int64)
        for channel, counts in enumerate(self._counts):
            present = np.flatnonzero(counts)
            seen, weight = self.modality.to_memory(codes[present]).astype(np.float64), counts[present]
            seen, weight = seen[np.isfinite(seen)], weight[np.isfinite(seen)]
            moments.count[channel] = weight.sum()
            moments.sum[channel] = math.fsum(seen * weight)
            moments.square[channel] = math.fsum(seen * seen * weight)
            moments.min[channel], moments.max[channel] = seen.min(initial=np.inf), seen.max(initial=-np.inf)
            histogram += np.histogram(seen, edges(self.modality), weights=weight)[0].astype(np.int64)
            if self.sizes:
                self.sizes.add(channel, seen, weight)
        return _figures(moments, histogram, self.sizes)


class ValueSums:
    """Wider numbers, summed in float64; those that are not finite are left out."""

    def __init__(self, modality: Modality, values: np.ndarray):
        self.modality = modality
        self.sizes = wild.Magnitudes(values.shape[1]) if wild.looked_at(modality) else None
        self._moments = Moments(values.shape[1])
        self._histogram = np.zeros(len(edges(modality)) - 1, np.int64)

    def add(self, values: np.ndarray) -> None:
        for channel in range(values.shape[1]):
            wide = values[:, channel].astype(np.float64)
            wide = wide[np.isfinite(wide)]
            self._moments.add(channel, wide)
            self._histogram += np.histogram(wide, edges(self.modality))[0]
            if self.sizes:
                self.sizes.add(channel, wide)

    def figures(self) -> dict[str, Any]:
        return _figures(self._moments, self._histogram, self.sizes)


def _figures(moments: Moments, histogram: np.ndarray, sizes: wild.Magnitudes | None) -> dict[str, Any]:
    """What a record keeps of numbers; nothing where a channel has none."""
    if not moments.count.all():
        return {}
    powers = {"powers": sizes.figures()} if sizes else {}
    return {**moments.figures(), "histogram": histogram.tolist(), **powers}


class Moments:
    """What mean, deviation and range follow from, one number a channel."""

    def __init__(self, channels: int):
        self.count = np.zeros(channels, np.int64)
        self.sum, self.square = np.zeros(channels), np.zeros(channels)
        self.min, self.max = np.full(channels, np.inf), np.full(channels, -np.inf)

    def add(self, channel: int, values: np.ndarray) -> None:
        self.count[channel] += len(values)
        self.sum[channel] += values.sum()
        self.square[channel] += (values * values).sum()
        self.min[channel] = min(self.min[channel], values.min(initial=np.inf))
        self.max[channel] = max(self.max[channel], values.max(initial=-np.inf))

    def figures(self) -> dict[str, Any]:
        """`count` is one number where it is the same in all channels."""
        counts = self.count.tolist()
        named = {"sum": self.sum, "square": self.square, "min": self.min, "max": self.max}
        return {"count": counts if len(set(counts)) > 1 else counts[0], **{n: v.tolist() for n, v in named.items()}}


def code_counts(codes: np.ndarray, bins: int) -> np.ndarray:
    """(channels, bins) int64: how often each code occurs in (n, channels) uint8 or uint16."""
    import cv2

    if bins == 256 and codes.shape[1] == 1 and len(codes) >= PAIRS:  # two codes at a time: half the steps
        even = codes.reshape(-1)[: len(codes) // 2 * 2]
        pairs = code_counts(even.view(np.uint16)[:, None], 1 << 16)[0].reshape(256, 256)
        return (pairs.sum(0) + pairs.sum(1) + np.bincount(codes[len(even) :, 0], minlength=256))[None]
    counts = np.zeros((codes.shape[1], bins), np.int64)
    for start in range(0, len(codes), _EXACT):
        part = np.ascontiguousarray(codes[start : start + _EXACT])[:, None, :]
        for channel in range(codes.shape[1]):
            counts[channel] += cv2.calcHist([part], [channel], None, [bins], [0, bins]).reshape(-1).astype(np.int64)
    return counts


def merged(modality: Modality, figures: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """One column's statistics over many shards.

    {"rows", "missing" (share)} and, for what has classes, {"classes": {name: count}, "unknown": count}, counts of
    pixels, samples, boxes or tags; else, unless every row is missing, {"mean", "std", "min", "max"} (each a list, one
    number a channel, in the units of memory) and "histogram" {"edges", "counts"} (null stands for an infinite edge);
    with wild values (`stages.shard.wild`), which mean and std leave out, also "wild". Of texts that are read by words
    also {"words": {word: count}}, the vocabulary.
    """
    rows, missing = sum(f["rows"] for f in figures), sum(f["missing"] for f in figures)
    head: dict[str, Any] = {"rows": rows, "missing": missing / rows if rows else 0.0}
    if words := sum((Counter(f["words"]) for f in figures if "words" in f), Counter[str]()):
        head["words"] = modality.vocabulary(words)
    if modality.counted:
        counts = [sum(column) for column in zip(*(f["classes"] for f in figures), strict=True)]
        classes = dict(zip(modality.counted, counts or [0] * len(modality.counted), strict=True))
        return {**head, "classes": classes, "unknown": sum(f["unknown"] for f in figures)}
    seen = [f for f in figures if "count" in f]
    if not seen:
        return head
    return {
        **head,
        **_moments(seen),
        "min": [min(column) for column in zip(*(f["min"] for f in seen), strict=True)],
        "max": [max(column) for column in zip(*(f["max"] for f in seen), strict=True)],
        "histogram": {
            "edges": [e if math.isfinite(e) else None for e in edges(modality)],
            "counts": [sum(column) for column in zip(*(f["histogram"] for f in seen), strict=True)],
        },
    }


def class_shares(modality: Modality | None, figures: Mapping[str, Any]) -> dict[str, float]:
    """Of each class its share in merged statistics: of the samples where one may have several, so that these add up to
    more than one, else of all that is known. Empty where nothing is."""
    counts = figures.get("classes") or {}
    several = modality is not None and modality.markup == "marks"
    whole = samples_of(figures) if several else sum(counts.values())
    return {name: count / whole for name, count in counts.items()} if whole else {}


def samples_of(figures: Mapping[str, Any]) -> int:
    """How many samples have the column."""
    return round(figures.get("rows", 0) * (1 - figures.get("missing", 0.0)))


def _moments(seen: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Mean and deviation of each channel, without what is wild; and that, where there is any."""
    channels = len(seen[0]["sum"])
    parts = [f["count"] if isinstance(f["count"], list) else [f["count"]] * channels for f in seen]
    counts = [sum(column) for column in zip(*parts, strict=True)]
    mean = [math.fsum(c) / n for c, n in zip(zip(*(f["sum"] for f in seen)), counts, strict=True)]
    square = [math.fsum(c) / n for c, n in zip(zip(*(f["square"] for f in seen)), counts, strict=True)]
    powers = [f.get("powers", [[]] * channels) for f in seen]
    for channel, count in enumerate(counts):
        mine = [shard[channel] for shard in powers]
        if (least := wild.limit(mine, count)) is not None:
            mean[channel], square[channel] = wild.without(mine, count, least)
    std = [math.sqrt(max(0.0, s - m * m)) for s, m in zip(square, mean, strict=True)]
    unusual = wild.described(powers, counts)
    return {"mean": mean, "std": std, **({} if unusual is None else {"wild": unusual})}
