"""Picks: of candidates those to take, within a budget: the first of an order, the widest coverage, even classes.

Coverage is greedy k-centre (Gonzalez 1985; for active learning Sener & Savarese 2018): each pick is the candidate
farthest from all that is taken. Facility location takes the one that brings all samples nearest to something taken,
greedily (Wei, Iyer & Bilmes 2015). They look among the first of the order, k-centre among CANDIDATES, facility location
among SEEN; where more are to be taken than that, the next ones of the order follow. Ties go to the earlier sample.
"""

from __future__ import annotations

from typing import Literal

import numpy as np

CANDIDATES = 20_000
"""Candidates that coverage looks among."""
SEEN = 4_000
"""Samples that facility location brings near."""

CoverageMethod = Literal["k-centre", "facility"]


def uncertainty(values: np.ndarray) -> np.ndarray:
    """(N,) of (N, ..., classes) probabilities: 1 less the mean distance of the two highest (margin), over places of
    which something is known (zeros say nothing); NaN where nothing is."""
    if values.shape[-1] < 2:
        return 1 - np.abs(2 * values.reshape(len(values), -1) - 1).mean(1)
    highest = np.sort(values, axis=-1)[..., -2:].reshape(len(values), -1, 2)
    known = highest[..., 1] > 0
    with np.errstate(invalid="ignore"):
        return np.asarray(1 - np.where(known, highest[..., 1] - highest[..., 0], 0).sum(1) / known.sum(1))


def ranks(values: np.ndarray, highest: bool) -> np.ndarray:
    """(N,) in 0..1, 0 for what comes first; equal ones share the lowest rank, NaN comes last."""
    sought = np.nan_to_num(-values if highest else values, nan=np.inf)
    _, place = np.unique(sought, return_inverse=True)
    return np.asarray(place / max(1, int(place.max(initial=0))))


def covering(rows: np.ndarray, order: np.ndarray, taken: np.ndarray, count: int, method: CoverageMethod) -> list[int]:
    """`count` of the places `order`, by (N, D) features, besides the places `taken`."""
    if not len(order):
        return []
    chosen = _facility if method == "facility" else _farthest
    picks = chosen(rows, order[:CANDIDATES], taken, count)
    if len(picks) < count:
        rest = order[~np.isin(order, picks)]
        picks += [int(i) for i in rest[: count - len(picks)]]
    return picks


def _farthest(rows: np.ndarray, among: np.ndarray, taken: np.ndarray, count: int) -> list[int]:
    gap = _gaps(rows, among, taken)
    picks: list[int] = []
    while len(picks) < min(count, len(among)):
        best = int(np.argmax(gap))
        picks.append(int(among[best]))
        gap = np.minimum(gap, np.square(rows[among] - rows[among[best]]).sum(1))
        gap[best] = -1
    return picks


def _gaps(rows: np.ndarray, among: np.ndarray, taken: np.ndarray) -> np.ndarray:
    """(n,) squared distance of each candidate from the nearest that is taken."""
    gap = np.full(len(among), np.inf)
    for start in range(0, len(taken), 512):
        some = rows[taken[start : start + 512]]
        apart = (rows[among] ** 2).sum(1)[:, None] + (some**2).sum(1)[None] - 2 * rows[among] @ some.T
        gap = np.minimum(gap, apart.min(1))
    return gap


def _facility(rows: np.ndarray, among: np.ndarray, taken: np.ndarray, count: int) -> list[int]:
    seen = rows[among[:: max(1, len(among) // SEEN)]]
    among = among[:SEEN]
    apart = np.sqrt(np.maximum(_gaps_between(seen, rows[among]), 0))
    alike = apart.max() - apart
    own = np.zeros(len(seen))
    if len(taken):
        own = np.maximum(apart.max() - np.sqrt(np.maximum(_gaps_between(seen, rows[taken]), 0)).min(1), 0)
    picks: list[int] = []
    free = np.ones(len(among), bool)
    while len(picks) < min(count, len(among)):
        gain = np.where(free, np.maximum(alike - own[:, None], 0).sum(0), -1)
        best = int(np.argmax(gain))
        picks.append(int(among[best]))
        own, free[best] = np.maximum(own, alike[:, best]), False
    return picks


def _gaps_between(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    return np.asarray((one**2).sum(1)[:, None] + (other**2).sum(1)[None] - 2 * one @ other.T)


def evened(classes: np.ndarray, order: np.ndarray, taken: np.ndarray, count: int) -> list[int]:
    """`count` of the places `order`, in its order, so that classes (N,) end as even as can be with what is `taken`."""
    sums = np.bincount(classes[taken][classes[taken] >= 0], minlength=int(classes.max(initial=0)) + 1).astype(np.int64)
    waiting = {c: [int(i) for i in order if classes[i] == c] for c in np.unique(classes[order]).tolist()}
    picks: list[int] = []
    while len(picks) < count and any(waiting.values()):
        least = min((c for c, mine in waiting.items() if mine), key=lambda c: (sums[c] if c >= 0 else np.inf, c))
        picks.append(waiting[least].pop(0))
        if least >= 0:
            sums[least] += 1
    return picks
