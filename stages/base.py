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
from typing import Any, NamedTuple

from hyperloom.pipeline.errors import RecipeError
from hyperloom.pipeline.manifest import Manifest
from hyperloom.pipeline.records import Records
from hyperloom.pipeline.units import Record

KEY, GROUP, INDEX = "key", "group", "index"
VALID = "?"
"""Ends the name of the (N,) bool array of a batch that says which samples have the column: `depth@midas?`."""
UNKNOWN = 255
"""The class id, of one byte, of what nobody labelled."""
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


class Partition(NamedTuple):
    """One run of consecutive samples of one group. `first` is the index of its first sample in the group. In a
    manifest's body it is the list of these four."""

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


class Catalogue:
    """The columns that a step's inputs offer, and the record of each (column, partition).

    `partitions` are in order: by group, then by the first sample's index. Records stay packed until one is looked up.
    """

    def __init__(self, partitions: Iterable[Partition], producers: dict[str, Producer]):
        self.partitions = sorted(partitions, key=lambda p: (p.group, p.first, p.pid))
        self.producers = producers
        self._records = Records()
        self._places: dict[str, dict[str, int]] = {}
        self._ingested: set[str] = set()

    def add(self, records: Iterable[Record]) -> None:
        """Take in what a step made; a unit of which there is a record already is replaced."""
        known = {p.pid: p.pid for p in self.partitions}
        start = len(self._records)
        self._records.extend(records)
        for place in range(start, len(self._records)):
            record = self._records[place]
            pid = str(record.meta.get("pid", record.id))
            if "first" in record.meta:
                self._ingested.add(record.space)
            self._places.setdefault(record.space, {})[known.get(pid, pid)] = place

    def record(self, column: str, pid: str) -> Record | None:
        """The record that holds `column` of a partition; None when that unit is missing.

        Raises RecipeError for an unknown column.
        """
        return self._record(self.producer(column).space, pid)

    def ingested(self, pid: str) -> Record | None:
        """The record of the ingest step that made a partition; None when no such step is among the inputs."""
        return next((r for space in self._ingested if (r := self._record(space, pid))), None)

    def producer(self, column: str) -> Producer:
        if column not in self.producers:
            raise RecipeError(f"no input offers the column {column!r}; there are: {', '.join(sorted(self.producers))}")
        return self.producers[column]

    def _record(self, space: str, pid: str) -> Record | None:
        place = self._places.get(space, {}).get(pid)
        return None if place is None else self._records[place]


def catalogue(inputs: Iterable[Manifest]) -> Catalogue:
    """Gather the columns of ingest, label and consensus manifests.

    Such a manifest's body has `columns`: {column: {"space", "fingerprint", "about"}}; ingest's records carry
    `meta = {"group", "first"}`, which makes them the partitions. Label and consensus bodies carry the partitions of
    what they read under `partitions`: [[pid, group, first, rows], ...]. A record whose unit reads more than its own
    partition has another id than the pid, and says the pid in its meta.
    """
    inputs = list(inputs)
    partitions: dict[str, Partition] = {}
    producers: dict[str, Producer] = {}
    for manifest in inputs:
        for column, value in manifest.body.get("columns", {}).items():
            producers[column] = Producer(column, value["space"], value["fingerprint"], value.get("about", {}))
        for pid, group, first, rows in manifest.body.get("partitions", []):
            partitions.setdefault(pid, Partition(pid, group, first, rows))
    found = Catalogue(partitions.values(), producers)
    for manifest in inputs:
        found.add(manifest.records)
    return found
