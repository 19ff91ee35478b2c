"""Points: the share of visible ones that were predicted near enough."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np

from hyperloom.stages.measure.measure import Measure
from hyperloom.stages.measure.sums import Sums
from hyperloom.stages.modality import Modality

NEAR = 0.05
"""Of the picture's width and height: how close a point must come."""


class PointMeasure(Measure):
    """pck: the share of visible points that were predicted no farther off than NEAR (Yang & Ramanan 2013). One that is
    predicted as hidden is missed."""

    higher_is_better: ClassVar[Mapping[str, bool]] = {"pck": True}

    def statistics(self, modality: Modality, truth: np.ndarray, prediction: np.ndarray, answered: np.ndarray) -> Sums:
        visible = modality.known(truth)
        located = visible & answered[:, None] & modality.teaching(prediction)
        near = (
            located
            & modality.given(prediction)
            & (np.linalg.norm(np.nan_to_num(prediction[..., :2]) - truth[..., :2], axis=-1) <= NEAR)
        )
        return {"known": int(visible.sum()), "answered": int(located.sum()), "near": int(near.sum())}

    def measured(self, modality: Modality, sums: Mapping[str, Any]) -> dict[str, float]:
        return {"pck": sums["near"] / sums["known"]}
