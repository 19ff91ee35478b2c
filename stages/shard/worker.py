"""The worker of sharding: join one group's consecutive partitions by key into one Parquet file.

The partitions' own keys say which rows there are and in what order; a key that a producer does not have, or a
producer that has not done the partition, gives nulls. Values are copied as they lie, never re-encoded, and seen once
on the way for the statistics. Each column's field keeps who made it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from pipeline.errors import IntegrityError
from pipeline.storage import Storage
from pipeline.units import Output, Resources, Unit
from stages.base import GROUP, INDEX, KEY, modality_of
from stages.column import produced, producer
from stages.modality import Modality
from stages.shard.statistics import Tally
from stages.table import Codec, read_table, rows_a_group, write_table


@dataclass
class Joiner:
    """Joins `columns`. A unit's payload: {"group", "parts": [{"keys": path, "columns": {column: path}}, ...]}."""

    columns: tuple[str, ...]
    modalities: dict[str, Modality]
    codec: Codec
    resources: Resources = field(default_factory=Resources)

    def setup(self) -> None:
        import cv2

        cv2.setNumThreads(1)

    def run(self, unit: Unit, out: Output) -> None:
        import pyarrow as pa

        fields = [pa.field(KEY, pa.string()), pa.field(GROUP, pa.string()), pa.field(INDEX, pa.int64())]
        fields += [self._modality(column).field(column) for column in self.columns]
        tallies = {column: Tally(self._modality(column)) for column in self.columns}
        chunks: dict[str, list[Any]] = {field.name: [] for field in fields}
        makers: dict[str, Any] = {}
        for part in unit.payload["parts"]:
            for name, array in self._part(out.storage, part, makers).items():
                chunks[name].append(array)
                if name in tallies:
                    tallies[name].add(*self._modality(name).unpack(array))
        fields = [produced(field, makers.get(field.name)) for field in fields]
        joined = {field.name: pa.chunked_array(chunks[field.name], field.type) for field in fields}
        out.rows = len(joined[KEY])
        rows = rows_a_group(sum(column.nbytes for column in joined.values()), out.rows)
        out.write("parquet", write_table(joined, fields, self.codec, rows=rows))
        figures = {column: tally.figures() for column, tally in tallies.items()}
        out.meta = {"group": unit.payload["group"], "row_group": rows, "statistics": figures}

    def _part(self, storage: Storage, part: dict[str, Any], makers: dict[str, Any]) -> dict[str, Any]:
        """One partition's columns, each in the order of its keys. `makers` gathers who made them, as the files say."""
        import pyarrow as pa

        wanted: dict[str, list[str]] = {part["keys"]: [KEY, GROUP, INDEX]}
        for column, path in part["columns"].items():
            wanted.setdefault(path, [KEY]).append(column)
        found: dict[str, Any] = {}
        for path, names in wanted.items():
            table = read_table(storage, path, names).combine_chunks()
            keys = found.setdefault(KEY, table.column(KEY))
            if not table.column(KEY).equals(keys):
                table = _aligned(table, keys)
            makers |= {name: maker for name in names if (maker := producer(table.field(name)))}
            for name in names:
                if name != KEY:
                    found[name] = self._expected(storage, path, name, table.column(name))
        for column in self.columns:
            if column not in found:
                found[column] = pa.nulls(len(found[KEY]), self._modality(column).field(column).type)
        return {name: _one_chunk(column) for name, column in found.items()}

    def _expected(self, storage: Storage, path: str, name: str, column: Any) -> Any:
        """The column, if its type is what its modality says."""
        if name in self.columns:
            kind = self._modality(name).field(name).type
            if column.type != kind:
                raise IntegrityError(
                    f"{storage.full(path)}: expected {name} as {kind}, got {column.type}. "
                    "Next: hyperloom verify, then remove that file's step folder and run the same command again"
                )
        return column

    def _modality(self, column: str) -> Modality:
        return self.modalities[modality_of(column)]


def _aligned(table: Any, keys: Any) -> Any:
    """Rows of `table` in the order of `keys`; all null where it has no such key."""
    import pyarrow.compute as pc

    return table.take(pc.index_in(keys, table.column(KEY)))


def _one_chunk(column: Any) -> Any:
    import pyarrow as pa

    if not isinstance(column, pa.ChunkedArray):
        return column
    return column.chunk(0) if column.num_chunks == 1 else pa.concat_arrays(column.chunks)
