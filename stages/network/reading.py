"""Reading: raw columns, as the loader gives them, on the scale that a network reads and predicts.

Channels come second, whatever follows them: an image (N, H, W, 3) becomes (N, 3, H, W), a series (N, T, C) becomes
(N, C, T), a category (N,) one channel a class, (N, K). Numbers are standardised with the statistics of the shards;
numbers that are not there stay NaN. Modules without parameters, which processors name (`stages.network.processors`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import nn

if TYPE_CHECKING:
    from hyperloom.stages.network.processors import Processor, Scale


class Standardised(nn.Module):
    """Numbers (N, *shape) -> (N, channels, *sites) float32."""

    def __init__(self, processor: Processor, scale: Scale):
        super().__init__()
        self.planes_of = processor.planes_of
        mean = factor = None
        if scale.mean:
            times, sites = processor.modality.planes // len(scale.mean), [1] * processor.axes
            mean, std = (torch.tensor(v).repeat(times).view(1, -1, *sites) for v in (scale.mean, scale.std))
            factor = 1 / std
        self.register_buffer("mean", mean, persistent=False)
        self.register_buffer("factor", factor, persistent=False)

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        planes = self.planes_of(values).float()
        return planes if self.mean is None else (planes - self.mean) * self.factor


class OneHot(nn.Module):
    """Ids (N, *sites) -> (N, classes, *sites), 1 for the class; 0 everywhere for what is no class."""

    def __init__(self, classes: int, sites: int = 0):
        super().__init__()
        ids = torch.arange(classes, dtype=torch.uint8 if sites else torch.int64)
        self.register_buffer("classes", ids.view(1, -1, *[1] * sites), persistent=False)

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        return (values.unsqueeze(1) == self.classes).float()


class Signs(nn.Module):
    """No (0), yes (1) and unknown (255) as -1, 1 and 0."""

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        return torch.where(values > 1, 0.0, values.float() * 2 - 1)


class Shares(nn.Module):
    """Probabilities, bytes being parts of 255."""

    def __init__(self, processor: Processor):
        super().__init__()
        self.planes_of = processor.planes_of

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        planes = self.planes_of(values).float()
        return planes / 255 if values.dtype == torch.uint8 else planes


class OneEnd(nn.Module):
    """Ids with their first padding, which a model must learn to end a text; -1 after it."""

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        return ids.masked_fill((ids == 0).cumsum(1) > 1, -1)


def adjacency(edges: torch.Tensor, nodes: int) -> torch.Tensor:
    """(N, E, 2) pairs, -1 for padding -> (N, nodes, nodes) float32, 1 from the first of a pair to the second."""
    place = torch.where(edges[..., 0] >= 0, edges[..., 0] * nodes + edges[..., 1], nodes * nodes)
    count = edges.shape[0]  # len() would be a constant in an exported graph
    flat = torch.zeros(count, nodes * nodes + 1, device=edges.device).scatter(1, place, 1.0)
    return flat[:, :-1].view(-1, nodes, nodes)
