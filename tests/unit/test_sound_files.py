"""Sound files as recorders, streams, editors and broken cards leave them: the right samples, or a reason."""

from __future__ import annotations

import io
import os
import struct
from typing import Any

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from hyperloom.stages.remarks import collected
from tests.unit import inline

RATE, COUNT = 8000, 8000
TONE = (np.sin(np.arange(COUNT) * 2 * np.pi * 300 / RATE) / 2).astype(np.float32)
KINDS = [
    *(("WAV", kind) for kind in ("PCM_16", "PCM_24", "PCM_32", "PCM_U8", "FLOAT", "DOUBLE", "ALAW", "ULAW")),
    *(("WAVEX", "PCM_16"), ("RF64", "PCM_16"), ("AIFF", "PCM_16"), ("AIFF", "PCM_24")),
    *(("FLAC", "PCM_16"), ("FLAC", "PCM_24"), ("OGG", "VORBIS"), ("OGG", "OPUS"), ("MP3", "MPEG_LAYER_III")),
]
EXACT = {"PCM_16": 1, "PCM_24": 1, "PCM_32": 1, "FLOAT": 1, "DOUBLE": 1, "PCM_U8": 300, "ALAW": 600, "ULAW": 500}
"""How far from the tone a kind may be, in 16-bit steps; of others the loss is large."""
EXAMPLES = int(os.environ.get("HYPERLOOM_EXAMPLES", "100"))


def written(form: str, kind: str, sound: np.ndarray = TONE) -> bytes:
    out = io.BytesIO()
    soundfile.write(out, sound, RATE, format=form, subtype=kind)
    return out.getvalue()


def read(data: bytes, name: str = "a.wav", seconds: float = 1.0) -> np.ndarray:
    modality: Any = inline.modalities(s={"type": "audio", "rate": RATE, "seconds": seconds, "codec": "raw"})["s"]
    value = modality.read(data, name)
    modality.check(value)
    return np.asarray(value)


@pytest.mark.parametrize(("form", "kind"), KINDS)
def test_a_whole_file_is_right_and_a_cut_one_is_named(form: str, kind: str) -> None:
    data = written(form, kind)
    assert np.abs(read(data) - TONE).max() * 32768 <= EXACT.get(kind, 4000)
    two = np.stack([TONE, 0 * TONE], 1)
    assert np.abs(read(written(form, kind, two)) - TONE / 2).max() * 32768 <= EXACT.get(kind, 4000), "channels"
    for share in (0.97, 0.6, 0.3, 0.1):
        with pytest.raises(ValueError, match=r"^a.wav: (ends|is no sound|expected)"):
            read(data[: int(len(data) * share)])


@pytest.mark.parametrize("kind", ["PCM_16", "PCM_24", "FLOAT", "ALAW"])
@pytest.mark.parametrize("length", [0, 0xFFFFFFFF, 0x7FFFFFFF, 0x80000000])
def test_a_length_that_was_never_written(kind: str, length: int) -> None:
    data = written("WAV", kind)
    place = data.index(b"data") + 4
    data = data[: place + 4 + COUNT * {"PCM_16": 2, "PCM_24": 3, "FLOAT": 4, "ALAW": 1}[kind]]
    lost = data[:place] + struct.pack("<I", length) + data[place + 4 :]
    assert (read(lost) == read(written("WAV", kind))).all()


def chunk(name: bytes, body: bytes, pad: bool = True) -> bytes:
    return name + struct.pack("<I", len(body)) + body + b"\0" * (pad and len(body) % 2)


@pytest.mark.parametrize("pad", [True, False])
@pytest.mark.parametrize("kind", ["PCM_16", "PCM_24"])
def test_chunks_before_and_behind_the_sound(kind: str, pad: bool) -> None:
    data = written("WAV", kind)
    place, end = data.index(b"data"), data.index(b"data") + 8 + COUNT * (2 if kind == "PCM_16" else 3)
    notes = chunk(b"LIST", b"INFOINAM" + struct.pack("<I", 3) + b"abc", pad)
    assert np.abs(read(data[:place] + notes + data[place:end] + chunk(b"LIST", bytes(6000))) - TONE).max() < 1e-4


def test_a_sound_of_no_sample_is_no_tag_read_as_sound() -> None:
    data = written("WAV", "PCM_16", TONE[:0])
    place = data.index(b"data")
    with pytest.raises(ValueError, match="a.wav: holds no sample"):
        read(data[: place + 8] + chunk(b"LIST", b"INFOISFTLavf"))


def test_a_length_that_is_too_short_loses_nothing_silently() -> None:
    data = written("WAV", "PCM_16")
    place = data.index(b"data") + 4
    with pytest.raises(ValueError, match=r"a.wav: goes on for 15900 bytes behind the length that it says"):
        read(data[:place] + struct.pack("<I", 100) + data[place + 4 :])


@settings(max_examples=EXAMPLES, deadline=None)
@given(
    st.sampled_from(KINDS),
    st.integers(1, 600),
    st.sampled_from(["none", "cut", "byte", "zeros", "head"]),
    st.floats(0, 1),
    st.integers(1, 255),
)
def test_any_sound_is_what_a_second_reader_gives_or_a_reason(
    kind: tuple[str, str], count: int, damage: str, share: float, flip: int
) -> None:
    data = written(*kind, TONE[:count])
    place = int(share * (len(data) - 1)) if damage != "head" else int(share * 43)
    if damage == "cut":
        data = data[:place]
    elif damage in ("byte", "head"):
        data = data[:place] + bytes([data[place] ^ flip]) + data[place + 1 :]
    elif damage == "zeros":
        data = data[:place] + bytes(min(12, len(data) - place)) + data[place + 12 :]
    try:
        value = read(data)
    except ValueError as error:
        assert damage != "none" and str(error).startswith(("a.wav: ", "expected")), error
        return
    try:
        with soundfile.SoundFile(io.BytesIO(data)) as file:
            other, rate = file.read(COUNT + 1, "float32", always_2d=True).mean(1), file.samplerate
    except (soundfile.LibsndfileError, RuntimeError):
        return  # the second reader knows no lengths that were never written
    if rate == RATE and 0 < len(other) <= COUNT and not (damage in ("byte", "head", "zeros") and place < 60):
        assert np.abs(value[: len(other)] - other).max() < 1e-4 and not value[len(other) :].any()


def test_numbers_of_another_scale_are_none_at_any_rate() -> None:
    """A float file in 16-bit numbers became a square wave where it had to be resampled, and nothing was said."""
    modality: Any = inline.modalities(s={"type": "audio", "rate": RATE // 2, "seconds": 2.0})["s"]
    for loud in (5.0, 32768.0):
        for other in (RATE, RATE // 2):
            same: Any = inline.modalities(s={"type": "audio", "rate": other, "seconds": 2.0})["s"]
            with pytest.raises(ValueError, match="expected samples in -1..1, got -"):
                same.check(same.read(written("WAV", "FLOAT", TONE * loud), "a.wav"))
    with collected() as remarks:
        assert np.abs(modality.read(written("WAV", "FLOAT", TONE * 2.4), "a.wav")).max() == 1
        assert np.abs(modality.read(written("WAV", "FLOAT", TONE * 1.9), "a.wav")).max() < 1
    assert dict(remarks) == {"a sound of another rate is louder than -1..1, and is clipped there": 1}
