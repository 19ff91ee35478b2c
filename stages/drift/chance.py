"""Chance: how often a regrouping of the same groups differs as much as the newer ones do from the reference.

The samples of one group (a flight, a patient) are alike, so a handful of new groups differs from many old ones even
where nothing has changed. What counts as one draw is therefore a group: groups are dealt anew into as many `new` ones
as there are, all ways where these are few, else `ROUNDS` at random (from a fixed seed). The chance of a figure is the
share of dealings in which *any* figure lies as far beyond its scale, so that many columns give no more false alarms
than one (the maximum of Westfall and Young 1993). A figure's scale is its threshold, or what it comes to in a
twentieth of the dealings where that is more: a column whose groups differ widely must not hide the others.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import combinations

import numpy as np

ROUNDS = 400
USUAL = 0.95
_NEARLY = 1 - 1e-9


def dealings(new: np.ndarray, rounds: int = ROUNDS) -> np.ndarray:
    """(dealings, groups) bool: which groups count as new. The first is the real one, `new` (groups,)."""
    groups, count = len(new), int(new.sum())
    if math.comb(groups, count) <= rounds:
        dealt = np.zeros((math.comb(groups, count), groups), bool)
        for row, chosen in zip(dealt, combinations(range(groups), count), strict=True):
            row[list(chosen)] = True
        real = int((dealt == new).all(1).argmax())
        return np.concatenate([dealt[real : real + 1], dealt[:real], dealt[real + 1 :]])
    random = np.random.default_rng(0)
    dealt = np.zeros((rounds, groups), bool)
    dealt[0] = new
    for row in dealt[1:]:
        row[random.choice(groups, count, replace=False)] = True
    return dealt


def chances(distances: np.ndarray, thresholds: Sequence[float]) -> np.ndarray:
    """(figures,) chances of the real dealing, the first of (figures, dealings) distances."""
    usual = np.quantile(distances, USUAL, axis=1, method="lower")
    far = distances / np.maximum(usual, np.asarray(thresholds))[:, None]
    return (far.max(0) >= far[:, :1] * _NEARLY).mean(1)
