"""Excerpts: what a row of a table means of a sound or a video: all of it, or what lies between two seconds.

Of a video a clip has as many frames as its modality says, evenly over the part, each in the middle of its stretch; an
image is the frame in the middle. Sounds are cut to the sample. A part that reaches over the end of its file is said,
one that begins behind it is refused.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any, NamedTuple

from hyperloom.stages.ingest.film import DecoderName, Film, FilmOptions, listed
from hyperloom.stages.ingest.frame import Framed
from hyperloom.stages.ingest.sidefile import fetch, understood
from hyperloom.stages.ingest.source import VIDEOS
from hyperloom.stages.modality.audio import BEYOND
from hyperloom.stages.modality.imagefile import MEGAPIXELS
from hyperloom.stages.remarks import remark


class Excerpt(NamedTuple):
    """A part of a file, up to its end where `end` is None."""

    begin: float
    end: float | None

    def __str__(self) -> str:
        return f"{self.begin:g} to {'the end' if self.end is None else f'{self.end:g}'} s"


class ExcerptReader:
    """Reads files and parts of them, with one open video for each column."""

    def __init__(self, decoder: DecoderName, framed: Framed):
        self.decoder, self.framed = decoder, framed
        self._films: dict[FilmOptions, Film] = {}

    def read(self, path: str, part: Excerpt | None, modality: Any, column: str) -> Any:
        """A value of `column`, which is of `modality`. Raises ValueError for what is not in the file, OSError where it
        cannot be reached."""
        if is_video(path) and (hasattr(modality, "frames") or hasattr(modality, "orientation")):
            return self._frames(path, part, modality)
        if part is None:
            return self.read_bytes(column, fetch(path), path, modality)
        if not hasattr(modality, "read_part"):
            raise ValueError(f"{os.path.basename(path)} is neither sound nor video: it has no part from {part}")
        return understood(modality.read_part, fetch(path), path, part.begin, part.end)

    def read_bytes(self, column: str, data: bytes, name: str, modality: Any) -> Any:
        """The same of all bytes of a file of that name."""
        self.framed.look(column, data, name, modality)
        return understood(modality.read, data, name)

    def _frames(self, path: str, part: Excerpt | None, modality: Any) -> Any:
        look = FilmOptions(
            self.decoder,
            orientation=getattr(modality, "orientation", "apply"),
            levels=getattr(modality, "levels", None),
            megapixels=getattr(modality, "megapixels", MEGAPIXELS),
        )
        listing = listed(path, _version(path), look)
        for text in (listing.end, *listing.remarks):
            if text:
                remark(text)
        several = hasattr(modality, "frames")
        frames = spread(listing.times, part or Excerpt(0.0, None), modality.frames if several else 1)
        film = self._films.setdefault(look, Film(look))
        pixels = [film.at(path, frame).pixels for frame in frames]
        return modality.fit(pixels if several else pixels[0])


def is_video(path: str) -> bool:
    """Is a file a video, by its name?"""
    return path.lower().endswith(VIDEOS)


def spread(times: Sequence[float], part: Excerpt, count: int) -> list[int]:
    """Numbers of `count` frames, evenly over a part, of frames shown at these seconds. Raises ValueError where there
    are not so many, or the part begins behind the last."""
    step = times[-1] / (len(times) - 1) if len(times) > 1 else 0.0
    whole = times[-1] + step
    if part.begin > 0 and part.begin >= whole:
        raise ValueError(f"the part from {part} begins behind the end, {whole:g} s")
    end = whole if part.end is None else min(part.end, whole)
    if part.end is not None and part.end > whole + BEYOND:
        remark("a part of a file reaches over its end: frames are those up to there")
    first = next((i for i, t in enumerate(times) if t >= part.begin - step / 2), len(times) - 1)
    inside = [i for i in range(first, len(times)) if times[i] < end] or [first]
    if len(inside) < count:
        raise ValueError(f"{len(inside)} frames are shown from {part}, and {count} are wanted")
    return [inside[int((i + 0.5) * len(inside) / count)] for i in range(count)]


def _version(path: str) -> str:
    """What tells a file from a later one of its name, while a process lives."""
    if "://" in path:
        return ""
    try:
        about = os.stat(path)
    except FileNotFoundError:
        raise FileNotFoundError(2, "no such file", path) from None
    return f"{about.st_size}-{about.st_mtime_ns}"
