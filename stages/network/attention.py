"""Transformer blocks: pre-norm attention and a perceptron, with torch's fused attention (Vaswani et al. 2017).

Positions are sines and cosines over any number of axes, computed and not learned, so a grid of any size has them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import nn
from torch.nn.functional import scaled_dot_product_attention


def heads_of(width: int, head: int = 32) -> int:
    """Attention heads for a width: as many as divide it and leave each 16 channels or more, `head` where possible."""
    fitting = [n for n in range(1, width // 16 + 1) if width % n == 0]
    return max((n for n in fitting if width // n >= head), default=max(fitting, default=1))


class Block(nn.Module):
    """Attention of `x` (N, Q, D) over itself, or over `memory` (N, T, M), and a perceptron; residual."""

    def __init__(self, width: int, memory: int | None = None, ratio: float = 4.0, head: int = 32):
        super().__init__()
        self.heads, hidden = heads_of(width, head), round(ratio * width)
        self.before = nn.LayerNorm(width)
        self.query = nn.Linear(width, width)
        self.pair = nn.Linear(memory or width, 2 * width)
        self.out = nn.Linear(width, width)
        self.mlp = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, width))
        self.cross = memory is not None

    def forward(
        self, x: torch.Tensor, memory: torch.Tensor | None = None, padding: torch.Tensor | None = None
    ) -> torch.Tensor:
        """`padding` (N, T) bool is false for keys that are none."""
        here = self.before(x)
        query, (key, value) = self.query(here), self.pair(here if memory is None else memory).chunk(2, -1)
        mask = None if padding is None else padding[:, None, None, :]
        mixed = scaled_dot_product_attention(self._split(query), self._split(key), self._split(value), attn_mask=mask)
        x = x + self.out(mixed.transpose(1, 2).flatten(2))
        return x + self.mlp(x)

    def _split(self, x: torch.Tensor) -> torch.Tensor:
        return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)


class Query(nn.Module):
    """Learned questions to a trunk's memory: one token a site of `grid`, (N, sites, width)."""

    def __init__(self, grid: Sequence[int], width: int, memory: int, depth: int = 0, head: int = 32):
        super().__init__()
        self.start = nn.Parameter(torch.randn(width) * 0.02)
        self.register_buffer("positions", positions(grid, width), persistent=False)
        self.ask = Block(width, memory, head=head)
        self.blocks = nn.ModuleList(Block(width, head=head) for _ in range(depth))
        self.after = nn.LayerNorm(width)

    def forward(self, memory: torch.Tensor, padding: torch.Tensor | None) -> torch.Tensor:
        x = self.ask((self.start + self.positions).expand(memory.shape[0], -1, -1), memory, padding)
        for block in self.blocks:
            x = block(x)
        return self.after(x)


def positions(grid: Sequence[int], width: int) -> torch.Tensor:
    """(sites, width) sines and cosines of each site's place along each axis."""
    if math.prod(grid) == 1:
        return torch.zeros(1, width)
    axes = torch.meshgrid(*(torch.arange(n, dtype=torch.float32) for n in grid), indexing="ij")
    each = max(1, width // (2 * len(grid)))
    rates = 10_000 ** -(torch.arange(each, dtype=torch.float32) / each)
    angles = torch.cat([a.reshape(-1, 1) * rates for a in axes], 1)
    table = torch.cat([angles.sin(), angles.cos()], 1)[:, :width]
    return nn.functional.pad(table, (0, width - table.shape[1]))
