"""Loss terms: what a module of the network adds to the loss by a name: the load of a router, a regulariser, the
commitment of a codebook.

    self.load = LossTerm("load", weight=0.01)            # in a module's __init__, wherever it is in the network
    self.load(per_expert.square().sum())                 # in its forward

To the balancer a term is a task of its name, on the curve it is `loss.load`. Values are (N,), one a sample, or (), for
all samples that the module saw; both count as a mean over the samples of the global batch, however many workers share
it. A () that mixes samples (a load) sees those of one part of one worker, as is usual (Fedus, Zoph & Shazeer 2022).
Terms of one name add up. Nothing is kept unless the network trains, so predictions and exports know no terms.
"""

from __future__ import annotations

import torch
from torch import nn


class LossTerm(nn.Module):
    """Called with the values of a term, keeps them, times `weight`, until `collected` takes them."""

    def __init__(self, name: str, weight: float = 1.0):
        super().__init__()
        self.name, self.weight = name, weight
        self.values: list[torch.Tensor] = []

    def forward(self, values: torch.Tensor) -> None:
        if self.training:
            self.values.append(self.weight * values.float())


def terms_of(model: nn.Module) -> dict[str, list[LossTerm]]:
    """All terms in `model`, by name, in the order in which they are built."""
    named: dict[str, list[LossTerm]] = {}
    for module in model.modules():
        if isinstance(module, LossTerm):
            named.setdefault(module.name, []).append(module)
    return named


def collected(terms: dict[str, list[LossTerm]], like: torch.Tensor) -> dict[str, torch.Tensor]:
    """The value of each term, (N,) or (), 0 where no module said one; they are let go."""
    values = {}
    for name, modules in terms.items():
        values[name] = sum((v for m in modules for v in m.values), like.new_zeros(()))
        for module in modules:
            module.values.clear()
    return values
