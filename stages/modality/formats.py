"""File formats other than pictures: bytes of arrays as NumPy arrays, and small files as what Python makes of them.

Nothing here knows modalities. What cannot be understood raises ValueError, naming the file.
"""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np


def parse(data: bytes, name: str) -> Any:
    """An array (.npy, .npz), whatever JSON says (.json), or the text (.txt)."""
    suffix = os.path.splitext(name)[1].lower()
    if not data and suffix != ".txt":
        raise ValueError(f"{os.path.basename(name)} is empty (0 bytes)")
    if suffix in (".npy", ".npz"):
        return decode_array(data, "", name)
    try:
        if suffix == ".json":
            return json.loads(data)
        if suffix == ".txt":
            return data.decode("utf-8-sig").rstrip("\r\n")
    except ValueError as error:
        raise ValueError(f"{os.path.basename(name)} is no {suffix[1:]} file: {error}") from error
    raise ValueError(f"{os.path.basename(name)}: this modality is not read from {suffix or 'such'} files")


def decode_array(data: bytes, array: str, name: str) -> np.ndarray:
    """The array of an .npy, or the one called `array` (or the only one) of an .npz."""
    import io

    import numpy as np

    base = os.path.basename(name)
    if not data:
        raise ValueError(f"{base} is empty (0 bytes)")
    try:
        if data.startswith(np.lib.format.MAGIC_PREFIX):
            _whole(data)
        loaded = np.load(io.BytesIO(data), allow_pickle=False)
        if isinstance(loaded, np.ndarray):
            return _plain(loaded)
        names = loaded.files
        if array in names or len(names) == 1:
            return _plain(np.asarray(loaded[array or names[0]]))
    except MemoryError:
        raise
    except Exception as error:  # readers of torn headers and archives raise whatever comes
        raise ValueError(f"{base} holds no array {array!r} ({error or type(error).__name__})") from error
    several = f"array: {names[0]} takes the first" if names else "save an array in it"
    raise ValueError(
        f"{base} holds the arrays {', '.join(names) or 'of nothing'}, none called {array!r}. Next: {several}"
    )


def _plain(array: np.ndarray) -> np.ndarray:
    """The array, of numbers or of strings, in this machine's order of bytes. Raises ValueError for what a cast would
    change without a word."""
    if array.dtype.kind not in "buifSU":
        kinds = {"c": "complex numbers", "M": "dates", "m": "durations", "V": "records"}
        raise ValueError(f"its {kinds.get(array.dtype.kind, 'values')} ({array.dtype}) are no numbers of a column")
    return array.astype(array.dtype.newbyteorder("="), copy=False)


def _whole(data: bytes) -> None:
    """Raise ValueError for an .npy whose header promises more than there is, before memory is taken for it."""
    import io
    import math

    from numpy.lib import format as npy

    file = io.BytesIO(data)
    version = npy.read_magic(file)
    read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
    shape, _, dtype = read(file)
    promised = math.prod(shape) * dtype.itemsize
    if not dtype.hasobject and promised > len(data) - file.tell():
        raise ValueError(f"it ends early: {len(data) - file.tell()} of {promised} bytes of {shape} {dtype}")
