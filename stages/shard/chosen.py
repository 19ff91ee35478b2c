"""Chosen rows: a view of row groups in which only some of the rows count.

An order (`stages.shard.order`) is made over the rows that are chosen, as if there were no others, so that every promise
of the loader holds for them; then each is looked up in its row group as it is stored.
"""

from __future__ import annotations

import numpy as np


class ChosenRows:
    """Of row groups with (n,) `stored` rows those of which (rows,) bool `chosen`, in the stored order, is true."""

    def __init__(self, stored: np.ndarray, chosen: np.ndarray):
        group = np.repeat(np.arange(len(stored)), stored)
        self.chosen = chosen
        self.sizes = np.bincount(group[chosen], minlength=len(stored))
        """(n,) how many are chosen of each row group."""
        starts = np.cumsum(stored) - stored
        self._rows = np.flatnonzero(chosen) - starts[group[chosen]]
        self._starts = np.cumsum(self.sizes) - self.sizes

    def places(self, groups: np.ndarray, rows: np.ndarray) -> np.ndarray:
        """(k,) rows as their row groups store them, of (k,) row groups and rows counted among the chosen."""
        return np.asarray(self._rows[self._starts[groups] + rows])
