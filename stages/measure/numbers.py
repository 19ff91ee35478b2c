"""Numbers: sums of errors of what has values in a unit, and of directions. What has no answer is left out.

Both count sites (pixels, steps, samples), as the losses do: one without truth (`Modality.known`) counts nothing, one
whose prediction says nothing (`Modality.given`) is silent. A number of a site weighs as much as any other.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np

from hyperloom.pipeline.counting import counted
from hyperloom.stages.angle import degrees
from hyperloom.stages.measure.measure import Measure
from hyperloom.stages.measure.sums import Sums
from hyperloom.stages.modality import Modality
from hyperloom.stages.modality.knowledge import spread

SMALLEST = 1e-6
"""Truth below this magnitude has no relative error; of a column whose own numbers are smaller than one, below this
share of their size."""
STEPS = range(-9, -46, -3)
"""Powers of ten down to which relative errors of smaller truth are added up apart, as some samples have it."""


class NumberMeasure(Measure):
    """Of numbers: mae and rmse, in the modality's unit, and absrel, the mean error as a share of the truth, without
    truth that is zero, or nearly so beside the column's other numbers."""

    higher_is_better: ClassVar[Mapping[str, bool]] = {"mae": False, "rmse": False, "absrel": False}
    of_answers: ClassVar[frozenset[str]] = frozenset(higher_is_better)

    def statistics(self, modality: Modality, truth: np.ndarray, prediction: np.ndarray, answered: np.ndarray) -> Sums:
        known, both = _judged(modality, truth, prediction, answered)
        truth, prediction = truth[both].astype(np.float64), prediction[both].astype(np.float64)
        error, size = np.abs(prediction - truth), np.abs(truth)
        relative = size > SMALLEST
        return {
            "known": int(known.sum()),
            "answered": int(both.sum()),
            "absolute": float(error.sum()),
            "squared": float((error * error).sum()),
            "values": int(error.size),
            "relative": float((error[relative] / size[relative]).sum()),
            "relatives": int(relative.sum()),
            "size": float((size * size).sum()),
            **_smaller(error[~relative], size[~relative]),
        }

    def measured(self, modality: Modality, sums: Mapping[str, Any]) -> dict[str, float]:
        figures = {"mae": sums["absolute"] / sums["values"], "rmse": math.sqrt(sums["squared"] / sums["values"])}
        total, count, _ = _relative(sums)
        if count:
            figures["absrel"] = total / count
        return figures

    def omitted(self, modality: Modality, sums: Mapping[str, Any]) -> str:
        _, count, least = _relative(sums)
        if not (left := sums["values"] - count):
            return ""
        part = f"{left:,} of {counted(sums['values'], 'number')}"
        return f"absrel leaves out {part}: truth no further from zero than {least:g}"

    def change(self, modality: Modality, now: np.ndarray, before: np.ndarray, valid: np.ndarray) -> Sums:
        valid = valid & _said(modality, now) & _said(modality, before)
        change = np.abs(now[valid].astype(np.float64) - before[valid].astype(np.float64))
        return {"change": float(change.sum()), "changes": int(change.size)}


def _smaller(error: np.ndarray, size: np.ndarray) -> Sums:
    """Relative errors of truth of at most SMALLEST, by the power of ten above which its size lies."""
    sums: Sums = {}
    for power in STEPS:
        mine = (size > 10.0**power) & (size <= 10.0 ** (power + 3))
        if mine.any():
            sums[f"relative{power}"] = float((error[mine] / size[mine]).sum())
            sums[f"relatives{power}"] = int(mine.sum())
    return sums


def _relative(sums: Mapping[str, Any]) -> tuple[float, int, float]:
    """The sum of relative errors, of how many numbers, and the size of truth above which these are: SMALLEST, or one of
    the steps, where that is no less than this share of the size of all truth."""
    size = math.sqrt(sums.get("size", 0.0) / sums["values"])
    taken = [power for power in STEPS if 10.0**power >= SMALLEST * size > 0]
    total = math.fsum([sums.get("relative", 0.0), *(sums.get(f"relative{power}", 0.0) for power in taken)])
    count = sums["relatives"] + sum(sums.get(f"relatives{power}", 0) for power in taken)
    return total, count, 10.0 ** taken[-1] if taken else SMALLEST


class AngleMeasure(Measure):
    """Of directions: angle, the mean in degrees."""

    higher_is_better: ClassVar[Mapping[str, bool]] = {"angle": False}
    of_answers: ClassVar[frozenset[str]] = frozenset(higher_is_better)

    def statistics(self, modality: Modality, truth: np.ndarray, prediction: np.ndarray, answered: np.ndarray) -> Sums:
        known, both = _judged(modality, truth, prediction, answered)
        angles = degrees(truth[both], prediction[both])
        counts = {"known": int(known.sum()), "answered": int(both.sum())}
        return counts | {"angle": float(angles.sum()), "angles": int(angles.size)}

    def measured(self, modality: Modality, sums: Mapping[str, Any]) -> dict[str, float]:
        return {"angle": sums["angle"] / sums["angles"]}

    def change(self, modality: Modality, now: np.ndarray, before: np.ndarray, valid: np.ndarray) -> Sums:
        valid = valid & _said(modality, now) & _said(modality, before)
        change = degrees(now[valid], before[valid])
        return {"change": float(change.sum()), "changes": int(change.size)}


def _judged(
    modality: Modality, truth: np.ndarray, prediction: np.ndarray, answered: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """(N, *sites): where there is a truth, and where there is an answer to it too."""
    known = modality.known(truth)
    return known, known & modality.given(prediction) & spread(answered, known)


def _said(modality: Modality, value: np.ndarray) -> np.ndarray:
    """Where one value says something."""
    return modality.given(value[None])[0]
