"""Videos as a source: frames of each file are samples, by number or by time, each with the second at which it is shown.

A file's frames are what decodes (see `stages.ingest.film`): a header that promises more is one remark, a frame that is
damaged one sample in quarantine, and the frames that a cut file has lost are one entry there. Phones
and screen recorders give frames at any pace, so `seconds` chooses them by time: the nearest to each multiple, none in a
gap. A folder without videos but with images is read as those images.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field, field_validator, model_validator

from hyperloom.pipeline.errors import RecipeError, SourceError
from hyperloom.pipeline.fingerprint import fingerprint
from hyperloom.stages.base import modality_of
from hyperloom.stages.ingest.files import Files
from hyperloom.stages.ingest.film import Film, FilmOptions, Listing, installed, listed
from hyperloom.stages.ingest.frame import Frame
from hyperloom.stages.ingest.source import IMAGES, VIDEOS, FileSource, Item, Piece, Read, Values, path_safe, stem
from hyperloom.stages.modality.imagefile import MEGAPIXELS
from hyperloom.stages.remarks import remark

if TYPE_CHECKING:
    from hyperloom.pipeline.root.digests import Digests, FileDigest


class Video(FileSource):
    """`{type: video, path: flights/*.mp4, every: 2, columns: {depth@truth: truth/{stem}/{frame:06d}.png}}`.

    Keys are `{relative name without suffix}/{frame:06d}` with the number of the frame in the file; indices count
    the frames that are kept. Each video is a group unless `group` says otherwise. By time it is
    `{type: video, path: phone/*.mp4, seconds: 0.5}`, and clips of frames a tenth of a second apart are
    `{..., seconds: 1, clip: 4, pace: 0.1}`.
    """

    framed: ClassVar[bool] = True

    revision: ClassVar[int] = 2
    every: int = Field(1, ge=1)
    seconds: float | None = Field(None, gt=0)
    """Keep the frame nearest to each multiple of so many seconds, where there is one within half of it."""
    clip: int = Field(1, ge=1)
    """Frames of one sample, from the kept one on, for a main column of the type clip."""
    pace: float | None = Field(None, gt=0)
    """Seconds from one frame of a clip to the next; one that lacks a frame within half of it is left out."""
    stream: int = Field(0, ge=0)
    """Which of a file's video streams; pictures of covers are none."""
    decoder: Literal["auto", "av", "opencv"] = Field("auto", validate_default=True)
    """PyAV where the process that plans has it (the extra `video`), else OpenCV."""

    @model_validator(mode="after")
    def _apart(self) -> Video:
        if self.seconds and self.every > 1:
            raise ValueError("every counts frames and seconds goes by time. Next: leave one out")
        if bool(self.pace) != bool(self.seconds and self.clip > 1):
            raise ValueError("clips by time need both: seconds from clip to clip, and pace from frame to frame")
        if not self.seconds and self.clip > self.every:
            raise ValueError(f"clips do not overlap: {self.clip} frames a sample need every: {self.clip} or more")
        if self.seconds and self.pace and self.pace * self.clip > self.seconds * (1 + 1e-9):
            whole = self.pace * self.clip
            raise ValueError(f"clips do not overlap: {self.clip} frames of {self.pace} s need seconds: {whole:g}")
        return self

    _installed = field_validator("decoder")(installed)

    def check(self, modalities: dict[str, Any]) -> None:
        frames = getattr(modalities[modality_of(self.column)], "frames", 1)
        if frames != self.clip:
            raise RecipeError(
                f"{self.column} has {frames} frames, but the source gives {self.clip}. Next: clip: {frames}"
            )

    def meaning(self, column: str) -> dict[str, Any]:
        """Which frames are kept is content of the samples; how those of a clip are chosen is not."""
        clip = {"clip": self.clip, "pace": self.pace} if self.clip > 1 else {}
        return {**super().meaning(column), **clip, "decoder": self.decoder, "stream": self.stream}

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
        try:
            listing = listed(file.path, file.sha256, self._look(None))
        except ValueError:  # reading it says why
            return [Item(piece.name, 0, file.path, 0, {}, file.sha256)]
        chosen = self._chosen(listing.times)
        lost = self._lost(piece, file, listing, len(chosen))
        for text in (listing.end if not lost else "", *listing.remarks):
            if text:
                remark(text)
        return [self._item(piece, file, index, frames, listing) for index, frames in enumerate(chosen)] + lost

    def build(self, modalities: dict[str, Any]) -> Read:
        modality, images = modalities[modality_of(self.column)], self._images().build(modalities)
        film = Film(self._look(modality))

        def read(items: list[Item]) -> Iterator[tuple[Item, Values | Exception]]:
            if items and _is_images(items[0].path):
                yield from images(items)
                return
            for item in items:
                if item.lost:
                    yield item, ValueError(listed(item.path, item.digest, self._look(None)).end)
                    continue
                try:
                    shown = [film.at(item.path, frame) for frame in item.frames or (item.frame,)]
                    pixels = [frame.pixels for frame in shown]
                    value = modality.fit(pixels if hasattr(modality, "frames") else pixels[0])
                    sides = Frame(pixels[0].shape[:2], shown[0].stored)
                    yield item, {self.column: value, **self.read_sides(item, modalities, sides)}
                except ValueError as error:
                    yield item, error

        return read

    def _look(self, modality: Any) -> FilmOptions:
        """How frames are looked at for a modality; for counting them that does not matter."""
        assert self.decoder != "auto"
        return FilmOptions(
            self.decoder,
            self.stream,
            getattr(modality, "orientation", "apply"),
            getattr(modality, "levels", None),
            getattr(modality, "megapixels", MEGAPIXELS),
        )

    def _lost(self, piece: Piece, file: FileDigest, listing: Listing, count: int) -> list[Item]:
        """The samples that a cut file would have had besides `count`, as one item."""
        times = listing.times
        step = times[-1] / (len(times) - 1) if len(times) > 1 else 0.04
        whole = (*times, *(times[-1] + step * (i + 1) for i in range(listing.lost)))
        lost = len(self._chosen(whole)) - count
        if not listing.lost or lost <= 0:
            return []
        key = f"{piece.name}/{len(times):06d}-{len(whole) - 1:06d}"
        return [
            Item(key, count, file.path, len(times), {}, fingerprint([file.sha256, listing.end]), whole[-1], (), lost)
        ]

    def _chosen(self, times: Sequence[float]) -> list[tuple[int, ...]]:
        """The frames of each sample, of frames shown at these seconds."""
        if not self.seconds:
            firsts = range(0, max(0, len(times) - self.clip + 1), self.every)
            return [tuple(range(first, first + self.clip)) for first in firsts]
        chosen: dict[int, tuple[int, ...]] = {}
        for step in range(int(times[-1] / self.seconds + 0.5) + 1):
            first = nearest(times, step * self.seconds, self.seconds / 2)
            pace = self.pace or 0.0
            rest = [nearest(times, times[first or 0] + i * pace, pace / 2) for i in range(1, self.clip)]
            frames = tuple(f for f in (first, *rest) if f is not None)
            if len(set(frames)) == self.clip:
                chosen.setdefault(frames[0], frames)
        return list(chosen.values())

    def _check(self, pieces: list[Piece]) -> None:
        stems = {name for piece in pieces for name in (piece.name, piece.name.rpartition("/")[2])}
        frames = {o for side in self.columns.values() for o in side.only if o.rpartition("/")[0] in stems}
        self.check_sides(pieces, stems | frames)

    def order(self) -> str:
        return f"every {self.every}th frame of a video" if self.every > 1 else ""

    def _images(self) -> Files:
        return Files(type="files", path=self.path, column=self.column, group=self.group, columns=self.columns)

    def _piece(self, file: FileDigest, digests: Digests) -> Piece:
        names = self._names(file.name)
        sides = {column: side.find(names, digests) for column, side in self.columns.items()}
        return Piece(names["key"], names["group"], (file,), sides)

    def _names(self, name: str) -> dict[str, Any]:
        key, match = stem(name), self.match(name)
        return {"key": key, "stem": key.rpartition("/")[2], "group": path_safe(match["group"] if match else key)}

    def _item(self, piece: Piece, file: FileDigest, index: int, frames: tuple[int, ...], listing: Listing) -> Item:
        frame = frames[0]
        names = {**self._names(file.name), "frame": frame}
        key = f"{piece.name}/{frame:06d}"
        sides = {c: s.place(names) for c, s in self.columns.items() if s.shows(names) or s.shows({**names, "key": key})}
        sides = {c: path for c, path in sides.items() if path in piece.sides[c]}
        digest = fingerprint([file.sha256, frame, {c: piece.sides[c][path] for c, path in sides.items()}])
        return Item(key, index, file.path, frame, sides, digest, listing.times[frame], frames if self.clip > 1 else ())


def _is_images(path: str) -> bool:
    return path.lower().endswith(IMAGES)


def nearest(times: Sequence[float], time: float, within: float) -> int | None:
    """The number of the frame shown nearest to a time, in seconds; None where none is so near."""
    after = bisect_left(times, time)
    places = [i for i in (after - 1, after) if 0 <= i < len(times) and abs(times[i] - time) <= within + 1e-6]
    return min(places, key=lambda i: abs(times[i] - time), default=None)
