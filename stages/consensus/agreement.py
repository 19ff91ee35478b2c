"""How far sources agree: figures of each sample for each pair of columns, and the matrices they add up to.

For classes the figure is `equal`, the share of pixels with the same class among those where both say one. For
numbers it is `mae`, the mean absolute difference in the modality's unit, and `correlation` (Pearson's, over the
sample's values); for unit vectors `angle`, the mean angle in degrees; for boxes and instances `f1`, the share of
things that overlap one of the same class by half. Of texts and tags `equal` is the share of the longer one's bytes or
tags: where one ends and the other goes on they differ. It says nothing of who is right.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from itertools import combinations
from typing import Any, TypeAlias

import numpy as np

from hyperloom.pipeline.commits.units import Record
from hyperloom.pipeline.counting import rounded
from hyperloom.stages.angle import degrees
from hyperloom.stages.modality.knowledge import spread

SourceColumn: TypeAlias = "tuple[np.ndarray, np.ndarray | None]"
"""Values (N, ...), and which of them are there (None: all)."""


def agreement(columns: Mapping[str, SourceColumn], modality: Any) -> dict[str, np.ndarray]:
    """`{measure}:{column}|{column}` -> (N,) float64, NaN where one of the two has nothing to compare."""
    figures: dict[str, np.ndarray] = {}
    for (a, (left, has_left)), (b, (right, has_right)) in combinations(columns.items(), 2):
        both = np.ones(len(left), bool)
        for has in (has_left, has_right):
            both &= True if has is None else has
        for measure, values in _compared(left, right, modality).items():
            figures[f"{measure}:{a}|{b}"] = np.where(both, values, np.nan)
    return figures


def matrices(records: Iterable[Record], columns: list[str]) -> dict[str, Any]:
    """Mean figures over all samples: measure -> symmetric matrix over `columns`, None where nothing was compared."""
    sums: dict[str, list[list[float]]] = {}
    for record in records:
        for name, pair in record.meta.get("figures", {}).items():
            sums.setdefault(name, []).append(pair)
    report: dict[str, Any] = {"columns": columns}
    for name, pairs in sorted(sums.items()):
        measure, _, names = name.partition(":")
        a, b = (columns.index(c) for c in names.split("|"))
        matrix = report.setdefault(measure, [[None] * len(columns) for _ in columns])
        count = sum(n for _, n in pairs)
        if count:
            matrix[a][b] = matrix[b][a] = rounded(math.fsum(s for s, _ in pairs) / count, 6)
    return report


def _compared(left: np.ndarray, right: np.ndarray, modality: Any) -> dict[str, np.ndarray]:
    if (things := modality.things_agree(left, right)) is not None:
        return {"f1": things}
    both = modality.given(left) & modality.given(right)
    if modality.ended and left.dtype.kind in "iu":
        longer = _sums(modality.given(left) | modality.given(right))
        return {"equal": np.where(longer > 0, _ratio(_sums(both & (left == right)), longer), 1.0)}
    left, right = modality.compared(left), modality.compared(right)
    used = np.broadcast_to(spread(both, left), left.shape)
    if left.dtype.kind in "iu":
        return {"equal": _ratio(_sums(used & (left == right)), _sums(used))}
    if modality.unit_vectors:
        angles = np.zeros(both.shape)
        angles[both] = degrees(left[both], right[both])
        return {"angle": _ratio(_sums(angles), _sums(both))}
    used = used.reshape(len(left), -1)
    a, b = (np.where(used, v.reshape(used.shape).astype(np.float64), 0) for v in (left, right))
    count = _sums(used)
    mae = _ratio(np.abs(a - b).sum(1), count)
    a, b = (np.where(used, v - _ratio(v.sum(1), count)[:, None], 0) for v in (a, b))
    return {"mae": mae, "correlation": _ratio((a * b).sum(1), np.sqrt((a * a).sum(1) * (b * b).sum(1)))}


def _sums(values: np.ndarray) -> np.ndarray:
    return values.reshape(len(values), -1).sum(1).astype(np.float64)


def _ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    return np.divide(part, whole, out=np.full(len(part), np.nan), where=whole > 0)
