"""Videos of own pixels, written with PyAV: each frame shows its number in bits, whatever the codec."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

SIZE = (48, 64)
BITS, WIDE = 6, 10
"""Stripes of so many pixels in the upper half are the bits of the number."""
MILLISECONDS = Fraction(1, 1000)


def picture(number: int, size: tuple[int, int] = SIZE) -> np.ndarray:
    """(H, W, 3) uint8: the number in stripes above, a bright corner at the lower left."""
    image = np.full((*size, 3), 60, np.uint8)
    for bit in range(BITS):
        image[: size[0] // 2, WIDE * bit : WIDE * (bit + 1)] = 220 if number >> bit & 1 else 20
    image[-16:, :16] = 240
    return image


def number(image: np.ndarray) -> int:
    """The number that a picture shows, -1 where it shows none."""
    value = 0
    for bit in range(BITS):
        level = image[4:20, WIDE * bit + 3 : WIDE * (bit + 1) - 3].mean()
        if 90 < level < 150:
            return -1
        value |= int(level > 120) << bit
    return value


def write(
    path: Path,
    numbers: Iterable[int] = range(30),
    codec: str = "mpeg4",
    times: Sequence[int] | None = None,
    form: str = "yuv420p",
    options: dict[str, str] | None = None,
    turn: tuple[int, bool] | None = None,
    look: Callable[[int], Any] = picture,
    kind: str | None = None,
    keep: Callable[[int], bool] = lambda packet: True,
) -> Path:
    """A video of `numbers`, 25 a second or at `times` in milliseconds. `look` makes a frame's array or PyAV's frame;
    `keep` says which packets are written."""
    import av

    path.parent.mkdir(parents=True, exist_ok=True)
    first = {"movflags": "+faststart"} if path.suffix == ".mp4" else {}
    with av.open(str(path), "w", format=kind, options=first) as out:
        stream: Any = out.add_stream(codec, rate=1000 if times else 25, options={"threads": "1", **(options or {})})
        stream.pix_fmt, written = form, 0
        for place, shown in enumerate(numbers):
            frame = look(shown)
            if isinstance(frame, np.ndarray):
                frame = av.VideoFrame.from_ndarray(frame, format="rgb24")
            if not place:
                stream.height, stream.width = frame.height, frame.width
                if turn:
                    stream.set_display_rotation(turn[0], hflip=turn[1])
            frame.pts, frame.time_base = (times[place], MILLISECONDS) if times else (place, Fraction(1, 25))
            for packet in stream.encode(frame):
                if keep(written):
                    out.mux(packet)
                written += 1
        for packet in stream.encode(None):
            if keep(written):
                out.mux(packet)
            written += 1
    return path


def edited(path: Path, first: int, count: int) -> Path:
    """The edit list of an mp4 of 30 frames shows `count` frames from `first` on, as phones cut."""
    data = bytearray(path.read_bytes())
    inside: Callable[[bytes], int] = lambda kind: data.index(kind, data.rindex(b"moov")) + 4  # noqa: E731
    _, delta = struct.unpack_from(">II", data, inside(b"stts") + 8)
    entry = inside(b"elst") + 8
    duration, start = struct.unpack_from(">Ii", data, entry)
    struct.pack_into(">Ii", data, entry, duration * count // 30, start + delta * first)
    path.write_bytes(data)
    return path
