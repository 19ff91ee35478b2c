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
UNEVEN = [0, 30, 70, 90, 400, 480, 510, 900, 980, 1010, 1030, 3000, 3040, 3500, 3900]
"""Milliseconds: a phone in the dark, and a gap."""


def picture(number: int, size: tuple[int, int] = SIZE) -> np.ndarray:
    """(H, W, 3) uint8: the number in stripes above, a bright corner at the lower left."""
    image = np.full((*size, 3), 60, np.uint8)
    for bit in range(BITS):
        image[: size[0] // 2, WIDE * bit : WIDE * (bit + 1)] = 220 if number >> bit & 1 else 20
    image[-16:, :16] = 240
    return image


def stamp(time: int) -> bytes:
    """A presentation time as a transport stream writes it beside one of decoding, in units of 1/90000 s."""
    bits = 0x3100010001 | (time >> 30 & 7) << 33 | (time >> 15 & 0x7FFF) << 17 | (time & 0x7FFF) << 1
    return bits.to_bytes(5, "big")


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


def streams(path: Path, *kinds: str) -> Path:
    """A file with a stream for each of `kinds`: "video", "cover", "sound"; the nth shows the numbers from 10 n on."""
    import av

    with av.open(str(path), "w") as out:
        made: list[Any] = []
        for kind in kinds:
            codec = {"video": "mpeg4", "cover": "mjpeg", "sound": "aac"}[kind]
            stream: Any = out.add_stream(codec, rate=8000 if kind == "sound" else 25)
            if kind == "sound":
                stream.layout = "mono"
            else:
                stream.height, stream.width = SIZE
                stream.pix_fmt = "yuvj420p" if kind == "cover" else "yuv420p"
                if kind == "cover":
                    stream.disposition = av.stream.Disposition.attached_pic
            made.append(stream)
        for place, (kind, stream) in enumerate(zip(kinds, made)):
            for n in range(1 if kind == "cover" else 5):
                if kind == "sound":
                    frame: Any = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), "fltp", "mono")
                    frame.sample_rate = 8000
                else:
                    frame = av.VideoFrame.from_ndarray(picture(10 * place + n))
                frame.pts = n * (1024 if kind == "sound" else 1)
                out.mux(stream.encode(frame))
            out.mux(stream.encode(None))
    return path
