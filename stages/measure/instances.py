"""Instances: average precision over masks, as COCO has it.

Equal to pycocotools' `segm` over all areas with up to 100 instances of a class in a picture, crowds included: what lies
in a crowd counts neither way. Equal scores of several pictures enter together, as with boxes (`stages.measure.boxes`).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from hyperloom.stages.measure.boxes import MOST, ROW, BoxMeasure, fitting, rows_of
from hyperloom.stages.measure.sums import Sums, packed
from hyperloom.stages.modality import overlap


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
                shared = overlap.of_masks(seen.masks[mine], true.masks[of], true.crowd[of])
                rows.append(rows_of(int(class_), seen.scores[mine], *fitting(shared, true.crowd[of])))
        counts = {"known": len(truth), "answered": int(answered.sum()), "present": present.tolist()}
        return {**counts, "boxes": packed(np.concatenate(rows).astype(ROW))}
