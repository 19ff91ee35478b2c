"""The reader: a finished step's samples as a person wants them, row by row, whatever kind of step made them.

Shards hold all columns in one file; ingest, label and consensus steps keep a file a partition and producer, joined
here by partition. It reads a few rows at a time and only the columns asked for, changes nothing, and is not made for
training (see `stages.shard.loader`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from hyperloom.pipeline.commits.manifest import Manifest
from hyperloom.pipeline.errors import RecipeError
from hyperloom.pipeline.root.storage import Storage
from hyperloom.pipeline.spelling import near
from hyperloom.stages.base import GROUP, INDEX, KEY, Partition, modality_of
from hyperloom.stages.catalogue import Catalogue, catalogue
from hyperloom.stages.results import Samples, Shards
from hyperloom.stages.table import open_table, read_table

BATCH = 32
"""Rows read at a time from a shard."""


@dataclass(frozen=True)
class SampleRows:
    """Consecutive samples: `keys`, `groups`, `index` (numbers of the frames) and an Arrow array for each column."""

    keys: list[str]
    groups: list[str]
    index: list[int]
    columns: dict[str, Any]

    def __len__(self) -> int:
        return len(self.keys)


class SampleReader:
    """`columns` are those asked for, or all the step has. Raises RecipeError for a step without samples or column."""

    def __init__(
        self, storage: Storage, step: str, manifest: Manifest, ingests: Sequence[Manifest], columns: Sequence[str] = ()
    ):
        self._shards = Shards.of(manifest)
        samples = self._shards or Samples.of(manifest)
        offered = list(samples.columns) if samples else []
        if not offered:
            raise RecipeError(
                f"the step {step!r} ({manifest.stage}) keeps no samples. "
                "Next: name an ingest, label, consensus or shard step"
            )
        if absent := [c for c in columns if c not in offered]:
            hint = near(absent[0], offered)
            raise RecipeError(f"the step {step!r} has no column {', '.join(absent)}{hint}; it has {', '.join(offered)}")
        self.columns = tuple(columns) or tuple(offered)
        self._storage, self._manifest, self._ingests = storage, manifest, ingests

    def __iter__(self) -> Iterator[SampleRows]:
        yield from self._of_shards(self._shards) if self._shards else self._of_partitions()

    def head(self, count: int, start: int = 0) -> Iterator[SampleRows]:
        """`count` rows from row `start` on."""
        for rows in self:
            if start < len(rows) and count > 0:
                taken = _slice(rows, start, min(len(rows), start + count))
                count -= len(taken)
                yield taken
            start = max(0, start - len(rows))
            if count <= 0:
                return

    def _of_shards(self, shards: Shards) -> Iterator[SampleRows]:
        import pyarrow as pa

        for shard in shards.shards:
            with open_table(self._storage, shard.path) as file:
                for batch in file.iter_batches(BATCH, columns=[KEY, GROUP, INDEX, *self.columns], use_threads=False):
                    yield _rows(pa.Table.from_batches([batch]), self.columns)

    def _of_partitions(self) -> Iterator[SampleRows]:
        offered = catalogue([*self._ingests, self._manifest])
        for partition in offered.partitions:
            rows = self._partition(offered, partition)
            if rows is not None:
                yield rows

    def _partition(self, offered: Catalogue, partition: Partition) -> SampleRows | None:
        """A partition's rows; None when the step has nothing of it."""
        import pyarrow as pa

        own = next((r for m in self._ingests for r in m.records if r.id == partition.pid and r.files), None)
        if own is None:
            return None
        head = read_table(self._storage, own.file.path, [KEY, GROUP, INDEX])
        columns: dict[str, Any] = {}
        for column in self.columns:
            record = offered.record(column, partition.pid)
            if record is None or not record.files:
                columns[column] = pa.nulls(len(head))
                continue
            columns[column] = _array(read_table(self._storage, record.file.path, [column])[column])
        return SampleRows(head[KEY].to_pylist(), head[GROUP].to_pylist(), head[INDEX].to_pylist(), columns)


def values(array: Any, modality: Any) -> list[Any]:
    """Decoded values of a column, one a row, None where it is missing."""
    import pyarrow as pa

    if pa.types.is_null(array.type):
        return [None] * len(array)
    decoded, valid = modality.decode(array)
    return [value if ok else None for value, ok in zip(decoded, valid, strict=True)]


def modality(column: str, modalities: dict[str, Any]) -> Any:
    """The modality of `column`. Raises RecipeError when the recipe has none."""
    name = modality_of(column)
    if name not in modalities:
        raise RecipeError(f"the recipe defines no modality {name!r}, which {column} needs")
    return modalities[name]


def _rows(table: Any, columns: Sequence[str]) -> SampleRows:
    head = (table[KEY].to_pylist(), table[GROUP].to_pylist(), table[INDEX].to_pylist())
    return SampleRows(*head, {c: _array(table[c]) for c in columns})


def _array(chunked: Any) -> Any:
    import pyarrow as pa

    return chunked.chunk(0) if chunked.num_chunks == 1 else pa.concat_arrays(chunked.chunks)


def _slice(rows: SampleRows, start: int, end: int) -> SampleRows:
    cut = slice(start, end)
    columns = {c: a.slice(start, end - start) for c, a in rows.columns.items()}
    return SampleRows(rows.keys[cut], rows.groups[cut], rows.index[cut], columns)
