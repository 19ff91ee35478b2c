"""Validation while training: how well the kept network does on the split `val`, with everything visible.

The figures are those of the evaluate stage (`stages.measure.scores`), against the column that the job names, added up
over ranks exactly. They steer nobody and stop nothing; the verdict on a model is the evaluate stage's.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
import torch

from hyperloom.stages.base import VALID, modality_of
from hyperloom.stages.meaning import translation
from hyperloom.stages.measure.scores import measures, score
from hyperloom.stages.measure.sums import Sums, merged
from hyperloom.stages.network.model import MultiTask
from hyperloom.stages.network.predictor import answered
from hyperloom.stages.network.visible import present
from hyperloom.stages.train.job import Job
from hyperloom.stages.train.world import World


@torch.no_grad()
def validate(
    job: Job, model: MultiTask, batches: Iterable[Mapping[str, torch.Tensor]], world: World, device: torch.device
) -> dict[str, float]:
    """{"val.semantic.miou": ..., "val.depth.mae": ...} over all of `batches`; tasks without any label are left out."""
    tasks = {t.name: t.modality for t in model.architecture.tasks if t.name in job.judged}
    sources = {name: job.modalities[modality_of(job.judged[name])] for name in tasks}
    meanings = {name: translation(sources[name].meaning, modality.meaning) for name, modality in tasks.items()}
    hidden = torch.tensor(job.mask.hidden_inputs(model.architecture.columns))
    sums: list[dict[str, Sums]] = []
    model.eval()
    for batch in batches:
        empty = not len(batch[model.architecture.columns[0]])
        if empty and not job.rhythm.sharded:
            continue
        if empty:  # a sharded network runs on all ranks or on none
            batch = {k: torch.zeros(1, *v.shape[1:], dtype=v.dtype) for k, v in batch.items()}
        valid = present(model.architecture, batch) & ~hidden
        predictions = model.predict({k: v.to(device, non_blocking=True) for k, v in batch.items()}, valid.to(device))
        if empty:
            continue
        every = np.ones(len(valid), bool)
        scored: list[dict[str, Sums]] = [{} for _ in every]
        for name, modality in tasks.items():
            values = answered(modality, predictions[name])
            truth, known = batch[job.judged[name]], batch[job.judged[name] + VALID].numpy()
            same = sources[name].translated(truth.numpy(), meanings[name]) if meanings[name] else truth.numpy()
            for i, mine in enumerate(scored):  # one by one: sums of sums depend on what a batch holds
                one = slice(i, i + 1)
                mine[name] = score(modality, same[one], values[one], known[one], every[one])
        sums += scored
    whole = [part for parts in world.gather(sums) for part in parts]
    figures = {n: measures(m, merged(p[n] for p in whole)) for n, m in tasks.items()}
    return {f"val.{n}.{m.metric}": figures[n][m.metric] for n, m in tasks.items() if m.metric in figures[n]}
