"""The Jacobian of a training: one gradient a task, aggregated into one step (see `stages.balance.aggregators`).

Holds (tasks, parameters) numbers between `backward` and `settle`. Tasks without labels in the global batch are left
out of the aggregate; a single task left is its own aggregate, whatever the method.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

if TYPE_CHECKING:
    from hyperloom.stages.world import World


class Jacobian(nn.Module):
    """A balancer's module (see `Weighting`) around an aggregator (m, P) -> (P,). `make` builds it for a preference
    over the tasks at hand."""

    def __init__(self, make: Callable[[torch.Tensor | None], nn.Module], weights: Sequence[float] | None):
        super().__init__()
        self.make, self.weights = make, weights
        # In a tuple, since some aggregators grow buffers as they go, which no strict load would take.
        self._held = (make(None),)
        self.updates = 0
        self._clear()

    def _clear(self) -> None:
        self.rows: torch.Tensor | None = None
        self.present: torch.Tensor | None = None

    def backward(self, losses: torch.Tensor, present: torch.Tensor, parameters: Sequence[nn.Parameter]) -> torch.Tensor:
        """Add each task's gradient to its row; returns the sum of the losses, detached."""
        rows = []
        for i, loss in enumerate(losses):
            gradients = torch.autograd.grad(loss, parameters, retain_graph=i + 1 < len(losses), allow_unused=True)
            pairs = zip(gradients, parameters, strict=True)
            rows.append(torch.cat([(torch.zeros_like(p) if g is None else g).reshape(-1) for g, p in pairs]))
        gradients = torch.stack(rows)
        self.rows = gradients if self.rows is None else self.rows + gradients
        self.present = present
        return losses.detach().sum()

    def settle(self, parameters: Sequence[nn.Parameter], world: World) -> None:
        """Average the rows over ranks, aggregate them, and leave the result as every rank's gradient."""
        assert self.rows is not None and self.present is not None
        rows, sizes = world.sum(self.rows) / world.size, [p.numel() for p in parameters]
        present = self.present.to(rows.device)
        several = torch.stack([part.any(1).sum() > 1 for part in rows.split(sizes, 1)])
        shared = several.repeat_interleave(torch.tensor(sizes, device=rows.device))
        total = rows.sum(0)
        if shared.any() and present.sum() > 1:
            total[shared] = self._aggregate(rows[present][:, shared], present)
        if world.size > 1:  # machines may round differently: the first one's word counts
            total = world.sum(total if world.rank == 0 else torch.zeros_like(total))
        for parameter, part in zip(parameters, total.split(sizes), strict=True):
            # Laid out as the parameter is: fused optimizers go through both as they lie in memory.
            parameter.grad = torch.empty_like(parameter).copy_(part.view_as(parameter))
        self.updates += 1
        self._clear()

    def _aggregate(self, rows: torch.Tensor, present: torch.Tensor) -> torch.Tensor:
        aggregator = self._held[0]
        if self.weights is not None:
            aggregator = self.make(torch.tensor(self.weights, device=rows.device)[present])
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.updates)
            return aggregator(rows)

    # Some aggregators keep averages in attributes that are no part of torch's own state.
    def get_extra_state(self) -> dict[str, Any]:
        kept = [{k: v for k, v in _attributes(m).items() if _plain(v)} for m in self._held[0].modules()]
        where = [{k: str(v.device) for k, v in one.items() if isinstance(v, torch.Tensor)} for one in kept]
        return {"updates": self.updates, "kept": kept, "devices": where}

    def set_extra_state(self, state: Any) -> None:
        self.updates = state["updates"]
        for module, kept, where in zip(self._held[0].modules(), state["kept"], state["devices"], strict=True):
            for name, value in kept.items():
                setattr(module, name, value.to(where[name]) if name in where else value)


def _attributes(module: nn.Module) -> dict[str, Any]:
    own = {k: v for k, v in vars(module).items() if k not in vars(nn.Module())}
    return own | dict(module.named_buffers(recurse=False))


def _plain(value: Any) -> bool:
    if isinstance(value, tuple):
        return all(_plain(v) for v in value)
    return isinstance(value, torch.Tensor | int | float | str | torch.dtype | torch.device)
