"""What samples are compared by: the features of all columns that were asked for, on one footing.

Of one column the numbers stay as they are. Of several, each column counts as much as any other, whatever its unit and
however many numbers it gives: a column in grams would else decide alone beside one in tons. A sample that lacks a
column lies in the middle of it; one that lacks all of them is like nothing: it is no copy, no outlier, and nothing is
said of its labels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

MISSING = "{} is missing"
"""How a survey says of a sample that it lacks a column."""
ROUNDING = 1e-9
"""Of sums of a column's numbers; what varies by less is the same number for all."""


@dataclass(frozen=True)
class Compared:
    """`rows` (N, D) float32; `present` (N,) bool: which samples have any of them; `level`: are the numbers on one
    footing already, so that nobody should even them out?"""

    rows: np.ndarray
    present: np.ndarray
    level: bool

    @classmethod
    def of(cls, rows: np.ndarray, widths: Sequence[int], columns: Sequence[str], faults: Sequence[str]) -> Compared:
        """Of the features (N, D) of `columns`, which have so many numbers each; `faults` say what a sample lacks."""
        words = [set(fault.split("; ")) for fault in faults]
        lacks = np.array([[MISSING.format(c) in mine for c in columns] for mine in words], bool)
        lacks = lacks.reshape(len(rows), len(columns))
        present = np.asarray(~lacks.all(1)) if columns else np.ones(len(rows), bool)
        if len(columns) < 2:
            return cls(rows, present, False)
        parts = np.split(rows, np.cumsum(widths)[:-1], axis=1)
        return cls(np.concatenate([_even(p, ~lacks[:, i]) for i, p in enumerate(parts)], 1), present, True)

    @property
    def apart(self) -> np.ndarray:
        """(n, D) of the samples that are present, for distances."""
        return self.rows[self.present] if self.level else evened(self.rows[self.present])


def evened(rows: np.ndarray) -> np.ndarray:
    """(N, D) centred, none varying much less than the others, so that no unit counts for all."""
    some = rows[:: max(1, len(rows) // 20_000)]
    spread = some.std(0)
    rms = float(np.sqrt(np.mean(spread**2))) or 1.0
    return np.asarray((rows - some.mean(0)) / np.maximum(spread, 0.5 * rms), np.float32)


def _even(rows: np.ndarray, known: np.ndarray) -> np.ndarray:
    """(N, d) of one column, centred, of a total variance of one; 0 where it is not known, and where it is the same for
    all but for rounding."""
    level, mine = np.zeros(rows.shape, np.float32), rows[known].astype(np.float64)
    if len(mine) and np.sqrt(mine.var(0).sum()) > ROUNDING * np.abs(mine).max():
        even = evened(mine)
        level[known] = even / np.sqrt(even.astype(np.float64).var(0).sum())
    return level
