"""Audio: one channel of sound of a fixed length, kept as 16-bit samples or as the bytes of a file."""

from __future__ import annotations

import io
import math
import os
import wave
from typing import Any, ClassVar, Literal, NamedTuple

import numpy as np
from pydantic import Field

from hyperloom.pipeline.errors import PluginError
from hyperloom.stages import picture
from hyperloom.stages.meaning import Meaning
from hyperloom.stages.modality.base import Defaults, Modality
from hyperloom.stages.modality.formats import decode_array
from hyperloom.stages.modality.geometry import OffFrame
from hyperloom.stages.modality.knowledge import finite
from hyperloom.stages.modality.layout import MOST_TOKENS
from hyperloom.stages.modality.sound_files import decode_sound, soundfile_module, whole_sound
from hyperloom.stages.remarks import remark

FULL = 32768
"""16-bit samples of -1..1."""
MOST_CHANNELS = 8
"""An array of no more rows than this, and of more columns, has its channels first."""


LOUDEST = 2.0
"""What a peak may be that a lossy file's decoder overshoots; larger numbers are of another scale (16-bit ones)."""
BEYOND = 0.5
"""Seconds by which a part may reach over the end of its file before it is said: lists round."""


class Windows(NamedTuple):
    """Of a sound's spectrogram: samples a window, samples from one to the next, windows, windows that are one token."""

    width: int
    hop: int
    number: int
    a_token: int


