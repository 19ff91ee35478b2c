"""Groups that share copies, so that a split can keep them on one side.

By `duplicates`: samples of equal bytes, and pictures that look alike (stages.shard.likeness). By an embedding: samples
that nearly coincide, nearer than CLOSE times the median distance to a nearest sample.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from hyperloom.pipeline.errors import RecipeError
from hyperloom.pipeline.storage import Storage
from hyperloom.pipeline.units import Record
from hyperloom.stages.base import modality_of
from hyperloom.stages.shard import content, likeness
from hyperloom.stages.table import read_table

DUPLICATES, EMBEDDING = "duplicates", "embedding"
CLOSE = 0.2
NEAREST = 5


def together(
    storage: Storage, records: Sequence[Record], by: str, columns: Sequence[str], modalities: Mapping[str, Any]
) -> dict[str, str]:
    """Group -> the first by name of all groups that it must lie with. Raises RecipeError, SourceError."""
    rows = [str(record.meta["group"]) for record in records for _ in range(record.rows)]
    if by == DUPLICATES:
        links = _duplicates(records)
    else:
        links = _embedded(storage, records, _column(by, columns, modalities), modalities)
    first = {group: group for group in (str(record.meta["group"]) for record in records)}

    def root(group: str) -> str:
        while first[group] != group:
            group = first[group]
        return group

    for a, b in links:
        one, other = sorted((root(rows[int(a)]), root(rows[int(b)])))
        first[other] = one
    return {group: root(group) for group in sorted(first)}


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


def _duplicates(records: Sequence[Record]) -> np.ndarray:
    digests = content.together(records)
    order = np.argsort(digests, kind="stable")
    same = (digests[order][1:] == digests[order][:-1]) & (digests[order][1:] != 0)
    links = [np.stack([order[1:][same], order[:-1][same]], 1)]
    signed = likeness.together(records)
    partner = likeness.alike(signed, signed, itself=False)
    links.append(np.stack([np.flatnonzero(partner >= 0), partner[partner >= 0]], 1))
    return np.concatenate(links)


def _embedded(storage: Storage, records: Sequence[Record], column: str, modalities: Mapping[str, Any]) -> np.ndarray:
    from hyperloom.stages.shard.nearest import nearest

    parts = []
    for record in records:
        values, valid = modalities[modality_of(column)].decode(read_table(storage, record.file.path, [column])[column])
        parts.append(np.where(valid[:, None], values.reshape(len(values), -1), np.nan))
    rows = np.concatenate(parts).astype(np.float32)
    known = np.flatnonzero(np.isfinite(rows).all(1))
    apart, place = nearest(rows[known], NEAREST)
    group = np.array([str(r.meta["group"]) for r in records for _ in range(r.rows)])[known]
    near = apart[:, 0]
    usual = float(np.median(near[np.isfinite(near) & (near > 0)])) if (np.isfinite(near) & (near > 0)).any() else 0.0
    close = (apart <= CLOSE * usual) & (place >= 0)
    row, rank = np.nonzero(close)
    other = place[row, rank]
    crossing = group[row] != group[other]
    return np.stack([known[row[crossing]], known[other[crossing]]], 1)
