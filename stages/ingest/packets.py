"""Videos by PyAV: the packets of a file say which frames it shows and when; decoding from a key frame gives each.

A frame is known by its time stamp, not by counting what a decoder gives, so that seeking, B-frames, variable rates,
edit lists and damage cannot shift numbers. Where time stamps do not tell frames apart (H.264 in AVI), or the first
packets do not give a frame each (two fields, packed frames), all is decoded once to list it; so too where reordered
frames lie unevenly and not at the times of decoding either, since one of the stamps may be damaged: where they are not
in the order of the pictures, the order counts.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from itertools import chain, islice, pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from hyperloom.pipeline.counting import counted
from hyperloom.stages.ingest.decoding import Decoding, Pixels, is_torn, with_next
from hyperloom.stages.ingest.film import NO_VIDEO, FilmOptions, Listing, Shown
from hyperloom.stages.ingest.frametable import (
    END,
    START,
    FrameTable,
    KeyFrame,
    Packet,
    is_doubtful,
    is_rising,
    key_frames,
)

if TYPE_CHECKING:
    from av import VideoFrame

PROBED = 48
"""Packets that are decoded before the others are taken to be a frame each."""
AHEAD = 12
"""Frames that are rather decoded than skipped by seeking."""
COUNTED_CODECS = ("h264", "hevc")
"""Whose frames are out of order in AVI, which keeps no times to tell them by."""
LOST_FRAMES = "data are lost within a video; its frames are numbered as they decode (seconds: goes by their times)"
SECOND = 0.1
"""A Matroska file that ends so many seconds before its header says so was cut."""


class Packets:
    """One open file."""

    def __init__(self, path: str, look: FilmOptions):
        self._path, self._look, self._name = path, look, os.path.basename(path)
        self._decoding, self._pixels = Decoding(), Pixels(self._name, look)
        self._end, self._lost, self._remarks = "", 0, dict[str, None]()
        self._table: FrameTable | None = None
        self._keyed, self._sought = True, False
        self._frames: Iterator[tuple[int, VideoFrame]] | None = None
        self._shown: tuple[int, VideoFrame | None] = (-1, None)
        self._open()

    def close(self) -> None:
        self._container.close()

    def listing(self) -> Listing:
        times = np.round(self._known().times, 6).tolist()
        return Listing(tuple(times), self._end, tuple(self._remarks), self._lost)

    def at(self, frame: int) -> Shown:
        table = self._known()
        if frame >= len(table.stamps):
            raise ValueError(f"{self._name} ends after {len(table.stamps)} frames, so frame {frame} is missing")
        want = int(table.stamps[frame])
        picture, why = self._read(want)
        if why and self._sought:  # frames that refer to what lies before the key frame look damaged: read without
            self._decoding, self._table, self._sought = Decoding(), table._replace(keys=[]), False
            self._start(None)
            picture, why = self._read(want)
        if why or picture is None:
            raise ValueError(f"frame {frame} of {self._name} does not decode: {why}")
        return self._pixels.shown(picture)

    def _read(self, want: int) -> tuple[VideoFrame | None, str]:
        """The frame that is shown at `want`, and why it is not to be trusted, else empty."""
        table = self._known()
        key = table.key_before(want)
        ahead = key is not None and table.number(key.pts) > table.number(self._shown[0]) + AHEAD
        if self._frames is None or want < self._shown[0] or ahead:
            self._start(key)
        while self._shown[0] < want:
            self._shown = next(self._frames or iter(()), (END, None))
        stamp, picture = self._shown
        why = self._decoding.damaged.get(want) or ("" if stamp == want else "its data give no picture")
        return picture, why

    # -- reading -------------------------------------------------------------------------------------------------------
    def _open(self) -> None:
        import av

        av.logging.set_level(None)
        try:
            self._container = av.open(self._path, metadata_errors="replace")
        except av.error.FFmpegError as error:
            raise ValueError(f"{self._name} {NO_VIDEO}") from error
        try:
            self._stream = self._chosen()
        except ValueError:
            self._container.close()
            raise
        self._stream.thread_type = "NONE"
        self._stream.codec_context.thread_count = 1
        self._stream.codec_context.options = {"err_detect": "explode"}

    def _chosen(self) -> Any:
        """The stream that is read. Raises ValueError where there is none, or its pictures are too large."""
        streams = [s for s in self._container.streams.video if not s.disposition & s.disposition.attached_pic]
        if not streams:
            kinds = {s.type for s in self._container.streams}
            if not kinds & {"video", "audio"}:
                raise ValueError(f"{self._name} {NO_VIDEO}")
            raise ValueError(f"{self._name} holds only {'the picture of a cover' if 'video' in kinds else 'sound'}")
        if self._look.stream >= len(streams):
            raise ValueError(
                f"{self._name} has {counted(len(streams), 'video stream')}, none of number {self._look.stream}"
            )
        if len(streams) > 1 and not self._look.stream:
            self._remarks["of several video streams the first is read (stream: 1 takes the next)"] = None
        stream = streams[self._look.stream]
        if stream.codec_context is None:
            raise ValueError(f"{self._name} holds a video of a codec that is not known, or its header is damaged")
        height, width = stream.codec_context.height, stream.codec_context.width
        if height * width > self._look.megapixels * 1e6:
            raise ValueError(
                f"{self._name} has frames of {height} x {width} pixels, more than {self._look.megapixels:g} million. "
                "Next: leave it out, or allow more with megapixels: on the modality"
            )
        return stream

    def _start(self, key: KeyFrame | None) -> None:
        """Decode from `key` on, or from the start of the file."""
        self._shown = (-1, None) if self._table and self._table.counted else (START, None)
        packets = self._from(key) if key else None
        self._sought |= packets is not None
        if packets is None:
            self._container.close()
            self._open()
            packets = self._demuxed()
        self._frames = self._stamped(packets)

    def _from(self, key: KeyFrame) -> Iterator[Any] | None:
        """Packets from a key frame on that is shown no later than `key`; None where seeking leads elsewhere, or to
        packets with other time stamps."""
        import av

        try:
            self._container.seek(key.place, stream=self._stream)
        except av.error.FFmpegError:
            return None
        packets = self._demuxed()
        first = next((p for p in packets if p.is_keyframe and p.size), None)
        if first is None or first.pts is None or first.pts > key.pts:
            return None
        reached = self._known().key_before(first.pts)
        return chain([first], packets) if reached and reached[:2] == (first.pts, first.size) else None

    def _demuxed(self) -> Iterator[Any]:
        """Packets of the stream, up to where the file can be read."""
        import av

        try:
            yield from self._container.demux(self._stream)
        except av.error.FFmpegError:
            return

    def _stamped(self, packets: Iterable[Any]) -> Iterator[tuple[int, VideoFrame]]:
        counted = self._table is not None and self._table.counted
        for number, frame in enumerate(self._decoding.frames(self._stream.codec_context, packets, self._keyed)):
            if counted or frame.pts is not None:
                yield (number if counted else frame.pts), frame

    # -- listing -------------------------------------------------------------------------------------------------------
    def _known(self) -> FrameTable:
        """The frames of the file, listed at the first call. Raises ValueError where none decodes."""
        if self._table is None:
            table = self._tabulated()
            if not len(table.stamps):
                raise ValueError(f"{self._name} holds no frame that decodes")
            self._table, self._frames = table, None
        return self._table

    def _tabulated(self) -> FrameTable:
        packets, reached = self._listed()
        self._keyed = any(p.key for p in packets)
        first = next((i for i, p in enumerate(packets) if p.key), 0)
        good = [p for p in packets[first:] if not p.torn]
        if any(p.marked and following and not any(f.key for f in following) for p, following in with_next(good)):
            self._remarks[LOST_FRAMES] = None
        if not good or not self._tells_frames_apart(good):
            return self._counted(packets)
        given = self._given(None if is_doubtful(good) else PROBED + first)[0]
        missing = {p.pts for p in good[:PROBED] if not p.hidden} - set(given)
        lead = {pts for pts in missing if pts < good[0].pts}  # they refer to what lies before the first key frame
        if (lead != missing and not self._decoding.damaged) or not is_rising(given):
            return self._counted(packets)
        shown = [p for p in good if not p.hidden and p.pts not in lead]
        shown = self._until_the_cut(shown, packets, reached)
        stamps = np.sort(np.array([p.pts for p in shown], np.int64))
        return FrameTable(
            stamps, key_frames(good, self._container.format.name), (stamps - stamps[:1]) * float(self._stream.time_base)
        )

    def _listed(self) -> tuple[list[Packet], float]:
        """The packets of the stream, and the second up to which there are packets of any stream."""
        import av

        packets, reached, vp8 = [], 0.0, self._stream.codec_context.name == "vp8"
        try:
            for packet in self._container.demux():
                if not packet.size:
                    continue
                if packet.pts is not None and packet.duration:
                    reached = max(reached, float((packet.pts + packet.duration) * packet.time_base))
                if packet.stream_index == self._stream.index:
                    hidden = packet.is_discard or (vp8 and not bytes(packet)[0] & 0x10)
                    packets.append(
                        Packet(
                            packet.pts,
                            packet.dts,
                            packet.is_keyframe,
                            hidden,
                            is_torn(packet),
                            packet.is_corrupt,
                            packet.size,
                        )
                    )
        except av.error.FFmpegError:
            pass  # the rest of the file cannot be read
        return packets, reached

    def _tells_frames_apart(self, packets: list[Packet]) -> bool:
        """Has each packet a time stamp of its own that is the frame's, and none of an earlier recording?"""
        stamps = [p.pts for p in packets if not p.hidden]
        if any(p.pts is None for p in packets) or len(set(stamps)) < len(stamps):
            return False
        low, high = START, START  # of the key frames before
        for packet in packets:
            if packet.pts <= low or (packet.key and packet.pts <= high):
                return False
            if packet.key:
                low, high = high, packet.pts
        if self._container.format.name != "avi":
            return True
        return self._stream.codec_context.name not in COUNTED_CODECS and all(p.pts == p.dts for p in packets)

    def _given(self, count: int | None) -> tuple[list[int | None], int]:
        """Time stamps of the frames that the first `count` packets give (all without it), and how many came before
        the first damage."""
        self._container.close()
        self._open()
        stamps: list[int | None] = []
        whole = 0
        packets = islice(self._demuxed(), count)
        for frame in self._decoding.frames(self._stream.codec_context, packets, self._keyed):
            stamps.append(frame.pts)
            whole += not self._decoding.damaged
            if len(stamps) <= PROBED:
                self._remarks |= dict.fromkeys(self._pixels.remarks(frame))
        return stamps, whole

    def _until_the_cut(self, shown: list[Packet], packets: list[Packet], reached: float) -> list[Packet]:
        """Without frames behind one that is missing, whose number nobody knows, where the file was cut off."""
        form, promised = self._container.format.name, self._stream.frames
        if "mp4" in form:
            promised = sum(not e.is_discard for e in self._stream.index_entries)
        length = (self._container.duration or 0) / 1e6 if "matroska" in form else 0.0
        if not packets[-1].torn and len(shown) >= promised and reached > length - SECOND:
            return shown
        steps = [p.dts for p in shown if p.dts is not None]
        if len(steps) > 1 and any(b.pts < a.pts for a, b in pairwise(shown)):
            bound = 2 * steps[-1] - steps[-2]
            shown = [p for p in shown if p.pts <= bound]
        if len(shown) < promised:
            self._end = f"{self._name} ends after {len(shown)} of {promised} frames"
            self._lost = promised - len(shown) if "mp4" in form else 0
        elif length:
            self._end = f"{self._name} ends after {reached:.2f} of {length:.2f} seconds"
        else:
            self._end = f"{self._name} ends within a frame, after {len(shown)} frames"
        return shown

    def _counted(self, packets: list[Packet]) -> FrameTable:
        """By decoding all of it. Without rising time stamps frames are known by their number alone, so none behind
        damage is."""
        stamps, whole = self._given(None)
        if stamps and is_rising(stamps):
            known = np.array(stamps, np.int64)
            return FrameTable(known, [], (known - known[0]) * float(self._stream.time_base))
        ordered = self._container.format.name == "avi" and self._stream.codec_context.name not in COUNTED_CODECS
        if ordered and stamps and None not in stamps:  # one that comes too early is damage that no decoder noticed
            known = np.array(stamps, np.int64)
            early = (known > np.minimum.accumulate(known[::-1])[::-1]) | (np.diff(known, prepend=START) <= 0)
            whole = min(whole, int(np.argmax(early))) if early.any() else whole
        if whole < len(stamps):
            self._end = f"{self._name} is damaged after {whole} frames, and its format does not number the others"
        steps = sorted(p.dts for p in packets if p.dts is not None)
        times = np.arange(whole) / float(self._stream.average_rate or 25)
        if 0 < whole == len(stamps) <= len(steps) and len(set(steps)) == len(steps):
            times = (np.array(steps[:whole], float) - steps[0]) * float(self._stream.time_base)
        return FrameTable(np.arange(whole), [], times, True)
