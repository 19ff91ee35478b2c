"""Labels that are likely wrong, without a truth: what the cheap head says by the other folds, against what is written.

Classes: confident learning (Northcutt, Jiang & Chuang 2021) by cleanlab over probabilities of the head, of a vote of
the nearest samples and, where there is one, of a student; a sample's score is the probability of its own label. Marks:
the same class by class. Masks: the sum over cells of how much surer the head is of another class, where it is surer by
CONFIDENT, above what its class usually has; on street masks that told spoiled frames better than the mean confidence
(docs/audit.md has what it finds). Boxes: the class of each cut-out; a sample's score is that of its worst box. Scores
are in 0..1, and low ones are suspicious.
"""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from hyperloom.pipeline.errors import SourceError
from hyperloom.stages.audit import cells
from hyperloom.stages.audit.compared import Compared
from hyperloom.stages.audit.features import ids_dtype
from hyperloom.stages.audit.finding import AuditFinding, far, percent
from hyperloom.stages.audit.head import OutOfFold, folds, probabilities
from hyperloom.stages.audit.surveyed import Surveyed

CONFIDENT = 0.3
FEW = 20
"""Labelled samples below which nothing is said."""
WIDTHS = ((500, 128), (2_000, 512), (200_000, 1024))
SAMPLE = 2_000
SURE = 0.5
"""A label of a higher probability is not called wrong."""


@dataclass(frozen=True)
class Doubt:
    """Of one label column: (N,) scores, NaN where there is no label; (N,) bool which are called wrong; what the head
    would say, in words; (N,) bool whether it agrees, NaN-like -1 where unknown."""

    column: str
    score: np.ndarray
    wrong: np.ndarray
    explain: Callable[[int], str]
    right: np.ndarray


def cleanlab(part: str) -> Any:
    """A module of cleanlab. Raises SourceError."""
    try:
        import importlib

        return importlib.import_module(f"cleanlab.{part}")
    except ImportError as error:
        raise SourceError("errors of labels need cleanlab. Next: pip install 'hyperloom[audit]'") from error


def width_of(rows: int) -> int:
    """Random features of the head for so many rows."""
    return next((width for most, width in WIDTHS if rows <= most), 512)


def of_classes(data: Surveyed, column: str, names: Sequence[str], compared: Compared, near: np.ndarray) -> Doubt | None:
    """Doubts of a category; `near` (N, k) are places of the nearest samples."""
    rows = compared.rows
    labels = np.where(compared.present, data.numbers(f"label:{column}").astype(np.int64), -1)
    known = labels >= 0
    if known.sum() < FEW or len(np.unique(labels[known])) < 2:
        return None
    target = _shares(labels, len(names))
    fold = folds(_marks(data))
    head = _head(compared, len(names))
    head.add(rows, target, fold)
    head.solve()
    chances = probabilities(head.scores(rows, fold), labels)
    chances = (chances + _votes(target, near, data.content)) / 2
    if f"student:{column}" in data.names:
        student = data.whole(f"student:{column}", np.float16).astype(np.float32)
        chances = np.where(student.sum(1, keepdims=True) > 0, (chances + student) / 2, chances)
    chances = chances / chances.sum(1, keepdims=True)
    score, wrong = np.full(len(labels), np.nan), np.zeros(len(labels), bool)
    score[known] = chances[known, labels[known]]
    wrong[known] = _issues(labels[known], chances[known])
    best = chances.argmax(1)
    right = np.where(known, best == labels, -1)
    return Doubt(column, score, wrong, lambda i: f"{names[labels[i]]}, likely {names[best[i]]}", right)


def of_marks(data: Surveyed, column: str, names: Sequence[str], compared: Compared) -> Doubt | None:
    """Doubts of marks, class by class; a sample's score is that of its worst mark."""
    rows = compared.rows
    marks = data.whole(f"marks:{column}", np.uint8)
    known = np.asarray((marks <= 1).all(1)) & compared.present
    if known.sum() < FEW:
        return None
    fold = folds(_marks(data))
    head = _head(compared, 2 * len(names))
    both = np.concatenate([marks == 0, marks == 1], 1).astype(np.float32)
    head.add(rows, np.where(known[:, None], both, 0), fold)
    head.solve()
    scores = head.scores(rows, fold).reshape(len(rows), 2, len(names))
    own = np.ones((len(rows), len(names)))
    wrong = np.zeros((len(rows), len(names)), bool)
    for k in range(len(names)):
        chances = probabilities(scores[:, :, k], np.where(known, marks[:, k].astype(np.int64), -1))
        own[known, k] = chances[known, marks[known, k]]
        if len(np.unique(marks[known, k])) == 2:
            wrong[known, k] = _issues(marks[known, k].astype(np.int64), chances[known])
    worst = own.argmin(1)
    right = np.where(known, ~(own < SURE).any(1), -1)

    def explain(i: int) -> str:
        return f"{names[worst[i]]}: {'yes' if marks[i, worst[i]] else 'no'}, likely not so"

    return Doubt(column, np.where(known, own.min(1), np.nan), wrong.any(1) & known, explain, right)


