"""Mixtures: several data sets in one line of samples, by shares, and nothing left to chance.

What holds: each set runs through passes of its own, and in a pass each of its samples comes exactly once, in an order
that is a pure function of (seed, set, pass). Which set comes next is no lottery: of any n samples from the start, a set
with share p has given n*p, within the number of sets, so every batch has the asked-for proportions. An epoch of the
mixture is as many samples as the sets hold together; with shares in proportion to the sizes that is every sample of
every set once. Passes go on over the ends of epochs, so a large set with a small share is still seen as a whole before
any of it comes again.

A sampler (plug-in kind `sampler`) turns the sets' sizes into shares. Not here: reading, and what a set's columns are.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
from pydantic import Field, field_validator

from hyperloom.pipeline.commits.manifest import Manifest
from hyperloom.pipeline.errors import RecipeError
from hyperloom.pipeline.plugins import Plugin
from hyperloom.stages.modality import Modality
from hyperloom.stages.results import Shards, SplitSize
from hyperloom.stages.shard.order import Epoch, epoch

LEAST = 1e-6
"""Samples of an epoch that a data set gives, at least: one in a million epochs."""
SMALLEST_POOL = 4
"""Row groups of a set with a small share that are shuffled together, at least."""


class Sampler(Plugin):
    """Base: how much each of several data sets gives."""

    more: ClassVar[str] = "another sampler"
    """What gives a data set more."""

    def check(self, sets: int) -> None:
        """Raise RecipeError where it cannot mix so many data sets, whatever their rows."""

    def shares(self, rows: Sequence[int]) -> tuple[float, ...]:
        """The share of each set, together 1, from the sets' rows, all above 0. Raises RecipeError."""
        raise TypeError(f"the sampler {self.type!r} has no shares()")


class Temperature(Sampler):
    """share ~ weight * rows ** (1 / temperature), as in multilingual training (Arivazhagan et al. 2019): 1 is in
    proportion to the sizes, large ones even the sets out. `weights` in the order of `data`, by default all 1."""

    more: ClassVar[str] = "a higher temperature or a larger weight"
    temperature: float = Field(1.0, gt=0)
    weights: tuple[float, ...] = ()

    @field_validator("weights")
    @classmethod
    def _positive(cls, value: tuple[float, ...]) -> tuple[float, ...]:
        if not all(0 < weight < math.inf for weight in value):
            raise ValueError("a weight is a number above 0; leave a data set out instead")
        return value

    def check(self, sets: int) -> None:
        if self.weights and len(self.weights) != sets:
            raise RecipeError(f"the sampler has {len(self.weights)} weights for {sets} data sets: give one for each")

    def shares(self, rows: Sequence[int]) -> tuple[float, ...]:
        self.check(len(rows))
        weights, top = self.weights or (1.0,) * len(rows), max(rows)
        return _shares([w * (n / top) ** (1 / self.temperature) for w, n in zip(weights, rows, strict=True)])


class FixedShares(Sampler):
    """The shares themselves, in the order of `data`, whatever the sizes: `{type: shares, shares: [3, 1]}`."""

    more: ClassVar[str] = "a larger share"
    requested: tuple[float, ...] = Field(alias="shares", min_length=1)

    @field_validator("requested")
    @classmethod
    def _positive(cls, value: tuple[float, ...]) -> tuple[float, ...]:
        if not all(0 < share < math.inf for share in value):
            raise ValueError("a share is a number above 0; leave a data set out instead")
        return value

    def check(self, sets: int) -> None:
        if len(self.requested) != sets:
            given = f"{len(self.requested)} shares for {sets} data sets"
            raise RecipeError(f"the sampler has {given}: give one for each")

    def shares(self, rows: Sequence[int]) -> tuple[float, ...]:
        self.check(len(rows))
        return _shares(self.requested)


