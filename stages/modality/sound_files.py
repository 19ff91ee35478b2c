"""Sound files: from bytes to samples, and whether a file holds what it says.

Readers of sound take what is left of a file that was cut off and say nothing, so what each format says of its length
is compared first: chunks of wav and AIFF, the last page of Ogg, the count of bytes in an mp3. A wav whose header was
never finished (length 0, or the largest number, as of recorders that lost power and of streams) is read to its end.
"""

from __future__ import annotations

import io
import struct
import wave
from collections.abc import Iterator
from typing import Any

import numpy as np

from hyperloom.pipeline.errors import PluginError

STREAMED = 0x7FFFF000
"""Lengths from here on are no lengths but what streams write for one."""
MOST_RATE = 1_000_000
"""Samples a second; more is no sound."""
LOST = 4096
"""Bytes behind the sound that are no chunk and too many to be a tag."""


def decode_sound(data: Any) -> tuple[np.ndarray, int]:
    """(n,) or (n, channels) samples, int16 where the file has 16 bits, else float32; and samples a second.

    Raises ValueError for what is no sound file, PluginError where reading it needs soundfile, which is not installed.
    """
    data = bytes(data)
    sound = _plain_wav(data) if data.startswith(b"RIFF") else None
    sound = sound or _by_soundfile(data)
    if not 0 < sound[1] <= MOST_RATE:
        raise ValueError(f"says {sound[1]} samples a second")
    return sound


def whole_sound(data: bytes) -> bytes:
    """The bytes of a sound file that holds what it says; a wav whose length was never written gets it. Raises
    ValueError for an empty file and for one that ends early."""
    if not data:
        raise ValueError("is empty (0 bytes)")
    if data[:4] in (b"RIFF", b"RF64"):
        return _whole_wav(data)
    if data.startswith(b"FORM"):
        for name, place, length in _chunks(data, ">"):
            if name == b"SSND" and length > len(data) - place:
                raise ValueError(f"ends after {len(data) - place} of {length} bytes of sound")
    elif data.startswith(b"OggS"):
        _check_ogg(data)
    elif data[:3] == b"ID3" or data[:1] == b"\xff":
        _check_mp3(data)
    return data


def soundfile_module() -> Any:
    """Raises PluginError where it is not installed."""
    try:
        import soundfile
    except ImportError as error:
        what = "audio files other than 16-bit wav need soundfile"
        raise PluginError(f"{what}. Next: pip install 'hyperloom[audio]'") from error
    return soundfile


BLOCK = 1 << 20
"""Samples that are read at a time."""


