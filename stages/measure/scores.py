"""Scores: statistics of predictions against the truth, and the figures that their sums amount to, for any modality.

What is counted and which figures there are is the measure's that the modality names (`stages.measure.measure`); what
comes with motion or probabilities is added here. Statistics are plain JSON, so they are a unit's `meta`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from hyperloom.stages.measure.calibration import calibration_error
from hyperloom.stages.measure.measure import measure_of
from hyperloom.stages.measure.sums import Sums
from hyperloom.stages.modality import Modality


def score(
    modality: Modality, truth: np.ndarray, prediction: np.ndarray, known: np.ndarray, answered: np.ndarray
) -> Sums:
    """Statistics of a batch.

    `truth` and `prediction` are (N, *shape) of the modality; `known` and `answered`, (N,) bool, tell which rows count.
    """
    return measure_of(modality).statistics(modality, truth[known], prediction[known], answered[known])


def decided(modality: Modality, values: np.ndarray) -> np.ndarray:
    """The answer that a model's output (N, ...) amounts to, (N, *shape); integers are answers already."""
    return values if values.dtype.kind != "f" else modality.answer(values)


def measures(modality: Modality, sums: Mapping[str, Any]) -> dict[str, float]:
    """The figures that the statistics amount to, with `coverage`; empty when the subject answered nothing. A figure
    that is no number, or infinite, is none.

    Where there are probabilities, also ece (see `stages.measure.calibration`); where there is motion, consistency of
    classes and flicker of numbers (see `stages.evaluate.motion`).
    """
    figures = measure_of(modality).figures(modality, sums)
    if figures and sums.get("moved"):
        figures["consistency"] = sums["same"] / sums["moved"]
    if figures and sums.get("changes"):
        figures["flicker"] = sums["change"] / sums["changes"]
    if figures and sum(sums.get("sure", ())):
        figures["ece"] = calibration_error(sums)
    return {name: value for name, value in figures.items() if math.isfinite(value)}
