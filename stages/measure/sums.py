"""Sums: the statistics that figures are made of, plain JSON, which add up exactly however the work was spread.

What cannot be added (each box's score) is gathered: rows of bytes, as text, of which several parts are one after the
other. Whoever reads them sorts them, so that their order says nothing.
"""

from __future__ import annotations

import base64
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np

Sums = dict[str, Any]
"""Statistic -> an integer, a float, (nested) lists of them, or the text of gathered rows."""
WIDTH = 9
"""Bytes of a gathered row: a multiple of three, so that texts one after the other are rows one after the other."""
V = TypeVar("V")


def merged(parts: Iterable[Sums]) -> Sums:
    """Statistics of several batches: counts add as integers, sums by `math.fsum` (exactly rounded, in any order), rows
    are gathered.

    A statistic that a part lacks (motion, where there is no frame before) counts as nothing there.
    """
    gathered: dict[str, list[Any]] = {}
    for part in parts:
        for key, value in part.items():
            gathered.setdefault(key, []).append(value)
    return {key: _added(values) for key, values in gathered.items()}


def _added(values: list[Any]) -> Any:
    if isinstance(values[0], str):
        return "".join(values)
    if isinstance(values[0], list):
        return np.sum(values, axis=0).tolist()
    return math.fsum(values) if any(isinstance(v, float) for v in values) else sum(values)


def packed(rows: np.ndarray) -> str:
    """Rows (n,) of WIDTH bytes as text."""
    if rows.dtype.itemsize != WIDTH:
        raise ValueError(f"gathered rows have {WIDTH} bytes, not {rows.dtype.itemsize}")
    return base64.b64encode(np.ascontiguousarray(rows).tobytes()).decode()


@dataclass(frozen=True)
class Gathered:
    """Gathered rows, (n, WIDTH) uint8, in the order of their bytes, and how often each counts, (n,); None: once."""

    rows: np.ndarray
    weights: np.ndarray | None = None
    _seen: dict[Any, Any] = field(default_factory=dict, compare=False)

    @classmethod
    def of(cls, value: Gathered | str) -> Gathered:
        """Of the text of rows, or as they are."""
        if isinstance(value, Gathered):
            return value
        rows = unpacked(value)
        return cls(rows[order(rows)])

    def weighed(self, weights: np.ndarray) -> Gathered:
        """The same rows, each counted so often."""
        return Gathered(self.rows, weights, self._seen)

    def seen_as(self, view: Callable[[np.ndarray], V]) -> V:
        """`view(rows)`, made once for all weights."""
        if view not in self._seen:
            self._seen[view] = view(self.rows)
        seen: V = self._seen[view]
        return seen


def unpacked(text: str) -> np.ndarray:
    """(n, WIDTH) uint8."""
    return np.frombuffer(base64.b64decode(text), np.uint8).reshape(-1, WIDTH)


def order(rows: np.ndarray) -> np.ndarray:
    """(n,) int64: the places of rows (n, WIDTH) in the order of their bytes."""
    return np.lexsort(rows.T[::-1]) if len(rows) else np.zeros(0, np.int64)
