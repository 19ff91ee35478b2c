"""Ranges: a Parquet file in another place, of which only the bytes that are needed come here.

The footer and the chunks of the wanted columns are fetched as ranges, several at once where the store can, kept in the
cache on the local disk where there is one, and shown to pyarrow as a file that has nothing but those bytes.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Sequence
from typing import Any

from hyperloom.pipeline.errors import IntegrityError
from hyperloom.pipeline.root.storage import Storage
from hyperloom.stages.shard.cache import DiskCache

TAIL = 64 * 1024
"""Bytes of the end of a file that are fetched first: most footers fit."""


class Ranges:
    """Reads row groups of the file at `path`, of `size` bytes (0: the store is asked)."""

    def __init__(self, storage: Storage, path: str, size: int = 0, disk: DiskCache | None = None):
        self.storage, self.path, self.size, self.disk = storage, path, size, disk

    def footer(self) -> Any:
        """The file's `pq.FileMetaData`. Raises IntegrityError when it has none."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        size = self.size or self.storage.size(self.path)
        if not size:
            raise self._broken("it is not there")
        try:
            tail = self._fetch([(max(0, size - TAIL), size)])[0]
            if tail[-4:] != b"PAR1":
                raise self._broken("it does not end as one")
            need = struct.unpack("<I", tail[-8:-4])[0] + 8
            if need > min(size, len(tail)):
                tail = self._fetch([(max(0, size - need), size)])[0]
            return pq.read_metadata(pa.BufferReader(tail))
        except pa.ArrowInvalid as error:
            raise self._broken(str(error)) from error

    def read(self, footer: Any, index: int, columns: Sequence[str], checked: bool = False) -> Any:
        """Row group `index` as a `pa.Table` of `columns`; `checked` compares pages with their checksums."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        group = footer.row_group(index)
        places = {}
        for i in range(group.num_columns):
            chunk = group.column(i)
            if any(f"{chunk.path_in_schema}.".startswith(f"{column}.") for column in columns):  # or a part of a list
                start = min(o for o in (chunk.dictionary_page_offset, chunk.data_page_offset) if o)
                places[start] = (start, start + chunk.total_compressed_size)
        pieces = dict(zip(places, self._fetch(list(places.values())), strict=True))
        try:
            only = pa.PythonFile(_Pieces(pieces), "r")
            options = {"pre_buffer": False, "page_checksum_verification": checked}  # else it would read across gaps
            with pq.ParquetFile(only, metadata=footer, **options) as file:
                return file.read_row_group(index, columns=list(columns), use_threads=False)
        except (pa.ArrowInvalid, OSError) as error:
            raise self._broken(str(error)) from error

    def _fetch(self, places: list[tuple[int, int]]) -> list[bytes]:
        names = [f"{self.storage.full(self.path)}:{start}-{stop}" for start, stop in places]
        pieces: dict[int, bytes] = {}
        if self.disk is not None:
            pieces = {i: data for i, name in enumerate(names) if (data := self.disk.get(name)) is not None}
        absent = [i for i in range(len(places)) if i not in pieces]
        if absent:
            try:
                fetched = self.storage.ranges(self.path, [places[i] for i in absent])
            except FileNotFoundError as error:
                raise self._broken("it is not there") from error
            for i, data in zip(absent, fetched, strict=True):
                if len(data) != places[i][1] - places[i][0]:
                    raise self._broken(f"{len(data)} bytes came of {places[i][1] - places[i][0]}")
                pieces[i] = data
                if self.disk is not None:
                    self.disk.put(names[i], data)
        return [pieces[i] for i in range(len(places))]

    def _broken(self, why: str) -> IntegrityError:
        where = self.storage.full(self.path)
        return IntegrityError(f"{where} is not a whole Parquet file ({why}). Next: hyperloom verify")


class _Pieces(io.RawIOBase):
    """A file of which only some ranges (start -> bytes) are here."""

    def __init__(self, pieces: dict[int, bytes]):
        self._pieces, self._at = pieces, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = 0) -> int:
        ends = max(start + len(data) for start, data in self._pieces.items())
        self._at = offset + (0, self._at, ends)[whence]
        return self._at

    def read(self, size: int = -1) -> bytes:
        for start, data in self._pieces.items():
            if start <= self._at < start + len(data):
                first = self._at - start
                piece = data if not first and size == len(data) else data[first : first + size]
                self._at += len(piece)
                return piece
        raise OSError(f"the bytes from {self._at} on were not fetched")
