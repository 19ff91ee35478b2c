"""The samples that moved most: which rows of the newer shards show what a figure says, and a picture of them.

They are known from the pass that wrote the shards (`stages.shard.summaries`): where the mean went up, the samples with
the highest; where a class grew, those with most of it. Of a column that keeps no such samples, and of what is missing,
it is the middle of the first shard. Beside them is the middle sample of the reference.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from hyperloom.pipeline.commits.units import Record
from hyperloom.pipeline.root.storage import Storage
from hyperloom.stages.base import KEY, modality_of
from hyperloom.stages.drift.compare import DriftFigure
from hyperloom.stages.drift.reference import Side
from hyperloom.stages.modality import Modality
from hyperloom.stages.table import open_table

SHOWN = 3
"""Columns beside the images that are shown."""

Row = tuple[Record, int]


def moved(
    reference: Side, new: Side, columns: Sequence[str], modalities: Mapping[str, Modality], count: int
) -> list[Row]:
    """At most `count` rows of the newer shards that show how `columns`, the most moved first, moved."""
    rows: dict[tuple[str, int], Row] = {}
    ways = [iter(_furthest(reference, new, column, modalities[modality_of(column)])) for column in columns]
    while ways and len(rows) < count:
        for way in list(ways):
            row = next(way, None)
            if row is None:
                ways.remove(way)
            elif len(rows) < count:
                rows.setdefault((row[0].id, row[1]), row)
    return list(rows.values())


def picture(
    storage: Storage,
    rows: Sequence[Row],
    typical: Row | None,
    columns: Sequence[str],
    modalities: Mapping[str, Modality],
) -> bytes:
    """PNG of the rows, and of a typical one of the reference below them."""
    from hyperloom.stages.evaluate.collage import collage

    named = [("new", row) for row in rows] + ([("before", typical)] if typical else [])
    return collage([_read(storage, what, row, columns, modalities) for what, row in named], columns, modalities)


def shown(findings: Iterable[DriftFigure], columns: Sequence[str], modalities: Mapping[str, Modality]) -> list[str]:
    """The images among `columns`, then the columns that moved most."""
    images = [c for c in columns if modalities[modality_of(c)].rgb]
    subjects = [f.subject for f in findings if f.subject in columns and f.subject not in images]
    return [*images, *dict.fromkeys(subjects)][: len(images) + SHOWN]


def middle(side: Side) -> Row | None:
    """The middle sample of a side's middle shard."""
    records = [record for mine in side.records.values() for record in mine]
    return (records[len(records) // 2], records[len(records) // 2].rows // 2) if records else None


def _furthest(reference: Side, new: Side, column: str, modality: Modality) -> list[Row]:
    """Rows of the newer shards, those furthest the way that the column moved first."""
    old, now = (_figures(side, column) for side in (reference, new))
    if modality.counted:
        grown = int((_class_shares(now) - _class_shares(old)).argmax())
        ends = [(r, row, -share) for r, f in now for class_, share, row in _kept(f, "most") if class_ == grown]
    else:
        up = _mean(old) <= _mean(now)
        ends = [(r, row, -m if up else m) for r, f in now for m, row in _kept(f, "high" if up else "low")]
    ends.sort(key=lambda end: (end[2], end[0].id, end[1]))
    return [(record, row) for record, row, _ in ends] or [row for row in [middle(new)] if row]


def _kept(figures: Mapping[str, Any], name: str) -> Sequence[Any]:
    return figures.get("samples", {}).get(name, ())


def _figures(side: Side, column: str) -> list[tuple[Record, Mapping[str, Any]]]:
    return [(record, record.meta["statistics"][column]) for mine in side.records.values() for record in mine]


def _class_shares(figures: Iterable[tuple[Record, Mapping[str, Any]]]) -> np.ndarray:
    counts = np.sum([f["classes"] for _, f in figures], 0, dtype=np.float64)
    return counts / max(1.0, counts.sum())


def _mean(figures: Iterable[tuple[Record, Mapping[str, Any]]]) -> float:
    """Over all channels, which have almost as many values each."""
    known = [f for _, f in figures if "count" in f]
    total, count = sum(np.mean(f["sum"]) for f in known), sum(np.mean(f["count"]) for f in known)
    return float(total / count) if count else 0.0


def _read(
    storage: Storage, what: str, row: Row, columns: Sequence[str], modalities: Mapping[str, Modality]
) -> tuple[str, dict[str, np.ndarray | None]]:
    """A row's caption and values; of its shard, one row group is read."""
    record, at = row
    with open_table(storage, record.file.path) as file:
        group, inside = divmod(at, record.meta["row_group"])
        present = [c for c in columns if c in file.schema_arrow.names]
        table = file.read_row_group(group, columns=[KEY, *present], use_threads=False).slice(inside, 1)
    values: dict[str, np.ndarray | None] = {}
    for column in present:
        decoded, valid = modalities[modality_of(column)].decode(table[column])
        values[column] = decoded[0] if valid[0] else None
    return f"{what}: {table[KEY][0].as_py()}", values
