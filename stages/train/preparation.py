"""Preparation: from what the source of batches gives to what an update learns from.

Moves a batch to the device with what was drawn for it (`stages.train.draws`), applies augmentations, blends last, and
adds what objectives without a target draw as columns. All that is random is drawn for the whole global batch from
(seed, update), so it depends neither on how many workers share the batch nor on when a training was resumed.

On a GPU, copies go on a stream of their own: as updates are asked for before the last one is done, the next batch is
there when its turn comes. Augmentations are computed where the batch lies.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import torch

from hyperloom.stages.augment.blends import Pairs
from hyperloom.stages.base import VALID, modality_of
from hyperloom.stages.network.visible import Visible, present
from hyperloom.stages.train.clipping import Clipping
from hyperloom.stages.train.criterion import Criterion
from hyperloom.stages.train.draws import BatchDraws, Drawer
from hyperloom.stages.train.job import Job
from hyperloom.stages.train.learners import PLAIN, UpdateBatch
from hyperloom.stages.transfer import sent
from hyperloom.stages.world import World


class Preparation:
    """Prepares this rank's part of each global batch."""

    def __init__(self, job: Job, criterion: Criterion, world: World, clipping: Clipping):
        self.job, self.criterion, self.world, self.clipping = job, criterion, world, clipping
        self.modalities = {column: job.modalities[modality_of(column)] for column in job.columns}
        guide = job.guide.columns if job.guide else ()
        self.read = frozenset([*(p.column for p in job.architecture.parts), *guide])
        """Columns that the network reads, and a teacher that is asked."""
        own = [p.column for p in job.architecture.parts] if job.learner.plain else []
        self.plain = {c + PLAIN: c for c in own}
        """Inputs that are kept in their own light, by what they are called in a batch."""
        self.every = self.modalities | {plain: self.modalities[c] for plain, c in self.plain.items()}
        self.drawer = Drawer(job, criterion, world.slice(job.batch), (self.modalities, self.every), world.device)
        self._beside = torch.cuda.Stream(world.device) if world.device.type == "cuda" else None

    def __call__(self, number: int, columns: Mapping[str, torch.Tensor]) -> UpdateBatch:
        """The batch of update `number`, from 0."""
        draws = self.drawer(number)
        draws = replace(draws, visible=self._counted(columns, draws.visible))
        moved, draws = self._moved(columns, draws)
        tensors = dict(moved)
        tensors |= {plain + v: moved[c + v] for plain, c in self.plain.items() for v in ("", VALID)}
        for augment, drawn in zip(self.drawer.augments, draws.augments, strict=True):
            moving = self.drawer.moved(augment)
            before, tensors = tensors, augment.apply(tensors, moving, drawn)
            if augment.light:
                self.clipping.look(number, moving, before, tensors)
        for blend, places, drawn in zip(self.drawer.blends, draws.places, draws.blends, strict=True):
            inputs = self.read | set(self.plain)
            tensors = blend.blend(Pairs(tensors, self._others(tensors, places), self.every, inputs), drawn)
        return UpdateBatch(number, tensors | dict(draws.columns), draws.visible)

    def _others(self, tensors: Mapping[str, torch.Tensor], places: torch.Tensor) -> dict[str, torch.Tensor]:
        """The samples at these places of the global batch."""
        return {name: self.world.rows(values, self.job.batch)[places] for name, values in tensors.items()}

    def _counted(self, columns: Mapping[str, torch.Tensor], visible: Visible) -> Visible:
        """`visible`, with how many tokens samples keep: other numbers than were drawn where inputs are missing. It is
        told here, as a device that is asked makes the host wait."""
        if visible.kept is None:
            return visible
        valid = present(self.criterion.model.architecture, columns)
        if valid.device.type != "cpu":
            return replace(visible, kept=None)
        return visible if bool(valid.all()) else self.drawer.counted(visible, valid)

    def _moved(
        self, columns: Mapping[str, torch.Tensor], draws: BatchDraws
    ) -> tuple[Mapping[str, torch.Tensor], BatchDraws]:
        """A batch and what was drawn for it, on the device."""
        if self._beside is None:
            return self._sent(columns, draws)
        now = torch.cuda.current_stream(self.world.device)
        with torch.cuda.stream(self._beside):
            moved, draws = self._sent(columns, draws)
        now.wait_stream(self._beside)
        for tensor in _tensors([moved, vars(draws), vars(draws.visible)]):
            tensor.record_stream(now)  # its memory is used again only when the update is done with it
        return moved, draws

    def _sent(
        self, columns: Mapping[str, torch.Tensor], draws: BatchDraws
    ) -> tuple[Mapping[str, torch.Tensor], BatchDraws]:
        visible = draws.visible
        inputs, squares = sent([visible.inputs, list(visible.squares)], self.world.device)
        rest = {name: sent(values, self.world.device) for name, values in vars(draws).items() if name != "visible"}
        moved = sent(dict(columns), self.world.device)
        return moved, BatchDraws(Visible(inputs, tuple(squares), visible.kept), **rest)


def _tensors(value: Any) -> Iterator[torch.Tensor]:
    """All tensors in dictionaries and sequences."""
    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from _tensors(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _tensors(item)
