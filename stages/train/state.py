"""The state of a training: everything that its next update follows from, in checkpoints.

Each part is something with `state_dict` and `load_state_dict`, plug-ins' own among them, beside plain values such as
the number of updates. A stored state is plain tensors, whole, however many workers shared the parts, so any number of
workers continues it, sharded or not.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn

from hyperloom.pipeline.host import faults
from hyperloom.stages import sharding
from hyperloom.stages.train import checkpoint
from hyperloom.stages.train.job import Job
from hyperloom.stages.world import World


class State:
    """Saves and loads `parts`, by name, of the training `job`."""

    def __init__(self, job: Job, world: World, parts: dict[str, Any]):
        self.job, self.world, self.parts = job, world, parts
        self.checkpoints = checkpoint.Checkpoints(job.storage, job.folder)

    def save(self, update: int, **plain: Any) -> None:
        """Store the parts and `plain` as the checkpoint after `update` updates. All ranks call it together."""
        state = {"update": update, **{name: part.state_dict() for name, part in self.parts.items()}, **plain}
        if self.job.rhythm.sharded:
            state = sharding.whole(state)
        if self.world.rank == 0:
            self.checkpoints.save(update, state)
        self.world.barrier()
        faults.point("train.checkpoint")

    def stored(self, say: Callable[[str], None]) -> dict[str, Any] | None:
        """What the last checkpoint holds; None when there is none. `say` is told of one that is not whole. From here on
        no other process may write checkpoints of this training. All ranks call it together."""
        if self.world.rank == 0:
            self.checkpoints.begin()
        self.world.barrier()
        state = checkpoint.load(self.job.storage, self.job.folder, say)
        self.world.barrier()
        if state is not None and (lacking := sorted(self.parts.keys() - state.keys())):
            say(f"the checkpoint is of another version of Hyperloom (it lacks {', '.join(lacking)}): starting anew")
            return None
        return state

    def load(self, state: Mapping[str, Any]) -> None:
        """Set the parts to what `stored` gave."""
        for name, part in self.parts.items():
            if isinstance(part, torch.optim.Optimizer):
                sharding.load_optimizer(part, state[name])
            elif isinstance(part, nn.Module) and any(sharding.is_sharded(p) for p in part.parameters()):
                sharding.load(part, state[name])
            else:
                part.load_state_dict(state[name])
