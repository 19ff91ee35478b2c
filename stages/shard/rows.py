"""Row groups of shards, decoded: the loader's unit of reading, with a memory of a limited size.

A row group becomes one contiguous array a column, in the dtype of the disk, of the columns asked for; no other
column's bytes are read. Row groups stay in memory, first come first kept, until `cache_mb` is used up, so a data set
that fits is read and decompressed once.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from pipeline.errors import IntegrityError
from pipeline.storage import Storage
from stages.modality import Modality
from stages.table import open_table

Decoded = dict[str, tuple[np.ndarray, np.ndarray]]
"""Column -> rows (N, *shape) in the dtype of the disk, and which of them are there (N,)."""


class RowGroups:
    """The row groups of `shards` (entries of a shard manifest's body) in their order, numbered from 0."""

    def __init__(
        self, storage: Storage, shards: Sequence[Mapping[str, Any]], modalities: Mapping[str, Modality], cache_mb: float
    ):
        self.storage, self.modalities = storage, modalities
        self.sizes: list[int] = []
        self._places: list[tuple[str, int]] = []
        for shard in shards:
            for number, first in enumerate(range(0, shard["rows"], shard["row_group"])):
                self._places.append((shard["path"], number))
                self.sizes.append(min(shard["row_group"], shard["rows"] - first))
        self._left = int(cache_mb * 1e6)
        self._kept: dict[int, Decoded] = {}
        self._footers: dict[str, Any] = {}
        self._lock = threading.Lock()

    def read(self, number: int) -> Decoded:
        """One row group, from memory or from its file. Thread-safe. Raises IntegrityError."""
        kept = self._kept.get(number)
        if kept is not None:
            return kept
        path, index = self._places[number]
        with open_table(self.storage, path, self._footers.get(path)) as file:
            self._footers.setdefault(path, file.metadata)
            if index >= file.num_row_groups or file.metadata.row_group(index).num_rows != self.sizes[number]:
                raise IntegrityError(f"{self.storage.full(path)} has other row groups than its manifest says")
            table = file.read_row_group(index, columns=list(self.modalities), use_threads=False)
        decoded = {column: self._unpack(path, table, column) for column in self.modalities}
        self._keep(number, decoded)
        return decoded

    def _unpack(self, path: str, table: Any, column: str) -> tuple[np.ndarray, np.ndarray]:
        try:
            return self.modalities[column].unpack(table.column(column))
        except (KeyError, ValueError) as error:
            where = self.storage.full(path)
            raise IntegrityError(f"{where}, column {column}: {error}. Next: hyperloom verify") from error

    def _keep(self, number: int, decoded: Decoded) -> None:
        size = sum(rows.nbytes for rows, _ in decoded.values())
        with self._lock:
            if number not in self._kept and size <= self._left:
                self._left -= size
                self._kept[number] = decoded
