"""What is measured of a column: counts of each group, and the distance that two sums of such counts have.

    classes    js        shares of the classes, what is no class among them
    numbers    psi       values (pixels), in tenths of the reference
               ks        means of the samples, in `FINE` parts of the reference
               shift     of the mean of a channel, in standard deviations of the reference
    all        missing   the share of samples without a value
    sources    agreement with what a consensus made of them
    makers     quarantine  the share of samples that were left out

Bins are fixed by the reference alone: cut where its counts reach even shares, with what lies below and above its
range in bins of their own. Counts add up over groups, so any dealing of the groups is a sum.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from hyperloom.stages.drift import distances
from hyperloom.stages.modality import Modality

TENTHS, FINE = 10, 256
SMALL, LARGE = 1e-3, 2.0**16
"""A column that stays below the first is of a small unit: what is closer to zero than a thousandth of it is much of it.
One that passes the second, from which on a histogram without a range has one bin, is of a large one."""
_FINEST = -8
"""The power of two of the histogram's bins next to zero."""
_MIDDLE = 1000
"""More than any power of four: codes of magnitudes are above zero."""
FURTHEST = 100.0
"""The largest shift that is told: a reference that never varies has no deviation."""

Distance = Callable[[np.ndarray, np.ndarray], np.ndarray]
ColumnFigures = Mapping[str, Any]
"""What a shard's record says of a column (stages.shard.statistics)."""
BinCounter = Callable[[ColumnFigures], tuple[np.ndarray, np.ndarray]]
"""Codes of bins, and their counts."""


@dataclass(frozen=True)
class Measured:
    """`counts` (groups, bins), and the distance of two sums of them. `samples` (groups,) are what they count."""

    subject: str
    measure: str
    counts: np.ndarray
    distance: Distance
    samples: np.ndarray

    def over(self, dealt: np.ndarray) -> np.ndarray:
        """(dealings,) distances where (dealings, groups) are new and the other groups the reference."""
        new = dealt.astype(np.float64) @ self.counts
        return self.distance(self.counts.sum(0) - new, new)

    def noise(self, new: np.ndarray) -> float:
        """What it comes to by chance where samples do not depend on one another."""
        sizes = int(self.samples[~new].sum()), int(self.samples[new].sum())
        return distances.noise(self.measure, self.counts.shape[1], *sizes)


def share(subject: str, measure: str, whole: np.ndarray, part: np.ndarray) -> Measured:
    """The difference of the shares `part` (groups,) of `whole`; a mean is such a share too."""
    return Measured(subject, measure, np.stack([whole, part], 1).astype(np.float64), _shares, whole)


def measures(
    column: str, modality: Modality, groups: Sequence[Sequence[ColumnFigures]], new: np.ndarray
) -> list[Measured]:
    """All that is measured of a column, from the figures of each group's shards; `new` (groups,) are the newer ones."""
    rows, missing = (np.array([sum(f[k] for f in group) for group in groups]) for k in ("rows", "missing"))
    measured = [share(column, "missing", rows, missing)]
    if modality.counted:
        counts = [np.sum([[*f["classes"], f["unknown"]] for f in group], 0) for group in groups]
        return [*measured, Measured(column, "js", np.array(counts, np.float64), distances.js, rows - missing)]
    numbers = [[f for f in group if "count" in f] for group in groups]
    before = [f for group, newer in zip(numbers, new, strict=True) if not newer for f in group]
    every = [f for group in numbers for f in group]
    means = partial(sampled, small=of_small_unit(before, every))
    values = _values(before, every)
    kinds: dict[str, tuple[BinCounter, int, Distance]] = {
        "psi": (values, TENTHS, distances.psi), "ks": (means, FINE, distances.ks),
    }  # fmt: skip
    for name, (counted, bins, distance) in kinds.items():
        counts_ = binned([[counted(f) for f in group] for group in numbers], new, bins)
        if counts_ is not None:
            measured.append(Measured(column, name, counts_, distance, rows - missing))
    return [*measured, *_shift(column, numbers, new, rows - missing)]


def _shift(column: str, groups: Sequence[Sequence[ColumnFigures]], new: np.ndarray, rows: np.ndarray) -> list[Measured]:
    reference = [f for group, newer in zip(groups, new, strict=True) if not newer for f in group]
    if not reference:
        return []
    channels = len(reference[0]["sum"])
    count, total, square = (sum(_channels(f, name, channels) for f in reference) for name in ("count", "sum", "square"))
    deviation = np.sqrt(np.maximum(square / count - (total / count) ** 2, 0))
    counts = np.zeros((len(groups), 2 * channels))
    for at, group in enumerate(groups):
        for f in group:
            counts[at] += np.concatenate([_channels(f, "count", channels), _channels(f, "sum", channels)])
    return [Measured(column, "shift", counts, partial(_shifts, deviation), rows)]


def _channels(figures: ColumnFigures, name: str, channels: int) -> np.ndarray:
    return np.broadcast_to(np.asarray(figures[name], np.float64), (channels,))


