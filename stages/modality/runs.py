"""MaskRuns: a mask as the lengths of its runs, column by column, as COCO has it.

The first run is of zeros, then ones and zeros take turns; their sum is height times width. Exact, small, and equal for
equal masks. COCO's strings of runs, CVAT's and Label Studio's are other spellings of the same; which rows or columns
come first is each format's affair (`stages.formats`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, slots=True, eq=False)
class MaskRuns:
    """`counts` (n,) uint32 of a mask of `size`, height and width. Raises ValueError where the two do not fit."""

    size: tuple[int, int]
    counts: np.ndarray

    def __post_init__(self) -> None:
        height, width = self.size
        total = int(self.counts.sum(dtype=np.int64)) if len(self.counts) else 0
        if total != height * width:
            raise ValueError(f"its runs cover {total} pixels, a mask of {height}x{width} has {height * width}")

    def __eq__(self, other: object) -> bool:
        return isinstance(other, MaskRuns) and self.size == other.size and np.array_equal(self.plain(), other.plain())

    def __hash__(self) -> int:
        return hash((self.size, self.plain().tobytes()))

    @staticmethod
    def of(mask: np.ndarray) -> MaskRuns:
        """The runs of (H, W) bool or numbers, where anything but 0 is the thing."""
        height, width = mask.shape
        return MaskRuns((height, width), run_lengths(np.asarray(mask != 0).ravel(order="F")))

    def mask(self) -> np.ndarray:
        """(H, W) bool."""
        height, width = self.size
        return painted(self.counts).reshape(width, height).T

    def plain(self) -> np.ndarray:
        """The counts without runs of length 0 but for the first, so that equal masks have equal ones."""
        return self.counts if (self.counts[1:] > 0).all() else run_lengths(painted(self.counts))

    @property
    def area(self) -> int:
        return int(self.counts[1::2].sum())

    def extent(self) -> tuple[float, float, float, float] | None:
        """x0, y0, x1, y1 of the smallest box around it, in pixels; None of an empty mask."""
        mask = self.mask()
        columns, rows = np.flatnonzero(mask.any(0)), np.flatnonzero(mask.any(1))
        if not len(columns):
            return None
        return float(columns[0]), float(rows[0]), float(columns[-1] + 1), float(rows[-1] + 1)


def run_lengths(flat: np.ndarray) -> np.ndarray:
    """Lengths of the runs of (n,) bool as uint32, the first of zeros."""
    if not len(flat):
        return np.zeros(0, np.uint32)
    changes = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    edges = np.concatenate([[0], changes, [len(flat)]])
    counts = np.diff(edges).astype(np.uint32)
    return np.concatenate([np.zeros(1, np.uint32), counts]) if flat[0] else counts


def painted(counts: Sequence[int] | np.ndarray) -> np.ndarray:
    """(n,) bool of runs, the first of zeros."""
    return np.repeat(np.arange(len(counts)) % 2 == 1, counts)
