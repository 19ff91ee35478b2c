"""Texts: how near predicted texts come to the true ones; what has no answer is wrong."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np

from hyperloom.stages.measure.measure import Measure
from hyperloom.stages.measure.sums import Sums
from hyperloom.stages.modality import Modality


class TextMeasure(Measure):
    """accuracy: the share of the true texts' bytes that were predicted at their place, whatever comes behind them;
    exact: of texts that are right to their end; cer: character error rate, insertions, deletions and exchanges by
    characters of the truth (Levenshtein), which says more where texts are shifted or go on too long."""

    higher_is_better: ClassVar[Mapping[str, bool]] = {"accuracy": True, "exact": True, "cer": False}

    def statistics(self, modality: Modality, truth: np.ndarray, prediction: np.ndarray, answered: np.ndarray) -> Sums:
        valid = modality.known(truth)
        right = valid & (truth == prediction) & answered[:, None]
        answers = int((valid & answered[:, None]).sum())
        true = [_characters(row) for row in truth]
        texts = [_characters(row) if has else "" for row, has in zip(prediction, answered, strict=True)]
        pairs = list(zip(true, texts, answered, strict=True))
        return {
            "known": int(valid.sum()),
            "answered": answers,
            "right_bytes": int(right.sum()),
            "texts": len(pairs),
            "exact": sum(bool(one == other and has) for one, other, has in pairs),
            "characters": sum(map(len, true)),
            "edits": sum(_edits(one, other) for one, other, _ in pairs),
        }

    def measured(self, modality: Modality, sums: Mapping[str, Any]) -> dict[str, float]:
        figures = {"accuracy": sums["right_bytes"] / sums["known"], "exact": sums["exact"] / sums["texts"]}
        return figures | {"cer": sums["edits"] / sums["characters"]}


def _characters(row: np.ndarray) -> str:
    return (row[row > 0] - 1).astype(np.uint8).tobytes().decode(errors="replace")


def _edits(one: str, other: str) -> int:
    """Levenshtein's distance, a row of its table at a time."""
    if one == other:
        return 0
    letters = np.array([ord(c) for c in other], np.int64)
    places = np.arange(len(other) + 1)
    row = places
    for i, letter in enumerate(one, 1):
        step = np.minimum(row[1:] + 1, row[:-1] + (letters != ord(letter)))
        row = np.minimum.accumulate(np.concatenate([[i], step]) - places) + places  # a letter too many costs one
    return int(row[-1])
