"""Scores: how far predictions are from the truth, as small statistics that add up exactly over shards.

Two kinds: a confusion matrix for classes and error sums for numbers. Both are plain JSON, so they are a unit's `meta`;
adding them in the shards' order gives the same figures however the work was spread. Where the truth is unknown nothing
counts. Where the truth is known and the subject has no answer, classes count it as wrong (an expert must not gain by
abstaining) and numbers leave it out; `coverage` says the share answered for both.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from stages.modality import Modality, Segmentation
from stages.picture import UNKNOWN

Sums = dict[str, Any]

HIGHER_IS_BETTER = {
    "miou": True,
    "accuracy": True,
    "consistency": True,
    "mae": False,
    "rmse": False,
    "absrel": False,
    "angle": False,
    "ece": False,
    "flicker": False,
}
"""Every measure and its direction. miou, accuracy, consistency, absrel and ece are shares, angle is in degrees, mae,
rmse and flicker have the modality's unit (flicker of directions is in degrees)."""
BINS = 15
"""Of confidence, in the expected calibration error."""
FINE = 65535
"""Steps in which confidence is counted, so that its sums are integers."""
SMALLEST = 1e-6
"""Truth below this magnitude has no relative error."""


def score(modality: Modality, truth: np.ndarray, told: np.ndarray, known: np.ndarray, answered: np.ndarray) -> Sums:
    """Statistics of a batch.

    `truth` and `told` are (N, *shape) of the modality; `known` and `answered`, (N,) bool, tell which rows are there.
    """
    if isinstance(modality, Segmentation):
        return _confusion(len(modality.classes), truth[known], told[known], answered[known])
    both = known & answered
    shape = truth.shape[1:-1]
    rows = {"known": int(known.sum()) * math.prod(shape), "answered": int(both.sum()) * math.prod(shape)}
    return rows | _errors(modality, truth[both].astype(np.float64), told[both].astype(np.float64))


def _confusion(classes: int, truth: np.ndarray, told: np.ndarray, answered: np.ndarray) -> Sums:
    """`matrix[t][p]`: pixels of class t that were told p; the last column counts those without an answer."""
    told = np.where((told == UNKNOWN) | ~answered[:, None, None], classes, told)
    counted = truth != UNKNOWN
    pairs = truth[counted].astype(np.int64) * (classes + 1) + told[counted]
    return {"matrix": np.bincount(pairs, minlength=classes * (classes + 1)).reshape(classes, classes + 1).tolist()}


def _errors(modality: Modality, truth: np.ndarray, told: np.ndarray) -> Sums:
    if modality.metric == "angle":
        lengths = np.linalg.norm(truth, axis=-1) * np.linalg.norm(told, axis=-1)
        cosine = (truth * told).sum(-1) / np.maximum(lengths, SMALLEST)
        degrees = np.degrees(np.arccos(np.clip(cosine, -1, 1)))
        return {"angle": float(degrees.sum()), "angles": int(degrees.size)}
    error, size = np.abs(told - truth), np.abs(truth)
    relative = size > SMALLEST
    return {
        "absolute": float(error.sum()),
        "squared": float((error * error).sum()),
        "values": int(error.size),
        "relative": float((error[relative] / size[relative]).sum()),
        "relatives": int(relative.sum()),
    }


def merged(parts: Iterable[Sums]) -> Sums:
    """Statistics of several batches: counts add as integers, sums by `math.fsum` (exactly rounded, in any order).

    A statistic that a part lacks (motion, where there is no frame before) counts as nothing there.
    """
    found: dict[str, list[Any]] = {}
    for part in parts:
        for key, value in part.items():
            found.setdefault(key, []).append(value)
    return {key: _added(values) for key, values in found.items()}


def _added(values: list[Any]) -> Any:
    if isinstance(values[0], list):
        return np.sum(values, axis=0).tolist()
    return math.fsum(values) if any(isinstance(v, float) for v in values) else sum(values)


def measures(modality: Modality, sums: Mapping[str, Any]) -> dict[str, float]:
    """The figures that the statistics amount to, with `coverage`; empty when the subject answered nothing.

    Classes: miou, the mean of `ious` over classes that occur in the truth, and accuracy. Numbers: mae, rmse, absrel.
    Directions: angle. Where there are probabilities, ece (see `confidence`); where there is motion, consistency of
    classes and flicker of numbers (see stages.evaluate.motion).
    """
    figures = _measures(modality, sums)
    if figures and sums.get("moved"):
        figures["consistency"] = sums["same"] / sums["moved"]
    if figures and sums.get("changes"):
        figures["flicker"] = sums["change"] / sums["changes"]
    if figures and sum(sums.get("sure", ())):
        figures["ece"] = _calibration(sums)
    return figures


