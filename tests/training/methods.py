"""Parts of networks as somebody would write them beside a recipe: a head with a loss term of its own, one that is given
its target, an encoder of two columns, a trunk that computes something for each task."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import nn

from hyperloom.stages.network.architecture import Architecture, Input, Task
from hyperloom.stages.network.encoders import Encoder
from hyperloom.stages.network.features import Features, Sizes
from hyperloom.stages.network.heads import Head
from hyperloom.stages.network.reading import adjacency
from hyperloom.stages.network.terms import LossTerm
from hyperloom.stages.network.vit_trunk import ViTTrunk


class Codebook(Head):
    """A class from a soft choice of some codes, to which what is pooled commits itself (van den Oord, Vinyals &
    Kavukcuoglu 2017, without their hard choice, which rounding may turn)."""

    revision: ClassVar[int] = 1
    codes: int = 8
    commit: float = 0.25

    def build(self, task: Task, sizes: Sizes, architecture: Architecture) -> nn.Module:
        return Quantised(sizes.pooled, task.modality.channels, self.codes, self.commit)


class Quantised(nn.Module):
    def __init__(self, pooled: int, classes: int, codes: int, commit: float):
        super().__init__()
        self.codes = nn.Parameter(torch.randn(codes, 6) * 0.1)
        self.into, self.out = nn.Linear(pooled, 6), nn.Linear(6, classes)
        self.commitment, self.size = LossTerm("commitment", commit), LossTerm("size", 0.01)

    def forward(self, features: Features) -> torch.Tensor:
        point = self.into(features.pooled)
        near = (-(point[:, None] - self.codes).square().sum(2)).softmax(1) @ self.codes
        self.commitment((point - near).square().mean(1))
        self.size(self.codes.square().sum())
        return self.out(near)


class Decoder(Head):
    """A text, one id after the other; while it trains, each after the true one."""

    revision: ClassVar[int] = 1
    forced: ClassVar[bool] = True
    width: int = 12

    def build(self, task: Task, sizes: Sizes, architecture: Architecture) -> nn.Module:
        return Recurrent(sizes.pooled, task.modality.shape[0], task.modality.channels, self.width)


class Recurrent(nn.Module):
    seen: ClassVar[list[bool]] = []
    """Was a target given, call by call?"""

    def __init__(self, pooled: int, length: int, classes: int, width: int):
        super().__init__()
        self.length = length
        self.embed = nn.Embedding(classes, width)
        self.start, self.cell, self.out = nn.Linear(pooled, width), nn.GRUCell(width, width), nn.Linear(width, classes)

    def forward(self, features: Features, target: torch.Tensor | None = None) -> torch.Tensor:
        if self.training:
            self.seen.append(target is not None)
        state = self.start(features.pooled).tanh()
        before = self.embed.weight[0].expand_as(state)
        logits = []
        for place in range(self.length):
            state = self.cell(before, state)
            logits.append(self.out(state))
            ids = logits[-1].argmax(1) if target is None else target[:, place].clamp(min=0)
            before = self.embed(ids)
        return torch.stack(logits, 2)


class Messages(Encoder):
    """Points that know their neighbours: (points, 3) with the edges between them."""

    revision: ClassVar[int] = 1
    several: ClassVar[bool] = True

    def check(self, item: Input) -> None:
        if len(item.beside) != 1:
            raise ValueError(f"{item.column} needs its edges")

    def build(self, item: Input, width: int, patch: int) -> nn.Module:
        return Neighbours(self.grid(item, patch), width)


class Neighbours(nn.Module):
    def __init__(self, grid: Sequence[int], width: int):
        super().__init__()
        self.grid = tuple(grid)
        self.own, self.other = nn.Linear(3, width), nn.Linear(3, width)

    def forward(self, points: torch.Tensor, edges: torch.Tensor) -> tuple[torch.Tensor, None]:
        features = points.transpose(1, 2).nan_to_num()
        pairs = adjacency(edges, self.grid[0]).to(features.dtype)
        return self.own(features) + self.other(pairs @ features), None


class Adapted(ViTTrunk):
    """A task token and a low-rank adapter for each task; the heads of `early` sit on the first block."""

    revision: ClassVar[int] = 1
    per_task: ClassVar[bool] = True
    rank: int = 2
    early: tuple[str, ...] = ()

    def build(self, architecture: Architecture) -> nn.Module:
        return PerTask(super().build(architecture), [t.name for t in architecture.tasks], self)


class PerTask(nn.Module):
    def __init__(self, shared: nn.Module, tasks: Sequence[str], config: Adapted):
        super().__init__()
        width = 8 * config.chosen
        self.shared, self.early = shared, config.early
        self.tokens = nn.ParameterDict({t: nn.Parameter(torch.randn(width) * 0.02) for t in tasks})
        self.down = nn.ModuleDict({t: nn.Linear(width, config.rank, bias=False) for t in tasks})
        self.up = nn.ModuleDict({t: nn.Linear(config.rank, width, bias=False) for t in tasks})

    def forward(
        self, fused: tuple[torch.Tensor, torch.Tensor | None], tasks: Sequence[str]
    ) -> tuple[Features, dict[str, Features]]:
        features = self.shared(fused)
        first = self.shared.blocks[0](fused[0], padding=fused[1])  # type: ignore[index,operator]
        there = torch.ones_like(first[..., :1]) if fused[1] is None else fused[1][..., None].to(first.dtype)
        low = (first * there).sum(1) / there.sum(1)
        own = {}
        for task in tasks:
            pooled = (low if task in self.early else features.pooled) + self.tokens[task]
            own[task] = features._replace(pooled=pooled + self.up[task](self.down[task](pooled)))
        return features, own
