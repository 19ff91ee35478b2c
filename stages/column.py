"""Columns of Arrow: how values of a modality become one, and come back.

Raw values are fixed-size binary, one contiguous buffer for all rows, so that reading is a view; images may be JPEG or
PNG bytes instead. The field's metadata say what the bytes are: `hyperloom` holds JSON with modality, source, shape,
dtype in memory, dtype stored, the scale between them, codec, and whatever the recipe says (classes, unit, range); the
extension name marks the type for Arrow's readers, who see plain binary if they do not know it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from stages.base import modality_of, source_of

if TYPE_CHECKING:
    from stages.modality import Modality

METADATA = "hyperloom"
EXTENSION = "hyperloom.tensor"


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
    text = json.dumps(about, sort_keys=True)
    kind = pa.binary(_width(modality)) if modality.codec == "raw" else pa.binary()
    extension = {"ARROW:extension:name": EXTENSION, "ARROW:extension:metadata": text}
    return pa.field(column, kind, metadata={METADATA: text, **extension})


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


def encode(modality: Modality, values: Sequence[np.ndarray | None] | np.ndarray) -> Any:
    """See `Modality.encode`."""
    import pyarrow as pa

    valid = np.array([v is not None for v in values], bool)
    rows = np.zeros((len(valid), *modality.shape), modality.stored)
    for i in np.flatnonzero(valid):
        value = np.asarray(values[int(i)])
        if value.shape != modality.shape:
            raise ValueError(f"expected shape {modality.shape}, got {value.shape}")
        rows[i] = modality.to_stored(value)
    if modality.codec != "raw":
        packed = [compress(row, modality) if ok else None for row, ok in zip(rows, valid, strict=True)]
        return pa.array(packed, pa.binary())
    bitmap = None if valid.all() else pa.array(valid).buffers()[1]
    return pa.Array.from_buffers(pa.binary(_width(modality)), len(valid), [bitmap, pa.py_buffer(rows)])


def unpack(modality: Modality, array: Any) -> tuple[np.ndarray, np.ndarray]:
    """See `Modality.unpack`."""
    import pyarrow as pa

    if isinstance(array, pa.ChunkedArray):
        array = array.chunk(0) if array.num_chunks == 1 else array.combine_chunks()
    valid = array.is_valid().to_numpy(zero_copy_only=False) if array.null_count else np.ones(len(array), bool)
    if modality.codec != "raw":
        rows = np.full((len(array), *modality.shape), modality.missing, modality.stored)
        for i in np.flatnonzero(valid):
            rows[i] = decompress(array[int(i)].as_buffer(), modality)
        return rows, valid
    width = _width(modality)
    if array.type != pa.binary(width):
        raise ValueError(f"expected {pa.binary(width)} ({modality.shape} of {modality.stored}), got {array.type}")
    count = len(array) * width // modality.stored.itemsize
    rows = np.frombuffer(array.buffers()[1] or b"", modality.stored, count, array.offset * width)
    rows = rows.reshape(len(array), *modality.shape)
    if not valid.all():
        rows = rows.copy()
        rows[~valid] = modality.missing
    return rows, valid


def compress(row: np.ndarray, modality: Modality) -> bytes:
    """One RGB image as JPEG or PNG bytes."""
    import cv2

    options = [cv2.IMWRITE_PNG_COMPRESSION, 1]
    if modality.codec == "jpeg":
        options = [cv2.IMWRITE_JPEG_QUALITY, modality.quality]  # type: ignore[attr-defined]
    return cv2.imencode(f".{modality.codec}", cv2.cvtColor(row, cv2.COLOR_RGB2BGR), options)[1].tobytes()


def decompress(data: Any, modality: Modality) -> np.ndarray:
    """JPEG or PNG bytes as an RGB image. Raises ValueError when they are something else, or of another size."""
    import cv2

    image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    if image is None or image.shape != modality.shape:
        got = getattr(image, "shape", "other bytes")
        raise ValueError(f"expected a {modality.codec} of shape {modality.shape}, got {got}")
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)


def _width(modality: Modality) -> int:
    """Bytes of one raw value."""
    return int(np.prod(modality.shape)) * modality.stored.itemsize
