"""Order: which samples make which global batch, a pure function of (sizes, seed, epoch) and of nothing else.

Row groups are permuted, and each row is put at random within a window of `pool` row groups after the place of its own:
sorting rows by (place of the row group + pool * u), u uniform in 0..1, gives the epoch. So about `pool` row groups
are open at any time, one is read as another is through, and every sample comes exactly once. With no more row groups
than `pool` the epoch is a true permutation. A global batch is a slice of that line.

Within a batch rows lie by lane (place modulo pool), which changes no batch, but lets the slice of each worker touch
the same few row groups again: rank r of w takes rows [r*n//w, (r+1)*n//w) of a batch of n. Nothing else knows the
world size. Random numbers come from the raw stream of PCG64, which NumPy keeps stable, not from its samplers.

How well that shuffles stands in docs/loader.md and is held by tests/unit/test_shuffle.py. Several data sets in one line
are `stages.shard.mixture`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Epoch:
    """One epoch's samples in their order: (n,) visit of each sample and (n,) row in it.

    A visit is one opening of a row group, which a mixture may visit more than once: (visits,) `numbers` tells which row
    group that is, (visits,) `lanes` where its rows lie within a batch.
    """

    visits: np.ndarray
    rows: np.ndarray
    lanes: np.ndarray
    numbers: np.ndarray

    def batches(self, position: int, batch: int) -> Iterator[tuple[int, np.ndarray]]:
        """Global batches from sample `position` on: where each ends, and (n, 2) visit and row."""
        for start in range(position, len(self.visits), batch):
            mine = slice(start, start + batch)
            visits = self.visits[mine]
            by_lane = np.lexsort((visits, self.lanes[visits]))
            yield start + len(visits), np.stack([visits, self.rows[mine]], 1)[by_lane]

    def last_use(self) -> np.ndarray:
        """For each visit, the position of its last sample; -1 where the epoch has none of it."""
        last = np.full(len(self.lanes), -1, np.int64)
        last[self.visits] = np.arange(len(self.visits))
        return last


def epoch(
    sizes: Sequence[int] | np.ndarray,
    seed: int,
    number: int,
    pool: int,
    shuffle: bool = True,
    salt: tuple[int, ...] = (),
) -> Epoch:
    """The order of epoch `number`; the stored one without `shuffle`. `sizes`: rows of each row group. `salt` makes the
    chance of data sets that are mixed independent."""
    count = np.asarray(sizes, np.int64)
    total, width = int(count.sum()), min(pool, len(count))
    groups = np.arange(len(count))
    if shuffle and len(count) > 1:
        groups = np.argsort(_random(len(count), seed, number, 0, *salt), kind="stable")
    lanes = np.empty(len(count), np.int64)
    lanes[groups] = np.arange(len(count)) % width
    place = np.repeat(np.arange(len(count)), count[groups])
    first = np.cumsum(count[groups]) - count[groups]
    row = np.arange(total) - first[place]
    if shuffle:
        window = width * (_random(total, seed, number, 1, *salt) >> np.uint64(11)) * 2.0**-53
        order = np.argsort(window if width == len(count) else place + window, kind="stable")
        place, row = place[order], row[order]
    return Epoch(groups[place], row, lanes, np.arange(len(count)))


def share(batch: np.ndarray, rank: int, world_size: int) -> np.ndarray:
    """The rows of a global batch that are this rank's. Empty when there are fewer rows than ranks."""
    count = len(batch)
    return batch[rank * count // world_size : (rank + 1) * count // world_size]


def _random(count: int, *seed: int) -> np.ndarray:
    """(count,) uint64."""
    return np.random.PCG64(np.random.SeedSequence(seed)).random_raw(count)
