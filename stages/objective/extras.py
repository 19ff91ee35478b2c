"""Extras: objectives of whole samples that need no target, beside the tasks' own.

    extras:
      pairs: {type: contrastive, between: [rgb@camera, caption@web]}
      turns: {type: rotation, of: rgb@camera}
      tiles: {type: jigsaw, of: rgb@camera}

To the balancer an extra is a task of its name. It may have parameters of its own (a projector, a classifier), which are
trained and kept in checkpoints with the model, and are no part of the model that is stored. What it draws at random is
drawn for the whole global batch, so it does not depend on how many workers share it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from hyperloom.pipeline.plugins import Plugin

if TYPE_CHECKING:
    import torch
    from torch import nn

    from hyperloom.stages.network.architecture import Architecture, Task
    from hyperloom.stages.network.features import Features, Run
    from hyperloom.stages.network.model import Encoded, MultiTask
    from hyperloom.stages.network.visible import Grid
    from hyperloom.stages.world import World

DRAWN = "!"
"""In a batch, the column `name + DRAWN` holds what the extra of that name drew."""


@dataclass(frozen=True)
class Observed:
    """What a network with these tasks made of a batch: raw predictions by task, and maps (N, C, H, W) by the stride at
    which they lie."""

    tasks: Mapping[str, Task]
    predictions: Mapping[str, torch.Tensor]
    maps: Mapping[int, torch.Tensor]


@dataclass(frozen=True)
class ObjectiveInputs:
    """What an extra looks at: this rank's encoded inputs, which of them are there, (N, inputs) bool, and what was drawn
    for these samples, (N, ...). `network` runs the model on encoded inputs as `MultiTask.forward` is called, in the
    training's precision, compiled and sharded as it is; a model that is called itself knows nothing of these."""

    network: Run
    planes: Sequence[Encoded]
    valid: torch.Tensor
    drawn: torch.Tensor
    world: World
    student: Observed | None = None
    """What the network made of the batch for its tasks; this and the next for hints (`stages.objective.hints`)."""
    teacher: Observed | None = None


class Extra(Plugin):
    """Base of objectives of whole samples that need no target."""

    def check(self, columns: Sequence[str]) -> None:
        """Raises ValueError when this objective names what is no input."""

    def fits(self, architecture: Architecture) -> None:
        """Raises ValueError when an input is of a kind that this objective cannot use."""

    def build(self, architecture: Architecture) -> nn.Module:
        """Its own parameters, initialised from the current seed; none by default."""
        from torch import nn

        return nn.Identity()

    def draw(self, architecture: Architecture, count: int, generator: torch.Generator) -> torch.Tensor:
        """What is random, for each of the `count` samples of the global batch: (count, ...); nothing by default."""
        import torch

        return torch.empty(count, 0)

    def count(self, columns: Sequence[str], valid: torch.Tensor) -> torch.Tensor:
        """How many samples count, (); `valid` is (N, inputs) bool."""
        raise TypeError(f"the objective {self.type!r} has no count()")

    def loss(self, model: MultiTask, own: nn.Module, samples: ObjectiveInputs) -> torch.Tensor:
        """The sum of the losses of this rank's samples, (); `own` is what `build` gave. All ranks call it together."""
        raise TypeError(f"the objective {self.type!r} has no loss()")


def alone(
    model: MultiTask,
    samples: ObjectiveInputs,
    i: int,
    squares: tuple[torch.Tensor, int] | None = None,
    planes: torch.Tensor | None = None,
) -> Features:
    """What the trunk makes of input i when nothing else shows, or of those squares of it, (N, *grid) bool, of which
    every sample has so many; with `planes` in its place, where they are given."""
    import torch

    from hyperloom.stages.network.visible import Visible

    every = list(samples.planes)
    every[i] = every[i] if planes is None else planes
    inputs = torch.zeros(samples.valid.shape, dtype=torch.bool, device=samples.valid.device)
    inputs[:, i] = True
    grids: list[Grid] = [None] * len(every)
    grids[i] = None if squares is None else squares[0]
    kept = _kept(model, i, squares)
    return samples.network(every, Visible(inputs, tuple(grids), kept and kept * len(inputs)), ()).features


def _kept(model: MultiTask, i: int, squares: tuple[torch.Tensor, int] | None) -> tuple[int, ...] | None:
    """How many tokens a sample keeps of which input i shows alone, where that can be told without asking a device."""
    import torch

    from hyperloom.stages.network.visible import Visible

    tell = getattr(model.fusion, "kept", None)
    columns = model.architecture.columns
    grids: list[Grid] = [None] * len(columns)
    if squares is not None:
        grid = tuple(squares[0].shape[1:])
        if grid != tuple(model.architecture.grids()[i]) or squares[1] < 1:
            return None
        sites = torch.arange(math.prod(grid)) < squares[1]
        grids[i] = sites.view(1, *grid)
    only = torch.tensor([[column == columns[i] for column in columns]])
    return tell and tell(Visible(only, tuple(grids)))
