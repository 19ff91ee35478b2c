"""A hinted network: a student beside its guide, of both of which predictions and maps are at hand in an update."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from hyperloom.stages.network.model import Columns, MultiTask
from hyperloom.stages.objective.extras import Observed
from hyperloom.stages.objective.hints import hints
from hyperloom.stages.train.failures import Final
from hyperloom.stages.train.guide import Guide, MapTap
from hyperloom.stages.train.job import Job


class Hinted:
    """The student `model` and the guide of `job`. Raises Final where the job names none."""

    def __init__(self, job: Job, model: MultiTask):
        if job.guide is None:
            raise Final(f"extras: {', '.join(hints(job.extras))}: there is no teacher to be asked")
        strides = [s for hint in hints(job.extras).values() for s in hint.strides]
        self.guide = Guide(job.storage, job.guide, strides, job.precision)
        self.model, self.taps = model, MapTap(model, strides)

    def observed(
        self, batch: Columns, predictions: Mapping[str, torch.Tensor], job: Job
    ) -> tuple[Observed, Observed] | tuple[()]:
        """What the student, which has just seen the batch, and its guide make of it; nothing where no hint of `job`
        counts."""
        maps = self.taps.taken()
        if set(hints(job.extras)) <= job.silent:
            return ()
        device = next(iter(predictions.values())).device
        student = Observed({t.name: t for t in self.model.architecture.tasks}, predictions, maps)
        return student, self.guide(batch, device)
