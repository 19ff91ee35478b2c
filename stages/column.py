"""Columns of Arrow: how values of a modality become one, and come back.

Raw values are fixed-size binary, one contiguous buffer for all rows, so that reading is a view; images and audio may be
the bytes of a file instead; text, tags, classes, boxes and edges are Arrow's own strings, lists and structs. The
field's metadata say what the bytes are: `hyperloom` holds JSON with modality, source, shape, dtype in memory, dtype
stored, the scale between them, codec, and whatever the recipe says (classes, unit, range); the extension name marks
tensors for Arrow's readers, who see plain binary if they do not know it.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np

from hyperloom.stages.base import modality_of, source_of

if TYPE_CHECKING:
    from hyperloom.stages.modality.base import Modality

METADATA = "hyperloom"
EXTENSION = "hyperloom.tensor"
THREADS = min(8, len(os.sched_getaffinity(0)))
FEW = 4
"""Values that one thread decodes faster than several can be woken."""


def field(modality: Modality, column: str) -> Any:
    """The `pa.Field` of `column`."""
    import pyarrow as pa

    about = {
        **modality.to_recipe(),
        "modality": modality_of(column),
        "source": source_of(column),
        "shape": list(modality.shape),
        "dtype": modality.dtype.name,
        "stored": modality.stored.name,
        "scale": modality.scale,
        "codec": modality.codec,
    }
    if modality.offset:
        about["offset"] = modality.offset
    text = json.dumps(about, sort_keys=True)
    native = modality.codec == "native"
    extension = {} if native else {"ARROW:extension:name": EXTENSION, "ARROW:extension:metadata": text}
    return pa.field(column, modality.arrow(), metadata={METADATA: text, **extension})


def produced(field: Any, about: Mapping[str, Any] | None) -> Any:
    """`field`, saying under `producer` who made its values: JSON with the expert, its revision, the digests of its
    weights, and its inputs. Without `about`, the field as it is."""
    if not about:
        return field
    known = {key.decode(): value for key, value in field.metadata.items()}
    text = json.dumps({**json.loads(known[METADATA]), "producer": about}, sort_keys=True)
    for key in (METADATA, "ARROW:extension:metadata"):
        if key in known:
            known[key] = text.encode()
    return field.with_metadata(known)


def producer(field: Any) -> dict[str, Any] | None:
    """What `produced` noted in a field; None where nobody did."""
    about = (field.metadata or {}).get(METADATA.encode())
    return json.loads(about).get("producer") if about else None


def described(field: Any) -> dict[str, Any]:
    """What a field's metadata say of its values, whoever made them; empty for a field that is not ours."""
    about = json.loads((field.metadata or {}).get(METADATA.encode(), "{}"))
    return {name: value for name, value in about.items() if name != "producer"}


def binary(modality: Modality) -> Any:
    """The `pa.DataType` of a modality without a native form."""
    import pyarrow as pa

    return pa.binary(_width(modality)) if modality.codec == "raw" else pa.binary()


def encode(modality: Modality, values: Sequence[Any] | np.ndarray) -> Any:
    """See `Modality.encode`."""
    import pyarrow as pa

    valid = np.array([v is not None for v in values], bool)
    if modality.codec not in ("raw", "native"):
        return pa.array(threaded(lambda v: _compressed(modality, v), values), pa.binary())
    rows = np.zeros((len(valid), *modality.shape), modality.stored)
    for i in np.flatnonzero(valid):
        rows[i] = modality.to_stored(_shaped(modality, values[int(i)]))
    if modality.codec == "native":
        return modality.pack(rows, valid)
    bitmap = None if valid.all() else pa.array(valid).buffers()[1]
    return pa.Array.from_buffers(pa.binary(_width(modality)), len(valid), [bitmap, pa.py_buffer(rows)])


def unpack(modality: Modality, array: Any) -> tuple[np.ndarray, np.ndarray]:
    """See `Modality.unpack`."""
    rows, valid = opened(modality, array)
    return (rows.whole() if isinstance(rows, FileRows) else rows), valid


