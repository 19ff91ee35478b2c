"""A guide: the teacher of a student, asked in every update about the very batch that the student sees.

Stored answers are those to pictures as they were. A guide sees the same crop, mirror, light and mixture as the student,
so that its answers are right for what the student is asked (consistent teaching, Beyer et al. 2022), and it shows what
goes on inside it: the maps in its trunk (`Trunk.maps`). It costs a forward pass of the teacher an update, reads the
teacher's inputs from the shards, never changes, and is in no checkpoint.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import nn

from hyperloom.pipeline.root.storage import Storage
from hyperloom.stages.base import VALID
from hyperloom.stages.network.architecture import Architecture
from hyperloom.stages.network.model import Columns, MultiTask
from hyperloom.stages.network.visible import present, shown
from hyperloom.stages.objective.extras import Observed
from hyperloom.stages.train import compute
from hyperloom.stages.train.job import Teaching
from hyperloom.stages.train.network import Origin


class MapTap:
    """Keeps the maps that a network's trunk makes at some strides, until they are taken."""

    def __init__(self, model: MultiTask, strides: Sequence[int]):
        maps = model.architecture.trunk.maps
        self.kept: dict[int, torch.Tensor] = {}
        for stride in sorted(set(strides)):
            model.trunk.get_submodule(maps[stride].module).register_forward_hook(_keeping(self.kept, stride))

    def taken(self) -> dict[int, torch.Tensor]:
        """The maps of the last forward pass, in float32; they are let go."""
        maps = {stride: value.float() for stride, value in self.kept.items()}
        self.kept.clear()
        return maps


class Guide:
    """The network of `teaching`, whole and at rest. `strides`: where its maps are looked at."""

    def __init__(self, storage: Storage, teaching: Teaching, strides: Sequence[int], precision: str):
        from safetensors.torch import load

        model = MultiTask(architecture_of(storage, teaching.origin))
        model.load_state_dict(load(storage.read(teaching.origin.weights)))
        self.hidden = [p for p in model.architecture.parts if p.column not in teaching.columns]
        """What it may not be asked with: it was there while it was trained alone."""
        self.model: MultiTask = model.to(memory_format=torch.channels_last).eval().requires_grad_(False)  # type: ignore[call-overload]
        self.taps, self.precision = MapTap(self.model, strides), precision
        self.device = torch.device("cpu")

    @property
    def architecture(self) -> Architecture:
        return self.model.architecture

    @torch.no_grad()
    def __call__(self, batch: Columns, device: torch.device) -> Observed:
        """What it makes of a batch, with all that is in it visible to it that may be."""
        if device != self.device:
            self.model.to(device)
            self.device = device
        columns, count = dict(batch), len(next(iter(batch.values())))
        for part in self.hidden:
            stored = torch.from_numpy(np.empty(0, part.modality.dtype)).dtype
            columns[part.column] = torch.zeros(count, *part.modality.shape, dtype=stored, device=device)
            columns[part.column + VALID] = torch.zeros(count, dtype=torch.bool, device=device)
        valid = present(self.architecture, columns)
        run = compute.runner(self.model, self.precision, None, device)
        predictions = run(columns, shown(valid, torch.ones_like(valid))).predictions
        return Observed({t.name: t for t in self.architecture.tasks}, predictions, self.taps.taken())


def architecture_of(storage: Storage, origin: Origin) -> Architecture:
    """What the network of `origin` is."""
    return Architecture.from_json(json.loads(storage.read(origin.about)))


def _keeping(kept: dict[int, torch.Tensor], stride: int) -> Callable[[nn.Module, object, torch.Tensor], None]:
    """A hook; a function, lest a copy of the network copy what is kept."""

    def keep(module: nn.Module, given: object, value: torch.Tensor) -> None:
        kept[stride] = value

    return keep
