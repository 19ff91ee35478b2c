"""Row groups of shards, decoded: the loader's unit of reading, with a memory of a limited size.

A row group becomes one contiguous array a column, in the dtype of the disk, of the columns asked for; no other
column's bytes are read. On a local disk files are mapped; from elsewhere come the exact byte ranges of the columns, by
way of a cache on the local disk where there is one. Row groups stay in memory, first come first kept, until `cache_mb`
is used up, so a data set that fits is read and decompressed once. Files (JPEG) of a row group that is not kept are
decoded by whoever takes their rows, straight to where they are wanted. A shard that lacks a column has no value of it.
"""

from __future__ import annotations

import threading
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from hyperloom.pipeline.errors import IntegrityError
from hyperloom.pipeline.root.storage import Storage
from hyperloom.stages.column import FileRows, opened, threaded
from hyperloom.stages.modality import Modality
from hyperloom.stages.shard.cache import DiskCache
from hyperloom.stages.shard.ranges import Ranges
from hyperloom.stages.table import open_table, whole

RowValues = np.ndarray | FileRows
Decoded = dict[str, tuple[RowValues, np.ndarray]]
"""Column -> rows (N, *shape) in the dtype of the disk, and which of them are there (N,)."""


class WantedRow(NamedTuple):
    """Where a row of a column of row group `number` is to be decoded to."""

    number: int
    column: str
    rows: FileRows
    row: int
    out: np.ndarray