class Audio(OffFrame, Modality):
    """(samples,) float32 in -1..1, `seconds` at `rate` samples a second; shorter recordings end in silence.

    Kept in 16 bits a sample: `raw`, or as wav or flac (both without further loss), or with `codec: file` as the file
    came, where it is a wav or flac of this rate, one channel and no greater length, and as flac otherwise. A longer
    recording is an error, or with `cut: true` loses its end. `fit` averages channels; `read` also resamples. Needs the
    extra `audio` for anything but 16-bit wav files of this rate.
    """

    defaults: ClassVar[Defaults] = Defaults("series", "l1", "mae")
    rate: int = Field(ge=1)
    """Samples a second, Hz."""
    seconds: float = Field(gt=0)
    cut: bool = False
    format: Literal["raw", "wav", "flac", "file"] = Field("raw", alias="codec")

    @property
    def samples(self) -> int:
        return max(1, round(self.rate * self.seconds))

    @property
    def channels(self) -> int:
        return 1

    @property
    def shape(self) -> tuple[int, ...]:
        return (self.samples,)

    @property
    def stored(self) -> np.dtype[Any]:
        return np.dtype(np.int16)

    @property
    def scale(self) -> float:
        return 1 / FULL

    @property
    def codec(self) -> str:
        return self.format

    @property
    def meaning(self) -> Meaning:
        return Meaning(further=(("rate", self.rate),))

    @property
    def limits(self) -> tuple[float, float]:
        return (-1.0, 1.0)

    @property
    def windows(self) -> Windows:
        """How its spectrogram is cut: 25 ms every 10 ms."""
        width, hop = max(8, round(self.rate * 0.025)), max(1, round(self.rate * 0.01))
        count = 1 + max(0, self.samples - width) // hop
        return Windows(width, hop, count, max(1, math.ceil(count / MOST_TOKENS)))

    def grid(self, patch: int) -> tuple[int, ...]:
        windows = self.windows
        return (-(-windows.number // windows.a_token),)

    @property
    def standardised(self) -> bool:
        return True

    def given(self, values: Any) -> Any:
        return finite(values)

    def check(self, value: Any) -> None:
        if isinstance(value, bytes):
            self.decompress(value)
        else:
            super().check(value)

    def _check_values(self, array: np.ndarray) -> None:
        super()._check_values(array)
        if array.min() < -1 or array.max() > 1:
            raise ValueError(f"expected samples in -1..1, got {array.min():.6g} to {array.max():.6g}")

    def fit(self, value: Any) -> np.ndarray:
        """From (n,) or (n, channels) numbers, in -1..1 or 16-bit integers."""
        array = np.asarray(value)
        if array.ndim not in (1, 2) or not (array.dtype.kind == "f" or array.dtype == np.int16):
            raise ValueError(f"expected (n,) or (n, channels) samples, float or int16, got {array.shape} {array.dtype}")
        if array.ndim == 2 and array.shape[0] <= MOST_CHANNELS < array.shape[1]:
            raise ValueError(f"channels first? got {array.shape} for ({array.shape[1]}, {array.shape[0]}) samples")
        mono = array.astype(np.float32) / (FULL if array.dtype == np.int16 else 1)
        return self._padded(mono.mean(1, dtype=np.float32) if mono.ndim == 2 else mono)

    def read(self, data: bytes, name: str) -> Any:
        return self.read_part(data, name, 0.0, None)

    def read_part(self, data: bytes, name: str, begin: float, end: float | None) -> Any:
        """As `read`, of what sounds between two seconds."""
        if name.lower().endswith((".npy", ".npz")):
            sound = np.asarray(decode_array(data, "", name))
            return self.fit(sound if not begin and end is None else _between(sound, self.rate, begin, end))
        try:
            data = whole_sound(data)
            sound, rate = decode_sound(data)
            if not len(sound):
                raise ValueError("holds no sample")
            if begin or end is not None:
                sound = _between(sound, rate, begin, end)
                return self.fit(sound if rate == self.rate else resampled(sound, rate, self.rate))
            kept = self.format == "file" and rate == self.rate and sound.dtype == np.int16 and sound.ndim == 1
            if kept and len(sound) <= self.samples and data.startswith((b"RIFF", b"fLaC")):
                return data
            return self.fit(sound if rate == self.rate else resampled(sound, rate, self.rate))
        except ValueError as error:
            raise ValueError(f"{os.path.basename(name)}: {error}") from error

    def to_stored(self, value: np.ndarray) -> np.ndarray:
        return np.clip(np.rint(value * np.float32(FULL)), -FULL, FULL - 1)

    def compress(self, row: np.ndarray) -> bytes:
        sink = io.BytesIO()
        if self.format == "wav":
            with wave.open(sink, "wb") as file:
                file.setparams((1, 2, self.rate, len(row), "NONE", ""))
                file.writeframes(row.astype("<i2").tobytes())
        else:
            soundfile_module().write(sink, row, self.rate, format="FLAC", subtype="PCM_16")
        return sink.getvalue()

    def decompress(self, data: Any, out: np.ndarray | None = None) -> np.ndarray:
        if self.format == "raw":
            return super().decompress(data, out)
        sound, rate = decode_sound(data)
        if rate != self.rate or sound.ndim != 1 or sound.dtype != np.int16 or len(sound) > self.samples:
            got = f"{sound.shape} {sound.dtype} at {rate} Hz"
            raise ValueError(f"expected up to {self.samples} 16-bit samples, one channel, at {self.rate} Hz, got {got}")
        out = np.empty(self.shape, np.int16) if out is None else out
        out[: len(sound)], out[len(sound) :] = sound, 0
        return out

    def picture(self, value: np.ndarray) -> np.ndarray:
        return picture.wave_to_rgb(value)

    def words(self, value: np.ndarray) -> str:
        return f"{self.seconds:g} s, peak {float(np.abs(value).max()):.2f}"

    def tallied(self, rows: np.ndarray) -> np.ndarray:
        return rows.reshape(-1, 1)

    def _padded(self, sound: np.ndarray) -> np.ndarray:
        if len(sound) > self.samples and not self.cut:
            raise ValueError(
                f"expected at most {self.seconds:g} s ({self.samples} samples), got {len(sound) / self.rate:g} s; more "
                "`seconds` hold it, and `cut: true` leaves out the end"
            )
        if len(sound) > self.samples:
            remark(f"a sound is longer than {self.seconds:g} s, and its end is left out (cut: true)")
        full = np.zeros(self.samples, np.float32)
        full[: len(sound)] = sound[: self.samples]
        return full


def heard(sound: np.ndarray) -> int:
    """How many samples of (n,) were recorded: without the exact zeros at the end, which fill up shorter recordings; all
    of a sound that is nothing else."""
    sounding = np.flatnonzero(sound)
    return int(sounding[-1]) + 1 if len(sounding) else len(sound)


def _between(sound: np.ndarray, rate: int, begin: float, end: float | None) -> np.ndarray:
    """What sounds between two seconds. Raises ValueError where nothing does."""
    seconds = len(sound) / rate
    part = sound[round(begin * rate) : None if end is None else round(end * rate)]
    if not len(part):
        raise ValueError(f"ends after {seconds:g} s, before the part that begins at {begin:g} s")
    if end is not None and end > seconds + BEYOND:
        remark("a part of a file reaches over its end: the sound is that up to there")
    return part


def resampled(sound: np.ndarray, rate: int, target: int) -> np.ndarray:
    """Samples at another rate, by SciPy's polyphase filter. Raises ValueError for numbers that are none in -1..1; what
    is a little louder, as lossy files may be, is clipped and said."""
    try:
        from scipy.signal import resample_poly
    except ImportError as error:
        raise PluginError("resampling audio needs SciPy. Next: pip install 'hyperloom[audio]'") from error
    common = int(np.gcd(rate, target))
    values = sound.astype(np.float32) / (FULL if sound.dtype == np.int16 else 1)
    peak = float(np.abs(values).max(initial=0))
    if peak > LOUDEST:
        raise ValueError(f"expected samples in -1..1, got {values.min():.6g} to {values.max():.6g}")
    if peak > 1:
        remark("a sound of another rate is louder than -1..1, and is clipped there")
    return np.clip(resample_poly(values, target // common, rate // common, axis=0), -1, 1).astype(np.float32)
