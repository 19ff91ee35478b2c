"""Tables: Arrow columns to Parquet bytes and back, written the same way everywhere.

The bytes are a pure function of the columns (for one version of pyarrow): no time, no host, fixed options. Row groups
are a few MB, so that readers can take a part, and each column's bytes lie together, so that a reader who wants one
column fetches one column. Large binary columns get neither a dictionary nor min/max statistics.
Pages carry checksums. Whoever reads a table on the local disk compares its bytes with the digest in its name, once in
each process; from elsewhere the pages that come are checked.
This module does not commit anything: who writes the bytes does.
"""

from __future__ import annotations

import hashlib
import itertools
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Literal

from hyperloom.pipeline.errors import IntegrityError
from hyperloom.pipeline.root.storage import Storage

Codec = Literal["zstd", "lz4", "none"]
ROW_GROUP_MB = 4.0
"""Uncompressed MiB of a row group, about."""
_NAMED = re.compile(r"/data/[^/]*-([0-9a-f]{12})\.parquet$")
_compared: dict[str, tuple[int, ...]] = {}
"""Files that this process has found to be whole, with what would change if somebody wrote there again."""


def write_table(
    columns: Mapping[str, Any],
    fields: Sequence[Any],
    codec: Codec = "zstd",
    rows: int | None = None,
) -> bytes:
    """Parquet bytes of `columns` (name -> pa.Array or ChunkedArray), in the order and with the metadata of `fields`.

    `rows` is the size of a row group (default: `rows_a_group`). Raises ValueError when the columns are not those of
    the fields or differ in length.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    names = [f.name for f in fields]
    if set(names) != set(columns):
        raise ValueError(f"expected the columns {sorted(names)}, got {sorted(columns)}")
    if len({len(columns[n]) for n in names}) > 1:
        raise ValueError(f"columns differ in length: { {n: len(columns[n]) for n in names} }")
    table = pa.Table.from_arrays([columns[n] for n in names], schema=pa.schema(fields))
    plain = [f.name for f in fields if not (pa.types.is_fixed_size_binary(f.type) or pa.types.is_binary(f.type))]
    sink = pa.BufferOutputStream()
    pq.write_table(
        table,
        sink,
        row_group_size=rows or rows_a_group(table.nbytes, table.num_rows),
        compression=codec,
        compression_level=1 if codec == "zstd" else None,
        use_dictionary=[f.name for f in fields if pa.types.is_string(f.type)],
        write_statistics=plain,
        write_page_checksum=True,
        store_schema=True,
    )
    return sink.getvalue().to_pybytes()


def read_table(storage: Storage, path: str, columns: Sequence[str] | None = None, optional: Sequence[str] = ()) -> Any:
    """The `pa.Table` at `path`, with `columns` in that order, and those of `optional` that it has; from elsewhere than
    the local disk only their bytes are read. Raises IntegrityError."""
    if storage.is_local:
        _compare(storage, path)
    with open_table(storage, path, checked=not storage.is_local) as file:
        _expect(storage, path, file.schema_arrow.names, columns or ())
        if columns is not None and optional:
            columns = [*columns, *(name for name in optional if name in file.schema_arrow.names)]
        with whole(storage, path):
            table = file.read(columns=None if columns is None else list(columns), use_threads=False)
        return table if columns is None else table.select(list(columns))


def group_ends(storage: Storage, path: str) -> tuple[int, ...]:
    """The number of the row behind each row group of a table, from its footer. Raises IntegrityError."""
    with open_table(storage, path) as file:
        groups = (file.metadata.row_group(number).num_rows for number in range(file.num_row_groups))
        return tuple(itertools.accumulate(groups))


def read_group(storage: Storage, path: str, column: str, number: int) -> Any:
    """One column of a row group, as a `pa.Table`. Nothing else of the file is read but its footer, so its pages are
    compared with their checksums, not the file with its name. Raises IntegrityError."""
    with open_table(storage, path, checked=True) as file:
        _expect(storage, path, file.schema_arrow.names, [column])
        with whole(storage, path):
            return file.read_row_group(number, columns=[column], use_threads=False)


def open_table(storage: Storage, path: str, footer: Any = None, checked: bool = False) -> Any:
    """A `pq.ParquetFile` at `path`: memory-mapped on local disk, range reads elsewhere. Raises IntegrityError.

    `footer` is the file's `pq.FileMetaData` where the caller has it, and saves reading it; `checked` compares each page
    that is read with its checksum.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    with whole(storage, path):
        source = pa.memory_map(storage.path(path)) if storage.is_local else storage.open(path)
        return pq.ParquetFile(
            source, pre_buffer=not storage.is_local, metadata=footer, page_checksum_verification=checked
        )


@contextmanager
def whole(storage: Storage, path: str) -> Iterator[None]:
    """What pyarrow says inside the block of a file that is gone or damaged is an IntegrityError."""
    import pyarrow as pa

    try:
        yield
    except (OSError, pa.ArrowException) as error:
        why = " ".join(str(error).split())
        raise IntegrityError(
            f"{storage.full(path)} is not a whole Parquet file ({why}). Next: hyperloom verify --repair"
        ) from error


def _compare(storage: Storage, path: str) -> None:
    """Raise IntegrityError where the bytes of a committed file are not those of its name."""
    digest, known = _NAMED.search(path), storage.full(path)
    if digest is None:
        return
    try:
        with storage.open(path) as file:
            stat = os.fstat(file.fileno())
            mark = stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns
            if _compared.get(known) == mark:
                return
            actual = hashlib.file_digest(file, "sha256").hexdigest()
    except FileNotFoundError as error:
        raise IntegrityError(f"{known} is gone. Next: hyperloom verify --repair") from error
    if not actual.startswith(digest[1]):
        raise IntegrityError(f"{known} was changed since it was committed. Next: hyperloom verify --repair")
    _compared[known] = mark


def _expect(storage: Storage, path: str, present: Sequence[str], columns: Sequence[str]) -> None:
    absent = [c for c in columns if c not in present]
    if absent:
        where = storage.full(path)
        raise IntegrityError(f"{where}: expected the columns {absent}, got {list(present)}. Next: hyperloom verify")


def rows_a_group(size: int, rows: int, target_mb: float = ROW_GROUP_MB) -> int:
    """How many of `rows` samples, `size` bytes together, make a row group of about `target_mb` MiB. At least one."""
    return max(1, int(target_mb * 1024 * 1024) * rows // max(1, size))
