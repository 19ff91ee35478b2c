"""Instances: average precision over masks, as COCO has it.

Equal to pycocotools' `segm` over all areas with up to 100 instances of a class in a picture, crowds included: what lies
in a crowd counts neither way. Equal scores of several pictures enter together, as with boxes (`stages.measure.boxes`).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from hyperloom.stages.measure.boxes import MOST, ROW, BoxMeasure, fitting, rows_of
from hyperloom.stages.measure.sums import Sums, packed


class InstanceMeasure(BoxMeasure):
    """map, the mean average precision over ten overlaps of masks and over classes that occur, and map50, that at .5."""

    def statistics(self, modality: Any, truth: np.ndarray, prediction: np.ndarray, answered: np.ndarray) -> Sums:
        classes = len(modality.counted)
        rows, present = [np.zeros(0, ROW)], np.zeros(classes, np.int64)
        for one, other, has in zip(truth, prediction, answered, strict=True):
            true, seen = modality.unpacked_value(one), modality.unpacked_value(other)
            present += np.bincount(true.classes[~true.crowd], minlength=classes)
            for class_ in np.unique(seen.classes) if has else ():
                if not 0 <= class_ < classes:
                    continue
                mine = np.flatnonzero(seen.classes == class_)
                mine = mine[np.argsort(-seen.scores[mine], kind="stable")][:MOST]
                of = true.classes == class_
                overlap = overlaps(seen.masks[mine], true.masks[of], true.crowd[of])
                rows.append(rows_of(int(class_), seen.scores[mine], *fitting(overlap, true.crowd[of])))
        counts = {"known": len(truth), "answered": int(answered.sum()), "present": present.tolist()}
        return {**counts, "boxes": packed(np.concatenate(rows).astype(ROW))}


def overlaps(one: np.ndarray, other: np.ndarray, crowd: np.ndarray | None = None) -> np.ndarray:
    """(n, m) float64 intersection over union of masks (n, H, W), (m, H, W); of crowds over the first's area alone."""
    a, b = (m.reshape(len(m), -1).astype(np.float32) for m in (one, other))
    shared = (a @ b.T).astype(np.float64)  # exact: sums of ones
    first, second = a.sum(1, dtype=np.float64)[:, None], b.sum(1, dtype=np.float64)[None]
    union = first + second - shared
    if crowd is not None:
        union = np.where(crowd[None], np.broadcast_to(first, union.shape), union)
    return shared / np.maximum(union, 1)
