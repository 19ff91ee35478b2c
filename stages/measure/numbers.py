"""Numbers: sums of errors of what has values in a unit, and of directions. What has no answer is left out."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np

from hyperloom.stages.measure.measure import Measure
from hyperloom.stages.measure.sums import Sums
from hyperloom.stages.modality import Modality

SMALLEST = 1e-6
"""Truth below this magnitude has no relative error; no vector counts as shorter."""


class NumberMeasure(Measure):
    """Of numbers: mae and rmse, in the modality's unit, and absrel, the mean error as a share of the truth."""

    higher_is_better: ClassVar[Mapping[str, bool]] = {"mae": False, "rmse": False, "absrel": False}

    def statistics(self, modality: Modality, truth: np.ndarray, prediction: np.ndarray, answered: np.ndarray) -> Sums:
        known = int(np.isfinite(truth.astype(np.float64)).sum())  # NaN is padding, or what nobody knows
        truth, prediction = truth[answered].astype(np.float64), prediction[answered].astype(np.float64)
        real = np.isfinite(truth) & np.isfinite(prediction)
        truth, prediction = truth[real], prediction[real]
        error, size = np.abs(prediction - truth), np.abs(truth)
        relative = size > SMALLEST
        return {
            "known": known,
            "answered": int(error.size),
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
        change = np.abs(now[valid].astype(np.float64) - before[valid].astype(np.float64))
        return {"change": float(change.sum()), "changes": int(change.size)}


class AngleMeasure(Measure):
    """Of directions: angle, the mean in degrees. A direction counts as one value."""

    higher_is_better: ClassVar[Mapping[str, bool]] = {"angle": False}

    def statistics(self, modality: Modality, truth: np.ndarray, prediction: np.ndarray, answered: np.ndarray) -> Sums:
        each = math.prod(truth.shape[1:-1])
        degrees = _degrees(truth[answered].astype(np.float64), prediction[answered].astype(np.float64))
        counts = {"known": len(truth) * each, "answered": int(answered.sum()) * each}
        return counts | {"angle": float(degrees.sum()), "angles": int(degrees.size)}

    def measured(self, modality: Modality, sums: Mapping[str, Any]) -> dict[str, float]:
        return {"angle": sums["angle"] / sums["angles"]}

    def change(self, modality: Modality, now: np.ndarray, before: np.ndarray, valid: np.ndarray) -> Sums:
        change = _degrees(now[valid].astype(np.float64), before[valid].astype(np.float64))
        return {"change": float(change.sum()), "changes": int(change.size)}


def _degrees(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """The angle between vectors (..., C)."""
    lengths = np.linalg.norm(one, axis=-1) * np.linalg.norm(other, axis=-1)
    cosine = (one * other).sum(-1) / np.maximum(lengths, SMALLEST)
    return np.degrees(np.arccos(np.clip(cosine, -1, 1)))
