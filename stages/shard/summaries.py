"""Summaries: what single samples of a column are like, gathered in the same pass as its statistics.

Of numbers it is each sample's mean, counted in bins that are fixed beforehand, and the samples with the lowest and the
highest; of classes with one id a place, the sample with most of each class. So a later step can tell how the samples
of some shards are spread against those of others, and which of them lie furthest out, without reading the data again.

Bins never depend on the data: even ones over a range that is known, else 64 to each power of two. Counts of equal bins
add up. A sample of many values is summed up by at most `MOST` of them, evenly spread. It judges nothing: see
`stages.drift`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

import numpy as np

from hyperloom.stages.modality import Modality

MOST = 1024
"""Values of one sample and channel that are looked at, about."""
KEPT = 4
"""Samples that are kept at either end."""
EVEN = 1024
"""Bins over a known range."""
NOUGHT = 1e-6
"""What is closer to zero counts as zero where no range is known; `small` says what it is all the same, for columns of a
small unit (currents in amperes)."""
_SHIFT = 17
"""Bits of a float32 that are dropped: sign, exponent and six bits of the mantissa stay."""
_TOGETHER = 1 << 20
"""Values that are summed up at a time."""


def codes(modality: Modality, values: np.ndarray) -> np.ndarray:
    """The bin of each of `values` (n,) in the units of memory: int64, in the order of the numbers."""
    if modality.limits:
        lowest, highest = modality.limits
        return np.clip((values - lowest) / (highest - lowest) * EVEN, 0, EVEN - 1).astype(np.int64)
    return _exact(np.where(np.abs(values) < NOUGHT, 0, values))


def _exact(values: np.ndarray) -> np.ndarray:
    """The bins of numbers without a known range, however close to zero."""
    single = values.astype(np.float32)
    size = (np.abs(single).view(np.int32) >> _SHIFT).astype(np.int64)
    return np.where(single < 0, -size, size)


class NumberSummaries:
    """The mean of each sample. Samples without a finite number are left out."""

    def __init__(self, modality: Modality):
        self.modality = modality
        self._counts: Counter[int] = Counter()
        self._small: Counter[int] = Counter()
        self._ends: list[tuple[float, int]] = []

    def add(self, values: np.ndarray, index: np.ndarray, scaled: bool, known: np.ndarray | None = None) -> None:
        """Add the samples `index` (N,) of the shard: `values` (N * places, channels), `scaled` if still as on disk;
        `known` (N * places,) says which places count, None that all do."""
        samples = len(index)
        for place, (part, mine) in _parts(values.reshape(samples, -1, values.shape[-1]), index):
            numbers = self.modality.to_memory(part) if scaled else part
            if known is not None:
                numbers = np.where(known.reshape(samples, -1)[place][..., None], numbers, np.nan)
            means = _means(numbers)
            kept = np.isfinite(means)
            self._note(means[kept], mine[kept])

    def figures(self) -> dict[str, Any]:
        """{"codes", "counts", "low", "high"}; the latter two are [mean, row in the shard], the furthest out first.
        Where some count as zero also {"small": [[code, count]]}, those of them that are not."""
        present = sorted(self._counts)
        low, high = ([list(e) for e in ends] for ends in _ends(self._ends))
        counts = [self._counts[code] for code in present]
        small = {"small": [[code, self._small[code]] for code in sorted(self._small)]}
        small = small if 0 in self._counts and not self.modality.limits else {}
        return {"codes": present, "counts": counts, "low": low, "high": high, **small}

    def _note(self, means: np.ndarray, index: np.ndarray) -> None:
        numbers, counts = np.unique(codes(self.modality, means), return_counts=True)
        self._counts.update(dict(zip(numbers.tolist(), counts.tolist(), strict=True)))
        if not self.modality.limits:
            self._small.update(_exact(means[(np.abs(means) < NOUGHT) & (means != 0)]).tolist())
        outer = {*_lowest(means), *_lowest(-means)}
        low, high = _ends([*self._ends, *((float(f"{means[i]:.6g}"), int(index[i])) for i in outer)])
        self._ends = sorted({*low, *high})


class ClassSummaries:
    """The sample with the largest share of each class, of ids (N, ...) with a class for each place."""

    def __init__(self, modality: Modality):
        self._classes = len(modality.counted)
        self._most: dict[int, tuple[float, int]] = {}

    def add(self, ids: np.ndarray, index: np.ndarray, scaled: bool, known: np.ndarray | None = None) -> None:
        for _, (places, mine) in _parts(ids.reshape(len(index), -1), index):
            part = places.astype(np.int64)
            known = np.where((part >= 0) & (part < self._classes), part, self._classes)
            flat = (known + np.arange(len(part))[:, None] * (self._classes + 1)).reshape(-1)
            counts = np.bincount(flat, minlength=len(part) * (self._classes + 1)).reshape(len(part), -1)[:, :-1]
            for class_, row in enumerate(counts.argmax(0)):
                share = round(float(counts[row, class_]) / places.shape[1], 6)
                if share > self._most.get(class_, (0.0, 0))[0]:
                    self._most[class_] = (share, int(mine[row]))

    def figures(self) -> dict[str, Any]:
        """{"most": [[class, its share, row in the shard]]}, for classes that are there."""
        return {"most": [[class_, *self._most[class_]] for class_ in sorted(self._most)]}


def summaries_of(modality: Modality, rows: np.ndarray, values: np.ndarray) -> NumberSummaries | ClassSummaries | None:
    """What sums up the samples `rows` of which statistics count `values`; None where values do not lie by sample."""
    if modality.counted:
        return ClassSummaries(modality) if values.shape == rows.shape else None
    return NumberSummaries(modality) if values.ndim == 2 and len(values) % len(rows) == 0 else None


Cut = tuple[slice, slice]


def _parts(places: np.ndarray, index: np.ndarray) -> Iterator[tuple[Cut, tuple[np.ndarray, np.ndarray]]]:
    """Samples (N, places, ...) and their `index`, some at a time, with `MOST` places; and which of all these are. The
    step is odd, so that it does not meet the same columns of a picture again and again."""
    step = places.shape[1] // MOST | 1
    together = max(1, _TOGETHER // max(1, places[0, ::step].size))
    for first in range(0, len(places), together):
        some = slice(first, first + together)
        yield (some, slice(None, None, step)), (places[some, ::step], index[some])


def _means(places: np.ndarray) -> np.ndarray:
    """(N,) means over the finite numbers of (N, places, channels); NaN where there is none."""
    wide = places.reshape(len(places), -1).astype(np.float64)
    finite = np.isfinite(wide)
    count = finite.sum(1)
    total = np.where(finite, wide, 0).sum(1)
    return np.divide(total, count, out=np.full(len(wide), np.nan), where=count > 0)


def _lowest(values: np.ndarray) -> list[int]:
    """Places of the lowest of (n,) `values`, earlier ones first among equals."""
    if len(values) > KEPT:
        candidates = np.flatnonzero(values <= np.partition(values, KEPT - 1)[KEPT - 1])
    else:
        candidates = np.arange(len(values))
    return candidates[np.argsort(values[candidates], kind="stable")][:KEPT].tolist()


def _ends(ends: list[tuple[float, int]]) -> tuple[list[tuple[float, int]], list[tuple[float, int]]]:
    """The lowest and the highest of (mean, row), the furthest out first; earlier rows win ties."""
    low = sorted(ends)[:KEPT]
    high = sorted(ends, key=lambda e: (-e[0], e[1]))[:KEPT]
    return low, high
