"""Classes: confusion matrices of what has exactly one class for each pixel, sample or token.

Known truth without an answer counts as wrong: an expert must not gain by abstaining.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np

from hyperloom.stages.measure.measure import Measure
from hyperloom.stages.measure.sums import Sums
from hyperloom.stages.modality import Modality


class ClassMeasure(Measure):
    """Of one class a sample or token: accuracy, and f1, the mean over classes that occur in the truth."""

    higher_is_better: ClassVar[Mapping[str, bool]] = {"f1": True, "accuracy": True}

    def statistics(self, modality: Modality, truth: np.ndarray, prediction: np.ndarray, answered: np.ndarray) -> Sums:
        """`matrix[t][p]`: pixels (samples, tokens) of class t predicted as p; the last column: those without answer."""
        classes, unknown = modality.channels, int(modality.missing)
        valid = answered.reshape(-1, *(1,) * (truth.ndim - 1))
        prediction = np.where((prediction == unknown) | ~valid, classes, prediction)
        counted = truth != unknown
        pairs = truth[counted].astype(np.int64) * (classes + 1) + prediction[counted]
        return {"matrix": np.bincount(pairs, minlength=classes * (classes + 1)).reshape(classes, classes + 1).tolist()}

    def figures(self, modality: Modality, sums: Mapping[str, Any]) -> dict[str, float]:
        if "matrix" not in sums:
            return {}
        matrix = np.asarray(sums["matrix"], np.int64)
        known, predicted = int(matrix.sum()), int(matrix[:, :-1].sum())
        if not predicted:
            return {}
        rest = {"accuracy": int(np.trace(matrix[:, :-1])) / known, "coverage": predicted / known}
        return self.measured(modality, sums) | rest

    def measured(self, modality: Modality, sums: Mapping[str, Any]) -> dict[str, float]:
        shares = [v for v in ious(modality, sums).values() if v is not None]
        return {"f1": math.fsum(2 * v / (1 + v) for v in shares) / len(shares)}

    def known(self, sums: Mapping[str, Any]) -> int:
        return sum(map(sum, sums["matrix"]))

    def by_class(self, modality: Modality, sums: Mapping[str, Any]) -> dict[str, dict[str, float | None]]:
        """`iou`, `recall` (share of the class that was predicted) and `precision` (right share of the predictions);
        None for a class that does not occur in the truth (or, for precision, is never predicted)."""
        matrix = np.asarray(sums["matrix"], np.int64)
        hit, truth, predicted = np.diagonal(matrix), matrix.sum(1), matrix[:, :-1].sum(0)

        def shares(whole: np.ndarray) -> dict[str, float | None]:
            return {name: float(hit[i] / whole[i]) if whole[i] else None for i, name in enumerate(modality.counted)}

        return {"iou": ious(modality, sums), "recall": shares(truth), "precision": shares(predicted)}


class MapMeasure(ClassMeasure):
    """Of maps: accuracy, and miou, the mean of `ious` over classes that occur in the truth."""

    higher_is_better: ClassVar[Mapping[str, bool]] = {"miou": True, "accuracy": True}

    def measured(self, modality: Modality, sums: Mapping[str, Any]) -> dict[str, float]:
        shares = [v for v in ious(modality, sums).values() if v is not None]
        return {"miou": math.fsum(shares) / len(shares)}

    def change(self, modality: Modality, now: np.ndarray, before: np.ndarray, valid: np.ndarray) -> Sums:
        valid = valid & (now != modality.missing) & (before != modality.missing)
        return {"same": int(((now == before) & valid).sum()), "moved": int(valid.sum())}


class LevelMeasure(ClassMeasure):
    """Of ordered levels also mae, which counts levels."""

    higher_is_better: ClassVar[Mapping[str, bool]] = {**ClassMeasure.higher_is_better, "mae": False}

    def measured(self, modality: Modality, sums: Mapping[str, Any]) -> dict[str, float]:
        predicted = np.asarray(sums["matrix"], np.int64)[:, :-1]
        levels = np.arange(len(predicted))
        distance = np.abs(levels[:, None] - levels)
        return super().measured(modality, sums) | {"mae": float((predicted * distance).sum() / predicted.sum())}


def ious(modality: Modality, sums: Mapping[str, Any]) -> dict[str, float | None]:
    """Intersection over union of each class (Jaccard index); None for a class that does not occur in the truth."""
    matrix = np.asarray(sums["matrix"], np.int64)
    hit, truth, predicted = np.diagonal(matrix), matrix.sum(1), matrix[:, :-1].sum(0)
    return {
        name: float(hit[i] / (truth[i] + predicted[i] - hit[i])) if truth[i] else None
        for i, name in enumerate(modality.counted)
    }
