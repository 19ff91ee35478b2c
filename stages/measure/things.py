"""Statistics and measures of what is neither a class nor a number: boxes, points, sets of labels, pairs, embeddings,
texts. Like all scores they are counts and sums that add up.

Average precision is counted too: each box told falls into a class, a step of score and a step of how well it fits, so
parts merge exactly, which a list of all boxes sorted by score would not. (torchmetrics' MeanAveragePrecision needs
torchvision and keeps every box.)
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from hyperloom.stages.modality import Modality

Sums = dict[str, Any]

STEPS = 50
"""Of a box's score."""
FITS = tuple(round(0.5 + 0.05 * i, 2) for i in range(10))
"""Intersections over union from which a box counts as found, as in COCO."""
NEAR = 0.05
"""Of the picture's width and height: how close a point must come (PCK)."""


# -- boxes -------------------------------------------------------------------------------------------------------------
def _boxes(modality: Modality, truth: np.ndarray, told: np.ndarray, answered: np.ndarray) -> Sums:
    """`found[class][step of score][thresholds passed]` boxes told, and `there[class]` true ones. Boxes are matched from
    the surest on, each with the free true box of its class that it fits best."""
    classes = len(modality.counted)
    found, there = np.zeros((classes, STEPS, len(FITS) + 1), np.int64), np.zeros(classes, np.int64)
    for one, other, has in zip(truth, told, answered, strict=True):
        true = one[~np.isnan(one).any(1)]
        there += np.bincount(true[:, 4].astype(int), minlength=classes)
        boxes = other[~np.isnan(other).any(1)] if has else other[:0]
        for class_ in np.unique(boxes[:, 4]).astype(int):
            mine = boxes[boxes[:, 4] == class_]
            mine = mine[np.argsort(-mine[:, 5], kind="stable")]
            steps = np.minimum((mine[:, 5] * STEPS).astype(int), STEPS - 1)
            passed = _passed(mine[:, :4], true[true[:, 4] == class_, :4])
            np.add.at(found[class_], (steps, passed), 1)
    answers = int((answered).sum())
    return {"known": len(truth), "answered": answers, "found": found.tolist(), "there": there.tolist()}


def _passed(boxes: np.ndarray, true: np.ndarray) -> np.ndarray:
    """How many of FITS each box passes, surest first; each true box is used once."""
    passed = np.zeros(len(boxes), int)
    overlap = _overlap(boxes, true)
    for i in range(len(boxes)):
        if overlap.shape[1] and (best := int(overlap[i].argmax())) >= 0 and overlap[i, best] >= FITS[0] - 1e-9:
            passed[i] = sum(overlap[i, best] >= fit - 1e-9 for fit in FITS)
            overlap[:, best] = 0
    return passed


