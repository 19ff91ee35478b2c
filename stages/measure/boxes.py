"""Boxes: average precision as COCO has it.

Every predicted box counts, by its score to the last bit: a row for each is gathered (`stages.measure.sums`), since
steps of score would change a figure by some hundredths. Equal to pycocotools' `bbox` over all areas with up to 100
boxes of a class in a picture, but for equal scores in several pictures: there pycocotools goes by the order of the
files, so that a figure would depend on it; here equal ones enter together. A crowd is a true box of score 0. Areas by
size are none of the modality's. (torchmetrics' MeanAveragePrecision needs torchvision and cannot weigh samples anew,
as a bootstrap does.)
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any, ClassVar

import numpy as np

from hyperloom.stages.measure.measure import Measure
from hyperloom.stages.measure.sums import Gathered, Sums, packed
from hyperloom.stages.modality import Modality, overlap

FITS = (0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.8999999999999999, 0.95)
"""Intersections over union from which a predicted box is a true one, to the last bit as pycocotools has them."""
RECALLS = tuple(i * 0.01 for i in range(101))
"""At which precision is averaged."""
MOST = 100
"""Boxes of a class in one picture that count, the surest first."""
ROW = [("class", ">u2"), ("doubt", ">u4"), ("fits", ">u2"), ("rest", "u1")]
"""A predicted box. Sorted by its bytes: by class, then by falling score. A bit of `fits` for each of FITS; its upper
six bits, and `rest` for the others, say where it lies in a crowd and counts neither way."""
SURE = 0x3F800000
"""The bits of a score of 1."""


class BoxMeasure(Measure):
    """map, the mean average precision over FITS and over classes that occur, and map50, that at .5."""

    higher_is_better: ClassVar[Mapping[str, bool]] = {"map": True, "map50": True}

    def statistics(self, modality: Modality, truth: np.ndarray, prediction: np.ndarray, answered: np.ndarray) -> Sums:
        """`boxes`, rows of predicted boxes, and `present[class]`, true ones. At each of FITS boxes are matched from the
        surest on, each with the free true box of its class that it fits best."""
        classes = len(modality.counted)
        rows, present = [np.zeros(0, ROW)], np.zeros(classes, np.int64)
        for one, other, has in zip(truth, prediction, answered, strict=True):
            true = one[~np.isnan(one).any(1)]
            crowd = true[:, 5] <= 0
            present += np.bincount(true[~crowd, 4].astype(int), minlength=classes)
            boxes = other[~np.isnan(other).any(1)] if has else other[:0]
            for class_ in np.unique(boxes[:, 4]).astype(int):
                if not 0 <= class_ < classes:
                    continue  # precision is of a class, and this is none
                mine = boxes[boxes[:, 4] == class_]
                mine = mine[np.argsort(-mine[:, 5], kind="stable")][:MOST]
                of = true[:, 4] == class_
                shared = overlap.of_boxes(mine[:, :4], true[of, :4], crowd[of])
                slack = overlap.rounding(mine[:, :4], true[of, :4], crowd[of])
                rows.append(rows_of(class_, mine[:, 5], *fitting(shared, crowd[of], slack)))
        counts = {"known": len(truth), "answered": int(answered.sum()), "present": present.tolist()}
        return {
            **counts,
            "boxes": packed(np.concatenate(rows).astype(ROW)),
        }  # joining makes the order of bytes this machine's

    def measured(self, modality: Modality, sums: Mapping[str, Any]) -> dict[str, float]:
        """At each recall the best precision from there on."""
        present = np.asarray(sums["present"], np.float64)
        occur = np.flatnonzero(present > 0).tolist()
        if not occur:
            return {}
        gathered = Gathered.of(sums["boxes"])
        ranking, weights = gathered.seen_as(Ranking), gathered.weights
        averages = np.stack([ranking.averages(class_, present[class_], weights) for class_ in occur])
        return {"map": float(averages.mean()), "map50": float(averages[:, 0].mean())}


@dataclass(frozen=True)
class Ranking:
    """Predicted boxes (n,) of ROW in the order of their bytes. Those of a class and a score are a step."""

    data: np.ndarray
    """(n, bytes of a row) uint8."""

    @cached_property
    def _rows(self) -> np.ndarray:
        return np.ascontiguousarray(self.data).view(ROW)[:, 0]

    @cached_property
    def _parts(self) -> dict[int, tuple[slice, np.ndarray, np.ndarray, np.ndarray]]:
        """By class: its rows; for each the step, from 0; (FITS, rows) which of them are true, and which count."""
        rows = self._rows
        new = np.flatnonzero(np.diff(rows["class"].astype(int), prepend=-1))
        parts = {}
        for first, last in pairwise([*new, len(rows)]):
            mine = rows[first:last]
            steps = np.cumsum(np.diff(mine["doubt"].astype(np.int64), prepend=int(mine["doubt"][0])) > 0)
            true = (mine["fits"].astype(int)[None] >> np.arange(len(FITS))[:, None] & 1).astype(np.float64)
            passed = (mine["fits"].astype(int) >> len(FITS)) | (mine["rest"].astype(int) << (16 - len(FITS)))
            counts = 1.0 - (passed[None] >> np.arange(len(FITS))[:, None] & 1)
            parts[int(mine["class"][0])] = (slice(first, last), steps, true, counts)
        return parts

    def averages(self, class_: int, present: float, weights: np.ndarray | None) -> np.ndarray:
        """(FITS,) average precision of a class with so many true boxes. `weights` (n,) says how often each row counts;
        None: once."""
        if class_ not in self._parts:
            return np.zeros(len(FITS))
        rows, steps, true, counts = self._parts[class_]
        weight = np.ones(len(steps)) if weights is None else weights[rows]
        averages = []
        for each, count in zip(true, counts, strict=True):
            predicted = np.cumsum(np.bincount(steps, weight * count))
            hits = np.cumsum(np.bincount(steps, weight * each))
            precision = np.divide(hits, predicted, out=np.zeros_like(hits), where=predicted > 0)
            best = np.append(np.maximum.accumulate(precision[::-1])[::-1], 0.0)
            averages.append(best[np.searchsorted(hits / present, RECALLS)].mean())
        return np.array(averages)


def rows_of(class_: int, scores: np.ndarray, fits: np.ndarray, passed: np.ndarray) -> np.ndarray:
    """Rows of ROW: predictions of a class with their scores, what `fitting` says of each."""
    rows = np.zeros(len(scores), ROW)
    clipped = np.clip(scores, 0, 1).astype(np.float32)
    rows["class"], rows["doubt"] = class_, SURE - clipped.view(np.uint32)
    rows["fits"], rows["rest"] = fits | (passed << len(FITS)) & 0xFFFF, passed >> (16 - len(FITS))
    return rows


def fitting(overlap: np.ndarray, crowd: np.ndarray, slack: np.ndarray | float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """For each prediction (n,), the surest first, a bit for each of FITS: is there a free true one that it fits so well
    by `overlap` (n, m), which may be off by `slack`? And a bit for each where there is none, but a crowd (m,) that it
    lies in."""
    bits, passed = np.zeros(len(overlap), np.int64), np.zeros(len(overlap), np.int64)
    slack = np.broadcast_to(slack, overlap.shape)
    highest = overlap + slack
    lying = highest[:, crowd].max(1, initial=-1)
    for level, fit in enumerate(FITS if overlap.shape[1] else ()):
        least, free = min(fit, 1 - 1e-10), np.where(crowd, -1.0, highest)
        for i in range(len(overlap)):
            equal = np.flatnonzero(free[i] >= max(least, (free[i] - slack[i]).max()))
            if len(equal):
                bits[i] |= 1 << level
                free[:, equal[-1]] = -1  # the last of equal ones, as in pycocotools
            elif lying[i] >= least:
                passed[i] |= 1 << level
    return bits, passed
