"""Embeddings: the mean cosine similarity of predictions and truth."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np

from hyperloom.stages.measure.measure import Measure
from hyperloom.stages.measure.sums import Sums
from hyperloom.stages.modality import Modality


class EmbeddingMeasure(Measure):
    """cosine, over the samples with an answer."""

    higher_is_better: ClassVar[Mapping[str, bool]] = {"cosine": True}

    def statistics(self, modality: Modality, truth: np.ndarray, prediction: np.ndarray, answered: np.ndarray) -> Sums:
        one, other = truth[answered].astype(np.float64), prediction[answered].astype(np.float64)
        lengths = np.linalg.norm(one, axis=-1) * np.linalg.norm(other, axis=-1)
        cosine = (one * other).sum(-1) / np.maximum(lengths, 1e-12)
        return {"known": len(truth), "answered": int(answered.sum()), "cosine": float(cosine.sum())}

    def measured(self, modality: Modality, sums: Mapping[str, Any]) -> dict[str, float]:
        return {"cosine": sums["cosine"] / sums["answered"]}
