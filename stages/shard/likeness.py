"""Likeness: which pictures look like copies of others, though their bytes differ: encoded anew, in another size.

A picture's signature are the lowest 32 frequencies of its 32 x 32 grey one (discrete cosine transform, as in pHash:
Zauner 2010), together of length one, in steps of 1/127. Two look alike where these are no more than NEAR apart.

What is found: of street pictures of 360 x 480 that were stored as JPEG (quality 25 to 90), as WebP, or in half or
double the size, all; of drawn ones of 48 x 64 more than 90 of 100, but 78 at quality 25. Crops, mirrors and turns are
not. What is cried at in vain: of 81,149 pairs of street frames of other drives none (the nearest are .25 apart); of
12.5 million pairs of MNIST's digits, which are as alike as pictures can be, one. Frames of a camera that stands still
look alike, and rightly so. So likeness is a warning and holds nothing up. Flat pictures (black frames) are like
nothing.

The search: the signs of the lowest KEYED frequencies are a key. A copy has another sign only where a number is small,
so a picture is looked up by its own key and by those with its smallest FLIPPED numbers of the other sign. A hundred
thousand beside a million take 12 s on one core. Where sets are to be told that share copies (groups, for a split),
partners are sought in other sets alone: most frames of a film look like their own neighbours.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable, Sequence
from functools import cache
from itertools import product
from typing import Any

import numpy as np

from hyperloom.pipeline.commits.units import Record
from hyperloom.stages.shard.joining import joining

SIDE = 32
BYTES = 32
"""Of a signature, one a frequency."""
NEAR = 0.05
STEPS = 127
KEYED = 24
FLIPPED = 6
FLAT = 2.0
"""Of 255: a grey picture that deviates less from its mean is like nothing."""
MOST = 2_000
"""Signatures of one key that a picture is compared with."""
PAIRS = 1_000_000
"""Compared at once."""
_SET = 32
"""Bits of a set's number, below those of a key."""


def signature(picture: np.ndarray) -> np.ndarray:
    """(BYTES,) int8 of (H, W, 3) uint8; zero where it is flat."""
    import cv2

    if min(picture.shape[:2]) > 4 * SIDE:
        picture = cv2.resize(picture, (4 * SIDE, 4 * SIDE), interpolation=cv2.INTER_AREA)  # in bytes, which is quick
    grey = cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY).astype(np.float32)
    grey = cv2.resize(grey, (SIDE, SIDE), interpolation=cv2.INTER_AREA)
    if grey.std() < FLAT:
        return np.zeros(BYTES, np.int8)
    waves = cv2.dct(grey).ravel()[_lowest()]
    return np.rint(STEPS * waves / max(float(np.linalg.norm(waves)), 1e-6)).astype(np.int8)


@cache
def _lowest() -> np.ndarray:
    """Places of the lowest frequencies but the mean, by the sum of both axes."""
    across, down = np.meshgrid(np.arange(SIDE), np.arange(SIDE))
    return np.lexsort((down.ravel(), (across + down).ravel()))[1 : BYTES + 1]


def signatures(array: Any, modality: Any) -> np.ndarray:
    """(N, BYTES) int8 of an Arrow array of pictures; zero where there is none."""
    rows, valid = modality.unpack(array)
    signed = np.zeros((len(rows), BYTES), np.int8)
    for i in np.flatnonzero(valid):
        signed[i] = signature(rows[i])
    return signed


def packed(values: Iterable[np.ndarray]) -> str:
    """Signatures as they stand in a record."""
    return base64.b64encode(b"".join(part.tobytes() for part in values)).decode()


def together(records: Sequence[Record]) -> np.ndarray:
    """(N, BYTES) of all rows of units' records, in order."""
    parts = [np.zeros((0, BYTES), np.int8)]
    for record in records:
        text = record.meta.get("likeness")
        known = np.frombuffer(base64.b64decode(text), np.int8).reshape(-1, BYTES) if text else None
        parts.append(np.zeros((record.rows, BYTES), np.int8) if known is None else known)
    return np.concatenate(parts)


def links(signed: np.ndarray, sets: np.ndarray) -> np.ndarray:
    """(n, 2) places of pictures that look alike, as many as join all sets that share such: `sets` (N,) whole numbers
    of `signed` (N, BYTES), each joined already."""
    return joining(sets, lambda rows, now: alike(signed[rows], signed, (now[rows], now)))


def alike(mine: np.ndarray, theirs: np.ndarray, sets: tuple[np.ndarray, np.ndarray] | None = None) -> np.ndarray:
    """(n,) int64: for each of `mine` (n, BYTES) the place of one of `theirs` that looks like it; -1 for none. With
    `sets`, whole numbers from 0 of both, none is like one of its own set."""
    partner = np.full(len(mine), -1)
    known = np.flatnonzero(theirs.any(1))
    own, other_sets = (s.astype(np.uint64) for s in sets or (np.ones(len(mine)), np.zeros(len(theirs))))
    keys = _keys(theirs[known]).astype(np.uint64) << np.uint64(_SET) | other_sets[known]
    order = np.argsort(keys, kind="stable")
    known, keys = known[order], keys[order]
    smallest = np.argsort(np.abs(mine[:, :KEYED].astype(np.int16)), axis=1, kind="stable")[:, :FLIPPED]
    for flips in sorted(product((0, 1), repeat=FLIPPED), key=sum) if len(known) else ():
        rows = np.flatnonzero((partner < 0) & mine.any(1))
        other = (np.array(flips, np.uint32) << smallest[rows].astype(np.uint32)).sum(1, dtype=np.uint32)
        partner[rows] = _keyed(mine[rows], _keys(mine[rows]) ^ other, own[rows], theirs, known, keys)
    return partner


def _keys(signed: np.ndarray) -> np.ndarray:
    """(n,) uint32: a bit for each of the lowest frequencies that is positive."""
    return ((signed[:, :KEYED] > 0) << np.arange(KEYED, dtype=np.uint32)).sum(1, dtype=np.uint32)


def _keyed(
    mine: np.ndarray,
    keys: np.ndarray,
    own: np.ndarray,
    theirs: np.ndarray,
    known: np.ndarray,
    sorted_keys: np.ndarray,
) -> np.ndarray:
    """For each of `mine` the place of one of `theirs` that has this key, is near and not of its `own` set; -1 for
    none. `known` are places in the order of `sorted_keys`, which are keys and within them sets."""
    key = keys.astype(np.uint64) << np.uint64(_SET)
    first, end = (np.searchsorted(sorted_keys, k) for k in (key, key + np.uint64(1 << _SET)))
    before, after = (np.searchsorted(sorted_keys, key | own, side) for side in ("left", "right"))
    counts = np.minimum(end - first - (after - before), MOST)
    partner, ends, start = np.full(len(mine), -1), np.cumsum(counts), 0
    while start < len(mine):
        done = ends[start] - counts[start]
        stop = max(start + 1, int(np.searchsorted(ends, done + PAIRS, "right")))
        some = counts[start:stop]
        row = np.repeat(np.arange(start, stop), some)
        at = first[row] + np.arange(len(row)) - np.repeat(np.cumsum(some) - some, some)
        place = known[np.where(at < before[row], at, at + (after - before)[row])]
        apart = np.square(mine[row].astype(np.int16) - theirs[place], dtype=np.int32).sum(1)
        near = apart <= (NEAR * STEPS) ** 2
        partner[row[near]] = place[near]
        start = stop
    return partner
