"""Numbers: sums of errors of what has values in a unit, and of directions. What has no answer is left out.

Both count sites (pixels, steps, samples), as the losses do: one without truth (`Modality.known`) counts nothing, one
whose prediction says nothing (`Modality.given`) is silent. A number of a site weighs as much as any other.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np

from hyperloom.stages.angle import degrees
from hyperloom.stages.measure.measure import Measure
from hyperloom.stages.measure.sums import Sums
from hyperloom.stages.modality import Modality
from hyperloom.stages.modality.knowledge import spread

SMALLEST = 1e-6
"""Truth below this magnitude has no relative error."""


class NumberMeasure(Measure):
    """Of numbers: mae and rmse, in the modality's unit, and absrel, the mean error as a share of the truth."""

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
        }

    def measured(self, modality: Modality, sums: Mapping[str, Any]) -> dict[str, float]:
        figures = {"mae": sums["absolute"] / sums["values"], "rmse": math.sqrt(sums["squared"] / sums["values"])}
        if sums["relatives"]:
            figures["absrel"] = sums["relative"] / sums["relatives"]
        return figures

    def change(self, modality: Modality, now: np.ndarray, before: np.ndarray, valid: np.ndarray) -> Sums:
        valid = valid & _said(modality, now) & _said(modality, before)
        change = np.abs(now[valid].astype(np.float64) - before[valid].astype(np.float64))
        return {"change": float(change.sum()), "changes": int(change.size)}


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
