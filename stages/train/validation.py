"""Validation while training: how well the kept network does, with everything visible, on the split `val`, and on a
share of what it is taught.

The figures are those of the evaluate stage (`stages.measure.scores`), against columns that the job names, added up over
ranks exactly. A teacher's probabilities are compared as the classes that they amount to. Only early stopping heeds them
(`stages.train.stopping`); what they mean is said by `stages.train.diagnosis`; the verdict on a model is the evaluate
stage's.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import torch

from hyperloom.stages.base import VALID, modality_of
from hyperloom.stages.meaning import translation
from hyperloom.stages.measure.measure import measure_of
from hyperloom.stages.measure.scores import measures, score
from hyperloom.stages.measure.sums import Sums, merged
from hyperloom.stages.network.model import MultiTask
from hyperloom.stages.network.predictor import answered
from hyperloom.stages.network.visible import answerable, present
from hyperloom.stages.train.diagnosis import CLASSES
from hyperloom.stages.train.job import Job
from hyperloom.stages.world import World


@torch.no_grad()
def validate(
    job: Job,
    model: MultiTask,
    batches: Iterable[Mapping[str, torch.Tensor]],
    against: Mapping[str, str],
    world: World,
    alone: int | None = None,
) -> dict[str, float]:
    """{"semantic.miou": ..., "semantic.iou.road": ..., "depth.mae": ...} over all of `batches`, `against` a column for
    each task; tasks without any label are left out. With `alone` that input is all that the network sees."""
    tasks = {t.name: t.modality for t in model.architecture.tasks if t.name in against}
    sources = {name: job.modalities[modality_of(against[name])] for name in tasks}
    meanings = {name: translation(sources[name].meaning, modality.meaning) for name, modality in tasks.items()}
    hidden = torch.tensor(job.mask.hidden_inputs(model.architecture.columns))
    if alone is not None:
        hidden = torch.arange(len(hidden)) != alone
    sums: dict[str, list[Sums]] = {name: [] for name in tasks}
    model.eval()
    for batch in batches:
        empty = not len(batch[model.architecture.columns[0]])
        if empty and not job.rhythm.sharded:
            continue
        if empty:  # a sharded network runs on all ranks or on none
            batch = {k: torch.zeros(1, *v.shape[1:], dtype=v.dtype) for k, v in batch.items()}
        valid = present(model.architecture, batch) & ~hidden
        moved = {k: v.to(world.device, non_blocking=True) for k, v in batch.items()}
        given = answerable(valid, (batch[column + VALID] for column in (job.needs if alone is None else ())))
        predictions = model.predict(moved, valid.to(world.device))
        if empty:
            continue
        for name, modality in tasks.items():
            values, column = answered(modality, predictions[name]), against[name]
            rows, known, source = batch[column].numpy(), batch[column + VALID].numpy(), sources[name]
            same = source.translated(rows, meanings[name]) if meanings[name] else rows
            sums[name] += _scores(modality, _truth(modality, source, same), values, known, given)
    whole = world.gather(sums)
    each = {name: _figures(m, [part for parts in whole for part in parts[name]]) for name, m in tasks.items()}
    return {f"{name}.{figure}": value for name, values in each.items() for figure, value in values.items()}


def _scores(modality: Any, truth: np.ndarray, values: np.ndarray, known: np.ndarray, given: np.ndarray) -> list[Sums]:
    """Statistics that add up to the same whatever a batch holds: of each sample where they are fractions, for sums of
    sums depend on how they are cut; where they are counts, of the batch."""
    samples = [slice(i, i + 1) for i in range(len(truth))]
    scores = [score(modality, truth[one], values[one], known[one], given[one]) for one in samples]
    exact = all(
        isinstance(v, int | str) or (isinstance(v, list) and modality.counted) for s in scores for v in s.values()
    )
    return [merged(scores)] if exact else scores


def _figures(modality: Any, parts: Sequence[Sums]) -> dict[str, float]:
    """The figure that a task is judged by, and of few classes how well each is answered."""
    sums = merged(parts)
    figures = measures(modality, sums)
    if modality.metric not in figures:
        return {}
    classes = measure_of(modality).by_class(modality, sums).get("iou", {}) if len(modality.counted) <= CLASSES else {}
    each = {f"iou.{n}": value for n, value in classes.items() if value is not None}
    return {modality.metric: figures[modality.metric], **each}


def _truth(modality: Any, column: Any, rows: np.ndarray) -> np.ndarray:
    """Rows of a column as answers of the task's modality."""
    if column.shape == modality.shape:
        return rows
    shares = column.to_memory(rows)
    answers: np.ndarray = modality.answer(shares)
    return np.where(shares.sum(-1) > 0.5, answers, modality.missing).astype(answers.dtype)
