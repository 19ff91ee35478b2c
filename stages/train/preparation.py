"""Preparation: from what the source of batches gives to what an update learns from.

Moves a batch to the device, draws what the mask shows, applies augmentations, blends last, and adds what objectives
without a target draw as columns. All that is random is drawn for the whole global batch from (seed, update), so it
depends neither on how many workers share the batch nor on when a training was resumed.

On a GPU, copies go on a stream of their own: as updates are asked for before the last one is done, the next batch is
there when its turn comes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import torch

from hyperloom.stages.base import VALID, modality_of
from hyperloom.stages.network.visible import Visible, present, shown
from hyperloom.stages.train.blends import Blend, Pairs
from hyperloom.stages.train.clipping import Clipping
from hyperloom.stages.train.criterion import Criterion
from hyperloom.stages.train.job import Job, seed_of
from hyperloom.stages.train.learners import PLAIN, UpdateBatch
from hyperloom.stages.train.world import World


class Preparation:
    """Prepares this rank's part of each global batch."""

    def __init__(self, job: Job, criterion: Criterion, world: World, device: torch.device, clipping: Clipping):
        self.job, self.criterion, self.world, self.device = job, criterion, world, device
        self.clipping = clipping
        self.modalities = {column: job.modalities[modality_of(column)] for column in job.columns}
        guide = job.guide.columns if job.guide else ()
        self.read = frozenset([*(p.column for p in job.architecture.parts), *guide])
        """Columns that the network reads, and a teacher that is asked."""
        own = [p.column for p in job.architecture.parts] if job.learner.plain else []
        self.plain = {c + PLAIN: c for c in own}
        """Inputs that are kept in their own light, by what they are called in a batch."""
        self._beside = torch.cuda.Stream(device) if device.type == "cuda" else None

    def __call__(self, number: int, columns: Mapping[str, torch.Tensor]) -> UpdateBatch:
        """The batch of update `number`, from 0."""
        job, part = self.job, self.world.slice(self.job.batch)
        generator = torch.Generator().manual_seed(seed_of(job.seed, "mask", number))
        architecture = self.criterion.model.architecture
        visible = self._counted(columns, job.mask.draw(architecture, job.batch, generator)[part])
        moved, visible = self._moved(columns, visible)
        tensors = dict(moved)
        tensors |= {plain + v: moved[c + v] for plain, c in self.plain.items() for v in ("", VALID)}
        every = self.modalities | {plain: self.modalities[c] for plain, c in self.plain.items()}
        for augment in (a for a in job.augment if not isinstance(a, Blend)):
            moving = self.modalities if augment.light else every
            before, tensors = tensors, augment.apply(tensors, moving, job.batch, part, generator)
            if augment.light:
                self.clipping.look(number, moving, before, tensors)
        for blend in (a for a in job.augment if isinstance(a, Blend)):
            others = self._others(tensors, torch.randperm(job.batch, generator=generator)[part])
            inputs = self.read | set(self.plain)
            tensors = blend.blend(Pairs(tensors, others, every, inputs, job.batch, part, generator))
        drawn = self.criterion.draw(job.batch, torch.Generator().manual_seed(seed_of(job.seed, "extras", number)))
        tensors |= {name: values[part].to(self.device) for name, values in drawn.items()}
        return UpdateBatch(number, tensors, visible)

    def _others(self, tensors: Mapping[str, torch.Tensor], places: torch.Tensor) -> dict[str, torch.Tensor]:
        """The samples at these places of the global batch."""
        rows = places.to(self.device)
        whole = {name: self.world.rows(values, self.job.batch) for name, values in tensors.items()}
        return {name: values[rows.to(values.device)] for name, values in whole.items()}

    def _counted(self, columns: Mapping[str, torch.Tensor], visible: Visible) -> Visible:
        """`visible`, with how many tokens samples keep where that can be told here: asking a device for it would make
        it wait. On a CPU nothing waits."""
        model = self.criterion.model
        kept = getattr(model.fusion, "kept", None)
        if kept is None or self.device.type == "cpu":
            return visible
        return replace(visible, kept=kept(shown(present(model.architecture, columns), visible)))

    def _moved(self, columns: Mapping[str, torch.Tensor], visible: Visible) -> tuple[dict[str, torch.Tensor], Visible]:
        """A batch and what the mask shows of it, on the device."""
        if self._beside is None:
            return {k: v.to(self.device, non_blocking=True) for k, v in columns.items()}, visible.to(self.device)
        now = torch.cuda.current_stream(self.device)
        with torch.cuda.stream(self._beside):
            tensors = {k: v.to(self.device, non_blocking=True) for k, v in columns.items()}
            visible = visible.to(self.device)
        now.wait_stream(self._beside)
        for tensor in (*tensors.values(), visible.inputs, *(s for s in visible.squares if s is not None)):
            tensor.record_stream(now)  # its memory is used again only when the update is done with it
        return tensors, visible
