"""Boxes: average precision by counting.

Each predicted box falls into a class, a step of score and a step of how well it fits, so parts merge exactly, which a
list of all boxes sorted by score would not. (torchmetrics' MeanAveragePrecision needs torchvision and keeps every box.)
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np

from hyperloom.stages.measure.measure import Measure
from hyperloom.stages.measure.sums import Sums
from hyperloom.stages.modality import Modality

STEPS = 50
"""Of a box's score."""
FITS = tuple(round(0.5 + 0.05 * i, 2) for i in range(10))
"""Intersections over union from which a box counts as found, as in COCO."""


class BoxMeasure(Measure):
    """map, the mean average precision over FITS and over classes that occur, and map50, that at .5."""

    higher_is_better: ClassVar[Mapping[str, bool]] = {"map": True, "map50": True}

    def statistics(self, modality: Modality, truth: np.ndarray, prediction: np.ndarray, answered: np.ndarray) -> Sums:
        """`found[class][step of score][thresholds passed]` predicted boxes, and `there[class]` true ones. Boxes are
        matched from the surest on, each with the free true box of its class that it fits best."""
        classes = len(modality.counted)
        matched, present = np.zeros((classes, STEPS, len(FITS) + 1), np.int64), np.zeros(classes, np.int64)
        for one, other, has in zip(truth, prediction, answered, strict=True):
            true = one[~np.isnan(one).any(1)]
            present += np.bincount(true[:, 4].astype(int), minlength=classes)
            boxes = other[~np.isnan(other).any(1)] if has else other[:0]
            for class_ in np.unique(boxes[:, 4]).astype(int):
                mine = boxes[boxes[:, 4] == class_]
                mine = mine[np.argsort(-mine[:, 5], kind="stable")]
                steps = np.minimum((mine[:, 5] * STEPS).astype(int), STEPS - 1)
                passed = _passed(mine[:, :4], true[true[:, 4] == class_, :4])
                np.add.at(matched[class_], (steps, passed), 1)
        answers = int(answered.sum())
        return {"known": len(truth), "answered": answers, "found": matched.tolist(), "there": present.tolist()}

    def measured(self, modality: Modality, sums: Mapping[str, Any]) -> dict[str, float]:
        """Precision is made non-increasing, as usual."""
        matched, present = np.asarray(sums["found"], np.float64), np.asarray(sums["there"], np.float64)
        occur = present > 0
        if not occur.any():
            return {}
        predicted = np.cumsum(matched.sum(2)[:, ::-1], 1)  # (K, steps), surest first
        averages = []
        for level in range(1, len(FITS) + 1):
            hit = np.cumsum(matched[:, ::-1, level:].sum(2), 1)
            precision = np.divide(hit, predicted, out=np.zeros_like(hit), where=predicted > 0)
            precision = np.maximum.accumulate(precision[:, ::-1], 1)[:, ::-1]
            gained = np.diff(hit, axis=1, prepend=0)[occur] / present[occur, None]
            averages.append(float((gained * precision[occur]).sum(1).mean()))
        return {"map": float(np.mean(averages)), "map50": averages[0]}


def _passed(boxes: np.ndarray, true: np.ndarray) -> np.ndarray:
    """How many of FITS each box passes, surest first; each true box is used once."""
    passed = np.zeros(len(boxes), int)
    overlap = _overlap(boxes, true)
    for i in range(len(boxes)):
        if overlap.shape[1] and (best := int(overlap[i].argmax())) >= 0 and overlap[i, best] >= FITS[0] - 1e-9:
            passed[i] = sum(overlap[i, best] >= fit - 1e-9 for fit in FITS)
            overlap[:, best] = 0
    return passed


def _overlap(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Intersection over union of each pair, (n, m)."""
    low, high = np.maximum(one[:, None, :2], other[None, :, :2]), np.minimum(one[:, None, 2:], other[None, :, 2:])
    inside = np.clip(high - low, 0, None).prod(-1)
    areas = [(b[:, 2:] - b[:, :2]).prod(-1) for b in (one, other)]
    return inside / np.maximum(areas[0][:, None] + areas[1][None] - inside, 1e-12)
