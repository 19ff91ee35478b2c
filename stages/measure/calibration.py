"""Calibration: is a model that is sure right as often as it is sure?"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from hyperloom.stages.measure.sums import Sums
from hyperloom.stages.modality import Modality
from hyperloom.stages.modality.knowledge import spread

BINS = 15
"""Of confidence, in the expected calibration error."""
FINE = 65535
"""Steps in which confidence is counted, so that its sums are integers."""


def confidence(modality: Modality, truth: np.ndarray, soft: np.ndarray, known: np.ndarray) -> Sums:
    """How sure the probabilities `soft` (N, ..., K) are and how often right, by bins of the highest probability:
    `sure` pixels, `sureness` their summed confidence in steps of 1/65535, `right` those whose class is the truth."""
    counted = modality.known(truth) & spread(known, truth) & (soft.sum(-1) > 0.5)
    predicted, true = soft[counted], truth[counted]
    steps = np.rint(np.clip(predicted.max(-1), 0, 1) * FINE).astype(np.int64)
    bins = np.minimum(steps * BINS // FINE, BINS - 1)
    right = bins[predicted.argmax(-1) == true]

    def summed(values: np.ndarray) -> list[int]:
        total = np.zeros(BINS, np.int64)
        np.add.at(total, bins, values)
        return total.tolist()

    return {
        "sure": np.bincount(bins, minlength=BINS).tolist(),
        "sureness": summed(steps),
        "right": np.bincount(right, minlength=BINS).tolist(),
    }


def calibration_error(sums: Mapping[str, Any]) -> float:
    """Expected calibration error (Naeini, Cooper & Hauskrecht 2015): the mean gap between confidence and accuracy."""
    sure, sureness, right = (np.asarray(sums[k], np.float64) for k in ("sure", "sureness", "right"))
    return float(np.abs(sureness / FINE - right).sum() / sure.sum())
