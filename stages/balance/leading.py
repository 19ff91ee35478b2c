"""Leading: the first task sets the pace, and what the others may take from it is bounded.

Weights are such that the gradients of all others together, on the weights that tasks share, have at most `share` of the
norm of the first task's. Norms are those of the global batch, measured every so many updates by a backward pass a
task (GradNorm, Chen et al. 2018, measures the same and makes them equal), and averaged over measurements. So a task of
large numbers cannot drown the first, whatever its scale.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import nn

from hyperloom.stages.balance.weighting import Weighting

if TYPE_CHECKING:
    from hyperloom.stages.world import World

REMEMBERED = 0.7
"""Share of the norms that a new measurement leaves."""


class LeadingWeights(Weighting):
    """Weights of `tasks` tasks, measured anew every `every` updates; `share` is that of all others together."""

    def __init__(self, tasks: int, share: float, every: int):
        super().__init__()
        self.share, self.every = share / max(1, tasks - 1), every
        self.register_buffer("norms", torch.zeros(tasks))
        self.register_buffer("updates", torch.zeros((), dtype=torch.int64))
        self.number: int | None = None
        """How many updates there were, known on the host."""
        self.gradients: torch.Tensor | None = None
        """Of each task, (T, weights), while an update measures them."""

    def combine(self, losses: torch.Tensor, present: torch.Tensor) -> torch.Tensor:
        return (losses * self.weights()).sum()

    def weights(self) -> torch.Tensor:
        """(T,): 1 for the first task. Tasks that were never measured beside it have their share as their weight."""
        known = (self.norms > 0) & (self.norms[0] > 0)
        ratio = torch.where(known, self.norms[0] / self.norms.clamp(min=1e-12), 1.0)
        weights = self.share * ratio
        return torch.cat([torch.ones_like(weights[:1]), weights[1:]])

    def backward(self, losses: torch.Tensor, present: torch.Tensor, parameters: Sequence[nn.Parameter]) -> torch.Tensor:
        if self.number is None:
            self.number = int(self.updates)
        if len(self.norms) > 1 and self.number % self.every == 0:
            mine = _gradients(losses, parameters)
            self.gradients = mine if self.gradients is None else self.gradients + mine
        return super().backward(losses, present, parameters)

    def settle(self, parameters: Sequence[nn.Parameter], world: World) -> None:
        super().settle(parameters, world)
        self.number = (self.number or 0) + 1
        self.updates += 1
        if self.gradients is None:
            return
        whole = world.sum(self.gradients) / world.size
        shared = (whole != 0).sum(0) > 1
        norms = (whole * shared).norm(dim=1)
        seen, self.gradients = norms > 0, None
        fresh = torch.where(self.norms > 0, REMEMBERED * self.norms + (1 - REMEMBERED) * norms, norms)
        self.norms.copy_(torch.where(seen, fresh, self.norms))

    def _load_from_state_dict(self, *given: object) -> None:
        self.number = None
        super()._load_from_state_dict(*given)


def _gradients(losses: torch.Tensor, parameters: Sequence[nn.Parameter]) -> torch.Tensor:
    """(T, n): each task's gradient of all weights that move, zeros where it moves none."""
    moving, rows = [p for p in parameters if p.requires_grad], []
    for loss in losses.unbind():
        none = [None] * len(moving)
        given = torch.autograd.grad(loss, moving, retain_graph=True, allow_unused=True) if loss.requires_grad else none
        whole = [torch.zeros_like(p) if g is None else g for p, g in zip(moving, given, strict=True)]
        rows.append(torch.cat([gradient.flatten() for gradient in whole]))
    return torch.stack(rows)
