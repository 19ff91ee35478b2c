"""The cheap head: what a label would be by all other folds, for many samples in little time and memory.

Ridge regression onto the classes over random Fourier features (Rahimi & Recht 2007; scikit-learn's RBFSampler), the
width of the kernel by the median distance. Sums over a fold are kept apart, so that the answer for each fold follows
from the sums of the others, exactly, without a second look; the penalty is the one that errs least so. Scores become
probabilities by the temperature at which the known labels are likeliest. Everything goes through in chunks.
"""

from __future__ import annotations

from typing import Any

import numpy as np

FOLDS = 5
PENALTIES = (1e-3, 1e-2, 1e-1, 1.0)
SHARPNESS = (1.0, 2.0, 3.0, 4.0, 6.0, 8.0, 12.0, 16.0)
FLOOR = 1e-4
CHUNK = 4096


def folds(marks: np.ndarray) -> np.ndarray:
    """(N,) fold of each sample, by a mark that equal samples share: no copy is in another fold."""
    mixed = marks.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    return ((mixed >> np.uint64(33)) % np.uint64(FOLDS)).astype(np.int64)


class OutOfFold:
    """Fit by `add`, then `solve`, then ask by `scores`."""

    def __init__(self, sample: np.ndarray, classes: int, width: int = 512, level: bool = False):
        """`sample`: (m, F) of what will be added, drawn evenly; `level`: its numbers are on one footing already."""
        from sklearn.kernel_approximation import RBFSampler

        self._mean = sample.mean(0)
        spread = sample.std(0)
        rms = float(np.sqrt(np.mean(spread**2))) or 1.0
        self._scale = np.ones(len(spread)) if level else 1 / np.maximum(spread, 0.5 * rms)
        scaled = (sample - self._mean) * self._scale
        self._lift: Any = RBFSampler(gamma=1 / _middle(scaled) ** 2, n_components=width, random_state=0)
        self._lift.fit(scaled[:1].astype(np.float32))
        size = width + 1
        self._gram = np.zeros((FOLDS, size, size))
        self._cross = np.zeros((FOLDS, size, classes))
        self._square = np.zeros(FOLDS)
        self._weights: list[np.ndarray] = []

    def add(self, rows: np.ndarray, target: np.ndarray, fold: np.ndarray) -> None:
        """(n, F), (n, classes) shares of which rows without any are unknown, (n,)."""
        known = target.sum(1) > 0.5
        for start in range(0, len(rows), CHUNK):
            some = slice(start, start + CHUNK)
            kept = known[some]
            lifted, sought, mine = self._lifted(rows[some][kept]), target[some][kept], fold[some][kept]
            for f in range(FOLDS):
                z, y = lifted[mine == f], sought[mine == f]
                self._gram[f] += z.T @ z
                self._cross[f] += z.T @ y
                self._square[f] += float((y * y).sum())

    def solve(self) -> None:
        gram, cross = self._gram.sum(0), self._cross.sum(0)
        each = []
        for penalty in PENALTIES:
            weights, error = [], 0.0
            for f in range(FOLDS):
                others = gram - self._gram[f]
                others = (
                    others + penalty * np.trace(others) / len(others) * np.eye(len(others)) + 1e-9 * np.eye(len(others))
                )
                w = np.linalg.solve(others, cross - self._cross[f])
                error += self._square[f] - 2 * (w * self._cross[f]).sum() + (w * (self._gram[f] @ w)).sum()
                weights.append(w)
            each.append((float(error), weights))
        self._weights = min(each, key=lambda pair: pair[0])[1]

    def scores(self, rows: np.ndarray, fold: np.ndarray) -> np.ndarray:
        """(n, classes) float32: answers of the other folds."""
        out = np.zeros((len(rows), self._cross.shape[-1]), np.float32)
        for start in range(0, len(rows), CHUNK):
            some = slice(start, start + CHUNK)
            lifted, mine = self._lifted(rows[some]), fold[some]
            for f in np.unique(mine):
                out[some][mine == f] = lifted[mine == f] @ self._weights[int(f)].astype(np.float32)
        return out

    def _lifted(self, rows: np.ndarray) -> np.ndarray:
        """(n, width + 1) float32."""
        scaled = ((rows - self._mean) * self._scale).astype(np.float32)
        lifted = self._lift.transform(scaled) if len(rows) else np.zeros((0, self._gram.shape[-1] - 1))
        return np.concatenate([lifted, np.ones((len(rows), 1))], 1, dtype=np.float32)


def probabilities(scores: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """(n, classes) of scores, as sharp as the labels (n,), -1 for unknown, bear out."""
    known = np.flatnonzero(labels >= 0)
    some = known[:: max(1, len(known) // 20_000)]
    losses = [
        -np.log(_softmax(sharp * scores[some])[np.arange(len(some)), labels[some]] + FLOOR).mean() if len(some) else 0.0
        for sharp in SHARPNESS
    ]
    return _softmax(SHARPNESS[int(np.argmin(losses))] * scores)


def _softmax(values: np.ndarray) -> np.ndarray:
    powers = np.exp(values - values.max(1, keepdims=True))
    return powers / powers.sum(1, keepdims=True)


def _middle(rows: np.ndarray) -> float:
    """The median distance of two rows."""
    some = rows[:: max(1, len(rows) // 500)][:500].astype(np.float64)
    square = (some**2).sum(1)
    apart = np.maximum(square[:, None] + square[None] - 2 * some @ some.T, 0)
    away = apart[np.triu_indices(len(some), 1)]
    return float(np.sqrt(np.median(away))) or 1.0 if len(away) else 1.0