def of_masks(data: Surveyed, column: str, names: Sequence[str], grid: tuple[int, int]) -> Doubt | None:
    """Doubts of masks, in chunks: the cells of all samples at once would be large."""
    fold = folds(_marks(data))
    classes = len(names)
    student = f"student:{column}" if f"student:{column}" in data.names else None

    def looked() -> Any:
        start = 0
        ones = data.chunks(student, np.uint8) if student else None
        for own, shares in zip(data.chunks("cells", np.float16), data.chunks(f"shares:{column}", np.uint8)):
            target = shares.reshape(len(shares), -1, classes).astype(np.float32) / 255
            near = cells.around(own.reshape(len(own), *grid, cells.BASE).astype(np.float32))
            where = slice(start, start := start + len(own))
            answer = next(ones).reshape(target.shape).astype(np.float32) / 255 if ones else None
            yield where, near, target, np.repeat(fold[where], target.shape[1]), answer

    head = OutOfFold(_some_cells(looked), classes, 1024 if len(data) > 300 else 128)
    for _, near, target, mine, _ in looked():
        head.add(near.reshape(-1, near.shape[-1]), target.reshape(-1, classes), mine)
    head.solve()
    doubted, areas = np.zeros((2, len(data), classes))
    likely = np.full((len(data), 2), -1)
    for where, near, target, mine, answer in looked():
        chances = np.clip(head.scores(near.reshape(-1, near.shape[-1]), mine), 1e-3, 1).reshape(target.shape)
        chances = chances / chances.sum(-1, keepdims=True)
        if answer is not None:
            chances = np.where(answer.sum(-1, keepdims=True) > 0.5, (chances + answer) / 2, chances)
        doubted[where], areas[where], likely[where] = _margins(chances, target)
    doubt = _excess(doubted, areas)
    if np.isfinite(doubt).sum() < FEW:
        return None
    right = np.where(np.isfinite(doubt), ~(doubt > 0.5), -1)

    def explain(i: int) -> str:
        return f"{names[likely[i, 0]]}, likely {names[likely[i, 1]]}" if likely[i, 0] >= 0 else ""

    return Doubt(column, 1 - np.clip(doubt, 0, 1), far(doubt, 0.02), explain, right)


