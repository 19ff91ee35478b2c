"""Videos as a source: every n-th frame of each file a sample, decoded in order, counted exactly.

A container that stores its number of frames (mp4, mov, avi) is taken at its word: what it promises and the decoder
does not deliver is handed back as an error, frame by frame. Other containers only estimate, so they are decoded once
to count. A frame that is damaged inside but decodes is a frame; where a decoder drops one in the middle, the
later ones move up and the last is reported missing. A folder without videos but with images is read as those images.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from pydantic import Field, model_validator

from hyperloom.pipeline.errors import RecipeError, SourceError
from hyperloom.pipeline.fingerprint import fingerprint
from hyperloom.stages.base import modality_of
from hyperloom.stages.ingest.files import Files
from hyperloom.stages.ingest.rawarray import Frame
from hyperloom.stages.ingest.sidefile import fetch
from hyperloom.stages.ingest.source import IMAGES, VIDEOS, FileSource, Item, Piece, Read, Values, path_safe, stem

if TYPE_CHECKING:
    import numpy as np

    from hyperloom.pipeline.digests import Digests, FileDigest

COUNTED = (".mp4", ".m4v", ".mov", ".avi")
"""Containers that store the number of their frames."""


class Video(FileSource):
    """`{type: video, path: flights/*.mp4, every: 2, columns: {depth@truth: truth/{stem}/{frame:06d}.png}}`.

    Keys are `{relative name without suffix}/{frame:06d}` with the number of the frame in the file; indices count
    the frames that are kept. Each video is a group unless `group` says otherwise.
    """

    every: int = Field(1, ge=1)
    clip: int = Field(1, ge=1)
    """Frames of one sample, from the kept one on, for a main column of the type clip."""

    @model_validator(mode="after")
    def _apart(self) -> Video:
        if self.clip > self.every:
            raise ValueError(f"clips do not overlap: {self.clip} frames a sample need every: {self.clip} or more")
        return self

    def check(self, modalities: dict[str, Any]) -> None:
        frames = getattr(modalities[modality_of(self.column)], "frames", 1)
        if frames != self.clip:
            raise RecipeError(
                f"{self.column} has {frames} frames, but the source gives {self.clip}. Next: clip: {frames}"
            )

    def meaning(self, column: str) -> dict[str, Any]:
        return super().meaning(column) | ({"clip": self.clip} if self.clip > 1 else {})

    def pieces(self, digests: Digests) -> list[Piece]:
        files = digests.files(self.path)
        if digests.is_folder(self.path):
            videos = [f for f in files if f.name.lower().endswith(VIDEOS)]
            if not videos and any(f.name.lower().endswith(IMAGES) for f in files):
                if self.clip > 1:
                    raise SourceError(f"{self.path} holds images, and clips come from videos. Next: name videos")
                return self._images().pieces(digests)
            digests.leave_out((f for f in files if f not in videos), f"not {', '.join(VIDEOS)}")
            files = videos
        if not files:
            raise SourceError(f"{self.path} holds no videos ({', '.join(VIDEOS)}) and no images. Next: check the path")
        pieces = [self._piece(file, digests) for file in files]
        if len({piece.name for piece in pieces}) < len(pieces):
            raise SourceError(f"two videos of {self.path} differ only in their suffix. Next: rename one")
        self._check(pieces)
        return pieces

    def items(self, piece: Piece) -> list[Item]:
        if _is_images(piece.files[0].path):
            return self._images().items(piece)
        file = piece.files[0]
        promised = count_frames(file.path)
        frames = range(0, max(0, promised - self.clip + 1), self.every)
        items = [self._item(piece, file, index, frame) for index, frame in enumerate(frames)]
        return items or [Item(piece.name, 0, file.path, 0, {}, file.sha256)]

    def build(self, modalities: dict[str, Any]) -> Read:
        modality, images = modalities[modality_of(self.column)], self._images().build(modalities)
        film = Film()

        def read(items: list[Item]) -> Iterator[tuple[Item, Values | Exception]]:
            if items and _is_images(items[0].path):
                yield from images(items)
                return
            for item in items:
                try:
                    shown = [film.at(item.path, item.frame + i) for i in range(self.clip)]
                    value = modality.fit(shown if hasattr(modality, "frames") else shown[0])
                    sides = shown[0].shape[:2]
                    yield item, {self.column: value, **self.read_sides(item, modalities, Frame(sides, sides))}
                except ValueError as error:
                    yield item, error

        return read

    def _check(self, pieces: list[Piece]) -> None:
        stems = {name for piece in pieces for name in (piece.name, piece.name.rpartition("/")[2])}
        frames = {o for side in self.columns.values() for o in side.only if o.rpartition("/")[0] in stems}
        self.check_sides(pieces, stems | frames)

    def _images(self) -> Files:
        return Files(type="files", path=self.path, column=self.column, group=self.group, columns=self.columns)

    def _piece(self, file: FileDigest, digests: Digests) -> Piece:
        names = self._names(file.name)
        sides = {column: side.find(names, digests) for column, side in self.columns.items()}
        return Piece(names["key"], names["group"], (file,), sides)

    def _names(self, name: str) -> dict[str, Any]:
        key, match = stem(name), self.match(name)
        return {"key": key, "stem": key.rpartition("/")[2], "group": path_safe(match["group"] if match else key)}

    def _item(self, piece: Piece, file: FileDigest, index: int, frame: int) -> Item:
        names = {**self._names(file.name), "frame": frame}
        key = f"{piece.name}/{frame:06d}"
        sides = {c: s.place(names) for c, s in self.columns.items() if s.shows(names) or s.shows({**names, "key": key})}
        sides = {c: path for c, path in sides.items() if path in piece.sides[c]}
        digest = fingerprint([file.sha256, frame, {c: piece.sides[c][path] for c, path in sides.items()}])
        return Item(key, index, file.path, frame, sides, digest)


class Film:
    """Frames by path and number. Keeps the last file open: the next partition of a video goes on where this one ends,
    so decoding stays linear without seeking, which some codecs do only roughly."""

    def __init__(self) -> None:
        self._path = ""
        self._frames: VideoFrames | None = None

    def at(self, path: str, frame: int) -> np.ndarray:
        """(H, W, 3) uint8 RGB. Raises ValueError for what does not decode."""
        if self._frames is None or path != self._path or frame < self._frames.position:
            if self._frames is not None:
                self._frames.close()
            self._path, self._frames = path, VideoFrames(path)
        return self._frames.at(frame)


class VideoFrames:
    """The frames of one video file, by number, in ascending order. `position` is the next one to decode."""

    def __init__(self, path: str):
        self._name = os.path.basename(path)
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        if "://" in path:  # the decoder wants a local file
            self._folder = tempfile.TemporaryDirectory()
            local = os.path.join(self._folder.name, self._name)
            with open(local, "wb") as file:
                file.write(fetch(path))
            path = local
        if not os.path.isfile(path):
            raise FileNotFoundError(f"{path} is gone; it was there when the step was planned")
        self._empty = os.path.getsize(path) == 0
        self._capture = _capture(path)
        self.position = 0

    def close(self) -> None:
        self._capture.release()
        if self._folder is not None:
            self._folder.cleanup()

    def at(self, frame: int) -> np.ndarray:
        """(H, W, 3) uint8 RGB of `frame`, at or after `position`. Raises ValueError for what does not decode."""
        import cv2

        if not self._capture.isOpened():
            what = (
                "is empty (0 bytes)"
                if self._empty
                else "cannot be opened as a video: it is not one, or its index is missing"
            )
            raise ValueError(f"{self._name} {what}")
        while self.position <= frame:
            if not self._capture.grab():
                raise ValueError(f"{self._name} ends after {self.position} frames, so frame {frame} is missing")
            self.position += 1
        ok, image = self._capture.retrieve()
        if not ok:
            raise ValueError(f"frame {frame} of {self._name} does not decode")
        return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)

    def count(self) -> int:
        """How many frames are promised or, where the container only estimates, decode. 0 when it is no video."""
        import cv2

        if not self._capture.isOpened():
            return 0
        promised = int(self._capture.get(cv2.CAP_PROP_FRAME_COUNT))
        if promised > 0 and self._name.lower().endswith(COUNTED):
            return promised
        while self._capture.grab():
            self.position += 1
        return self.position


def count_frames(path: str) -> int:
    """The number of frames that the video at `path` promises; 0 when it cannot be opened."""
    frames = VideoFrames(path)
    try:
        return frames.count()
    finally:
        frames.close()


def _capture(path: str) -> Any:
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")  # a torn video prints thousands of lines; it is reported here
    import cv2

    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_ERROR)
    return cv2.VideoCapture(path, cv2.CAP_FFMPEG, [cv2.CAP_PROP_N_THREADS, 1])


def _is_images(path: str) -> bool:
    return path.lower().endswith(IMAGES)
