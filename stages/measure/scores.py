"""Scores: how far predictions are from the truth, as small statistics that add up exactly over shards.

Mostly two kinds: a confusion matrix for classes and error sums for numbers; boxes, points, labels and pairs have their
own (stages.measure.things). All are plain JSON, so they are a unit's `meta`; adding them gives the same figures
however the work was spread. Where the truth is unknown nothing counts. Where the truth is known and the subject has no
answer, classes count it as wrong (an expert must not gain by abstaining) and numbers leave it out; `coverage` says the
share answered for both.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from hyperloom.stages.measure import things
from hyperloom.stages.modality import Choice, Modality, Ordinal, Segmentation, Tags

Sums = dict[str, Any]
CLASSES = (Segmentation, Choice, Tags)
"""Types of which each pixel, sample or token has one class."""

HIGHER_IS_BETTER = {
    "miou": True,
    "accuracy": True,
    "f1": True,
    "map": True,
    "map50": True,
    "pck": True,
    "cosine": True,
    "consistency": True,
    "mae": False,
    "rmse": False,
    "absrel": False,
    "angle": False,
    "ece": False,
    "flicker": False,
}
"""Every measure and its direction. Shares: miou, accuracy, f1, map, map50, pck, consistency, absrel, ece. angle is in
degrees; mae, rmse and flicker have the modality's unit (mae of levels counts levels, flicker of directions degrees)."""
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
    if isinstance(modality, CLASSES):
        unknown = modality.missing
        return _confusion(modality.channels, int(unknown), truth[known], told[known], answered[known])
    if special := things.STATISTICS.get(modality.metric):
        return special(modality, truth[known], told[known], answered[known])
    both = known & answered
    if modality.metric == "angle":
        each = math.prod(truth.shape[1:-1])  # a direction counts as one value
        rows = {"known": int(known.sum()) * each, "answered": int(both.sum()) * each}
        return rows | _angles(truth[both].astype(np.float64), told[both].astype(np.float64))
    real = np.isfinite(truth[known].astype(np.float64))  # NaN is padding
    return {"known": int(real.sum())} | _errors(truth[both].astype(np.float64), told[both].astype(np.float64))


def decided(modality: Modality, values: np.ndarray) -> np.ndarray:
    """The answer that a model's output (N, ...) amounts to, (N, *shape); integers are answers already."""
    return values if values.dtype.kind != "f" else modality.answer(values)


def _confusion(classes: int, unknown: int, truth: np.ndarray, told: np.ndarray, answered: np.ndarray) -> Sums:
    """`matrix[t][p]`: pixels (samples, tokens) of class t that were told p; the last column: those without answer."""
    there = answered.reshape(-1, *(1,) * (truth.ndim - 1))
    told = np.where((told == unknown) | ~there, classes, told)
    counted = truth != unknown
    pairs = truth[counted].astype(np.int64) * (classes + 1) + told[counted]
    return {"matrix": np.bincount(pairs, minlength=classes * (classes + 1)).reshape(classes, classes + 1).tolist()}


def _angles(truth: np.ndarray, told: np.ndarray) -> Sums:
    lengths = np.linalg.norm(truth, axis=-1) * np.linalg.norm(told, axis=-1)
    cosine = (truth * told).sum(-1) / np.maximum(lengths, SMALLEST)
    degrees = np.degrees(np.arccos(np.clip(cosine, -1, 1)))
    return {"angle": float(degrees.sum()), "angles": int(degrees.size)}


def _errors(truth: np.ndarray, told: np.ndarray) -> Sums:
    real = np.isfinite(truth) & np.isfinite(told)
    truth, told = truth[real], told[real]
    error, size = np.abs(told - truth), np.abs(truth)
    relative = size > SMALLEST
    return {
        "answered": int(error.size),
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

    Maps: miou, the mean of `ious` over classes that occur in the truth, and accuracy. Classes of samples and tokens:
    accuracy, f1. Levels: mae. Numbers: mae, rmse, absrel. Directions: angle. Boxes: map, map50. Points: pck. Labels and
    pairs: f1. Embeddings: cosine. Where there are probabilities, ece (see `confidence`); where there is motion,
    consistency of classes and flicker of numbers (see stages.evaluate.motion).
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
        return _of_classes(modality, sums)
    if not sums.get("answered"):
        return {}
    coverage = {"coverage": sums["answered"] / sums["known"]} if sums["known"] else {}
    if special := things.MEASURES.get(modality.metric):
        return special(sums) | coverage
    if "angles" in sums:
        return {"angle": sums["angle"] / sums["angles"]} | coverage
    figures = {"mae": sums["absolute"] / sums["values"], "rmse": math.sqrt(sums["squared"] / sums["values"])}
    if sums["relatives"]:
        figures["absrel"] = sums["relative"] / sums["relatives"]
    return figures | coverage


def _of_classes(modality: Modality, sums: Mapping[str, Any]) -> dict[str, float]:
    """Of maps miou; of one class a sample or token f1 (the mean over classes that occur); of levels mae as well."""
    matrix = np.asarray(sums["matrix"], np.int64)
    known, told = int(matrix.sum()), int(matrix[:, :-1].sum())
    if not told:
        return {}
    rest = {"accuracy": int(np.trace(matrix[:, :-1])) / known, "coverage": told / known}
    found = [v for v in ious(modality, sums).values() if v is not None]
    if isinstance(modality, Segmentation):
        return {"miou": math.fsum(found) / len(found)} | rest
    figures = {"f1": math.fsum(2 * v / (1 + v) for v in found) / len(found)}
    if isinstance(modality, Ordinal):
        levels = np.arange(len(matrix))
        figures["mae"] = float((matrix[:, :-1] * np.abs(levels[:, None] - levels)).sum() / told)
    return figures | rest


def ious(modality: Modality, sums: Mapping[str, Any]) -> dict[str, float | None]:
    """Intersection over union of each class (Jaccard index); None for a class that does not occur in the truth."""
    matrix = np.asarray(sums["matrix"], np.int64)
    hit, truth, told = np.diagonal(matrix), matrix.sum(1), matrix[:, :-1].sum(0)
    return {
        name: float(hit[i] / (truth[i] + told[i] - hit[i])) if truth[i] else None
        for i, name in enumerate(modality.counted)
    }


def by_class(modality: Modality, sums: Mapping[str, Any]) -> dict[str, dict[str, float | None]]:
    """`iou`, `recall` (share of the class that was found) and `precision` (share of what was told that is right), by
    class; None for a class that does not occur in the truth (or, for precision, is never told)."""
    matrix = np.asarray(sums["matrix"], np.int64)
    hit, truth, told = np.diagonal(matrix), matrix.sum(1), matrix[:, :-1].sum(0)

    def shares(whole: np.ndarray) -> dict[str, float | None]:
        return {name: float(hit[i] / whole[i]) if whole[i] else None for i, name in enumerate(modality.counted)}

    return {"iou": ious(modality, sums), "recall": shares(truth), "precision": shares(told)}


def confidence(modality: Modality, truth: np.ndarray, soft: np.ndarray, known: np.ndarray) -> Sums:
    """How sure the probabilities `soft` (N, ..., K) are and how often right, by bins of the highest probability:
    `sure` pixels, `sureness` their summed confidence in steps of 1/65535, `right` those whose class is the truth."""
    there = known.reshape(-1, *(1,) * (truth.ndim - 1))
    counted = (truth != modality.missing) & there & (soft.sum(-1) > 0.5)
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
