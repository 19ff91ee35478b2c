"""What a shard holds: which samples, and what its record says of some of their columns.

By that a shard is known again, not by its name: a name also says the codec and every column, and adding one moves the
places where shards are cut. Samples are known by their content, or by the partitions that they came in; values by
counts and sums that add up over shards, so that a group which is cut otherwise is known as a whole.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from hyperloom.pipeline.commits.units import Record
from hyperloom.stages.shard import content

CLOSE = 1e-9
"""The last bits of a float64 sum depend on how the rows were dealt to shards."""


def strangers(mine: Sequence[Record], theirs: Sequence[Record], columns: Sequence[str]) -> list[Record]:
    """Those of `mine` that hold what none of `theirs` does, in their samples or in `columns`; both are of one group."""
    if _same(mine, theirs, columns):
        return []
    known: dict[Any, list[Record]] = {}
    for record in theirs:
        for samples in _samples([record]):
            known.setdefault(samples, []).append(record)
    return [
        record
        for record in mine
        if not any(_same([record], [one], columns) for samples in _samples([record]) for one in known.get(samples, ()))
    ]


def _same(mine: Sequence[Record], theirs: Sequence[Record], columns: Sequence[str]) -> bool:
    if sum(r.rows for r in mine) != sum(r.rows for r in theirs) or _samples(mine).isdisjoint(_samples(theirs)):
        return False
    return all(_equal(_totals(mine, column), _totals(theirs, column)) for column in columns)


def _samples(records: Sequence[Record]) -> set[tuple[str, Any]]:
    """Names of the samples of some shards, one that holds is enough: what they are, where all of them are known by
    their content; and which partitions they are."""
    names: set[tuple[str, Any]] = set()
    digests = content.together(records)
    if len(digests) and digests.all():
        names.add(("content", np.sort(digests).tobytes()))
    if all("pids" in record.meta for record in records):
        names.add(("pids", tuple(sorted((str(p), int(n)) for record in records for p, n in record.meta["pids"]))))
    return names


def _totals(records: Sequence[Record], column: str) -> dict[Any, float]:
    """What the records count of a column, added up; nothing where that is zero."""
    totals: dict[Any, float] = {}
    for record in records:
        figures: Mapping[str, Any] = record.meta["statistics"][column]
        channels = len(figures.get("sum", ()))
        for name in ("rows", "missing", "unknown", "classes", "histogram", "count", "sum", "square"):
            values = np.atleast_1d(np.asarray(figures.get(name, ()), np.float64))
            values = np.broadcast_to(values, (channels,)) if name == "count" and channels else values
            for at, value in enumerate(values.tolist()):
                totals[name, at] = totals.get((name, at), 0.0) + value
        samples = figures.get("samples", {})
        for code, count in zip(samples.get("codes", ()), samples.get("counts", ()), strict=True):
            totals["samples", code] = totals.get(("samples", code), 0.0) + count
    return {name: value for name, value in totals.items() if value}


def _equal(mine: Mapping[Any, float], theirs: Mapping[Any, float]) -> bool:
    """The same but for the last bits of sums, which are measured by the numbers that were summed up."""
    for name, at in {*mine, *theirs}:
        size = max(abs(side.get((name, at), 0.0)) for side in (mine, theirs))
        if name == "sum":
            size = max(size, float(np.sqrt(mine.get(("square", at), 0.0) * mine.get(("count", at), 0.0))))
        if abs(mine.get((name, at), 0.0) - theirs.get((name, at), 0.0)) > CLOSE * size:
            return False
    return True
