"""A finding: what is wrong with how many samples, in one sentence, and the line of a recipe that acts on it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

SHOWN = 3
"""Samples that a sentence names."""
SPREADS = 6.0
"""Robust deviations from the middle beyond which a sample is far off: by chance one of 500 million of a normal law."""


@dataclass(frozen=True)
class AuditFinding:
    """`kind`: label, disagreement, outlier, copy, split-copy, fault, balance, weak. `count` of `total` samples;
    `worst`: their keys, the worst first, with what each is beside, if anything; `act`: what to write."""

    kind: str
    subject: str
    count: int
    total: int
    text: str
    act: str
    worst: Sequence[str] = ()
    beside: Sequence[str] = field(default=())

    def sentence(self) -> str:
        return f"{self.text}{self._first()}. Next: {self.act}"

    def _first(self) -> str:
        if not self.worst:
            return ""
        pairs = [f"{a} = {b}" for a, b in zip(self.worst, self.beside, strict=False)] or list(self.worst)
        return f" (first: {', '.join(pairs[:SHOWN])}{', ..' if len(pairs) > SHOWN else ''})"

    def row(self) -> dict[str, Any]:
        return {**asdict(self), "worst": list(self.worst), "beside": list(self.beside)}


def percent(share: float) -> str:
    """To two digits, all of them where there are three: 0.03 %, 4.7 %, 100 %."""
    return f"{100 * share:.{2 if share < 0.995 else 3}g} %"


def far(values: np.ndarray, least: float = 0.0) -> np.ndarray:
    """(N,) bool: which of (N,) lie far above the middle, by SPREADS robust deviations, and above `least`; NaN never."""
    known = values[np.isfinite(values)]
    if not len(known):
        return np.zeros(len(values), bool)
    middle = float(np.median(known))
    spread = 1.4826 * float(np.median(np.abs(known - middle)))
    border = max(middle + SPREADS * spread, least)
    return np.nan_to_num(values, nan=-np.inf) > border
