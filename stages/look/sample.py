"""One sample as the page gets it: names, flags, and for each column a layer, words, a sound, or why there is none."""

from __future__ import annotations

import base64
import io
import wave
from collections.abc import Sequence
from typing import Any

import numpy as np

from hyperloom.pipeline.counting import figure
from hyperloom.pipeline.errors import HyperloomError
from hyperloom.pipeline.secrets import blot
from hyperloom.stages.base import GROUP, INDEX, KEY, modality_of
from hyperloom.stages.data.layer import JPEG, PNG, encoded, layer, scale
from hyperloom.stages.data.shelf import Shelf
from hyperloom.stages.data.students import StudentAnswers
from hyperloom.stages.look.order import Order

LONGEST_SOUND = 30
"""Seconds of a sound that are sent."""
BANDS, FRAMES = 96, 400
"""Of a spectrogram: rows and at most so many columns."""

JsonValues = dict[str, Any]


def described(shelf: Shelf, order: Order, row: int, figure: str) -> JsonValues:
    """What a card says without any column: cheap, from the keys of its partition. A group of one sample is not named:
    it says no more than the key."""
    number, place = shelf.place(row)
    names = shelf.names(number)
    partition = shelf.partitions[number]
    known = place < len(names[KEY])
    alone = shelf.rows_of(partition.group) == 1
    return {
        "row": row,
        "key": names[KEY][place] if known else "not committed yet",
        "group": "" if alone else names[GROUP][place] if known else partition.group,
        "index": names[INDEX][place] if known and not alone else None,
        "split": shelf.splits.get(partition.group, ""),
        "figure": order.value(figure, row),
    }


def columns(
    shelf: Shelf, students: StudentAnswers, row: int, names: Sequence[str], widest: int
) -> dict[str, JsonValues]:
    """By column what it says of a sample; numbers of one modality on one scale."""
    spans: dict[str, tuple[float, float] | None] = {}
    out = {}
    for column in names:
        try:
            value = students.value(column, row) if column in students.columns else shelf.value(column, row)
            out[column] = {"missing": True} if value is None else _layer(shelf, column, value, spans, widest)
        except (HyperloomError, OSError, ValueError, TypeError, KeyError) as error:
            out[column] = {"error": blot(str(error).partition("\n")[0])}
    return out


def _layer(shelf: Shelf, column: str, value: Any, spans: dict[str, Any], widest: int) -> JsonValues:
    name = modality_of(column)
    kind = shelf.modalities[name]
    spans.setdefault(name, scale(value, kind))
    drawn = layer(value, kind, spans[name], widest)
    shown: JsonValues = {"over": drawn.over, "words": drawn.words}
    if drawn.data:
        shown["src"] = uri(drawn.data, drawn.mime)
    if drawn.mime == JPEG:
        shown["height"], shown["width"] = int(np.shape(value)[0]), int(np.shape(value)[1])
    if kind.legend:
        shown["colours"] = [int(number) for number in kind.pictured(np.asarray(value))]
    if drawn.scale:
        shown["scale"] = ends(*drawn.scale)
    rate = getattr(kind, "rate", 0)
    if rate and np.ndim(value) == 1:
        heard = np.asarray(value)[: rate * LONGEST_SOUND]
        shown["sound"] = uri(sound(heard, rate), "audio/wav")
        shown["spectrogram"] = uri(encoded(spectrogram(heard), PNG), PNG)
    return shown


def ends(low: float, high: float) -> list[str]:
    """The numbers at the ends of a scale of colours, in as many digits, up to six, as tell them apart."""
    written = [figure(low), figure(high)]
    finer = ([f"{v:.{digits}g}" for v in (low, high)] for digits in (5, 6))
    return written if written[0] != written[1] else next((w for w in finer if w[0] != w[1]), written)


def sound(samples: np.ndarray, rate: int) -> bytes:
    """A 16-bit wav file of samples in -1..1."""
    file = io.BytesIO()
    with wave.open(file, "wb") as out:
        out.setnchannels(1)
        out.setsampwidth(2)
        out.setframerate(int(rate))
        out.writeframes((np.clip(samples, -1, 1) * 32767).astype("<i2").tobytes())
    return file.getvalue()


def spectrogram(samples: np.ndarray) -> np.ndarray:
    """(BANDS, n, 3) colours: loudness in decibels over 60 dB, low frequencies below, time to the right."""
    import cv2

    size = 512
    padded = np.pad(samples, (0, max(0, size - len(samples))))
    starts = np.linspace(0, len(padded) - size, min(FRAMES, max(1, (len(padded) - size) // 64 + 1))).astype(int)
    pieces = np.stack([padded[s : s + size] for s in starts]) * np.hanning(size)
    power = np.abs(np.fft.rfft(pieces, axis=1)).T ** 2
    level = 10 * np.log10(power + 1e-12)
    loud = np.clip((level - (level.max() - 60)) / 60, 0, 1)
    bands = cv2.resize(loud.astype(np.float32), (len(starts), BANDS), interpolation=cv2.INTER_AREA)[::-1]
    coloured = cv2.applyColorMap((bands * 255).astype(np.uint8), cv2.COLORMAP_INFERNO)
    return np.ascontiguousarray(cv2.cvtColor(coloured, cv2.COLOR_BGR2RGB))


def uri(data: bytes, mime: str) -> str:
    return f"data:{mime};base64,{base64.b64encode(data).decode()}"
