"""What the surveys say, read back: whole columns of small things, and chunks of large ones."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Any

import numpy as np

from hyperloom.pipeline.root.storage import Storage
from hyperloom.stages.base import GROUP, KEY
from hyperloom.stages.table import open_table, read_table


class Surveyed:
    """The files of all parts, in order; `splits` says the split of each part's samples."""

    def __init__(self, storage: Storage, paths: Sequence[str], splits: Sequence[str]):
        self._storage, self._paths = storage, paths
        heads = [read_table(storage, path, [KEY, GROUP, "content", "fault"]) for path in paths]
        self.keys: list[str] = [key for head in heads for key in head[KEY].to_pylist()]
        self.groups: list[str] = [group for head in heads for group in head[GROUP].to_pylist()]
        self.faults: list[str] = [fault for head in heads for fault in head["fault"].to_pylist()]
        self.content = np.concatenate([np.zeros(0, np.uint64), *(head["content"].to_numpy() for head in heads)])
        self.splits = [split for head, split in zip(heads, splits, strict=True) for _ in range(len(head))]

    def __len__(self) -> int:
        return len(self.keys)

    @cached_property
    def names(self) -> set[str]:
        """Columns of the surveys."""
        names: set[str] = set()
        for path in self._paths[:1]:
            with open_table(self._storage, path) as file:
                names = set(file.schema_arrow.names)
        return names

    def about(self, kind: str) -> list[str]:
        """What there are columns `kind:..` of."""
        return sorted(name.partition(":")[2] for name in self.names if name.startswith(f"{kind}:"))

    def chunks(self, name: str, dtype: Any) -> Iterator[np.ndarray]:
        """(n, D) of each part."""
        for path in self._paths:
            column = read_table(self._storage, path, [name])[name].combine_chunks()
            yield bytes_rows(column, dtype)

    def whole(self, name: str, dtype: Any) -> np.ndarray:
        """(N, D) of all parts."""
        parts = list(self.chunks(name, dtype))
        return np.concatenate(parts) if parts else np.zeros((0, 1), dtype)

    def numbers(self, name: str) -> np.ndarray:
        """(N,) of a column of numbers."""
        return np.concatenate([read_table(self._storage, path, [name])[name].to_numpy() for path in self._paths])

    def lists(self, name: str) -> list[bytes]:
        """Bytes of each sample."""
        return [v for path in self._paths for v in read_table(self._storage, path, [name])[name].to_pylist()]


def bytes_rows(column: Any, dtype: Any) -> np.ndarray:
    """(n, D) of an Arrow column of bytes of one length."""
    import pyarrow as pa

    if isinstance(column, pa.ChunkedArray):
        column = pa.concat_arrays(column.chunks) if column.num_chunks else pa.array([], column.type)
    width = column.type.byte_width
    data = np.frombuffer(column.buffers()[1] or b"", np.uint8, len(column) * width, column.offset * width)
    return data.view(dtype).reshape(len(column), -1)
