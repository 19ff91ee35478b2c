"""Groups: which parameters of a training decay, for the optimizer."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from hyperloom.stages.network.model import MultiTask
from hyperloom.stages.train.optimizers import Groups, Optimizer


def groups(optimizer: Optimizer, model: MultiTask, beside: Sequence[nn.Module]) -> Groups:
    """Only the model's matrices and filters decay, not its norms and biases, nor what is trained `beside` it."""
    decayed = [p for p in model.parameters() if p.ndim > 1]
    made: Groups = [{"params": decayed, "weight_decay": optimizer.weight_decay}]
    made += [{"params": [p for p in model.parameters() if p.ndim <= 1], "weight_decay": 0.0}]
    if own := [p for module in beside for p in module.parameters()]:
        made += [{"params": own, "weight_decay": 0.0}]  # a group of their own: they are never sharded
    return made
