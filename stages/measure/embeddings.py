"""Embeddings: the mean cosine similarity of predictions and truth."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np

from hyperloom.stages.measure.measure import Measure
from hyperloom.stages.measure.sums import Sums
from hyperloom.stages.modality import Modality


class EmbeddingMeasure(Measure):
    """cosine, over the samples with an answer; a point at zero has no direction, so it is none."""

    higher_is_better: ClassVar[Mapping[str, bool]] = {"cosine": True}
    of_answers: ClassVar[frozenset[str]] = frozenset(higher_is_better)

    def statistics(self, modality: Modality, truth: np.ndarray, prediction: np.ndarray, answered: np.ndarray) -> Sums:
        known = modality.known(truth)
        both = known & answered & modality.given(prediction)
        one, other = truth[both].astype(np.float64), prediction[both].astype(np.float64)
        one, other = (v / np.linalg.norm(v, axis=-1, keepdims=True) for v in (one, other))
        return {"known": int(known.sum()), "answered": int(both.sum()), "cosine": float((one * other).sum())}

    def measured(self, modality: Modality, sums: Mapping[str, Any]) -> dict[str, float]:
        return {"cosine": sums["cosine"] / sums["answered"]}
