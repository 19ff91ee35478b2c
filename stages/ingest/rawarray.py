"""Raw arrays: the numbers of a file as the class ids or channels that a column wants, or a ValueError that says why.

Nothing is guessed and nothing is dropped: what cannot be a class id is named as it stands in the file, an array whose
channels come first or whose sides are exchanged is refused, and a file with more channels than the column says which.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from hyperloom.pipeline.counting import counted
from hyperloom.stages.base import UNKNOWN

if TYPE_CHECKING:
    import numpy as np


def channelled(raw: np.ndarray, count: int, chosen: Sequence[int], path: str) -> np.ndarray:
    """(H, W, count) of an (H, W) or (H, W, C) array. `chosen` names the channels of a file that has others."""
    name = os.path.basename(path)
    array = raw[..., None] if raw.ndim == 2 else raw
    if array.ndim != 3:
        raise ValueError(f"{name}: expected (H, W) or (H, W, channels), got {raw.shape}")
    if chosen:
        if max(chosen) >= array.shape[-1]:
            raise ValueError(f"{name} has {counted(array.shape[-1], 'channel')}, and channels: names {list(chosen)}")
        array = array[..., list(chosen)]
    if array.shape[-1] == count:
        return array
    if array.shape[0] in (1, count) and array.shape[-1] > 4:
        height, width = raw.shape[1:]
        raise ValueError(f"{name}: channels first? got {raw.shape} for ({height}, {width}, {count})")
    if count == 1 and not chosen and (array == array[..., :1]).all():
        return array[..., :1]  # grey, kept as colours
    raise ValueError(
        f"{name} has {array.shape[-1]} channels, and the column {count}. Next: say which, as in channels: "
        f"{list(range(min(count, array.shape[-1])))}"
    )


def class_ids(raw: np.ndarray, remap: Mapping[int, int], void: Sequence[int], path: str) -> np.ndarray:
    """(H, W) uint8 class ids: `remap`ped, `void` and NaN unknown. Raises ValueError for what is no class id, and names
    it as it stands in the file."""
    import numpy as np

    name = os.path.basename(path)
    if raw.ndim == 3 and raw.shape[0] == 1 and raw.shape[-1] > 4:
        raise ValueError(f"{name}: channels first? got {raw.shape} for {raw.shape[1:]} class ids")
    if raw.ndim == 3:
        if (raw != raw[..., :1]).any():
            raise ValueError(f"{name} holds colours, not class ids. Next: store ids as grey values or palette indices")
        raw = raw[..., 0]
    if raw.ndim != 2 or raw.dtype.kind not in "uifb":
        raise ValueError(f"{name}: expected (H, W) class ids, got {raw.shape} {raw.dtype}")
    unknown = np.isnan(raw) if raw.dtype.kind == "f" else np.zeros((), bool)
    numbers = np.where(unknown, raw.dtype.type(0), raw)
    fractions = (
        numbers[~np.isfinite(numbers) | (numbers != np.rint(numbers))] if raw.dtype.kind == "f" else numbers[:0, 0]
    )
    if fractions.size:
        raise ValueError(f"{name} holds {fractions[0]:g}, which is no class id")
    values, places = np.unique(numbers.astype(np.int64 if raw.dtype != np.uint64 else np.uint64), return_inverse=True)
    table = np.array([UNKNOWN if int(v) in void else remap.get(int(v), int(v)) for v in values], object)
    for stored, id_ in zip(values.tolist(), table.tolist()):
        if not 0 <= id_ <= UNKNOWN:
            hint = f"void: [{stored}] if it means unknown, or " if stored < 0 else ""
            raise ValueError(
                f"{name} holds {stored}, and class ids are 0..{UNKNOWN}. Next: {hint}a remap, as in "
                f"remap: {{{stored}: 0}}"
            )
    ids = table.astype(np.uint8)[places.reshape(numbers.shape)]
    ids[np.broadcast_to(unknown, ids.shape)] = UNKNOWN
    return ids