def opened(modality: Modality, array: Any) -> tuple[np.ndarray | FileRows, np.ndarray]:
    """The same, with files not decoded yet."""
    import pyarrow as pa

    if isinstance(array, pa.ChunkedArray):
        array = array.chunk(0) if array.num_chunks == 1 else array.combine_chunks()
    if array.type != modality.arrow():
        raise ValueError(f"expected {modality.arrow()} ({modality.shape} of {modality.stored}), got {array.type}")
    valid = array.is_valid().to_numpy(zero_copy_only=False) if array.null_count else np.ones(len(array), bool)
    if modality.codec == "native":
        return modality.unpacked(array, valid), valid
    if modality.codec == "raw":
        return _view(modality, array, valid), valid
    return FileRows(modality, array, valid), valid


class FileRows:
    """The rows (N, *shape) of a column that keeps files, decoded where and when they are taken."""

    def __init__(self, modality: Modality, array: Any, valid: np.ndarray):
        self._modality, self._array, self._valid = modality, array, valid

    def __len__(self) -> int:
        return len(self._array)

    @property
    def nbytes(self) -> int:
        """Of all rows, decoded."""
        return len(self) * _width(self._modality)

    @property
    def encoded_bytes(self) -> int:
        """Of all rows, as they are kept."""
        return int(self._array.nbytes)

    def encoded(self, row: int) -> Any:
        """The bytes of one row's file, None where it is missing."""
        return self._array[row].as_buffer() if self._valid[row] else None

    def between(self, rows: slice) -> FileRows:
        """Some neighbouring rows."""
        return FileRows(self._modality, self._array[rows], self._valid[rows])

    def put(self, row: int, out: np.ndarray) -> None:
        """Decode one row into `out` (*shape), which is contiguous; a missing one is filler. Raises ValueError."""
        if self._valid[row]:
            self._modality.decompress(self._array[row].as_buffer(), out)
        else:
            out[...] = self._modality.missing

    def whole(self) -> np.ndarray:
        """All rows, decoded."""
        out = np.empty((len(self), *self._modality.shape), self._modality.stored)
        threaded(lambda row: self.put(row, out[row]), range(len(self)))
        return out


def _view(modality: Modality, array: Any, valid: np.ndarray) -> np.ndarray:
    width = _width(modality)
    count = len(array) * width // modality.stored.itemsize
    rows = np.frombuffer(array.buffers()[1] or b"", modality.stored, count, array.offset * width)
    rows = rows.reshape(len(array), *modality.shape)
    if not valid.all():
        rows = rows.copy()
        rows[~valid] = modality.missing
    return rows


def _compressed(modality: Modality, value: Any) -> bytes | None:
    if value is None or isinstance(value, bytes):
        return value
    return modality.compress(modality.to_stored(_shaped(modality, value)).astype(modality.stored, copy=False))


def _shaped(modality: Modality, value: Any) -> np.ndarray:
    array = np.asarray(value)
    if array.shape != modality.shape:
        raise ValueError(f"expected shape {modality.shape}, got {array.shape}")
    return array


def _width(modality: Modality) -> int:
    """Bytes of one raw value."""
    return math.prod(modality.shape) * modality.stored.itemsize


def threaded(function: Callable[[Any], Any], items: Iterable[Any]) -> list[Any]:
    """`function` of each item, in order. The codecs' C code runs without Python's lock, so threads help; each gets some
    items at once, since handing one over costs as much as a tenth of an image."""
    items = list(items)
    if len(items) < FEW or THREADS == 1:
        return [function(item) for item in items]
    some = -(-len(items) // (2 * THREADS))
    parts = [items[first : first + some] for first in range(0, len(items), some)]
    done = _pool(os.getpid()).map(lambda part: [function(item) for item in part], parts)
    return [result for part in done for result in part]


@cache
def _pool(process: int) -> ThreadPoolExecutor:
    """One pool a process (its number is there since a fork inherits no threads)."""
    return ThreadPoolExecutor(THREADS, "codec")