# -- samples -----------------------------------------------------------------------------------------------------------
def _plain_wav(data: bytes) -> tuple[np.ndarray, int] | None:
    """The samples of a wav of 16-bit PCM; None for another."""
    try:
        with wave.open(io.BytesIO(data)) as file:
            if file.getsampwidth() != 2:
                return None
            frames, channels = file.readframes(file.getnframes()), file.getnchannels()
            sound = np.frombuffer(frames[: len(frames) // 2 * 2], "<i2")
            if len(sound) != file.getnframes() * channels:
                raise ValueError(f"expected {file.getnframes()} samples, as it says, got {len(sound)}")
            return (sound if channels == 1 else sound.reshape(-1, channels)), file.getframerate()
    except (EOFError, wave.Error, RuntimeError, struct.error):
        return None  # soundfile knows more kinds


def _by_soundfile(data: bytes) -> tuple[np.ndarray, int]:
    soundfile = soundfile_module()
    try:
        with soundfile.SoundFile(io.BytesIO(data)) as file:
            dtype = "int16" if file.subtype == "PCM_16" else "float32"
            blocks = [file.read(BLOCK, dtype=dtype)]
            while len(blocks[-1]):  # not all at once: memory would be taken for what a header promises
                blocks.append(file.read(BLOCK, dtype=dtype))
            return np.concatenate(blocks), file.samplerate
    except (soundfile.LibsndfileError, TypeError, RuntimeError) as error:
        why = getattr(error, "error_string", str(error))
        raise ValueError(f"is no sound file, or a damaged one ({len(data)} bytes): {why}") from error


# -- lengths -----------------------------------------------------------------------------------------------------------
def _chunks(data: bytes, order: str = "<") -> Iterator[tuple[bytes, int, int]]:
    """(name, where its content begins, length) of the chunks of a RIFF or FORM file, up to the last that begins."""
    place = 12
    while place + 8 <= len(data):
        length: int = struct.unpack_from(f"{order}I", data, place + 4)[0]
        yield data[place : place + 4], place + 8, length
        after = place + 8 + length
        place = after if length % 2 and _is_chunk(data, after, order) else after + length % 2  # writers forget the pad


def _is_chunk(data: bytes, place: int, order: str = "<") -> bool:
    if place + 8 > len(data) or not all(32 <= byte < 127 for byte in data[place : place + 4]):
        return False
    return bool(place + 8 + struct.unpack_from(f"{order}I", data, place + 4)[0] <= len(data) + 1)


def _whole_wav(data: bytes) -> bytes:
    kept, large = [], None
    for name, place, length in _chunks(data):
        rest = len(data) - place
        if name == b"ds64" and rest >= 16:
            large = struct.unpack_from("<Q", data, place + 8)[0]
        elif name == b"fmt ":
            kept.append(data[place - 8 : place + length])
        elif name == b"data":
            length = large if data.startswith(b"RF64") and large is not None else length
            if length == 0 and rest and not _is_chunk(data, place):
                length = STREAMED
            if length <= rest:
                _refuse_more(data, place + length)
                if data.startswith(b"RF64") or _in_order(data, place + length):
                    return data
                return _riff([*kept, _chunk(b"data", data[place : place + length])])
            if length < STREAMED:
                raise ValueError(f"ends after {rest} of {length} bytes of sound")
            return _riff([*kept, _chunk(b"data", data[place:])])
    return data


def _in_order(data: bytes, end: int) -> bool:
    """Do its chunks follow each other as they should, up to `end` within the length of all?"""
    place, whole = 12, struct.unpack_from("<I", data, 4)[0] + 8
    while place + 8 <= len(data) and data[place : place + 4] != b"data":
        length: int = struct.unpack_from("<I", data, place + 4)[0]
        place += 8 + length + length % 2
    return data[place : place + 4] == b"data" and bool(end <= whole)


def _refuse_more(data: bytes, end: int) -> None:
    more = len(data) - end
    if more > LOST and not (_is_chunk(data, end) or _is_chunk(data, end + 1)) and any(data[end:]):
        raise ValueError(f"goes on for {more} bytes behind the length that it says")


def _chunk(name: bytes, body: bytes) -> bytes:
    return name + struct.pack("<I", len(body)) + body


def _riff(chunks: list[bytes]) -> bytes:
    body = b"WAVE" + b"".join(chunk + b"\0" * (len(chunk) % 2) for chunk in chunks)
    return b"RIFF" + struct.pack("<I", len(body)) + body


def _check_ogg(data: bytes) -> None:
    """The last page is there, whole, and says that it is the last."""
    place = data.rfind(b"OggS")
    lacing = data[place + 27 : place + 27 + data[place + 26]] if place + 27 <= len(data) else b""
    if not lacing or place + 27 + len(lacing) + sum(lacing) > len(data) or not data[place + 5] & 4:
        raise ValueError("ends early: its last page is missing")


def _check_mp3(data: bytes) -> None:
    """As many bytes as the first frame says, where it says it."""
    start = 0
    if data[:3] == b"ID3" and len(data) > 10:
        start = 10 + sum((byte & 0x7F) << shift for byte, shift in zip(data[6:10], (21, 14, 7, 0)))
    start = max(0, data.find(b"\xff", start))
    head = data[start : start + 256]
    place = max(head.find(b"Xing"), head.find(b"Info"))
    if place < 0 or len(head) < place + 16:
        return
    (flags,) = struct.unpack_from(">I", head, place + 4)
    (count,) = struct.unpack_from(">I", head, place + 8 + 4 * (flags & 1))
    if flags & 2 and len(data) - start < count:
        raise ValueError(f"ends after {len(data) - start} of {count} bytes of sound")
