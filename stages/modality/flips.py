"""Flips: which class became which between two versions of a column's values."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np


def flips(kind: Any, before: np.ndarray, after: np.ndarray) -> Counter[tuple[str, str]]:
    """From, to -> how many ids of the class `from` are of the class `to` now, `unknown` among them; `before` and
    `after` are values of `kind` (a map or a choice), of one shape."""
    names = [*kind.counted, "unknown"]
    unknown = len(names) - 1
    a, b = (np.where((v >= 0) & (v < unknown), v, unknown) for v in (before, after))
    pairs, counts = np.unique(np.stack([a[a != b], b[a != b]]), axis=1, return_counts=True)
    return Counter({(names[i], names[j]): int(n) for (i, j), n in zip(pairs.T, counts, strict=True)})
