"""Texts: the share of the true texts' bytes that were predicted right at their place; what has no answer is wrong."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np

from hyperloom.stages.measure.measure import Measure
from hyperloom.stages.measure.sums import Sums
from hyperloom.stages.modality import Modality


class TextMeasure(Measure):
    """accuracy, by byte."""

    higher_is_better: ClassVar[Mapping[str, bool]] = {"accuracy": True}

    def statistics(self, modality: Modality, truth: np.ndarray, prediction: np.ndarray, answered: np.ndarray) -> Sums:
        valid = modality.known(truth)
        right = valid & (truth == prediction) & answered[:, None]
        answers = int((valid & answered[:, None]).sum())
        return {"known": int(valid.sum()), "answered": answers, "right_bytes": int(right.sum())}

    def measured(self, modality: Modality, sums: Mapping[str, Any]) -> dict[str, float]:
        return {"accuracy": sums["right_bytes"] / sums["known"]}
