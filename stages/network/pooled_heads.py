"""Heads on what is pooled of a sample: (N, P) -> (N, outputs). See `stages.network.heads`."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import nn

from hyperloom.stages.network.features import Features


class PooledLayers(nn.Linear):
    """One number or logit an output."""

    def forward(self, features: Features) -> torch.Tensor:  # type: ignore[override]
        return super().forward(features.pooled)


class OrdinalLayers(PooledLayers):
    """Ordered levels by a cumulative link (McCullagh 1980): one number and learned thresholds in order; raw is
    (N, levels - 1), the logits of lying above each threshold."""

    def __init__(self, pooled: int, levels: int):
        super().__init__(pooled, 1)
        self.lowest = nn.Parameter(torch.tensor(-(levels - 2) / 2))
        self.steps = nn.Parameter(torch.full((levels - 2,), 0.5413))  # softplus of it is 1

    def forward(self, features: Features) -> torch.Tensor:  # type: ignore[override]
        rises = nn.functional.softplus(self.steps).cumsum(0)
        return super().forward(features) - torch.cat([self.lowest.view(1), self.lowest + rises])

    def finish(self, raw: torch.Tensor) -> torch.Tensor:
        return level_probabilities(raw)


def level_probabilities(above: torch.Tensor) -> torch.Tensor:
    """(N, levels) from the logits of lying above each threshold, (N, levels - 1), which fall."""
    beyond = nn.functional.pad(nn.functional.pad(above.sigmoid(), (1, 0), value=1.0), (0, 1), value=0.0)
    return beyond[:, :-1] - beyond[:, 1:]


class RegressLayers(PooledLayers):
    """Numbers of a sample, of any shape: raw is (N, C, *sites); keypoints are x, y and the logit of being visible."""

    def __init__(self, pooled: int, shape: Sequence[int]):
        super().__init__(pooled, math.prod(shape))
        self.sites = (shape[-1], *shape[:-1]) if len(shape) > 1 else ()

    def forward(self, features: Features) -> torch.Tensor:  # type: ignore[override]
        numbers = super().forward(features)
        return numbers.unflatten(1, self.sites) if self.sites else numbers


class EmbedLayers(nn.Module):
    """A point in a space of directions, (N, length), by a projector of two layers."""

    def __init__(self, pooled: int, length: int):
        super().__init__()
        hidden = max(pooled, 32)
        self.project = nn.Sequential(nn.Linear(pooled, hidden), nn.GELU(), nn.Linear(hidden, length))

    def forward(self, features: Features) -> torch.Tensor:
        return self.project(features.pooled)
