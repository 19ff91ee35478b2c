"""Wild values: numbers far outside what a column usually holds, such as one depth of 1e9 among metres.

They are counted by powers of two, whatever the unit, channel by channel, with count, sum and sum of squares of each
power, so that mean and deviation can do without them, with the first sample of each, and with how many lie below zero.
What is wild follows from the counts of all shards together: the largest magnitudes, at most a hundredth of the values
(or a single one), that lie at least `GAP` powers of two above all others. So long tails, whose powers follow each
other, are usual. A column with a range has none: what lies outside was refused. Nothing is changed or left out of the
data.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from hyperloom.pipeline.commits.units import Record
from hyperloom.pipeline.counting import counted
from hyperloom.pipeline.root.storage import Storage
from hyperloom.stages.base import KEY
from hyperloom.stages.modality import Modality
from hyperloom.stages.table import read_table

GAP = 4
"""Powers of two without a value, counted from the usual ones to the wild: at least 8 times as large."""
SHARE, FEWEST = 100, 10
"""Of so many values one may be wild; fewer usual ones tell nothing."""
NOUGHT = -20
"""Numbers below this power of two may be what rounding left of zero. Beside nothing else, which a column of a small
unit (currents in amperes) is too, only one value is wild, however often it is there: a mark, not the few that are real.
"""
_LOWEST, _POWERS = -1080, 2110  # of float64, subnormal ones too
SHOWN = 3

Powers = list[list[Any]]
"""Of one channel: [power of two, count, sum, sum of squares, the value furthest out, row of the first sample or -1, how
many lie below zero]; records of before have nothing below 1e-6, and do not say the last."""


def looked_at(modality: Modality) -> bool:
    """May a column of this modality hold wild values?"""
    return modality.dtype.kind == "f" and modality.limits is None and not modality.unit_vectors


class Magnitudes:
    """Counts the values of one shard's column."""

    def __init__(self, channels: int):
        self._bins: list[dict[int, list[float]]] = [{} for _ in range(channels)]
        self._first: list[dict[int, int]] = [{} for _ in range(channels)]

    def add(self, channel: int, values: np.ndarray, times: np.ndarray | None = None) -> None:
        """Finite numbers (n,) float64, each so many `times`."""
        kept = values != 0
        values, weight = values[kept], np.ones(int(kept.sum())) if times is None else times[kept].astype(np.float64)
        powers = _powers(values) - _LOWEST
        each = (weight, weight * values, weight * values**2, weight * (values < 0))
        sums = [np.bincount(powers, one, _POWERS) for one in each]
        for power in np.flatnonzero(sums[0]):
            mine = values[powers == power]
            furthest = float(mine[np.abs(mine).argmax()])
            *before, most = self._bins[channel].get(int(power) + _LOWEST, [0.0] * 5)
            new = [one + more[power] for one, more in zip(before, sums, strict=True)]
            self._bins[channel][int(power) + _LOWEST] = [*new, max(most, furthest, key=abs)]

    def note(self, furthest: np.ndarray, index: np.ndarray) -> None:
        """The largest magnitude of each sample and channel, (N, channels), 0 for none; samples' rows are `index`."""
        for channel, column in enumerate(furthest.T.astype(np.float64)):
            kept = column > 0
            powers, first = np.unique(_powers(column[kept]), return_index=True)
            for power, row in zip(powers.tolist(), index[kept][first].tolist()):
                self._first[channel].setdefault(power, row)

    def figures(self) -> list[Powers]:
        """By channel, for the shard's record."""
        return [
            [[p, int(b[0]), b[1], b[2], b[4], first.get(p, -1), int(b[3])] for p, b in sorted(bins.items())]
            for bins, first in zip(self._bins, self._first, strict=True)
        ]


