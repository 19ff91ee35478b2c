"""Copies: samples that are equal, look alike though they were encoded anew, or lie in one place by their features.

Equal ones have one digest, like pictures one perceptual signature (stages.shard.likeness). By features two are copies
where they are nearer than CLOSE times the median distance to a nearest sample, and only where features are many enough
(MANY) for that not to happen by chance. Small pictures keep too few frequencies for a signature: of MNIST's digits at
JPEG 60 it finds 92 of 100. So pictures that are among each other's nearest are compared by their thumbnails too: of
those copies all correlate by .997 and more, of 2,900 other digits none by more than .9931 (SAME); and by LIKELY, where
what lacks to one is SINGLE times what lacks to the next best.
Of a set of copies the first in order is the original.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

import numpy as np

from hyperloom.stages.audit.finding import AuditFinding, percent
from hyperloom.stages.shard import likeness
from hyperloom.stages.shard.joining import joined
from hyperloom.stages.shard.splits import SPLITS

CLOSE = 0.15
SAME = 0.996
LIKELY, SINGLE = 0.98, 0.3
MANY = 16
USUAL = 0.7
"""Where more of the samples have one so near (frames of a film), nearness says nothing."""


def sets(
    content: np.ndarray,
    signed: np.ndarray | None,
    apart: np.ndarray,
    place: np.ndarray,
    size: int,
    thumbs: np.ndarray | None = None,
) -> np.ndarray:
    """(N,) the first sample of the set of copies that each is in; its own place where it is no copy. `apart`, `place`
    (N, k): the nearest by features, `size` of which a sample has; `thumbs` (N, P): small grey pictures."""
    links = [_equal(content)]
    if signed is not None:
        links.append(likeness.links(signed, np.arange(len(signed))))
    if thumbs is not None:
        links.append(_correlated(thumbs, place))
    if size >= MANY and len(apart) > 2:
        near = apart[np.isfinite(apart[:, 0]) & (apart[:, 0] > 0), 0]
        usual = float(np.median(near)) if len(near) else 0.0
        links.append(_unusual(np.isfinite(apart) & (apart < CLOSE * usual), place))
    return joined(len(content), np.concatenate(links))


def findings(first: np.ndarray, splits: Sequence[str], keys: Sequence[str]) -> list[AuditFinding]:
    """Copies within the data, and across each two splits."""
    stated = []
    copies = np.flatnonzero(first != np.arange(len(first)))
    if len(copies):
        text = f"{len(copies)} of {len(first)} samples ({percent(len(copies) / len(first))}) are copies of others"
        act = "`where: {copy@audit: {above: 0.5}}` in a select step keeps one of each (`out: {copy@audit: copy}` here)"
        worst = [keys[int(i)] for i in copies]
        stated.append(
            AuditFinding(
                "copy", "samples", len(copies), len(first), text, act, worst, [keys[int(first[i])] for i in copies]
            )
        )
    where = np.array(splits)
    for one, other in combinations([s for s in SPLITS if s in set(splits)], 2):
        mine = np.flatnonzero(where == other)
        theirs: dict[int, int] = {}
        for i in np.flatnonzero(where == one)[::-1]:
            theirs[int(first[i])] = int(i)
        crossed = [int(i) for i in mine if int(first[i]) in theirs]
        if crossed:
            text = f"{len(crossed)} of {len(mine)} samples of the split `{other}` are copies of samples of `{one}`"
            act = "`split: {apart: duplicates}` in the shard step keeps copies on one side"
            beside = [keys[theirs[int(first[i])]] for i in crossed]
            named = [keys[i] for i in crossed]
            stated.append(
                AuditFinding("split-copy", f"{one}|{other}", len(crossed), len(mine), text, act, named, beside)
            )
    return stated


def _unusual(close: np.ndarray, place: np.ndarray) -> np.ndarray:
    """(n, 2) of (N, k) that are close; none where most samples have one."""
    rows, ranks = np.nonzero(close if close.any(1).mean() <= USUAL else np.zeros_like(close))
    return np.stack([rows, place[rows, ranks]], 1)


def _correlated(thumbs: np.ndarray, place: np.ndarray) -> np.ndarray:
    """(n, 2) of those among the nearest (N, k) whose thumbnails are one but for brightness and contrast."""
    centred = thumbs - thumbs.mean(1, keepdims=True)
    length = np.linalg.norm(centred, axis=1)
    flat = length < 1e-2
    centred /= np.maximum(length, 1e-6)[:, None]
    alike = np.full(place.shape, -1.0)
    for k in range(place.shape[1]):
        other = np.maximum(place[:, k], 0)
        near = np.einsum("ij,ij->i", centred, centred[other])
        alike[:, k] = np.where((place[:, k] >= 0) & ~flat & ~flat[other], near, -1)
    close = alike > SAME
    if place.shape[1] > 1:
        best = alike.max(1, keepdims=True)
        other = np.where(alike == best, -1, alike).max(1, keepdims=True)
        close |= (alike == best) & (best > LIKELY) & (1 - best < SINGLE * (1 - other))
    return _unusual(close, place)


def _equal(content: np.ndarray) -> np.ndarray:
    """(n, 2) of equal samples, each with the next."""
    order = np.argsort(content, kind="stable")
    same = (content[order][1:] == content[order][:-1]) & (content[order][1:] != 0)
    return np.stack([order[1:][same], order[:-1][same]], 1)
