"""Scores: how far predictions are from the truth, as small statistics that add up exactly over shards.

Two kinds: a confusion matrix for classes and error sums for numbers. Both are plain JSON, so they are a unit's `meta`;
adding them in the shards' order gives the same figures however the work was spread. Where the truth is unknown nothing
counts. Where the truth is known and the subject has no answer, classes count it as wrong (an expert must not gain by
abstaining) and numbers leave it out; `coverage` says the share answered for both.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import numpy as np

from stages.modality import Modality, Segmentation
from stages.picture import UNKNOWN

Sums = dict[str, Any]

HIGHER_IS_BETTER = {"miou": True, "accuracy": True, "mae": False, "rmse": False, "absrel": False, "angle": False}
"""Every measure and its direction. miou, accuracy and absrel are shares, angle is in degrees, mae and rmse have the
modality's unit."""
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
    """Statistics of several batches, in their order: counts add as integers, sums by `math.fsum` (exactly rounded)."""
    parts = list(parts)
    if parts and "matrix" in parts[0]:
        return {"matrix": np.sum([p["matrix"] for p in parts], axis=0).tolist()}
    total: Sums = {}
    for key in parts[0] if parts else ():
        values = [p[key] for p in parts]
        total[key] = math.fsum(values) if any(isinstance(v, float) for v in values) else sum(values)
    return total


def measures(modality: Modality, sums: Sums) -> dict[str, float]:
    """The figures that the statistics amount to, with `coverage`; empty when the subject answered nothing.

    Classes: miou, the mean of `ious` over classes that occur in the truth, and accuracy. Numbers: mae, rmse, absrel.
    Directions: angle.
    """
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


def ious(modality: Modality, sums: Sums) -> dict[str, float | None]:
    """Intersection over union of each class (Jaccard index); None for a class that does not occur in the truth."""
    assert isinstance(modality, Segmentation)
    matrix = np.asarray(sums["matrix"], np.int64)
    hit, truth, told = np.diagonal(matrix), matrix.sum(1), matrix[:, :-1].sum(0)
    return {
        name: float(hit[i] / (truth[i] + told[i] - hit[i])) if truth[i] else None
        for i, name in enumerate(modality.classes)
    }


def better(measure: str, one: float, other: float) -> bool:
    """Is `one` strictly better than `other`?"""
    return one > other if HIGHER_IS_BETTER[measure] else one < other