def of_boxes(data: Surveyed, column: str, names: Sequence[str]) -> Doubt | None:
    """Doubts of the classes of boxes."""
    ids = [np.frombuffer(b, ids_dtype(len(names))) for b in data.lists(f"ids:{column}")]
    sample = np.repeat(np.arange(len(ids)), [len(i) for i in ids])
    labels = np.concatenate(ids).astype(np.int64) if len(sample) else np.zeros(0, np.int64)
    if len(labels) < FEW or len(np.unique(labels)) < 2:
        return None
    rows = np.frombuffer(b"".join(data.lists(f"cut:{column}")), np.float16).reshape(len(labels), -1).astype(np.float32)
    fold = folds(_marks(data))[sample]
    head = OutOfFold(rows[:: max(1, len(rows) // SAMPLE)], len(names), width_of(len(rows)))
    head.add(rows, _shares(labels, len(names)), fold)
    head.solve()
    chances = probabilities(head.scores(rows, fold), labels)
    issues = _issues(labels, chances)
    own = chances[np.arange(len(labels)), labels]
    score, wrong = np.full(len(ids), np.nan), np.zeros(len(ids), bool)
    np.fmin.at(score, sample, own)
    wrong[sample[issues]] = True
    place = {int(sample[i]): int(i) for i in np.argsort(-own)}
    right = np.where(np.isfinite(score), ~wrong, -1)

    def explain(i: int) -> str:
        box = place[i]
        return f"a box: {names[labels[box]]}, likely {names[int(chances[box].argmax())]}"

    return Doubt(column, score, wrong, explain, right)


def finding(doubt: Doubt, keys: Sequence[str], rate: float, act: str) -> AuditFinding | None:
    """What is said of a column; nothing where no more are called wrong than of good labels would be."""
    count, total = int(doubt.wrong.sum()), int(np.isfinite(doubt.score).sum())
    if count <= rate * total:
        return None
    order = [int(i) for i in np.argsort(np.where(doubt.wrong, doubt.score, np.inf), kind="stable")[:count]]
    mixed = Counter(doubt.explain(i) for i in order).most_common(2)
    often = "; ".join(f"{words} ({times})" for words, times in mixed if words)
    text = f"{doubt.column}: {count} of {total} labels ({percent(count / total)}) are likely wrong"
    text += f", most often {often}" if often else ""
    return AuditFinding("label", doubt.column, count, total, text, act, [keys[i] for i in order])


def _head(compared: Compared, outputs: int) -> OutOfFold:
    rows = compared.rows[compared.present]
    return OutOfFold(rows[:: max(1, len(rows) // SAMPLE)], outputs, width_of(len(rows)), compared.level)


def _issues(labels: np.ndarray, chances: np.ndarray) -> np.ndarray:
    """(n,) bool: which are likely wrong by confident learning, and not still the likeliest."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of rare classes it may not flag all
        issues = cleanlab("filter").find_label_issues(labels, chances, filter_by="both", n_jobs=1)
    return np.asarray(issues, bool) & (chances[np.arange(len(labels)), labels] < SURE)


def _votes(target: np.ndarray, near: np.ndarray, content: np.ndarray) -> np.ndarray:
    """(N, classes): how the nearest vote, of which no equal sample is one."""
    own = np.where(content == 0, np.arange(len(content), dtype=np.uint64), content)
    counted = (near >= 0) & (own[np.maximum(near, 0)] != own[:, None])
    votes = np.zeros(target.shape, np.float32)
    for k in range(near.shape[1]):
        votes += np.where(counted[:, k : k + 1], target[np.maximum(near[:, k], 0)], 0)
    votes += 0.5 / target.shape[1]
    return votes / votes.sum(1, keepdims=True)


def _shares(labels: np.ndarray, classes: int) -> np.ndarray:
    target = np.zeros((len(labels), classes), np.float32)
    known = np.flatnonzero(labels >= 0)
    target[known, labels[known]] = 1
    return target


def _marks(data: Surveyed) -> np.ndarray:
    """What equal samples share; where nobody knows what a sample is, its place."""
    return np.where(data.content == 0, np.arange(1, len(data) + 1, dtype=np.uint64), data.content)


def _some_cells(looked: Callable[[], Any]) -> np.ndarray:
    """Some thousand cells of all parts."""
    kept = [near[:: max(1, len(near) // 8), ::37].reshape(-1, near.shape[-1]) for _, near, *_ in looked() if len(near)]
    some = np.concatenate(kept)
    return some[:: max(1, len(some) // SAMPLE)]


def _margins(chances: np.ndarray, target: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """By class that is written (n, classes): the sum over cells of how much surer another is, and the cells; and the
    (n, 2) classes that are written and likely where it is greatest."""
    known = target.sum(-1) > 0.5
    own = (chances * target).sum(-1) / np.maximum(target.sum(-1), 1e-6)
    margin = np.where(known, chances.max(-1) - own, 0)
    margin = np.where(margin > CONFIDENT, margin, 0)
    classes = target.shape[-1]
    written = target * known[..., None]
    pairs = target.argmax(-1) * classes + chances.argmax(-1)
    likely = np.full((len(target), 2), -1)
    for i in np.flatnonzero(margin.any(-1)):
        worst = int(np.bincount(pairs[i], margin[i], classes * classes).argmax())
        likely[i] = divmod(worst, classes)
    return (margin[..., None] * written).sum(1), written.sum(1), likely


def _excess(doubted: np.ndarray, areas: np.ndarray) -> np.ndarray:
    """(N,) how much more than such an area of each class usually is doubted, as a share of the sample; NaN where no
    class is written."""
    usual = doubted.sum(0) / np.maximum(areas.sum(0), 1e-9)
    above = np.maximum(doubted - areas * usual, 0).sum(1)
    whole = areas.sum(1)
    return np.where(whole > 0, above / np.maximum(whole, 1e-9), np.nan)
