"""Weightings: balancers that make one weighted sum of the losses and need a single backward pass.

Losses come as (T,), averaged over each task's labelled pixels; `present` (T,) tells which tasks have any. An update
calls `backward` once or, where a batch goes through in parts, once a part, and then `settle` once.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import nn

if TYPE_CHECKING:
    from hyperloom.stages.world import World


class Weighting(nn.Module):
    """Base: subclasses say what the sum is."""

    def __init__(self) -> None:
        super().__init__()
        self.parts = 0
        """How many parts of the current update went through `backward`."""

    def combine(self, losses: torch.Tensor, present: torch.Tensor) -> torch.Tensor:
        raise TypeError(f"{type(self).__name__} has no combine()")

    def backward(self, losses: torch.Tensor, present: torch.Tensor, parameters: Sequence[nn.Parameter]) -> torch.Tensor:
        """Leave the gradient of the weighted sum on everything that made it; returns the sum, detached."""
        total = self.combine(losses, present)
        total.backward()
        self.parts += 1
        return total.detach()

    def settle(self, parameters: Sequence[nn.Parameter], world: World) -> None:
        """After the last `backward` of an update: make all ranks hold the gradient of the global batch."""
        world.mean_gradients(parameters)
        self.parts = 0


class Fixed(Weighting):
    """Given weights."""

    def __init__(self, weights: Sequence[float]):
        super().__init__()
        self.register_buffer("weights", torch.tensor(weights), persistent=False)

    def combine(self, losses: torch.Tensor, present: torch.Tensor) -> torch.Tensor:
        return (losses * self.weights).sum()


class LogVariance(Weighting):
    """exp(-s) L c + s / 2 with a learned s = log sigma^2 for each task; c = 1/2 for regressions, 1 for classifications
    (Kendall, Gal & Cipolla 2018, equations 7 and 10)."""

    def __init__(self, factors: Sequence[float]):
        super().__init__()
        self.log_variance = nn.Parameter(torch.zeros(len(factors)))
        self.register_buffer("factors", torch.tensor(factors), persistent=False)

    def combine(self, losses: torch.Tensor, present: torch.Tensor) -> torch.Tensor:
        each = torch.exp(-self.log_variance) * losses * self.factors
        if self.parts == 0:
            each = each + self.log_variance / 2  # once an update, however many parts it has
        return (each * present).sum()
