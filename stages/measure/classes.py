"""Classes: confusion matrices of what has exactly one class for each pixel, sample or token.

Known truth without an answer counts as wrong: an expert must not gain by abstaining. So does an answer that is no
class.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np

from hyperloom.stages.measure.measure import Measure
from hyperloom.stages.measure.sums import Sums
from hyperloom.stages.modality import Modality
from hyperloom.stages.modality.knowledge import spread


class ClassMeasure(Measure):
    """Of one class a sample or token: accuracy, and f1, the mean over classes that occur in the truth."""

    higher_is_better: ClassVar[Mapping[str, bool]] = {"f1": True, "accuracy": True}

    def statistics(self, modality: Modality, truth: np.ndarray, prediction: np.ndarray, answered: np.ndarray) -> Sums:
        """`matrix[t][p]`: pixels (samples, tokens) of class t predicted as p; the last column: those that were given no
        class. `foreign[t]`: those of them with an answer, which is no class."""
        classes, counted = modality.channels, modality.known(truth)
        true, ids = truth[counted].astype(np.int64), prediction[counted].astype(np.int64)
        given = (modality.given(prediction) & spread(answered, truth))[counted]
        classed = given & (ids >= 0) & (ids < classes)
        pairs = true * (classes + 1) + np.where(classed, ids, classes)
        matrix = np.bincount(pairs, minlength=classes * (classes + 1)).reshape(classes, classes + 1)
        foreign = np.bincount(true[given & ~classed], minlength=classes)
        return {"matrix": matrix.tolist(), "foreign": foreign.tolist()}

    def figures(self, modality: Modality, sums: Mapping[str, Any]) -> dict[str, float]:
        if "matrix" not in sums:
            return {}
        known, predicted = self.known(sums), int(self.answers(sums))
        if not predicted:
            return {}
        matrix = np.asarray(sums["matrix"], np.int64)
        rest = {"accuracy": int(np.trace(matrix)) / known, "coverage": predicted / known}
        return self.measured(modality, sums) | rest

    def measured(self, modality: Modality, sums: Mapping[str, Any]) -> dict[str, float]:
        shares = [v for v in ious(modality, sums).values() if v is not None]
        return {"f1": math.fsum(2 * v / (1 + v) for v in shares) / len(shares)}

    def known(self, sums: Mapping[str, Any]) -> int:
        return int(np.asarray(sums["matrix"], np.int64).sum())

    def answers(self, sums: Mapping[str, Any]) -> Any:
        matrix, foreign = (np.asarray(sums[name], np.int64) for name in ("matrix", "foreign"))
        return matrix[..., :-1].sum((-2, -1)) + foreign.sum(-1)

    def by_class(self, modality: Modality, sums: Mapping[str, Any]) -> dict[str, dict[str, float | None]]:
        """`iou`, `recall` (share of the class that was predicted) and `precision` (right share of the predictions);
        None for a class that does not occur in the truth (or, for precision, is never predicted)."""
        hit, truth, predicted = _marginals(sums)

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
        valid = valid & modality.given(now) & modality.given(before)
        return {"same": int(((now == before) & valid).sum()), "moved": int(valid.sum())}


class LevelMeasure(ClassMeasure):
    """Of ordered levels also mae, which counts levels; what is no level is as far off as a level can be."""

    higher_is_better: ClassVar[Mapping[str, bool]] = {**ClassMeasure.higher_is_better, "mae": False}
    of_answers: ClassVar[frozenset[str]] = frozenset({"mae"})

    def measured(self, modality: Modality, sums: Mapping[str, Any]) -> dict[str, float]:
        predicted, foreign = np.asarray(sums["matrix"], np.int64), np.asarray(sums["foreign"], np.int64)
        predicted = np.concatenate([predicted[:, :-1], foreign[:, None]], 1)
        levels = np.arange(len(predicted))
        distance = np.abs(levels[:, None] - levels)
        distance = np.concatenate([distance, distance.max(1, keepdims=True)], 1)
        return super().measured(modality, sums) | {"mae": float((predicted * distance).sum() / predicted.sum())}


def ious(modality: Modality, sums: Mapping[str, Any]) -> dict[str, float | None]:
    """Intersection over union of each class (Jaccard index); None for a class that does not occur in the truth."""
    hit, truth, predicted = _marginals(sums)
    return {
        name: float(hit[i] / (truth[i] + predicted[i] - hit[i])) if truth[i] else None
        for i, name in enumerate(modality.counted)
    }


def _marginals(sums: Mapping[str, Any]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """By class: how many were right, how many there are in the truth, how many were predicted."""
    matrix = np.asarray(sums["matrix"], np.int64)
    return np.diagonal(matrix), matrix.sum(1), matrix[:, :-1].sum(0)
