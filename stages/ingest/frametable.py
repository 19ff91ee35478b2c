"""The table of a film's frames: which packet is shown when, from where each can be reached, and whether time stamps can
be believed."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from itertools import pairwise, takewhile
from typing import NamedTuple

import numpy as np

ROUNDED = 2
"""Units by which steps between frames at an even pace may differ."""
START, END = -(1 << 62), 1 << 62
"""Before and behind all time stamps."""


class Packet(NamedTuple):
    """One packet: time stamps in units of the stream or None; is it a key frame, one that is not shown, one cut off,
    one beside which data are lost?"""

    pts: int
    dts: int | None
    key: bool
    hidden: bool
    torn: bool
    marked: bool
    size: int


class KeyFrame(NamedTuple):
    """A key frame: its time stamp, its bytes, and the time stamp under which containers find it."""

    pts: int
    size: int
    place: int


class FrameTable(NamedTuple):
    """Frames by number: `stamps`, rising; the key frames that can be sought, rising; seconds. `counted`: do the stamps
    only count frames?"""

    stamps: np.ndarray
    keys: list[KeyFrame]
    times: np.ndarray
    counted: bool = False

    def number(self, stamp: int) -> int:
        """How many frames are shown before `stamp`."""
        return int(np.searchsorted(self.stamps, stamp))

    def key_before(self, stamp: int) -> KeyFrame | None:
        """The last key frame that is shown no later; None where the file is to be read from its start."""
        place = bisect_right(self.keys, (stamp, END, 0))
        return self.keys[place - 1] if place > 1 else None


def is_rising(stamps: Sequence[int | None]) -> bool:
    """Is each known, and later than the one before?"""
    return None not in stamps and all(b > a for a, b in pairwise(stamps))  # type: ignore[operator]


def is_doubtful(packets: list[Packet]) -> bool:
    """May the time stamps put a frame in a wrong place, as one of which a byte was damaged? Not where frames are shown
    as they are decoded, lie evenly, or at the times of decoding, each some packets later."""
    stamps, decoded = np.array([p.pts for p in packets]), [p.dts for p in packets]
    ordered = np.sort(stamps)
    steps = np.diff(ordered)
    if (stamps == ordered).all() or steps.max() - steps.min() <= ROUNDED:
        return False
    if None in decoded:
        return True
    times = np.array(decoded)
    delay = int((times < ordered[0]).sum())
    return not (ordered[: len(times) - delay] == times[delay:]).all()


def key_frames(packets: list[Packet], form: str) -> list[KeyFrame]:
    """The key frames that can be sought: none in a program stream, whose packets have other stamps after a search, and
    none behind lost data, where a packet may have grown together with the next."""
    whole = takewhile(lambda p: not p.marked, packets)
    keys = [p for p in whole if p.key] if form != "mpeg" else []
    return [KeyFrame(p.pts, p.size, p.pts if p.dts is None else min(p.pts, p.dts)) for p in keys]
