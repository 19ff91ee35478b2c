"""Distances of two samples that are known as counts in the same bins.

    psi(p, q)   population stability index: sum of (p - q) ln(p / q); .1 is a little, .25 much (Siddiqi 2006)
    ks(p, q)    Kolmogorov-Smirnov: the largest difference of the two distribution functions, 0 to 1
    js(p, q)    Jensen-Shannon distance, the root of the divergence in bits, 0 to 1 (Endres and Schindelin 2003)

Each takes counts (..., bins), which broadcast, and gives (...): many regroupings of the same data are compared at once.
Where one side has counted nothing the distance is 0: that a column is not there is a figure of its own. `noise` is
what each of them comes to by chance alone, between two samples of the same. What the bins are: `stages.drift.measured`.
"""

from __future__ import annotations

import math

import numpy as np

LEAST = 1e-4
"""The smallest share of a bin in a PSI: one sample in a bin that the other side lacks must not decide everything."""
MANY = 3.0
"""How many times its mean a distance that grows as chi squared may be by chance."""


def psi(reference: np.ndarray, new: np.ndarray) -> np.ndarray:
    p, q = (np.maximum(_shares(counts), LEAST) for counts in (reference, new))
    return _counted(reference, new, ((q - p) * np.log(q / p)).sum(-1))


def ks(reference: np.ndarray, new: np.ndarray) -> np.ndarray:
    p, q = (np.cumsum(_shares(counts), -1) for counts in (reference, new))
    return _counted(reference, new, np.abs(p - q).max(-1, initial=0.0))


def js(reference: np.ndarray, new: np.ndarray) -> np.ndarray:
    p, q = np.broadcast_arrays(_shares(reference), _shares(new))
    divergence = (_relative_entropy(p, (p + q) / 2) + _relative_entropy(q, (p + q) / 2)) / 2
    return _counted(reference, new, np.sqrt(np.maximum(divergence, 0)))


def noise(measure: str, bins: int, reference: int, new: int) -> float:
    """What a figure comes to at most, about once in a thousand, between so many samples on each side that differ in
    nothing and do not depend on one another: Kolmogorov's limit, chi squared, or a normal mean."""
    size = 1 / max(1, reference) + 1 / max(1, new)
    squared = MANY * max(1, bins - 1) * size
    known = {"psi": squared, "js": math.sqrt(squared / (8 * math.log(2))), "ks": 1.95 * math.sqrt(size)}
    return known.get(measure, 3.3 * math.sqrt(size) * (1.0 if measure == "shift" else 0.5))


def _shares(counts: np.ndarray) -> np.ndarray:
    total = counts.sum(-1, keepdims=True)
    return np.divide(counts, total, out=np.zeros(counts.shape), where=total > 0)


def _counted(reference: np.ndarray, new: np.ndarray, distance: np.ndarray) -> np.ndarray:
    return np.where((reference.sum(-1) > 0) & (new.sum(-1) > 0), distance, 0.0)


def _relative_entropy(p: np.ndarray, q: np.ndarray) -> np.ndarray:
    """In bits; nothing adds nothing."""
    ratio = np.divide(p, q, out=np.ones(p.shape), where=p > 0)
    return (p * np.log2(ratio)).sum(-1)
