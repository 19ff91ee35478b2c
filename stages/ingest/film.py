"""Films: the frames of a video file by number, whichever library decodes them.

What decodes is the truth. A `Listing` says how many frames a file has and when each is shown; it comes from the file's
packets or from decoding, never from the header alone, whose promise is at most compared (`cut.mp4 ends after 15 of 30
frames`); frames that the index of an MP4 names and that are not there are lost. A `FilmReader` gives frames by number,
in any order; the same number is the same picture however reached. Numbers count the frames that a player shows: what an
edit list hides and what comes before the first key frame of a file have none.

PyAV (the extra `video`) and OpenCV read the same frames of ordinary files. PyAV also knows about damage, edit lists,
pictures of covers, several streams, deep pixels and mirrored frames; OpenCV takes a file at its decoder's word. Each
gives the same values always, but not bit for bit the other's, so who decodes belongs to the identity of what is read.
"""

from __future__ import annotations

import os
import tempfile
from dataclasses import dataclass
from functools import lru_cache
from importlib.util import find_spec
from typing import TYPE_CHECKING, Literal, NamedTuple, Protocol

from hyperloom.pipeline.errors import PluginError
from hyperloom.stages.ingest.frame import Sides
from hyperloom.stages.ingest.sidefile import fetch
from hyperloom.stages.modality.imagefile import MEGAPIXELS, Orientation

if TYPE_CHECKING:
    import numpy as np

DecoderName = Literal["av", "opencv"]
NO_VIDEO = "cannot be opened as a video: it is not one, or its index is missing"


class Listing(NamedTuple):
    """What a file shows. `times`: seconds from the first frame on, rising, one a frame; `end`: where the file ends
    before its header says so, else empty; `remarks`: what else is to be said of it, the same text for every file;
    `lost`: frames that its index names one by one and that are not there."""

    times: tuple[float, ...]
    end: str = ""
    remarks: tuple[str, ...] = ()
    lost: int = 0


class Shown(NamedTuple):
    """One frame: (H, W, 3) uint8 RGB as it is meant to be seen (or as it is stored), and the stored (height, width)."""

    pixels: np.ndarray
    stored: Sides


@dataclass(frozen=True)
class FilmOptions:
    """How frames are looked at: `orientation` and `levels` as for pictures, `stream` of those that are videos."""

    decoder: DecoderName
    stream: int = 0
    orientation: Orientation = "apply"
    levels: tuple[float, float] | None = None
    megapixels: float = MEGAPIXELS


class FilmReader(Protocol):
    """An open file. Raises ValueError, naming it, for what it does not hold."""

    def listing(self) -> Listing:
        """What the file shows. Raises ValueError when it is no video, or not a frame decodes."""

    def at(self, frame: int) -> Shown:
        """The frame of that number; fastest in rising order."""

    def close(self) -> None:
        """Let the file go."""


class Film:
    """Frames by path and number. Keeps the last file open: the next partition of a video goes on where this one
    ends."""

    def __init__(self, look: FilmOptions):
        self._look = look
        self._path = ""
        self._open: _Opened | None = None

    def at(self, path: str, frame: int) -> Shown:
        """Raises ValueError for what does not decode, OSError where the file cannot be reached."""
        if self._open is None or path != self._path:
            self.close()
            self._path, self._open = path, _Opened(path, self._look)
        return self._open.reader.at(frame)

    def close(self) -> None:
        if self._open is not None:
            self._open.close()
        self._open = None


@lru_cache(maxsize=4096)
def listed(path: str, digest: str, look: FilmOptions) -> Listing:
    """The listing of the file at `path`, whose content has the sha256 `digest`; worked out once in a process."""
    opened = _Opened(path, look)
    try:
        return opened.reader.listing()
    finally:
        opened.close()


def best_decoder() -> DecoderName:
    """PyAV where it is installed."""
    return "av" if find_spec("av") else "opencv"


def installed(decoder: str) -> str:
    """The decoder that a recipe means."""
    return best_decoder() if decoder == "auto" else decoder


class _Opened:
    """A reader of the file at `path`, of which there is a local copy while it is open."""

    def __init__(self, path: str, look: FilmOptions):
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        if "://" in path:  # decoders want a local file
            self._folder = tempfile.TemporaryDirectory()
            local = os.path.join(self._folder.name, os.path.basename(path))
            with open(local, "wb") as file:
                file.write(fetch(path))
            path = local
        if not os.path.isfile(path):
            raise FileNotFoundError(f"{path} is gone; it was there when the step was planned")
        try:
            if not os.path.getsize(path):
                raise ValueError(f"{os.path.basename(path)} is empty (0 bytes)")
            self.reader: FilmReader = _reader(path, look)
        except ValueError:
            self.close()
            raise

    def close(self) -> None:
        if hasattr(self, "reader"):
            self.reader.close()
        if self._folder is not None:
            self._folder.cleanup()


def _reader(path: str, look: FilmOptions) -> FilmReader:
    if look.decoder == "opencv":
        from hyperloom.stages.ingest.capture import Capture

        return Capture(path, look)
    if not find_spec("av"):
        raise PluginError(
            "videos are decoded by PyAV here, as the recipe was planned, and this node has none. Next: "
            "pip install 'hyperloom[video]' on every node, or set decoder: opencv in the source"
        )
    from hyperloom.stages.ingest.packets import Packets

    return Packets(path, look)
