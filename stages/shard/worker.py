"""The worker of sharding: join one group's consecutive partitions by key into one Parquet file.

The partitions' own keys say which rows there are and in what order; a key that a producer does not have, or a
producer that has not done the partition, gives nulls. Values are copied as they lie, never re-encoded, and seen once
on the way for the statistics. Each column's field keeps who made it.
"""

from __future__ import annotations

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from hyperloom.pipeline.commits.units import Output, Resources, Unit
from hyperloom.pipeline.errors import IntegrityError
from hyperloom.pipeline.root.storage import Storage
from hyperloom.stages import remarks
from hyperloom.stages.base import GROUP, INDEX, KEY, TIME, modality_of
from hyperloom.stages.column import described, produced, producer
from hyperloom.stages.modality import Modality
from hyperloom.stages.shard import likeness
from hyperloom.stages.shard.content import digests, packed
from hyperloom.stages.shard.statistics import ColumnCounter
from hyperloom.stages.table import ROW_GROUP_MB, Codec, read_table, rows_a_group, write_table


@dataclass
class Joiner:
    """Joins `columns`, of which `telling` say what a sample is. A unit's payload: {"group", "parts": [{"pid", "keys":
    path, "columns": {column: path}}, ...]}."""

    columns: tuple[str, ...]
    modalities: dict[str, Modality]
    codec: Codec
    row_group_mb: float = ROW_GROUP_MB
    telling: tuple[str, ...] = ()
    keep: tuple[str, Modality] | None = None
    """The column of one number by which rows are kept, where it is above 0."""
    resources: Resources = field(default_factory=Resources)

    def setup(self) -> None:
        import cv2

        cv2.setNumThreads(1)
        self._fields = {column: self._modality(column).field(column) for column in self.columns}

    def run(self, unit: Unit, out: Output) -> None:
        import pyarrow as pa

        fields = [pa.field(KEY, pa.string()), pa.field(GROUP, pa.string()), pa.field(INDEX, pa.int64())]
        fields += [pa.field(TIME, pa.float64()), *self._fields.values()]
        tallies = {column: ColumnCounter(self._modality(column)) for column in self.columns}
        chunks: dict[str, list[Any]] = {field.name: [] for field in fields}
        makers: dict[str, Any] = {}
        with ThreadPoolExecutor(1, "statistics") as counting:  # counts while this thread reads on and compresses
            counted, hashed, likened, pids = [], [], [], []
            for part in unit.payload["parts"]:
                read = self._part(out.storage, part, makers)
                pids.append([part["pid"], sum(map(len, read[KEY]))])
                for name, arrays in read.items():
                    chunks[name] += arrays
                    if name in tallies:
                        counted.append(counting.submit(self._count, name, tallies[name], arrays))
                hashed.append(counting.submit(self._digests, {name: read[name] for name in self.telling}))
                likened += [counting.submit(self._signatures, read[name]) for name in self._pictures]
            fields = [produced(field, makers.get(field.name)) for field in fields]
            joined = {field.name: pa.chunked_array(chunks[field.name], field.type) for field in fields}
            if joined[TIME].null_count == len(joined[TIME]):
                del joined[TIME], fields[[field.name for field in fields].index(TIME)]
            out.rows = len(joined[KEY])
            rows = rows_a_group(sum(column.nbytes for column in joined.values()), out.rows, self.row_group_mb)
            out.write("parquet", write_table(joined, fields, self.codec, rows=rows))
            remarked = sum((each.result() for each in counted), Counter[str]())
        figures = {column: tally.figures() for column, tally in tallies.items()}
        out.meta = {"group": unit.payload["group"], "row_group": rows, "statistics": figures, "pids": pids}
        if remarked:
            out.meta["remarks"] = dict(sorted(remarked.items()))
        if self.telling:
            out.meta["content"] = packed(np.concatenate([each.result() for each in hashed]))
        if self._pictures:
            out.meta["likeness"] = likeness.packed(each.result() for each in likened)

    def _count(self, column: str, tally: ColumnCounter, arrays: list[Any]) -> Counter[str]:
        """See values once; what is to be said of them, counted."""
        with remarks.collected() as counts:
            for array in arrays:
                tally.add(*tally.modality.unpack(array))
        return Counter({f"{column}: {text}": count for text, count in counts.items()})

    def _digests(self, columns: dict[str, list[Any]]) -> np.ndarray:
        import pyarrow as pa

        return digests([pa.chunked_array(arrays, self._fields[name].type) for name, arrays in columns.items()])

    @property
    def _pictures(self) -> tuple[str, ...]:
        """The picture that says what a sample is."""
        return self.telling if len(self.telling) == 1 and self._modality(self.telling[0]).rgb else ()

    def _signatures(self, arrays: list[Any]) -> np.ndarray:
        modality = self._modality(self.telling[0])
        return np.concatenate(
            [np.zeros((0, likeness.BYTES), np.int8), *(likeness.signatures(a, modality) for a in arrays)]
        )

    def _part(self, storage: Storage, part: dict[str, Any], makers: dict[str, Any]) -> dict[str, list[Any]]:
        """One partition's columns, each in the order of its keys, in the chunks they were read in: nothing is copied
        where a file's keys are the partition's own. `makers` gathers who made them, as the files say."""
        import pyarrow as pa

        files: dict[str, list[str]] = {part["keys"]: [KEY, GROUP, INDEX]}
        for column, path in part["columns"].items():
            if column in self.columns:
                files.setdefault(path, [KEY]).append(column)
        columns: dict[str, Any] = {}
        for path, names in files.items():
            table = read_table(storage, path, names, [TIME] * (path == part["keys"]))
            keys = columns.setdefault(KEY, table.column(KEY))
            if not table.column(KEY).equals(keys):
                table = _aligned(table, keys)
            makers |= {name: maker for name in names if (maker := producer(table.field(name)))}
            for name in table.column_names:
                if name != KEY:
                    self._expect(storage, path, table.field(name))
                    columns[name] = table.column(name)
        types = {TIME: pa.float64(), **{column: field.type for column, field in self._fields.items()}}
        for column, type_ in types.items():
            if column not in columns:
                columns[column] = pa.chunked_array([pa.nulls(len(columns[KEY]), type_)])
        if self.keep:
            columns = self._kept(storage, part, columns)
        return {name: column.chunks for name, column in columns.items()}

    def _kept(self, storage: Storage, part: dict[str, Any], columns: dict[str, Any]) -> dict[str, Any]:
        """The rows whose number is above 0; a sample without one is not kept."""
        import pyarrow as pa

        column, modality = self.keep or ("", None)
        if column not in part["columns"] or modality is None:
            return {name: values.slice(0, 0) for name, values in columns.items()}
        table = read_table(storage, part["columns"][column], [KEY, column])
        if not table.column(KEY).equals(columns[KEY]):
            table = _aligned(table, columns[KEY])
        values, valid = modality.decode(table.column(column))
        chosen = pa.array(valid & (values.reshape(len(values), -1)[:, 0] > 0))
        return {name: values.filter(chosen) for name, values in columns.items()}

    def _expect(self, storage: Storage, path: str, got: Any) -> None:
        """Raise IntegrityError unless a field of the file at `path` is what its modality says."""
        if got.name not in self.columns:
            return
        declared = self._fields[got.name]
        difference = [] if got.type == declared.type else [(f"as {declared.type}", str(got.type))]
        present = described(got)
        for name, value in described(declared).items() if present else ():
            if present.get(name) != value:
                difference.append((f"with {name} {value}", f"{name} {present.get(name)}"))
        if difference:
            expected, actual = (" and ".join(side) for side in zip(*difference, strict=True))
            raise IntegrityError(
                f"{storage.full(path)}: expected {got.name} {expected}, got {actual}. "
                "Next: hyperloom verify, then remove that file's step folder and run the same command again"
            )

    def _modality(self, column: str) -> Modality:
        return self.modalities[modality_of(column)]


def _aligned(table: Any, keys: Any) -> Any:
    """Rows of `table` in the order of `keys`; all null where it has no such key."""
    import pyarrow.compute as pc

    return table.take(pc.index_in(keys, table.column(KEY)))
