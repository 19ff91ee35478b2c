"""What the stages share: columns `modality@source`, partitions, and the catalogue that finds a column's files.

A *partition* is a run of consecutive samples of one group (a flight, a drive, a patient), made by ingest. Its id `pid`
is a fingerprint of where it came from. Ingest, label and consensus all keep one Parquet file per partition and column
producer, in a unit whose id is the pid; rows have the same keys in the same order everywhere, and a sample that is in
quarantine for a producer is a null there. So joining is looking up a pid.

Ingest files hold `key: string`, `group: string`, `index: int64` and the raw columns; label and consensus files hold
`key` and their columns.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from pipeline.errors import RecipeError
from pipeline.manifest import Manifest
from pipeline.units import Record

KEY, GROUP, INDEX = "key", "group", "index"
TRUTH = "truth"
"""The source name of human or rendered ground truth. Only `evaluate`, and what a recipe names, may read it."""


def modality_of(column: str) -> str:
    """`depth` of `depth@midas`. Raises RecipeError when there is no `@`."""
    modality, at, source = column.partition("@")
    if not (at and modality and source):
        raise RecipeError(f"{column!r} is no column: write modality@source, as in rgb@camera")
    return modality


def source_of(column: str) -> str:
    """`midas` of `depth@midas`."""
    modality_of(column)
    return column.partition("@")[2]


@dataclass(frozen=True)
class Partition:
    """One run of consecutive samples of one group. `first` is the index of its first sample in the group."""

    pid: str
    group: str
    first: int
    rows: int


@dataclass
class Producer:
    """Who made a column: the folder (`space`) of its units and what to say of it (expert type, revision, weights)."""

    column: str
    space: str
    fingerprint: str
    about: dict[str, Any] = field(default_factory=dict)


@dataclass
class Catalogue:
    """The columns that a step's inputs offer, and the record of each (column, partition)."""

    partitions: list[Partition]
    producers: dict[str, Producer]
    records: dict[tuple[str, str], Record]

    def record(self, column: str, pid: str) -> Record | None:
        """The record that holds `column` of a partition; None when that unit is missing.

        Raises RecipeError for an unknown column.
        """
        return self.records.get((self.producer(column).space, pid))

    def producer(self, column: str) -> Producer:
        if column not in self.producers:
            raise RecipeError(f"no input offers the column {column!r}; there are: {', '.join(sorted(self.producers))}")
        return self.producers[column]


def catalogue(inputs: Iterable[Manifest]) -> Catalogue:
    """Gather the columns of ingest, label and consensus manifests.

    Such a manifest's body has `columns`: {column: {"space", "fingerprint", "about"}}; ingest's records carry
    `meta = {"group", "first"}`, which makes them the partitions. Label and consensus bodies carry the partitions of
    what they read under `partitions`: [[pid, group, first, rows], ...]. A record whose unit reads more than its own
    partition has another id than the pid, and says the pid in its meta.
    """
    partitions: dict[str, Partition] = {}
    producers: dict[str, Producer] = {}
    records: dict[tuple[str, str], Record] = {}
    for manifest in inputs:
        for column, value in manifest.body.get("columns", {}).items():
            producers[column] = Producer(column, value["space"], value["fingerprint"], value.get("about", {}))
        for pid, group, first, rows in manifest.body.get("partitions", []):
            partitions.setdefault(pid, Partition(pid, group, first, rows))
        for record in manifest.records:
            records[(record.space, record.meta.get("pid", record.id))] = record
    ordered = sorted(partitions.values(), key=lambda p: (p.group, p.first, p.pid))
    return Catalogue(ordered, producers, records)
