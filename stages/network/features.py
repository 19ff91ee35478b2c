"""Features: what a trunk gives to heads, the same whichever trunk it was.

planes  (N, F, H, W)   at full resolution, for predictions of every pixel
pooled  (N, P)         the whole sample in one vector
memory  (N, T, M)      tokens that a head may attend to; `padding` (N, T) bool is false where there is none
"""

from __future__ import annotations

from typing import NamedTuple

import torch


class Sizes(NamedTuple):
    """Channels of each; 0 where a trunk has none."""

    planes: int
    pooled: int
    memory: int


class Features(NamedTuple):
    planes: torch.Tensor | None
    pooled: torch.Tensor
    memory: torch.Tensor
    padding: torch.Tensor | None = None