def _shifts(deviation: np.ndarray, reference: np.ndarray, new: np.ndarray) -> np.ndarray:
    channels = len(deviation)
    counts = reference[..., :channels], new[..., :channels]
    mean, other = (
        np.divide(s[..., channels:], n, out=np.zeros(n.shape), where=n > 0)
        for s, n in zip((reference, new), counts, strict=True)
    )
    far = np.abs(mean - other)
    moved = np.divide(far, deviation, out=np.where(far > 0, FURTHEST, 0.0), where=deviation > 0)
    return np.where((counts[0] > 0) & (counts[1] > 0), np.minimum(moved, FURTHEST), 0.0).max(-1)


def _shares(reference: np.ndarray, new: np.ndarray) -> np.ndarray:
    p, q = (np.divide(c[..., 1], c[..., 0], out=np.zeros(c.shape[:-1]), where=c[..., 0] > 0) for c in (reference, new))
    return np.where((reference[..., 0] > 0) & (new[..., 0] > 0), np.abs(p - q), 0.0)


# -- bins --------------------------------------------------------------------------------------------------------------
def _histogram(figures: ColumnFigures) -> tuple[np.ndarray, np.ndarray]:
    counts = np.array(figures["histogram"], np.int64)
    return np.arange(len(counts)), counts


def _values(reference: Sequence[ColumnFigures], every: Sequence[ColumnFigures]) -> BinCounter:
    """The histogram, or magnitudes where the unit of the reference is so small, or so large, that one bin of it may
    hold all numbers, and all shards count them so."""
    largest = _largest(reference)
    if (0 < largest < SMALL or largest >= LARGE) and all(map(_says_magnitudes, every)):
        return partial(_magnitudes, least=-math.inf if largest < SMALL else _FINEST)
    return _histogram


def _magnitudes(figures: ColumnFigures, least: float) -> tuple[np.ndarray, np.ndarray]:
    """By powers of four around zero, as the histogram's bins without a range; what is below the power of two `least`
    counts as zero."""
    counts: Counter[int] = Counter()
    for powers, count in zip(figures["powers"], _channels(figures, "count", len(figures["powers"])), strict=True):
        large = [one for one in powers if one[0] >= least]
        counts[0] += int(count) - sum(one[1] for one in large)
        for power, times, *_, below in large:
            counts[power // 2 + _MIDDLE] += times - below
            counts[-(power // 2 + _MIDDLE)] += below
    present = sorted(counts)
    return np.array(present, np.int64), np.array([counts[code] for code in present], np.int64)


def _says_magnitudes(figures: ColumnFigures) -> bool:
    """Shards of before left out what is below 1e-6, and did not say what lies below zero."""
    ends = zip(figures.get("powers", ()), figures["min"], figures["max"], strict=False)
    channels = [all(len(one) > 6 for one in powers) if powers else low == high == 0 for powers, low, high in ends]
    return all(channels) and bool(channels)


def sampled(figures: ColumnFigures, small: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """Codes and counts of the means of the samples (stages.shard.summaries); with `small` also of those that count as
    zero else."""
    samples = figures.get("samples", {})
    counts = Counter(dict(zip(samples.get("codes", ()), samples.get("counts", ()), strict=True)))
    for code, count in samples.get("small", ()) if small else ():
        counts.subtract({0: count})
        counts.update({code: count})
    present = sorted(code for code in counts if counts[code])
    return np.array(present, np.int64), np.array([counts[code] for code in present], np.int64)


def of_small_unit(reference: Sequence[ColumnFigures], every: Sequence[ColumnFigures]) -> bool:
    """Are the numbers of the reference so small that what counts as zero else is none, and do all shards say it? Those
    of before did not."""
    return 0 < _largest(reference) < SMALL and all(map(_says_small, every))


def _largest(figures: Sequence[ColumnFigures]) -> float:
    return max((abs(end) for f in figures for end in (*f["min"], *f["max"])), default=math.nan)


def _says_small(figures: ColumnFigures) -> bool:
    samples = figures.get("samples", {})
    return "small" in samples or 0 not in samples.get("codes", ())


def binned(groups: Sequence[Sequence[tuple[np.ndarray, np.ndarray]]], new: np.ndarray, bins: int) -> np.ndarray | None:
    """(groups, bins) counts of [(codes, counts)], in bins that the groups of the reference cut; None without any."""
    reference = [part for group, newer in zip(groups, new, strict=True) if not newer for part in group]
    codes = np.concatenate([c for c, _ in reference]) if reference else np.zeros(0, np.int64)
    weights = np.concatenate([n for _, n in reference]) if reference else codes
    if not weights.sum():
        return None
    edges = cuts(codes, weights, bins)
    counts = np.zeros((len(groups), len(edges) + 1))
    for at, group in enumerate(groups):
        for code, weight in group:
            counts[at] += np.bincount(np.searchsorted(edges, code, "right"), weight, len(edges) + 1)
    return counts


def cuts(codes: np.ndarray, weights: np.ndarray, bins: int) -> np.ndarray:
    """Edges of at most `bins` bins with even shares of the counts `weights` of `codes`; bin i begins at edge i - 1, and
    the first and the last bin are what lies outside."""
    known, place = np.unique(codes[weights > 0], return_inverse=True)
    counts = np.bincount(place, weights[weights > 0])
    before = np.cumsum(counts) - counts
    part = (before * bins / counts.sum()).astype(np.int64)
    first = np.concatenate([[True], np.diff(part) > 0])
    return np.append(known[first], known[-1] + 1)
