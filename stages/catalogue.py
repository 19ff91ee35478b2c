"""The catalogue: the columns that the inputs of a step offer, and the file of each (column, partition).

It looks up and copies nothing; what a partition and a column are stands in `stages.base`.
"""

from __future__ import annotations

from collections.abc import Iterable

from hyperloom.pipeline.commits.manifest import Manifest
from hyperloom.pipeline.commits.records import Records
from hyperloom.pipeline.commits.units import Record
from hyperloom.pipeline.errors import RecipeError
from hyperloom.stages.base import Partition, Producer
from hyperloom.stages.results import Samples


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
        records = records if isinstance(records, Records) else Records(records)
        self._records.extend(records)
        for place, record in enumerate(records, start):
            pid = str(record.meta.get("pid", record.id))
            if "first" in record.meta:
                self._ingested.add(record.space)
            self._places.setdefault(record.space, {})[known.get(pid, pid)] = place

    def record(self, column: str, pid: str) -> Record | None:
        """The record that holds `column` of a partition; None when that unit is missing.

        Raises RecipeError for an unknown column.
        """
        return self._record(self.producer(column).space, pid)

    def key(self, column: str, pid: str) -> tuple[str, str] | None:
        """Space and id of that record. Raises RecipeError for an unknown column."""
        place = self._places.get(self.producer(column).space, {}).get(pid)
        return None if place is None else self._records.key(place)

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
    """Gather the columns of manifests that hold `Samples`; others offer nothing.

    Ingest's records carry `meta = {"group", "first"}`. A record whose unit reads more than its own partition has
    another id than the pid, and says the pid in its meta.
    """
    inputs = list(inputs)
    partitions: dict[str, Partition] = {}
    producers: dict[str, Producer] = {}
    for manifest in inputs:
        if (samples := Samples.of(manifest)) is not None:
            producers.update(samples.columns)
            for partition in samples.partitions:
                partitions.setdefault(partition.pid, partition)
    offered = Catalogue(partitions.values(), producers)
    for manifest in inputs:
        offered.add(manifest.records)
    return offered
