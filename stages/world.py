"""The world of a training: how many processes share each global batch, and how they agree.

One process is a world of its own. With torch.distributed initialised (Ray Train does it, so does torchrun) sums and
gradients go over it. Gradients travel as one flat tensor in the order of the parameters: on small models that is
faster than buckets, and the order of summation does not depend on when a run was resumed, as it does in
DistributedDataParallel, which regroups its buckets after the first step. Imports no Ray.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import distributed, nn

from hyperloom.stages import sharding
from hyperloom.stages.transfer import sent


@dataclass(frozen=True)
class World:
    """Rank and size of this process's group, and the device that it trains on."""

    rank: int = 0
    size: int = 1
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))

    @staticmethod
    def current() -> World:
        """The world that torch.distributed knows, else a world of one."""
        if distributed.is_available() and distributed.is_initialized():
            return World(distributed.get_rank(), distributed.get_world_size())
        return World()

    def on(self, device: torch.device) -> World:
        """The same, training on `device`."""
        return replace(self, device=device)

    def slice(self, count: int) -> slice:
        """This rank's part of `count` samples of a global batch; the loader cuts in the same places."""
        return slice(count * self.rank // self.size, count * (self.rank + 1) // self.size)

    def sum(self, value: torch.Tensor) -> torch.Tensor:
        """Sum over ranks, in place."""
        if self.size > 1:
            distributed.all_reduce(value)
        return value

    def mean_gradients(self, parameters: Sequence[nn.Parameter]) -> None:
        """Replace each gradient by its mean over ranks; one that is missing on some counts as zero there, one that all
        miss stays missing, as it would on one worker. Sharded ones are left alone: FSDP has averaged them already."""
        if self.size == 1:
            return
        plain = [p for p in parameters if not sharding.is_sharded(p)]
        if not plain:
            return
        gradients = [p.grad if p.grad is not None else torch.zeros_like(p) for p in plain]
        have = sent(torch.tensor([float(p.grad is not None) for p in plain]), gradients[0].device)
        flat = torch.cat([*(g.reshape(-1) for g in gradients), have])
        distributed.all_reduce(flat)
        flat /= self.size
        *parts, have = flat.split([*(g.numel() for g in gradients), len(plain)])
        for i, (parameter, gradient, part) in enumerate(zip(plain, gradients, parts, strict=True)):
            if parameter.grad is None and not have[i]:
                continue
            parameter.grad = gradient
            gradient.copy_(part.view(gradient.shape))

    def place(self, count: int) -> int:
        """Where this rank's rows begin among all ranks' rows, of which it has `count`."""
        return sum(self.gather(count)[: self.rank])

    def together(self, rows: torch.Tensor) -> torch.Tensor:
        """All ranks' rows, in the order of ranks; gradients of every rank flow back to whose rows they are."""
        if self.size == 1:
            return rows
        from torch.distributed.nn.functional import all_reduce

        counts = self.gather(len(rows))
        before, after = sum(counts[: self.rank]), sum(counts[self.rank + 1 :])
        return all_reduce(
            torch.cat([rows.new_zeros(before, rows.shape[1]), rows, rows.new_zeros(after, rows.shape[1])])
        )

    def rows(self, own: torch.Tensor, count: int) -> torch.Tensor:
        """All `count` rows of a global batch of which `own` are this rank's part; no gradient flows."""
        if self.size == 1:
            return own
        sizes = [len(range(count)[World(r, self.size).slice(count)]) for r in range(self.size)]
        padded = own.new_zeros(max(sizes), *own.shape[1:])
        padded[: len(own)] = own
        flat = padded.view(-1).view(torch.uint8)  # every backend sends bytes
        every = [torch.empty_like(flat) for _ in sizes]
        distributed.all_gather(every, flat)
        return torch.cat([e.view(own.dtype).view(padded.shape)[:n] for e, n in zip(every, sizes, strict=True)])

    def gather(self, value: Any) -> list[Any]:
        """Every rank's `value`, in the order of ranks."""
        if self.size == 1:
            return [value]
        values: list[Any] = [None] * self.size
        distributed.all_gather_object(values, value)
        return values

    def first(self, value: float) -> float:
        """Rank 0's `value`."""
        return float(self.gather(value)[0])

    def barrier(self) -> None:
        """Wait for all ranks."""
        if self.size > 1:
            distributed.barrier()
