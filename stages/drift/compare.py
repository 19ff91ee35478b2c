"""The comparison: every figure of every column with its threshold, its chance, and whether that is an alarm.

Where there are groups enough to tell chance, a figure is an alarm when it reaches its threshold and dealing the groups
anew seldom gives such a one (see `stages.drift.chance`). Where there are too few, the threshold is raised to what
samples that do not depend on one another give by chance, and decides alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from hyperloom.pipeline.root.storage import Storage
from hyperloom.stages.base import modality_of
from hyperloom.stages.drift import chance
from hyperloom.stages.drift.makers import Draw, makers
from hyperloom.stages.drift.measured import Measured, measures
from hyperloom.stages.drift.reference import Side
from hyperloom.stages.modality import Modality

THRESHOLDS = {
    "psi": 0.25, "ks": 0.2, "js": 0.1, "shift": 0.5, "missing": 0.1, "agreement": 0.1, "quarantine": 0.05,
}  # fmt: skip
"""What a figure may come to, by measure."""
DIGITS = 6


@dataclass(frozen=True)
class DriftFigure:
    """One figure. `chance` is None where there are too few groups to tell."""

    subject: str
    measure: str
    value: float
    threshold: float
    chance: float | None
    alarm: bool

    @property
    def far(self) -> float:
        """How many times its threshold it is."""
        return self.value / self.threshold

    def __str__(self) -> str:
        by = "" if self.chance is None else f", chance {self.chance:.3g}"
        return f"{self.subject} {self.measure} {self.value:.3g} (allowed {self.threshold:.3g}{by})"


def compared(
    storage: Storage,
    reference: Side,
    new: Side,
    columns: Sequence[str],
    modalities: Mapping[str, Modality],
    thresholds: Mapping[str, float],
    level: float,
) -> list[DriftFigure]:
    """All figures of `columns` and of those who made them, the furthest beyond its threshold first."""
    import numpy as np

    draws: list[Draw] = [(False, g) for g in reference.records] + [(True, g) for g in new.records]
    newer = np.array([draw[0] for draw in draws])
    measured = list(_columns(reference, new, columns, modalities))
    measured += makers(storage, reference, new, draws)
    if not measured:
        return []
    limits = [thresholds.get(m.measure, THRESHOLDS[m.measure]) for m in measured]
    dealt = chance.dealings(newer)
    dealt_enough = len(dealt) * level >= 1
    distances = np.stack([m.over(dealt) for m in measured])
    if not dealt_enough:
        limits = [max(limit, m.noise(newer)) for m, limit in zip(measured, limits, strict=True)]
    by_chance = chance.chances(distances, limits) if dealt_enough else [None] * len(measured)
    findings = [
        _finding(m, float(value), limit, None if by is None else float(by), level)
        for m, value, limit, by in zip(measured, distances[:, 0], limits, by_chance, strict=True)
    ]
    return sorted(findings, key=lambda f: (-f.alarm, -f.far, f.subject, f.measure))


def _columns(
    reference: Side, new: Side, columns: Sequence[str], modalities: Mapping[str, Modality]
) -> Iterator[Measured]:
    import numpy as np

    groups = [*reference.records.values(), *new.records.values()]
    newer = np.repeat([False, True], [len(reference.records), len(new.records)])
    for column in columns:
        figures = [[r.meta["statistics"][column] for r in mine] for mine in groups]
        yield from measures(column, modalities[modality_of(column)], figures, newer)


def _finding(measured: Measured, value: float, limit: float, by_chance: float | None, level: float) -> DriftFigure:
    alarm = value >= limit and (by_chance is None or by_chance <= level)
    rounded = None if by_chance is None else round(by_chance, DIGITS)
    return DriftFigure(measured.subject, measured.measure, round(value, DIGITS), round(limit, DIGITS), rounded, alarm)
