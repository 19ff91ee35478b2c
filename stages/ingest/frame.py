"""Frames: the picture that a label belongs to, and whether the label was drawn on it as it is used.

A mask, a map or a file of boxes that has the sides of the picture as its file stores it, before its orientation turned
it, or exchanged sides, is refused; another aspect is said. `Framed` does that for samples whose picture and labels are
bytes beside each other: a table's row, a tar's files.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from hyperloom.stages.modality import box_files, imagefile
from hyperloom.stages.remarks import remark

if TYPE_CHECKING:
    import numpy as np

Sides = tuple[int, int]
ARRAYS = (".npy", ".npz")
ASPECT = 0.02
"""How much the aspects of a picture and of its label may differ, beside the rounding of their sides."""


class Frame(NamedTuple):
    """The picture that a label belongs to: (height, width) as it is used, and as its file stores it."""

    sides: Sides
    stored: Sides


def matches(raw: np.ndarray, frame: Frame | None, path: str, column: str) -> None:
    """Raise ValueError for an array whose sides are exchanged against its picture's; remark on another aspect."""
    if frame is None or raw.ndim < 2 or min(raw.shape[:2]) < 2:
        return
    aligned((raw.shape[0], raw.shape[1]), frame, path, column)


def aligned(sides: Sides, frame: Frame, path: str, column: str) -> None:
    """The same of the sides of the picture that a file was made for."""
    (height, width), same = sides, same_aspect
    if same(sides, frame.sides):
        return
    name, shown = os.path.basename(path), f"{frame.sides[0]} x {frame.sides[1]}"
    if frame.stored != frame.sides and same(sides, frame.stored):
        raise ValueError(
            f"{name} is {height} x {width} like the stored picture, which its orientation (EXIF, or a video's display "
            f"matrix) turns to {shown}. Next: orientation: ignore on the picture's modality takes both as stored; or "
            "turn the label"
        )
    if sides == frame.sides[::-1]:
        raise ValueError(f"{name} is {height} x {width} and its picture {shown}. Next: exchange its height and width")
    remark(f"{column} has another aspect than its picture and is stretched to it")


def same_aspect(one: Sides, other: Sides) -> bool:
    if one == other:
        return True
    rounding = 1 / min(one) + 1 / min(other)
    return abs(one[0] * other[1] / (one[1] * other[0]) - 1) < ASPECT + (rounding if rounding < 0.1 else 0)


def frame_of(data: bytes, path: str, modality: Any) -> Frame | None:
    """That of a picture's bytes; None for what is none, or what only its own modality reads."""
    orientation = getattr(modality, "orientation", None)
    if not modality.rgb or orientation is None or path.lower().endswith(ARRAYS):
        return None
    try:
        head = imagefile.header(data, path)
    except ValueError:
        return None  # whoever reads it says what is wrong
    if head.orientation == 1 or orientation == "ignore":
        return Frame(head.sides, head.sides)
    remark("EXIF turns or mirrors the picture; its labels are taken as drawn on the turned one (orientation: ignore)")
    return Frame(head.shown, head.sides)


class Framed:
    """Of one sample after the other: its picture, where it has one, and the labels drawn on it. Of several pictures
    nobody knows which a label was drawn on."""

    def __init__(self, kinds: Mapping[str, Any]):
        """`kinds`: modalities by column."""
        pictures = [c for c, kind in kinds.items() if kind.rgb and kind.times <= 1]
        drawn = {c for c, kind in kinds.items() if not kind.rgb and (kind.markup == "boxes" or kind.height_width)}
        self.labels = drawn if len(pictures) == 1 else set()
        """Columns of labels that are compared with the picture."""
        self._picture = pictures[0] if self.labels else ""
        self._frame: Frame | None = None

    def order(self, columns: Iterable[str]) -> list[str]:
        """The picture first, as labels are compared with it. A new sample begins."""
        self._frame = None
        return sorted(columns, key=lambda column: column != self._picture)

    def look(self, column: str, data: bytes, name: str, modality: Any) -> None:
        """Bytes that are a value of `column`. Raises ValueError for a label that was drawn on another picture."""
        if column == self._picture:
            self._frame = frame_of(data, name, modality)
        elif self._frame is not None and column in self.labels:
            sides = _sides(data, name, modality)
            if sides is not None and min(sides) > 1:
                aligned(sides, self._frame, name, column)


def _sides(data: bytes, name: str, modality: Any) -> Sides | None:
    """Height and width of what a label was drawn on; None where it does not say."""
    import zipfile
    import zlib

    if modality.markup == "boxes":
        return box_files.sides(data, name)
    try:
        if name.lower().endswith(ARRAYS):
            shape = _shape(data)
            return (shape[0], shape[1]) if len(shape) > 1 else None
        return imagefile.header(data, name).shown  # a map is turned by an EXIF of its own
    except (ValueError, OSError, EOFError, KeyError, zipfile.BadZipFile, zlib.error):
        return None  # whoever reads it says what is wrong


def _shape(data: bytes) -> tuple[int, ...]:
    """That of the array in a .npy or of the only one in a .npz."""
    import io

    import numpy as np

    loaded = np.load(io.BytesIO(data), allow_pickle=False)
    if isinstance(loaded, np.ndarray):
        return loaded.shape
    return loaded[loaded.files[0]].shape if len(loaded.files) == 1 else ()