def furthest(values: np.ndarray, samples: int, known: np.ndarray | None) -> np.ndarray:
    """(N, channels): the largest magnitude of each sample in values (N * places, channels), as they lie on disk."""
    parts = values.reshape(samples, -1, values.shape[-1])
    if values.dtype == np.float16:  # its bits are in the order of magnitudes, and many times faster
        bits = parts.view(np.uint16) & 0x7FFF
        bits = np.where(bits < 0x7C00, bits, 0)
        sizes = bits if known is None else bits * known.reshape(samples, -1, 1)
        return sizes.max(1).astype(np.uint16).view(np.float16)
    sizes = np.where(np.isfinite(parts), np.abs(parts), 0)
    return (sizes if known is None else sizes * known.reshape(samples, -1, 1)).max(1)


def limit(powers: Sequence[Powers], count: int) -> int | None:
    """The power of two from which on a channel's values are wild, given its powers in all shards and how many values
    there are; None where none are."""
    counts: dict[int, int] = {}
    for power, times, *_ in (one for mine in powers for one in mine):
        counts[power] = counts.get(power, 0) + times
    large = sum(times for power, times in counts.items() if power >= NOUGHT)
    if large > max(1, count // SHARE) or not _alike([one for mine in powers for one in mine if one[0] >= NOUGHT]):
        counts = {power: times for power, times in counts.items() if power >= NOUGHT}
    lowest, wild = None, 0
    present = sorted(counts)
    for below, power in reversed(list(pairwise(present))):
        wild += counts[power]
        if wild > max(1, count // SHARE) or sum(counts.values()) - wild < FEWEST:
            break
        lowest = power if power - below >= GAP else lowest
    return lowest


def without(powers: Sequence[Powers], count: int, least: int) -> tuple[float, float]:
    """Mean and mean square of a channel's `count` values, less those from the power `least` on."""
    usual = [one for mine in powers for one in mine if one[0] < least]
    number = count - sum(one[1] for mine in powers for one in mine if one[0] >= least)
    return math.fsum(one[2] for one in usual) / number, math.fsum(one[3] for one in usual) / number


def described(powers: Sequence[Sequence[Powers]], counts: Sequence[int]) -> dict[str, Any] | None:
    """What is wild about a column, given the powers of each shard, by channel: {"values", "most", "usual"}, and the
    places {"at": [[shard, row]]} of some samples; None where nothing is."""
    number, most, usual, at = 0, 0.0, 0.0, dict[tuple[int, int], None]()
    for channel, count in enumerate(counts):
        least = limit([shard[channel] for shard in powers], count)
        if least is None:
            continue
        for place, shard in enumerate(powers):
            for power, times, _, _, value, row, *_ in shard[channel]:
                if power < least:
                    usual = max(usual, value, key=abs)
                    continue
                number, most = number + times, max(most, value, key=abs)
                if row >= 0:
                    at[place, row] = None
    return {"values": number, "most": most, "usual": usual, "at": [list(one) for one in at][:SHOWN]} if number else None


def sentence(column: str, wild: Mapping[str, Any]) -> str:
    """What is to be said of a column, and what mends it."""
    samples = f", as in {', '.join(wild['samples'])}" if wild.get("samples") else ""
    low, high = sorted((0.0, wild["usual"]))
    return (
        f"{column} holds {counted(wild['values'], 'number')} up to {wild['most']:g} where others reach "
        f"{wild['usual']:.4g}{samples}: they count neither for its mean nor for its deviation. "
        f"Next: unknown: {wild['most']:g} on the modality where that means nothing, or a range, as in "
        f"range: [{low:.4g}, {high:.4g}]"
    )


def samples(storage: Storage, records: Sequence[Record], at: Sequence[Sequence[int]]) -> list[str]:
    """The keys of the samples at the places, [shard, row], that `described` names."""
    files = [record.file.path for record in records]
    return [str(read_table(storage, files[shard], [KEY])[KEY][row]) for shard, row in at]


def _alike(powers: Powers) -> bool:
    """Is all that these powers counted one value?"""
    if not powers:
        return True
    value = powers[0][4]
    return all(
        one[4] == value and math.isclose(one[2], one[1] * value) and math.isclose(one[3], one[1] * value * value)
        for one in powers
    )


def _powers(values: np.ndarray) -> np.ndarray:
    """The power of two at or below each magnitude."""
    return np.frexp(np.abs(values))[1].astype(np.int64) - 1
