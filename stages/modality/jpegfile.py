"""JPEG data: pixels, and what is wrong with them.

libjpeg warns of damage that it can see and decodes the rest; here each warning is an error, and so is what it decodes
without a word: scans that are missing, holes of zero bytes.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

HOLE = 32
"""So many zero bytes in a row cannot stand for pixels where the shortest code of a block means a value."""
END = b"\xff\xd9"
SPARE = 16
"""Bytes too many before the end of a frame that a camera may leave."""


def pixels(data: bytes, colourspace: str, least: tuple[int, int] | None = None) -> np.ndarray:
    """(H, W, 3) for RGB, (H, W) for GRAY, (H, W, 4) for CMYK, uint8. With `least`, at the fewest eighths of height and
    width, a half at most, that leave so many pixels, where there are such. Raises ValueError for damage."""
    import simplejpeg

    fewer = {"min_height": least[0], "min_width": least[1], "min_factor": 2} if least else {}
    array = simplejpeg.decode_jpeg(data, colourspace, strict=True, **fewer)
    if why := _unseen_fault(data):
        raise ValueError(why)
    return array[..., 0] if colourspace == "GRAY" else array


def decoded(data: Any, shape: tuple[int, ...], out: np.ndarray | None = None) -> np.ndarray:
    """The pixels `shape` (H, W, 3) uint8 RGB of a JPEG that was looked at when it came, written into `out` if given.
    Raises ValueError for one of another size, and for damage that libjpeg warns of."""
    import numpy as np
    import simplejpeg

    data = np.frombuffer(data, np.uint8)  # Arrow's buffers are of signed bytes, which it does not take
    if out is not None and out.flags.c_contiguous:
        try:  # without another look at its head, which would cost some hundredths
            pixels = simplejpeg.decode_jpeg(data, "RGB", buffer=out)
        except ValueError:  # the next look says of what
            pixels = None
        if pixels is not None and pixels.shape == shape:
            return out
    sides = simplejpeg.decode_jpeg_header(data)[:2]
    if sides != shape[:2]:
        raise ValueError(f"expected a JPEG of shape {shape}, got {(*sides, 3)}")
    return simplejpeg.decode_jpeg(data, "RGB", buffer=out)


def is_common(data: np.ndarray, shape: tuple[int, ...]) -> bool:
    """Is it a whole JPEG of this (H, W, 3), of YCbCr or grey, as any decoder reads them alike?"""
    import simplejpeg

    if bytes(data[:3]) != b"\xff\xd8\xff" or END not in bytes(data[-SPARE:]):
        return False
    try:
        *sides, colours, _ = simplejpeg.decode_jpeg_header(data)
    except ValueError:
        return False
    return tuple(sides) == shape[:2] and colours in ("YCbCr", "Gray")


def fault(data: bytes) -> str:
    """What is wrong with one frame of a film in JPEG, empty where nothing is. Cameras leave a few bytes too many before
    the end."""
    import simplejpeg

    try:
        simplejpeg.decode_jpeg(data, "GRAY", strict=True)
    except ValueError as error:
        spare = re.search(r"(\d+) extraneous bytes before marker 0xd9", str(error))
        return "" if spare and int(spare[1]) <= SPARE else str(error)
    return _unseen_fault(data)


def _unseen_fault(data: bytes) -> str:
    """What is wrong with a JPEG that libjpeg decodes without a word; empty where nothing is.

    A progressive file may have lost its last scans. And a baseline file may hold a run of zero bytes, although zero
    bits, by its tables, would be a row of values of -1 without an end of block, which no picture has.
    """
    shortest: dict[int, int] = {}
    finished: dict[tuple[int, int], bool] = {}
    progressive = False
    for marker, body, rest in _segments(data):
        progressive |= marker in (0xC2, 0xC6, 0xC9, 0xCA)
        while marker == 0xC4 and len(body) > 17:
            shortest[body[0]] = body[17]  # tables 0x10 and on are of the values inside a block
            body = body[17 + sum(body[1:17]) :]
        if marker != 0xDA:
            continue
        if not progressive:
            hole = shortest.get(0x10 | body[2] & 0x0F, 0) != 0 and bytes(HOLE) in data[rest:]
            return f"{HOLE} or more zero bytes inside the picture's data" if hole else ""
        first, _, low = body[-3], body[-2], body[-1] & 0x0F
        for component in body[1:-3:2]:
            finished[component, min(first, 1)] = low == 0
    return "" if all(finished.values()) else "its last scans are missing"


def _segments(data: bytes) -> Iterator[tuple[int, bytes, int]]:
    """Markers of a JPEG with what belongs to each, and where the data behind it begin."""
    place = 2
    while place + 4 <= len(data):
        if data[place] != 0xFF or data[place + 1] in (0x00, 0xFF, *range(0xD0, 0xD9)):
            place = data.find(b"\xff", place + 1)  # data of a scan
            if place < 0:
                return
            continue
        marker, length = data[place + 1], int.from_bytes(data[place + 2 : place + 4], "big")
        if marker == 0xD9:
            return
        yield marker, data[place + 4 : place + 2 + length], place + 2 + length
        place += 2 + length
