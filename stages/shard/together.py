"""Groups that share copies, so that a split can keep them on one side.

By `duplicates`: samples of equal bytes, and pictures that look alike (stages.shard.likeness). By an embedding: samples
that nearly coincide, nearer than CLOSE times the median distance to a nearest sample. What a sample has beside it in
its own group says nothing: partners are sought in other groups alone (stages.shard.joining).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from hyperloom.pipeline.commits.units import Record
from hyperloom.pipeline.errors import RecipeError
from hyperloom.pipeline.root.storage import Storage
from hyperloom.stages.base import modality_of
from hyperloom.stages.shard import content, likeness
from hyperloom.stages.shard.joining import joined, joining
from hyperloom.stages.table import read_table

DUPLICATES, EMBEDDING = "duplicates", "embedding"
CLOSE = 0.2


def together(
    storage: Storage, records: Sequence[Record], by: str, columns: Sequence[str], modalities: Mapping[str, Any]
) -> dict[str, str]:
    """Group -> the first by name of all groups that it must lie with. Raises RecipeError, SourceError."""
    names, place = np.unique([str(record.meta["group"]) for record in records], return_inverse=True)
    group = np.repeat(place.reshape(-1), [record.rows for record in records])
    if by == DUPLICATES:
        links = _duplicates(records, group)
    else:
        links = _embedded(storage, records, group, _column(by, columns, modalities), modalities)
    first = joined(len(names), group[links])
    return {str(name): str(names[one]) for name, one in zip(names, first, strict=True)}


def sentence(sets: Mapping[str, str]) -> str:
    """What is held together, in words; empty where nothing is."""
    shared = [g for g, first in sets.items() if g != first]
    if not shared:
        return ""
    shown = ", ".join(f"{g} with {sets[g]}" for g in shared[:3]) + (", .." if len(shared) > 3 else "")
    return f"{len(shared)} of {len(sets)} groups share copies with others and lie on their side ({shown})"


def _column(by: str, columns: Sequence[str], modalities: Mapping[str, Any]) -> str:
    if by != EMBEDDING:
        return by
    fitting = [c for c in columns if modalities[modality_of(c)].defaults.head == "embed"]
    if len(fitting) != 1:
        which = ", ".join(fitting) or "none"
        raise RecipeError(
            f"split.apart: embedding needs one column of that type, and there are: {which}. Next: name it"
        )
    return fitting[0]


def _duplicates(records: Sequence[Record], group: np.ndarray) -> np.ndarray:
    digests = content.together(records)
    order = np.argsort(digests, kind="stable")
    same = (digests[order][1:] == digests[order][:-1]) & (digests[order][1:] != 0)
    equal = np.stack([order[1:][same], order[:-1][same]], 1)
    return np.concatenate([equal, likeness.links(likeness.together(records), group)])


def _embedded(
    storage: Storage, records: Sequence[Record], group: np.ndarray, column: str, modalities: Mapping[str, Any]
) -> np.ndarray:
    from hyperloom.stages.shard.nearest import Others, nearest

    parts = []
    for record in records:
        values, valid = modalities[modality_of(column)].decode(read_table(storage, record.file.path, [column])[column])
        parts.append(np.where(valid[:, None], values.reshape(len(values), -1), np.nan))
    rows = np.concatenate(parts).astype(np.float32)
    known = np.flatnonzero(np.isfinite(rows).all(1))
    near = nearest(rows[known], 1)[0][:, 0]
    usual = float(np.median(near[np.isfinite(near) & (near > 0)])) if (np.isfinite(near) & (near > 0)).any() else 0.0
    single = near > CLOSE * usual
    others = Others(rows[known], single)

    def search(some: np.ndarray, sets: np.ndarray) -> np.ndarray:
        apart, place = others.nearest(some, sets)
        return np.where(apart <= CLOSE * usual, place, -1)

    return known[joining(group[known], search, np.flatnonzero(~single))]