@dataclass(frozen=True)
class Part:
    """One shard of a data set, or `rows` of one from row `begin` on, of `total` (0: all are meant), and the columns
    that it is known to lack."""

    path: str
    rows: int
    row_group: int
    bytes: int = 0
    lacks: frozenset[str] = frozenset()
    begin: int = 0
    total: int = 0

    @property
    def first(self) -> int:
        """The first row group of which rows are meant."""
        return self.begin // self.row_group

    @property
    def sizes(self) -> np.ndarray:
        """Rows of each row group that are meant."""
        end = self.begin + self.rows
        starts = np.arange(self.first, -(-end // self.row_group), dtype=np.int64) * self.row_group
        return np.minimum(starts + self.row_group, end) - np.maximum(starts, self.begin)

    def whole(self, index: int) -> int:
        """Rows that row group `index` of the file has."""
        return min(self.row_group, (self.total or self.rows) - index * self.row_group)


class RowGroups:
    """The row groups of `parts` in their order, numbered from 0."""

    def __init__(
        self,
        storage: Storage,
        parts: Sequence[Part],
        modalities: Mapping[str, Modality],
        cache_mb: float,
        disk: DiskCache | None = None,
        as_files: Collection[str] = (),
    ):
        """Files of the columns `as_files` are nobody's to decode here: they stay in memory as they came."""
        self.storage, self.modalities, self.disk, self._as_files = storage, modalities, disk, as_files
        self._parts = parts
        groups = [part.sizes for part in parts]
        self.sizes = np.concatenate(groups) if groups else np.empty(0, np.int64)
        self._ends = np.cumsum([len(sizes) for sizes in groups])
        self._left = int(cache_mb * 1e6)
        self._kept: dict[int, Decoded] = {}
        self._claimed: set[int] = set()  # those that are kept, or about to be
        self._footers: dict[str, Any] = {}
        self._checked: set[tuple[str, int]] = set()
        self._lock = threading.Lock()

    def read(self, number: int) -> Decoded:
        """One row group, from memory or from its file. Thread-safe. Raises IntegrityError or StorageError."""
        kept = self._kept.get(number)
        if kept is not None:
            return kept
        part, index = self._place(number)
        columns = [c for c in self.modalities if c not in part.lacks]
        table = self._table(part, index, columns, part.whole(index)) if columns else None
        before = max(0, part.begin - index * part.row_group)
        meant = slice(before, before + int(self.sizes[number]))
        decoded: Decoded = {}
        for column, modality in self.modalities.items():
            if column in part.lacks:
                decoded[column] = _nothing(modality, int(self.sizes[number]))
            else:
                values, known = self._opened(part.path, table, column)
                some = values.between(meant) if isinstance(values, FileRows) else values[meant]
                decoded[column] = some, known[meant]
        return self._keep(number, decoded)

    def valid(self, column: str) -> np.ndarray:
        """(rows,) bool over all row groups: which have a value of a column, of which nothing is decoded."""
        return np.concatenate([np.asarray(values.is_valid()) for values in self._each(column)])

    def chosen(self, column: str, modality: Modality) -> np.ndarray:
        """(rows,) bool over all row groups: where a column's number is above 0."""
        type_ = modality.arrow()
        each = (modality.decode(v if v.null_count < len(v) else v.cast(type_)) for v in self._each(column))
        return np.concatenate([known & (values.reshape(len(values), -1)[:, 0] > 0) for values, known in each])

    def _each(self, column: str) -> Iterator[Any]:
        """A column of each row group in their order, (rows,) Arrow values."""
        import pyarrow as pa

        for number, rows in enumerate(self.sizes.tolist()):
            part, index = self._place(number)
            if column in part.lacks:
                yield pa.nulls(rows)
            else:
                before = max(0, part.begin - index * part.row_group)
                yield self._table(part, index, [column], part.whole(index)).column(column).slice(before, rows)

    def _place(self, number: int) -> tuple[Part, int]:
        """The shard that a row group lies in, and which of its file's it is."""
        which = int(np.searchsorted(self._ends, number, "right"))
        part = self._parts[which]
        return part, part.first + number - int(self._ends[which - 1] if which else 0)

    def _table(self, part: Part, index: int, columns: list[str], rows: int) -> Any:
        path, footer = part.path, self._footers.get(part.path)
        if self.storage.is_local:
            with open_table(self.storage, path, footer, checked=self._first(path, index)) as file:
                self._footers.setdefault(path, file.metadata)
                self._expect(path, file.metadata, index, rows)
                with whole(self.storage, path):
                    return file.read_row_group(index, columns=columns, use_threads=False)
        ranges = Ranges(self.storage, path, part.bytes, self.disk)
        if footer is None:
            footer = self._footers.setdefault(path, ranges.footer())
        self._expect(path, footer, index, rows)
        return ranges.read(footer, index, columns, checked=self._first(path, index))

    def _first(self, path: str, index: int) -> bool:
        """Is this row group read for the first time? Then its pages are compared with their checksums."""
        with self._lock:
            first = (path, index) not in self._checked
            self._checked.add((path, index))
        return first

    def _expect(self, path: str, footer: Any, index: int, rows: int) -> None:
        if index >= footer.num_row_groups or footer.row_group(index).num_rows != rows:
            raise IntegrityError(f"{self.storage.full(path)} has other row groups than its manifest says")

    def _opened(self, path: str, table: Any, column: str) -> tuple[RowValues, np.ndarray]:
        try:
            return opened(self.modalities[column], table.column(column))
        except (KeyError, ValueError) as error:
            raise self._wrong(path, column, error) from error

    def decode(self, places: Iterable[WantedRow]) -> None:
        """Decode files to where they are wanted, in several threads. Raises IntegrityError."""
        threaded(self._put, places)

    def _put(self, place: WantedRow) -> None:
        try:
            place.rows.put(place.row, place.out)
        except ValueError as error:
            raise self._wrong(self._place(place.number)[0].path, place.column, error) from error

    def _wrong(self, path: str, column: str, error: Exception) -> IntegrityError:
        return IntegrityError(f"{self.storage.full(path)}, column {column}: {error}. Next: hyperloom verify")

    def _keep(self, number: int, decoded: Decoded) -> Decoded:
        """`decoded`, in memory and with all files decoded where there is room."""
        size = sum(self._size(column, rows) for column, (rows, _) in decoded.items())
        with self._lock:
            room = number not in self._claimed and size <= self._left
            if room:
                self._left -= size
                self._claimed.add(number)
        if not room:
            return decoded
        kept: Decoded = {}
        for column, (values, known) in decoded.items():
            if isinstance(values, FileRows) and column not in self._as_files:
                rows = np.empty((len(values), *self.modalities[column].shape), self.modalities[column].stored)
                self.decode(WantedRow(number, column, values, i, rows[i]) for i in range(len(values)))
                values = rows
            kept[column] = values, known
        self._kept[number] = kept
        return kept

    def _size(self, column: str, rows: RowValues) -> int:
        """Bytes of memory that rows take when they are kept."""
        return rows.encoded_bytes if isinstance(rows, FileRows) and column in self._as_files else rows.nbytes


def _nothing(modality: Modality, rows: int) -> tuple[np.ndarray, np.ndarray]:
    """`rows` missing values, which take no memory of their own."""
    filler = np.full((1, *modality.shape), modality.missing, modality.stored)
    return np.broadcast_to(filler, (rows, *modality.shape)), np.zeros(rows, bool)
