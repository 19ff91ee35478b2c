"""Labels: true positives, false positives and misses, of the labels of a sample or of the pairs of its things."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np

from hyperloom.stages.measure.measure import Measure
from hyperloom.stages.measure.sums import Sums
from hyperloom.stages.modality import Modality


class LabelMeasure(Measure):
    """f1: the mean over labels that occur in the truth of 2 found / (2 found + wrong + missed)."""

    higher_is_better: ClassVar[Mapping[str, bool]] = {"f1": True}

    def statistics(self, modality: Modality, truth: np.ndarray, prediction: np.ndarray, answered: np.ndarray) -> Sums:
        """`labels[class]`: [true positives, false positives, misses]. What nobody knows of the truth counts nothing."""
        known = modality.known(truth)
        positive = answered[:, None] & (prediction == 1)
        true = truth == 1
        counts = np.stack([(true & positive).sum(0), (known & ~true & positive).sum(0), (true & ~positive).sum(0)], 1)
        answers = int((known & answered[:, None] & modality.given(prediction)).sum())
        return {"known": int(known.sum()), "answered": answers, "labels": counts.astype(np.int64).tolist()}

    def measured(self, modality: Modality, sums: Mapping[str, Any]) -> dict[str, float]:
        hit, wrong, missed = np.asarray(sums["labels"], np.float64).T
        occur = hit + missed > 0
        return {"f1": float((2 * hit / np.maximum(2 * hit + wrong + missed, 1))[occur].mean())} if occur.any() else {}


class PairMeasure(LabelMeasure):
    """The same of (edges, 2) pairs, which are of one class; rows below 0 are padding."""

    def statistics(self, modality: Modality, truth: np.ndarray, prediction: np.ndarray, answered: np.ndarray) -> Sums:
        counts = np.zeros((1, 3), np.int64)
        for true, predicted, has in zip(truth, prediction, answered, strict=True):
            expected, given = _pairs(true), _pairs(predicted) if has else set()
            counts += (len(expected & given), len(given - expected), len(expected - given))
        return {"known": len(truth), "answered": int(answered.sum()), "labels": counts.tolist()}


def _pairs(rows: np.ndarray) -> set[tuple[int, int]]:
    return {(int(a), int(b)) for a, b in rows if a >= 0}
