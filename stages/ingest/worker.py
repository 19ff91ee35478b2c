"""The worker of ingest: decode one partition's samples, check them, write one Parquet file.

A sample that cannot be read, or whose value is not what its modality says, is left out with its key and the reason.
Rows keep the order of the source. A partition of which nothing is left has a record and no file. From the third attempt
on, when decoding may have killed the process, each sample is noted before it is read, and the one that killed it twice
is left out.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from hyperloom.pipeline.commits.units import Output, Resources, Unit
from hyperloom.stages import careful, remarks
from hyperloom.stages.base import GROUP, INDEX, KEY, TIME
from hyperloom.stages.ingest import sidefile
from hyperloom.stages.ingest.look import ColumnLook
from hyperloom.stages.ingest.source import Item, Source, Values
from hyperloom.stages.table import write_table


@dataclass
class IngestWorker:
    """Reads partitions of `source`; `modalities` are the recipe's, by name, of the columns it makes."""

    source: Source
    modalities: dict[str, Any]
    resources: Resources = field(default_factory=Resources)

    def setup(self) -> None:
        import cv2

        cv2.setNumThreads(1)
        sidefile.forget()
        self._read = self.source.build(self.modalities)

    def run(self, unit: Unit, out: Output) -> None:
        group, first = unit.payload["group"], unit.payload["first"]
        items = [Item(**item) for item in unit.payload["items"]]
        kept: list[tuple[Item, Values]] = []
        looks = {column: ColumnLook() for column in self.source.offers()}
        with remarks.collected() as counts:
            for item, values in self._carefully(items, out) if careful.is_due(out) else self._read(items):
                error = values if isinstance(values, Exception) else self._fault(values, looks)
                if error is not None:
                    out.quarantine(item.key, error)
                elif not isinstance(values, Exception):
                    kept.append((item, values))
        out.rows, out.meta = len(kept), {"group": group, "first": first, **self._seen(kept, looks, counts)}
        if kept:
            out.write("parquet", self._table(group, kept))

    def _seen(
        self, kept: list[tuple[Item, Values]], looks: dict[str, ColumnLook], counts: Mapping[str, int]
    ) -> dict[str, Any]:
        """What the step may have to say of this partition; nothing where there is nothing."""
        for column, look in looks.items():
            look.add((values.get(column) for _, values in kept), self._modality(column))
        seen = {
            "look": {c: f for c, look in looks.items() if (f := look.figures())},
            "remarks": dict(sorted(counts.items())),
        }
        return {name: value for name, value in seen.items() if value}

    def _carefully(self, items: list[Item], out: Output) -> Iterator[tuple[Item, Values | Exception]]:
        read: dict[int, list[tuple[Item, Values | Exception]]] = {}
        with careful.one_by_one(out, [i.key for i in items]) as each:
            for at, why in each:
                read[at] = [(items[at], ValueError(why))] if why else list(self._read([items[at]]))
        for at in range(len(items)):
            yield from read[at]

    def _fault(self, values: Values, looks: dict[str, ColumnLook]) -> ValueError | None:
        for column, value in values.items():
            try:
                if value is not None:
                    self._modality(column).check(value)
            except ValueError as error:
                looks[column].refuse(value, self._modality(column))
                return ValueError(f"{column}: {error}")
        return None

    def _table(self, group: str, kept: list[tuple[Item, Values]]) -> bytes:
        import pyarrow as pa

        fields = [pa.field(KEY, pa.string()), pa.field(GROUP, pa.string()), pa.field(INDEX, pa.int64())]
        columns = {
            KEY: pa.array([item.key for item, _ in kept], pa.string()),
            GROUP: pa.array([group] * len(kept), pa.string()),
            INDEX: pa.array([item.index for item, _ in kept], pa.int64()),
        }
        if any(item.time is not None for item, _ in kept):
            fields.append(pa.field(TIME, pa.float64()))
            columns[TIME] = pa.array([item.time for item, _ in kept], pa.float64())
        for column in self.source.offers():
            modality = self._modality(column)
            fields.append(modality.field(column))
            columns[column] = modality.encode([values.get(column) for _, values in kept])
        return write_table(columns, fields)

    def _modality(self, column: str) -> Any:
        return self.modalities[column.partition("@")[0]]