def _measures(modality: Modality, sums: Mapping[str, Any]) -> dict[str, float]:
    if "matrix" in sums:
        matrix = np.asarray(sums["matrix"], np.int64)
        known, told = int(matrix.sum()), int(matrix[:, :-1].sum())
        if not told:
            return {}
        found = [v for v in ious(modality, sums).values() if v is not None]
        right = int(np.trace(matrix[:, :-1]))
        return {"miou": math.fsum(found) / len(found), "accuracy": right / known, "coverage": told / known}
    if not sums.get("answered"):
        return {}
    coverage = sums["answered"] / sums["known"]
    if "angles" in sums:
        return {"angle": sums["angle"] / sums["angles"], "coverage": coverage}
    figures = {"mae": sums["absolute"] / sums["values"], "rmse": math.sqrt(sums["squared"] / sums["values"])}
    if sums["relatives"]:
        figures["absrel"] = sums["relative"] / sums["relatives"]
    return figures | {"coverage": coverage}


def ious(modality: Modality, sums: Mapping[str, Any]) -> dict[str, float | None]:
    """Intersection over union of each class (Jaccard index); None for a class that does not occur in the truth."""
    assert isinstance(modality, Segmentation)
    matrix = np.asarray(sums["matrix"], np.int64)
    hit, truth, told = np.diagonal(matrix), matrix.sum(1), matrix[:, :-1].sum(0)
    return {
        name: float(hit[i] / (truth[i] + told[i] - hit[i])) if truth[i] else None
        for i, name in enumerate(modality.classes)
    }


def by_class(modality: Modality, sums: Mapping[str, Any]) -> dict[str, dict[str, float | None]]:
    """`iou`, `recall` (share of the class that was found) and `precision` (share of what was told that is right), by
    class; None for a class that does not occur in the truth (or, for precision, is never told)."""
    assert isinstance(modality, Segmentation)
    matrix = np.asarray(sums["matrix"], np.int64)
    hit, truth, told = np.diagonal(matrix), matrix.sum(1), matrix[:, :-1].sum(0)

    def shares(whole: np.ndarray) -> dict[str, float | None]:
        return {name: float(hit[i] / whole[i]) if whole[i] else None for i, name in enumerate(modality.classes)}

    return {"iou": ious(modality, sums), "recall": shares(truth), "precision": shares(told)}


def confidence(modality: Modality, truth: np.ndarray, soft: np.ndarray, known: np.ndarray) -> Sums:
    """How sure the probabilities `soft` (N, H, W, K) are and how often right, by bins of the highest probability:
    `sure` pixels, `sureness` their summed confidence in steps of 1/65535, `right` those whose class is the truth."""
    counted = (truth != UNKNOWN) & known[:, None, None] & (soft.sum(-1) > 0.5)
    told, true = soft[counted], truth[counted]
    steps = np.rint(np.clip(told.max(-1), 0, 1) * FINE).astype(np.int64)
    bins = np.minimum(steps * BINS // FINE, BINS - 1)
    right = bins[told.argmax(-1) == true]

    def summed(values: np.ndarray) -> list[int]:
        total = np.zeros(BINS, np.int64)
        np.add.at(total, bins, values)
        return total.tolist()

    return {
        "sure": np.bincount(bins, minlength=BINS).tolist(),
        "sureness": summed(steps),
        "right": np.bincount(right, minlength=BINS).tolist(),
    }


def _calibration(sums: Mapping[str, Any]) -> float:
    """Expected calibration error (Naeini, Cooper & Hauskrecht 2015): the mean gap between confidence and accuracy."""
    sure, sureness, right = (np.asarray(sums[k], np.float64) for k in ("sure", "sureness", "right"))
    return float(np.abs(sureness / FINE - right).sum() / sure.sum())


def better(measure: str, one: float, other: float) -> bool:
    """Is `one` strictly better than `other`?"""
    return one > other if HIGHER_IS_BETTER[measure] else one < other