def _overlap(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Intersection over union of each pair, (n, m)."""
    low, high = np.maximum(one[:, None, :2], other[None, :, :2]), np.minimum(one[:, None, 2:], other[None, :, 2:])
    inside = np.clip(high - low, 0, None).prod(-1)
    areas = [(b[:, 2:] - b[:, :2]).prod(-1) for b in (one, other)]
    return inside / np.maximum(areas[0][:, None] + areas[1][None] - inside, 1e-12)


def _precision(sums: Mapping[str, Any]) -> dict[str, float]:
    """Mean average precision over FITS and at .5, over classes that occur (precision made non-increasing, as usual)."""
    found, there = np.asarray(sums["found"], np.float64), np.asarray(sums["there"], np.float64)
    occur = there > 0
    if not occur.any():
        return {}
    told = np.cumsum(found.sum(2)[:, ::-1], 1)  # (K, steps), surest first
    averages = []
    for level in range(1, len(FITS) + 1):
        hit = np.cumsum(found[:, ::-1, level:].sum(2), 1)
        precision = np.divide(hit, told, out=np.zeros_like(hit), where=told > 0)
        precision = np.maximum.accumulate(precision[:, ::-1], 1)[:, ::-1]
        gained = np.diff(hit, axis=1, prepend=0)[occur] / there[occur, None]
        averages.append(float((gained * precision[occur]).sum(1).mean()))
    return {"map": float(np.mean(averages)), "map50": averages[0]}


# -- labels and pairs --------------------------------------------------------------------------------------------------
def _labels(modality: Modality, truth: np.ndarray, told: np.ndarray, answered: np.ndarray) -> Sums:
    """`labels[class]`: [found, told wrongly, not found]; of pairs there is one class."""
    if modality.shape[-1:] == (2,) and modality.dtype.kind == "i":
        counts = np.sum([_pairs(*row) for row in zip(truth, told, answered, strict=True)], axis=0, dtype=np.int64)
        counts = counts.reshape(1, 3) if len(truth) else np.zeros((1, 3), np.int64)
        return {"known": len(truth), "answered": int(answered.sum()), "labels": counts.tolist()}
    known = truth != modality.missing
    said = answered[:, None] & (told == 1)
    true = truth == 1
    counts = np.stack([(true & said).sum(0), (known & ~true & said).sum(0), (true & ~said).sum(0)], 1)
    answers = int((known & answered[:, None] & (told != modality.missing)).sum())
    return {"known": int(known.sum()), "answered": answers, "labels": counts.astype(np.int64).tolist()}


def _pairs(truth: np.ndarray, told: np.ndarray, answered: bool) -> list[int]:
    true = {(int(a), int(b)) for a, b in truth if a >= 0}
    said = {(int(a), int(b)) for a, b in told if a >= 0} if answered else set()
    return [len(true & said), len(said - true), len(true - said)]


def _f1(sums: Mapping[str, Any]) -> dict[str, float]:
    """The mean over labels that occur in the truth of 2 found / (2 found + wrong + missed)."""
    hit, wrong, missed = np.asarray(sums["labels"], np.float64).T
    occur = hit + missed > 0
    return {"f1": float((2 * hit / np.maximum(2 * hit + wrong + missed, 1))[occur].mean())} if occur.any() else {}


# -- points, embeddings, texts -----------------------------------------------------------------------------------------
def _points(modality: Modality, truth: np.ndarray, told: np.ndarray, answered: np.ndarray) -> Sums:
    """True points that are visible, those among them that were told, and those told no farther off than NEAR."""
    visible = truth[..., 2] > 0
    said = visible & answered[:, None] & np.isfinite(told[..., :2]).all(-1)
    near = said & (np.linalg.norm(np.nan_to_num(told[..., :2]) - truth[..., :2], axis=-1) <= NEAR)
    return {"known": int(visible.sum()), "answered": int(said.sum()), "near": int(near.sum())}


def _embeddings(modality: Modality, truth: np.ndarray, told: np.ndarray, answered: np.ndarray) -> Sums:
    one, other = truth[answered].astype(np.float64), told[answered].astype(np.float64)
    lengths = np.linalg.norm(one, axis=-1) * np.linalg.norm(other, axis=-1)
    cosine = (one * other).sum(-1) / np.maximum(lengths, 1e-12)
    return {"known": len(truth), "answered": int(answered.sum()), "cosine": float(cosine.sum())}


def _texts(modality: Modality, truth: np.ndarray, told: np.ndarray, answered: np.ndarray) -> Sums:
    """Bytes of the true texts, those of samples with an answer, and those told right at their place."""
    there = truth != modality.missing
    right = there & (truth == told) & answered[:, None]
    answers = int((there & answered[:, None]).sum())
    return {"known": int(there.sum()), "answered": answers, "right_bytes": int(right.sum())}


Statistics = Callable[[Modality, np.ndarray, np.ndarray, np.ndarray], Sums]
STATISTICS: dict[str, Statistics] = {
    "map": _boxes,
    "f1": _labels,
    "pck": _points,
    "cosine": _embeddings,
    "accuracy": _texts,
}
"""By the modality's measure; classes and numbers are stages.measure.scores' own. Arrays are rows whose truth is known,
and which of them have an answer."""
MEASURES: dict[str, Callable[[Mapping[str, Any]], dict[str, float]]] = {
    "map": _precision,
    "f1": _f1,
    "pck": lambda s: {"pck": s["near"] / s["known"]},
    "cosine": lambda s: {"cosine": s["cosine"] / s["answered"]},
    "accuracy": lambda s: {"accuracy": s["right_bytes"] / s["known"]},
}
