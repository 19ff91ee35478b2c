"""Averages of weights: an exponential average that is warm from the beginning.

A decay of .999 remembers a thousand updates; over forty the average would be the weights of the first. So the decay
rises with the updates: after u of them it is at most (1 + u) / (10 + u), which reaches .9 after 80 and .99 after 890
(as TensorFlow's ExponentialMovingAverage has it). It follows from the number of the update alone, so a resumed training
goes on with the same.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel


def decay_after(updates: int, decay: float) -> float:
    """The decay after so many updates."""
    return min(decay, (1 + updates) / (10 + updates))


class Average(AveragedModel):
    """A copy of a model that follows its weights; `updates` tells how many came before the present one. What is no
    parameter is copied as it is. torch's own sends its count of updates to the device at each, for which the host would
    wait; here all is known on the host."""

    n_averaged: torch.Tensor

    def __init__(self, model: nn.Module, decay: float, updates: Callable[[], int]):
        super().__init__(model)
        self.n_averaged = self.n_averaged.cpu()
        self._decay, self._updates = decay, updates

    @torch.no_grad()
    def update_parameters(self, model: nn.Module) -> None:
        """Move towards the weights of `model`; the first time, to them."""
        own, others = ([p.detach() for p in one.parameters()] for one in (self.module, model))
        if self.n_averaged == 0:
            for one, other in zip(own, others, strict=True):
                one.copy_(other)
        else:
            torch._foreach_lerp_(own, others, 1 - decay_after(self._updates(), self._decay))
        for buffer, other in zip(self.module.buffers(), model.buffers(), strict=True):
            buffer.copy_(other)
        self.n_averaged += 1
