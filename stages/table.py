"""Tables: Arrow columns to Parquet bytes and back, written the same way everywhere.

The bytes are a pure function of the columns (for one version of pyarrow): no time, no host, fixed options. Row groups
are a few MB, so that readers can take a part, and each column's bytes lie together, so that a reader who wants one
column fetches one column. Large binary columns get neither a dictionary nor min/max statistics.
This module does not commit anything: who writes the bytes does.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from hyperloom.pipeline.errors import IntegrityError
from hyperloom.pipeline.storage import Storage

Codec = Literal["zstd", "lz4", "none"]
ROW_GROUP_MB = 4.0
"""Uncompressed MiB of a row group, about."""


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
        store_schema=True,
    )
    return sink.getvalue().to_pybytes()


def read_table(storage: Storage, path: str, columns: Sequence[str] | None = None) -> Any:
    """The `pa.Table` at `path`, with `columns` in that order; only their bytes are read. Raises IntegrityError."""
    with open_table(storage, path) as file:
        _expect(storage, path, file.schema_arrow.names, columns or ())
        table = file.read(columns=None if columns is None else list(columns), use_threads=False)
        return table if columns is None else table.select(list(columns))


def open_table(storage: Storage, path: str, footer: Any = None) -> Any:
    """A `pq.ParquetFile` at `path`: memory-mapped on local disk, range reads elsewhere. Raises IntegrityError.

    `footer` is the file's `pq.FileMetaData` where the caller has it, and saves reading it.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        if storage.is_local:
            return pq.ParquetFile(pa.memory_map(storage.path(path)), metadata=footer)
        return pq.ParquetFile(storage.open(path), pre_buffer=True, metadata=footer)
    except (FileNotFoundError, pa.ArrowInvalid) as error:
        where = storage.full(path)
        raise IntegrityError(f"{where} is not a whole Parquet file ({error}). Next: hyperloom verify") from error


def _expect(storage: Storage, path: str, present: Sequence[str], columns: Sequence[str]) -> None:
    absent = [c for c in columns if c not in present]
    if absent:
        where = storage.full(path)
        raise IntegrityError(f"{where}: expected the columns {absent}, got {list(present)}. Next: hyperloom verify")


def rows_a_group(size: int, rows: int, target_mb: float = ROW_GROUP_MB) -> int:
    """How many of `rows` samples, `size` bytes together, make a row group of about `target_mb` MiB. At least one."""
    return max(1, int(target_mb * 1024 * 1024) * rows // max(1, size))