@dataclass(frozen=True)
class Mixture:
    """Manifests of shard steps, and the sampler that mixes them. `whole` is the result of a step that held them all."""

    sets: tuple[Manifest, ...]
    sampler: Sampler
    modalities: dict[str, Modality] = field(default_factory=dict)

    def shares(self, rows: Sequence[int]) -> tuple[float, ...]:
        """The share of each set, all above 0, by the `rows` of it that are there to be drawn from. Raises RecipeError
        where there is none, or the sampler leaves nothing of a set."""
        if 0 in rows:
            where = f"data set {rows.index(0) + 1} of {len(rows)} (in the order of `data`)"
            raise RecipeError(f"no sample of {where} is left to be drawn. Next: leave it out, or see its shard step")
        shares = self.sampler.shares(rows)
        least = shares.index(min(shares))
        if not shares[least] * sum(rows) > LEAST:
            what = f"the sampler leaves nothing of data set {least + 1} of {len(rows)}, of {rows[least]} samples beside"
            raise RecipeError(f"{what} {sum(rows) - rows[least]}. Next: {self.sampler.more}, or leave it out of `data`")
        return shares

    @cached_property
    def whole(self) -> Shards:
        """Schema (every column that any set has), rows of the splits, and exact statistics of the training splits."""
        sets = [Shards.from_manifest(manifest) for manifest in self.sets]
        schema = {c: about for data_set in sets for c, about in data_set.schema.items()}
        names = dict.fromkeys(name for data_set in sets for name in data_set.splits)
        splits = {name: SplitSize(sum(data_set.rows(name) for data_set in sets)) for name in names}
        return Shards(schema, (), splits, statistics={c: self._statistics(c, sets) for c in schema})

    def _statistics(self, column: str, sets: Sequence[Shards]) -> dict[str, Any]:
        from hyperloom.stages.shard.statistics import merged

        entries = []
        for manifest, data_set in zip(self.sets, sets, strict=True):
            if column in data_set.schema:
                places = zip(manifest.records, data_set.shards, strict=True)
                entries += [r.meta["statistics"][column] for r, shard in places if shard.split == "train"]
        return merged(self.modalities[column.partition("@")[0]], entries)


def mixed(
    sets: Sequence[np.ndarray], shares: Sequence[float], seed: int, number: int, pool: int, shuffle: bool = True
) -> Epoch:
    """Epoch `number` of the sets, each given as the rows of its row groups; row groups are numbered through.

    Without `shuffle` the sets follow one another, each once, whatever the shares. `pool` is dealt out by share.
    """
    if len(sets) == 1 or not shuffle:
        return epoch(np.concatenate(sets), seed, number, pool, shuffle)
    firsts = np.cumsum([0, *(len(sizes) for sizes in sets)])

    def passed(i: int, turn: int) -> Epoch:
        whole = epoch(sets[i], seed, turn, max(SMALLEST_POOL, round(pool * shares[i])), salt=(1 + i,))
        return Epoch(whole.visits, whole.rows, whole.lanes, whole.numbers + firsts[i])

    return interleaved([int(sizes.sum()) for sizes in sets], shares, number, passed)


def stratified(
    sizes: np.ndarray, chosen: np.ndarray, shares: tuple[float, float], seed: int, number: int, pool: int
) -> Epoch:
    """Epoch `number` of one set, of whose samples, in their stored order, those that are `chosen` have the first share
    and the others the second. Each kind runs through passes of its own, as sets of a mixture do."""
    starts = np.cumsum(sizes) - sizes

    def passed(i: int, turn: int) -> Epoch:
        whole = epoch(sizes, seed, turn, max(SMALLEST_POOL, round(pool * shares[i])), salt=(1 + i,))
        mine = chosen[starts[whole.numbers[whole.visits]] + whole.rows] == (i == 0)
        return Epoch(whole.visits[mine], whole.rows[mine], whole.lanes, whole.numbers)

    return interleaved([int(chosen.sum()), int((~chosen).sum())], shares, number, passed)


def interleaved(
    rows: Sequence[int], shares: Sequence[float], number: int, passed: Callable[[int, int], Epoch]
) -> Epoch:
    """Epoch `number` of kinds of samples that come by `shares`: `passed(i, turn)` is a pass through the `rows[i]` of a
    kind."""
    total = sum(rows)
    before, after = (drawn(shares, n * total) for n in (number, number + 1))
    parts, times, opened = [], [], 0
    for i, count in enumerate(rows):
        for turn in range(before[i] // count, -(-after[i] // count)):
            whole = passed(i, turn)
            mine = slice(max(0, before[i] - turn * count), min(count, after[i] - turn * count))
            parts.append(Epoch(whole.visits[mine] + opened, whole.rows[mine], whole.lanes, whole.numbers))
            opened += len(whole.numbers)
        times.append((np.arange(before[i], after[i]) + 0.5) / shares[i])
    order = np.argsort(np.concatenate(times), kind="stable")
    line, row = (np.concatenate(arrays)[order] for arrays in ([p.visits for p in parts], [p.rows for p in parts]))
    return Epoch(line, row, np.concatenate([p.lanes for p in parts]), np.concatenate([p.numbers for p in parts]))


def drawn(shares: Sequence[float], count: int) -> list[int]:
    """How many of the first `count` samples come from each set: sample k of a set with share p is due at (k + 1/2)/p,
    and they come in the order in which they are due."""
    taken = [max(0, int((count - len(shares)) * p + 0.5)) for p in shares]
    while sum(taken) < count:
        taken[min(range(len(shares)), key=lambda i: (taken[i] + 0.5) / shares[i])] += 1
    return taken


def _shares(weights: Sequence[float]) -> tuple[float, ...]:
    return tuple(weight / sum(weights) for weight in weights)
