"""Reduction: from an objective to this rank's share of its weighted sum over a batch.

Two kinds of losses there are. One of sites has a number for each labelled site, and the sum over them is what it says
(`SiteLoss`). One of sets says something of all sites together, such as how well two regions overlap (`SetLoss`): it is
worked out over the labelled sites of the *global* batch, or of each sample, and counts as if each of them had it.
So both are means over labelled sites, can be mixed with one another and with targets of other kinds, are weighed by the
same confidence, and do not depend on how many workers share the batch.

`loss(prediction, target, world)` gives which sites are labelled and a function from the sites that count, and their
weights, to the share of the sum.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Protocol, TypeAlias

import torch

if TYPE_CHECKING:
    from hyperloom.stages.objective.base import PixelLoss
    from hyperloom.stages.world import World

Total: TypeAlias = Callable[[torch.Tensor, "torch.Tensor | None"], torch.Tensor]
"""From the sites that count, (N, *sites) bool, and their weights, floats of the same shape or None for 1 each, to the
share of the sum, a scalar."""


class Loss(Protocol):
    """One objective of one target, ready to be summed."""

    def __call__(self, prediction: torch.Tensor, target: torch.Tensor, world: World) -> tuple[torch.Tensor, Total]: ...


class SiteLoss:
    """`pixels` gives the loss of each site and whether it is labelled."""

    def __init__(self, pixels: PixelLoss):
        self.pixels = pixels

    def __call__(self, prediction: torch.Tensor, target: torch.Tensor, world: World) -> tuple[torch.Tensor, Total]:
        loss, labelled = self.pixels(prediction, target)

        def total(use: torch.Tensor, weight: torch.Tensor | None) -> torch.Tensor:
            return torch.where(use, loss if weight is None else loss * weight, 0.0).sum()

        return labelled, total


class SetLoss:
    """`read(prediction, target)` gives probabilities and truth, both (N, C, *sites) with the sites of a sample in one
    axis, (N, C, S), and which are labelled. `measure(probabilities, truth, weight)`, weights (N, 1, S), gives numbers
    (N, ...) that add up over samples, and `value` makes the loss of their sum, (...) -> scalar. With `each` every
    sample is a set of its own, so `value` gets and gives one a sample: (N, ...) -> (N,)."""

    def __init__(
        self,
        read: Callable[[torch.Tensor, torch.Tensor], tuple[torch.Tensor, torch.Tensor, torch.Tensor]],
        measure: Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor],
        value: Callable[[torch.Tensor], torch.Tensor],
        each: bool,
    ):
        self.read, self.measure, self.value, self.each = read, measure, value, each

    def __call__(self, prediction: torch.Tensor, target: torch.Tensor, world: World) -> tuple[torch.Tensor, Total]:
        probabilities, truth, labelled = self.read(prediction, target)

        def total(use: torch.Tensor, weight: torch.Tensor | None) -> torch.Tensor:
            weights = (use if weight is None else torch.where(use, weight, 0.0)).to(probabilities.dtype)
            own = self.measure(probabilities, truth, weights.flatten(1)[:, None])
            amounts = weights.flatten(1).sum(1)
            if self.each:
                return (self.value(own) * amounts).sum()
            own, amount = own.sum(0), amounts.sum()
            if world.size == 1:
                return self.value(own) * amount
            everyone = world.sum(torch.cat([own.detach().reshape(-1), amount.detach().view(1)]))
            whole = everyone[:-1].view_as(own)
            value = self.value(own + (whole - own.detach()))  # the global batch's, moved by what this rank has of it
            return value.detach() * amount + (value - value.detach()) * everyone[-1]

        return labelled, total


class SumLoss:
    """Several losses of one target, each with a weight, over the sites that all of them have labels for."""

    def __init__(self, losses: Sequence[Loss], weights: Sequence[float]):
        self.losses, self.weights = losses, weights

    def __call__(self, prediction: torch.Tensor, target: torch.Tensor, world: World) -> tuple[torch.Tensor, Total]:
        parts = [loss(prediction, target, world) for loss in self.losses]
        labelled = torch.stack([sites for sites, _ in parts]).all(0)

        def total(use: torch.Tensor, weight: torch.Tensor | None) -> torch.Tensor:
            each = [factor * part(use, weight) for factor, (_, part) in zip(self.weights, parts, strict=True)]
            return torch.stack(each).sum()

        return labelled, total
