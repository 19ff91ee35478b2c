"""Validation while training: how well the kept network does on the split `val`, with everything visible.

Figures are those of `torchmetrics`, summed over ranks by it: mean intersection over union of classes that occur, mean
absolute error in units, mean angle in degrees. They steer nobody and stop nothing; the verdict on a model is the
evaluate stage's. Importing this module does not import torchmetrics, which takes seconds.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch.nn.functional import cosine_similarity

from stages.modality import Dense, Segmentation
from stages.shard.loader import VALID
from stages.train.architecture import Task
from stages.train.job import Job
from stages.train.model import MultiTask
from stages.train.world import World


@torch.no_grad()
def validate(
    job: Job, model: MultiTask, batches: Iterable[Mapping[str, torch.Tensor]], world: World, device: torch.device
) -> dict[str, float]:
    """{"val.semantic.miou": ..., "val.depth.mae": ...} over all of `batches`; tasks without any label are left out."""
    tasks = [t for t in model.architecture.tasks if t.name in job.judged]
    metrics = {t.name: _metric(t).to(device) for t in tasks}
    labelled = torch.zeros(len(tasks), device=device)
    hidden = torch.tensor(job.mask.hidden_inputs(model.architecture.columns), device=device)
    model.eval()
    for batch in batches:
        tensors = {k: v.to(device) for k, v in batch.items()}
        there = torch.stack([tensors[c + VALID] for c in model.architecture.columns], 1)
        if not len(there):
            continue
        predicted = model.predict(tensors, there & ~hidden)
        for i, task in enumerate(tasks):
            column = job.judged[task.name]
            rows = tensors[column + VALID]
            if rows.any():
                labelled[i] += rows.sum()
                _update(metrics[task.name], task, predicted[task.name][rows], tensors[column][rows])
    labelled = world.sum(labelled)
    values = {f"val.{t.name}.{t.modality.metric}": metrics[t.name].compute() for t in tasks}
    return {k: float(v) for (k, v), n in zip(values.items(), labelled.tolist(), strict=True) if n}


def _metric(task: Task) -> Any:
    from torchmetrics import MeanMetric
    from torchmetrics.classification import MulticlassJaccardIndex

    if isinstance(task.modality, Segmentation):
        return MulticlassJaccardIndex(task.modality.channels, ignore_index=255, validate_args=False)
    return MeanMetric()


def _update(metric: Any, task: Task, predicted: torch.Tensor, truth: torch.Tensor) -> None:
    if isinstance(task.modality, Segmentation):
        metric.update(predicted.argmax(-1), truth.long())
    elif isinstance(task.modality, Dense) and task.modality.direction:
        metric.update(torch.rad2deg(torch.acos(cosine_similarity(predicted, truth.float(), dim=-1).clamp(-1, 1))))
    else:
        metric.update((predicted - truth.float()).abs())
