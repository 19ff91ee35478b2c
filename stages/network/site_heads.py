"""Heads that predict each site: pixels, places of a sequence, steps, pairs of nodes. See `stages.network.heads`."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from hyperloom.stages.network.attention import Query
from hyperloom.stages.network.features import Features


class DenseLayers(nn.Linear):
    """Every pixel, raw (N, C, H, W). A convolution of 1x1 as the matrix product that it is: on one thread torch's own
    takes up to 1.4 times as long."""

    def forward(self, features: Features) -> torch.Tensor:  # type: ignore[override]
        assert features.planes is not None
        return super().forward(features.planes.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)

    @torch.no_grad()
    def begin(self, planes: Sequence[str], classes: Sequence[str]) -> None:
        """Classes that are among the `planes` begin with what these say."""
        for row, name in enumerate(classes):
            if name in planes:
                self.weight[row], self.bias[row] = 0.0, 0.0
                self.weight[row, planes.index(name)] = 1.0


class TokenLayers(nn.Module):
    """A class for each place of a sequence, all at once: bytes of a text, tags of words. Raw is (N, K, length)."""

    def __init__(self, memory: int, length: int, classes: int):
        super().__init__()
        self.query = Query((length,), memory, memory)
        self.out = nn.Linear(memory, classes)

    def forward(self, features: Features) -> torch.Tensor:
        return self.out(self.query(features.memory, features.padding)).transpose(1, 2)


class SeriesLayers(nn.Module):
    """Numbers over time, raw (N, channels, steps): neighbouring steps come from one question to the memory."""

    def __init__(self, memory: int, steps: int, channels: int, grid: Sequence[int]):
        super().__init__()
        self.steps, self.channels = steps, channels
        self.query = Query(grid, memory, memory)
        self.out = nn.Linear(memory, -(-steps // grid[0]) * channels)

    def forward(self, features: Features) -> torch.Tensor:
        numbers = self.out(self.query(features.memory, features.padding))
        return numbers.unflatten(2, (self.channels, -1)).transpose(1, 2).flatten(2)[..., : self.steps]


class PairLayers(nn.Module):
    """Which nodes belong together: a bilinear score of each pair (Yang et al. 2015), raw (N, nodes, nodes)."""

    def __init__(self, memory: int, nodes: int):
        super().__init__()
        self.query = Query((nodes,), memory, memory)
        self.ends = nn.Linear(memory, 2 * memory)
        self.bias = nn.Parameter(torch.zeros(()))

    def forward(self, features: Features) -> torch.Tensor:
        first, second = self.ends(self.query(features.memory, features.padding)).chunk(2, -1)
        return first @ second.transpose(1, 2) / first.shape[-1] ** 0.5 + self.bias
