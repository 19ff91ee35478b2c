"""From packets to pictures with PyAV: what decodes, what is damaged, and how a frame becomes RGB.

Decoders are asked to say what is damaged instead of painting over it. A packet that does not decode takes along the
frames after it, until the next key frame, which were predicted from it: they decode, but as something that the camera
did not see. Damage that a codec cannot notice (most have no checksums) is not noticed here either; a frame of VP8 then
shows what lay in the decoder's memory. Of Motion JPEG, whose decoder is silent too, libjpeg says what is wrong.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any, TypeVar

from hyperloom.stages.ingest.film import FilmOptions, Shown
from hyperloom.stages.modality import imagefile, jpegfile
from hyperloom.stages.remarks import remark

if TYPE_CHECKING:
    import numpy as np
    from av import VideoFrame

P = TypeVar("P")
NUMBERS = ("gray", "rgb48", "bgr48", "rgba64", "bgra64")
"""Beginnings of pixel formats that hold numbers where they have more than 8 bits; of other deep ones, as of HDR films,
8 bits show the same."""
CONCEALING = ("h264", "hevc")
"""Codecs whose decoders paint over a part that is missing and say so with the frame; of others nothing is held back,
since a damaged packet may still write into the frame before it."""
HELD = 4
"""Frames by which decoding and showing may differ in order where frames refer to later ones."""
LOST = "data are lost within it or behind it"
PARTLY = "a part of it is missing"
AFTER = "it follows one that does not decode"
QUARTERS = {
    (1, 0, 0, 1): 1,
    (-1, 0, 0, 1): 2,
    (-1, 0, 0, -1): 3,
    (1, 0, 0, -1): 4,
    (0, 1, 1, 0): 5,
    (0, 1, -1, 0): 6,
    (0, -1, -1, 0): 7,
    (0, -1, 1, 0): 8,
}
"""The signs of a display matrix (a, b, c, d), which puts the stored (x, y) at (ax + cy, bx + dy), as the EXIF
orientation that does the same."""


class Decoding:
    """Decodes packets and keeps, under its time stamp, why a frame is not to be trusted (`damaged`)."""

    def __init__(self) -> None:
        self.damaged: dict[int | None, str] = {}

    def frames(self, context: Any, packets: Iterable[Any], keyed: bool) -> Iterator[VideoFrame]:
        """Frames in the order shown. `keyed`: has the stream key frames, before the first of which nothing decodes?

        A frame is held back until those have come out that it may refer to, since a decoder says only then that a part
        of one is missing.
        """
        held = deque[Any]()
        for frame in self._decoded(context, packets, keyed):
            held.append(frame)
            if len(held) > (HELD if context.has_b_frames and context.name in CONCEALING else 0):
                yield held.popleft()
        yield from held

    def _decoded(self, context: Any, packets: Iterable[Any], keyed: bool) -> Iterator[VideoFrame]:
        import av

        chain = _Chain(self.damaged)
        for packet, following in with_next(p for p in packets if p.size):
            if keyed and not chain.began and not packet.is_keyframe:
                continue
            chain.feed(packet)
            if packet.is_corrupt and following and not any(p.is_keyframe for p in following):
                chain.breaks(packet.pts, LOST)
            try:
                if context.name == "mjpeg" and (why := jpegfile.fault(bytes(packet))):
                    self.damaged.setdefault(packet.pts, why)
                if is_torn(packet):
                    raise av.error.InvalidDataError(0, "its data are cut or damaged")
                for frame in context.decode(packet):
                    if frame.is_corrupt:
                        chain.breaks(frame.pts, PARTLY)
                    yield frame
            except av.error.FFmpegError as error:
                chain.breaks(packet.pts, error.strerror or str(error))
        try:
            for frame in context.decode(None):
                if frame.is_corrupt:
                    chain.breaks(frame.pts, PARTLY)
                yield frame
        except av.error.FFmpegError:
            pass


class _Chain:
    """What was decoded since the last key frames, of which each may refer to those before it."""

    def __init__(self, damaged: dict[int | None, str]):
        self._damaged = damaged
        self._first: int | None = None
        self.began, self._broken = False, False
        self._lead: int | None = None
        self._links: list[list[int | None]] = [[], []]
        """Time stamps from the key frame before the last on, and from the last on, in the order of decoding."""

    def feed(self, packet: Any) -> None:
        if not self.began:
            self.began, self._first = True, packet.pts
        if packet.is_keyframe:
            self._lead, self._broken = packet.pts if self._broken else None, False
            self._links = [self._links[1], []]
        elif self._broken or (self._lead is not None and (packet.pts or 0) < self._lead):
            self._damaged.setdefault(packet.pts, AFTER)
        self._links[1].append(packet.pts)

    def breaks(self, stamp: int | None, why: str) -> None:
        """The frame of that time stamp is damaged, and with it those that follow up to the next key frame."""
        if self._first is not None and (stamp or 0) < self._first:
            return  # what refers to frames before the start is no damage
        self._damaged.setdefault(stamp, why)
        for links in self._links:
            if stamp in links:
                for later in links[links.index(stamp) + 1 :]:
                    self._damaged.setdefault(later, AFTER)
                self._broken |= links is self._links[1]


class Pixels:
    """Frames of one file as pictures."""

    def __init__(self, name: str, look: FilmOptions):
        self._name, self._look = name, look
        self._size: tuple[int, int] | None = None
        self._reformatter: Any = None

    def shown(self, frame: VideoFrame) -> Shown:
        """Raises ValueError for numbers of more than 8 bits without `levels`."""
        stored = (frame.height, frame.width)
        if self._size not in (None, stored):
            remark("the frames of a video change their size; each is brought to the modality's")
        self._size = stored
        pixels = self._array(frame)
        return Shown(imagefile.turned(pixels, turn(frame) if self._look.orientation == "apply" else 1), stored)

    def remarks(self, frame: VideoFrame) -> Iterator[str]:
        """What is to be said of a file with such a frame."""
        ratio = getattr(frame, "sample_aspect_ratio", None) or 1
        if ratio != 1:
            yield "pixels of a video that are not square are taken as they are stored"
        if frame.interlaced_frame:
            yield "interlaced frames are taken as they are stored, both fields in one picture"
        if any(c.is_alpha for c in frame.format.components) and self._rgb(frame, "rgba")[..., 3].min() < 255:
            yield "an alpha channel that is not opaque is left out"
        if turn(frame) == 0:
            yield "a video is to be turned by an angle that is no quarter, and is taken as it is stored"

    def _array(self, frame: VideoFrame) -> np.ndarray:
        name, bits = frame.format.name, max(c.bits for c in frame.format.components)
        if not name.startswith(NUMBERS) or bits <= 8:
            return self._rgb(frame, "rgb24")
        deep = "gray16le" if name.startswith("gray") else "rgb48le"
        numbers = self._rgb(frame, deep) >> max(0, 16 - bits)
        return imagefile.graded(numbers, self._name, self._look.levels)

    def _rgb(self, frame: VideoFrame, kind: str) -> np.ndarray:
        from av.video.reformatter import VideoReformatter

        if self._reformatter is None:
            self._reformatter = VideoReformatter()
        array: np.ndarray = self._reformatter.reformat(
            frame, format=kind, interpolation="BICUBIC", threads=1
        ).to_ndarray()
        return array


def with_next(packets: Iterable[P]) -> Iterator[tuple[P, tuple[P, ...]]]:
    """Each packet with the two behind it: what lies between recordings that were put together is marked up to there."""
    ahead = deque[P]()
    for packet in packets:
        ahead.append(packet)
        if len(ahead) == 3:
            yield ahead.popleft(), tuple(ahead)
    while ahead:
        yield ahead.popleft(), tuple(ahead)


def is_torn(packet: Any) -> bool:
    """Did its data end early? What a transport stream marks is any gap in its count, which is no loss where recordings
    were put together, each with a key frame first."""
    return packet.is_corrupt and packet.stream.container.format.name != "mpegts"


def turn(frame: VideoFrame) -> int:
    """How a frame is to be turned and mirrored, as an EXIF orientation; 0 for an angle that is no quarter."""
    import struct

    from av.sidedata.sidedata import Type

    data = frame.side_data.get(Type.DISPLAYMATRIX)
    if data is None:
        return 1
    a, b, _, c, d, *_ = struct.unpack("<9i", bytes(data))
    whole = tuple(round(x / 65536, 2) for x in (a, b, c, d))
    return QUARTERS.get(whole, 0)  # type: ignore[call-overload, no-any-return]
