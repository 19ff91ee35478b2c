"""Joining: which sets of samples share such that lie together, from a search that gives each sample one partner.

One partner a sample is not enough: where it lies among many of its own set, that partner says nothing, and where three
sets share copies, it is of one of them. So partners are sought in other sets, the sets that these join become one, and
the search goes on, for those that had a partner, until none has (Boruvka 1926). Two sets stay apart only where no
sample of one has a partner in the other.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

Search = Callable[["np.ndarray", "np.ndarray"], "np.ndarray"]
"""Places (n,) of samples, and the set (N,) of each of all -> (n,) places of partners in other sets; -1 for none."""


def joining(sets: np.ndarray, search: Search, rows: np.ndarray | None = None) -> np.ndarray:
    """(n, 2) places of samples and partners, in order, that join all sets which share any: `sets` (N,) whole numbers.
    `rows` (n,): the samples to search for; all by default."""
    pairs = [np.zeros((0, 2), np.int64)]
    now = np.unique(sets, return_inverse=True)[1].reshape(-1)
    rows = np.arange(len(now)) if rows is None else rows
    while len(rows):
        partner = search(rows, now)
        rows, partner = rows[partner >= 0], partner[partner >= 0]
        pairs.append(np.stack([rows, partner], 1))
        now = joined(int(now.max(initial=-1)) + 1, now[pairs[-1]])[now]
    return np.concatenate(pairs)


def joined(count: int, links: np.ndarray) -> np.ndarray:
    """(count,) the lowest member of the set that each belongs to, where (n, 2) are linked."""
    lowest = np.arange(count)
    one, other = links[:, 0], links[:, 1]
    while (ends := np.minimum(lowest[one], lowest[other])).size and (
        (lowest[one] != ends).any() or (lowest[other] != ends).any()
    ):
        for side in (one, other):
            np.minimum.at(lowest, lowest[side], ends)
        while (further := lowest[lowest] != lowest).any():  # each to the end of its chain
            lowest[further] = lowest[lowest[further]]
    return lowest
