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
            return data.decode()
    except ValueError as error:
        raise ValueError(f"{os.path.basename(name)} is no {suffix[1:]} file: {error}") from error
    raise ValueError(f"{os.path.basename(name)}: this modality is not read from {suffix or 'such'} files")


def decode_array(data: bytes, array: str, name: str) -> np.ndarray:
    """The array of an .npy, or the one called `array` (or the only one) of an .npz."""
    import io
    import zipfile

    import numpy as np

    if not data:
        raise ValueError(f"{os.path.basename(name)} is empty (0 bytes)")
    try:
        loaded = np.load(io.BytesIO(data), allow_pickle=False)
        return loaded if isinstance(loaded, np.ndarray) else loaded[array or loaded.files[0]]
    except (EOFError, KeyError, IndexError, zipfile.BadZipFile, ValueError) as error:
        raise ValueError(f"{os.path.basename(name)} holds no array {array!r} ({error})") from error
