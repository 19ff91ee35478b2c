"""Videos by OpenCV, which every installation with `vision` has: decoded in order, counted by decoding.

It takes what FFmpeg's decoders give: frames before which something is damaged are pictures like others, a picture of a
cover is a video of one frame, and mirrored frames are not mirrored back. Pixels of more than 8 bits that are numbers
of a sensor would lose them, so such a file is refused. See `stages.ingest.film` for what both readers hold.
"""

from __future__ import annotations

import os
from itertools import pairwise
from typing import Any

from hyperloom.stages.ingest.film import NO_VIDEO, FilmOptions, Listing, Shown

DEEP = (b"Y1\0", b"RGB0", b"0RGB", b"BGR0", b"0BGR", b"RBA@", b"@RBA", b"BRA@", b"@BRA")
"""How FFmpeg's tags of grey pixels and colours of 9 to 16 bits begin; a grey one ends with its bits."""
SWAPPED = (90, 270)
MP4 = (".mp4", ".m4v", ".mov")
DELAYED = 17
"""Frames by which decoding and showing may differ in order, and one."""


class Capture:
    """One file. `position` is the next frame to decode."""

    def __init__(self, path: str, look: FilmOptions):
        self._path, self._look, self._name = path, look, os.path.basename(path)
        self._capture = self._opened()
        self.position = 0
        if not self._capture.isOpened():
            raise ValueError(f"{self._name} {NO_VIDEO}")
        self._refuse_numbers()

    def close(self) -> None:
        self._capture.release()

    def listing(self) -> Listing:
        import cv2

        self._again()
        promised, times = int(self._capture.get(cv2.CAP_PROP_FRAME_COUNT)), []
        rate = self._capture.get(cv2.CAP_PROP_FPS) or 25.0
        while self._capture.grab():
            times.append(self._capture.get(cv2.CAP_PROP_POS_MSEC) / 1000)
            self.position += 1
        if not times:
            raise ValueError(f"{self._name} holds no frame that decodes")
        if any(b <= a for a, b in pairwise(times)):  # a container without times of its own
            times = [n / rate for n in range(len(times))]
        if cut := (self._name.lower().endswith(MP4) and _is_cut(self._path)):
            times = _until_a_gap(times)
        early = (cut or self._name.lower().endswith(".avi")) and len(times) < promised  # others only estimate
        end = f"{self._name} ends after {len(times)} of {promised} frames" if early else ""
        lost = promised - len(times) if cut and early else 0
        return Listing(tuple(round(t - times[0], 6) for t in times), end, (), lost)

    def at(self, frame: int) -> Shown:
        import cv2

        if frame < self.position:
            self._again()
        while self.position <= frame:
            if not self._capture.grab():
                raise ValueError(f"{self._name} ends after {self.position} frames, so frame {frame} is missing")
            self.position += 1
        ok, image = self._capture.retrieve()
        if not ok:
            raise ValueError(f"frame {frame} of {self._name} does not decode")
        turned = self._look.orientation == "apply" and int(self._capture.get(cv2.CAP_PROP_ORIENTATION_META)) in SWAPPED
        sides = image.shape[:2]
        return Shown(cv2.cvtColor(image, cv2.COLOR_BGR2RGB), sides[::-1] if turned else sides)

    def _again(self) -> None:
        """From the first frame on: seeking is only rough in some containers."""
        if self.position:
            self._capture.release()
            self._capture, self.position = self._opened(), 0

    def _opened(self) -> Any:
        os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")  # a torn video prints thousands of lines
        import cv2

        cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_ERROR)
        options = [cv2.CAP_PROP_N_THREADS, 1]
        if self._look.stream:
            options += [cv2.CAP_PROP_VIDEO_STREAM, self._look.stream]
        capture = cv2.VideoCapture(self._path, cv2.CAP_FFMPEG, options)
        capture.set(cv2.CAP_PROP_ORIENTATION_AUTO, float(self._look.orientation == "apply"))
        return capture

    def _refuse_numbers(self) -> None:
        import cv2

        kind = int(self._capture.get(cv2.CAP_PROP_CODEC_PIXEL_FORMAT)).to_bytes(4, "little", signed=True)
        if (kind.startswith(DEEP) and not kind.endswith(b"\x08")) or kind.endswith(b"\x001Y"):
            raise ValueError(
                f"{self._name} holds numbers of more than 8 bits, of which OpenCV keeps 8. Next: "
                "pip install 'hyperloom[video]', and say which are black and white with levels: on the modality"
            )


def _until_a_gap(times: list[float]) -> list[float]:
    """Times of a file that was cut off, without the last frame, which may be torn, and those near the end that come
    after a missing one, whose numbers nobody knows."""
    steps = sorted(b - a for a, b in pairwise(times))
    for i in range(max(1, len(times) - DELAYED), len(times) - 1):
        if times[i] - times[i - 1] > 1.5 * steps[len(steps) // 2]:
            return times[:i]
    return times[:-1]


def _is_cut(path: str) -> bool:
    """Does an mp4 file end within one of its boxes?"""
    place, length = 0, os.path.getsize(path)
    with open(path, "rb") as file:
        while place + 8 <= length:
            file.seek(place)
            head = file.read(16)
            size = int.from_bytes(head[:4], "big")
            size = int.from_bytes(head[8:], "big") if size == 1 else size or length - place
            if size < 8:
                return True
            place += size
    return place != length
