"""The learner: a model with its targets, so that a batch becomes one loss for each task.

Masked reconstruction and supervision are the same sum here: every labelled pixel of every target counts, whether or
not its modality was visible. Each task's loss is the weighted mean over all its labelled pixels of the *global* batch,
so it does not depend on how many workers share the batch, and a task without labels is exactly zero, never 0/0.
Does not step, log or store anything.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import nn

from stages.base import modality_of
from stages.shard.loader import VALID
from stages.train.encoders import target_reader
from stages.train.job import Job
from stages.train.model import Columns, MultiTask
from stages.train.visible import Visible, shown
from stages.train.world import World


@dataclass(frozen=True)
class Losses:
    """Per task, (T,): this rank's share of the mean losses (their sum over ranks is the loss) and whether any pixel of
    the global batch is labelled."""

    values: torch.Tensor
    present: torch.Tensor


class Learner(nn.Module):
    """Holds the model and what turns target columns into tensors on the scale of its predictions."""

    def __init__(self, job: Job, model: MultiTask):
        super().__init__()
        self.model, self.job = model, job
        self.network: Callable[..., Columns] = model.__call__
        """Runs the model: the loop may set another precision."""
        self._blank: dict[str, torch.Tensor] | None = None
        self.tasks = model.architecture.tasks
        by_name = {t.name: t for t in self.tasks}
        self.readers = [target_reader(job.modalities[modality_of(t.column)], by_name[t.task]) for t in job.targets]
        self.held = nn.ModuleList(r for r in self.readers if isinstance(r, nn.Module))
        self.pixel_losses = [t.objective.build(t.class_counts) for t in job.targets]

    def forward(
        self, batch: Columns, visible: Visible | torch.Tensor, world: World, counts: torch.Tensor | None = None
    ) -> Losses:
        """`batch` is what the loader gives, `visible` what the mask wants. With `counts` (see `count`)
        the batch is a part of this rank's share, and the losses are that part's share."""
        there = torch.stack([batch[c + VALID] for c in self.model.architecture.columns], 1)
        raw = self.network(batch, shown(there, visible))
        sums, own = self._sums(batch, raw, there.any(1))
        counts = world.sum(own) if counts is None else counts
        return Losses(torch.stack(sums) / counts.clamp(min=1e-9).float(), counts > 0)

    @torch.no_grad()
    def count(self, parts: Sequence[Columns], world: World) -> torch.Tensor:
        """What `forward` divides each task's sum by, (T,) float64 over the global batch, for this rank's share in
        `parts`, without running the network on it."""
        own = []
        for batch in parts:
            there = torch.stack([batch[c + VALID] for c in self.model.architecture.columns], 1)
            if self._blank is None:
                raw = self.model({k: v[:1] for k, v in batch.items()})
                self._blank = {name: torch.zeros_like(values[0]) for name, values in raw.items()}
            blank = {name: values.expand(len(there), *values.shape) for name, values in self._blank.items()}
            own.append(self._sums(batch, blank, there.any(1))[1])
        return world.sum(torch.stack(own).sum(0))

    def _sums(self, batch: Columns, raw: Columns, seen: torch.Tensor) -> tuple[list[torch.Tensor], torch.Tensor]:
        """Per task the weighted sum of losses over labelled pixels, and their weighted number."""
        sums = [torch.zeros((), device=seen.device) for _ in self.tasks]
        counts = torch.zeros(len(self.tasks), dtype=torch.float64, device=seen.device)
        order = {t.name: i for i, t in enumerate(self.tasks)}
        for target, read, pixels in zip(self.job.targets, self.readers, self.pixel_losses, strict=True):
            loss, labelled = pixels(raw[target.task], read(batch[target.column]))
            use = labelled & (batch[target.column + VALID] & seen).view(-1, *[1] * (labelled.ndim - 1))
            i = order[target.task]
            sums[i] = sums[i] + target.weight * torch.where(use, loss, 0.0).sum()
            counts[i] += target.weight * use.sum()
        return sums, counts
