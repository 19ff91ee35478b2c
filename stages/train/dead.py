"""Dead filters: those behind a ReLU that answer nothing, anywhere, on any of the samples that are looked at.

A rate that is too high drives a filter below zero everywhere, and a ReLU lets no gradient through to bring it back.
What is dead costs time and memory and learns nothing more; a network may be dead as a whole and still pass its inputs
on (`stages.network.residual`), so that its figures look well.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

from hyperloom.stages.train.diagnosis import DEAD
from hyperloom.stages.world import World


class Filters:
    """What filters behind ReLUs answered, by the place of the ReLU in the network and by how often a pass used it
    before: a module without weights may stand behind several layers."""

    def __init__(self) -> None:
        self._answered: dict[tuple[str, int], torch.Tensor] = {}
        self._uses = Counter[str]()

    @contextmanager
    def watched(self, model: nn.Module) -> Iterator[None]:
        """Look at all that `model` computes meanwhile: planes, (N, filters, H, W)."""
        relus = [(name, module) for name, module in model.named_modules() if isinstance(module, nn.ReLU)]
        hooks = [model.register_forward_pre_hook(lambda *_: self._uses.clear())]
        hooks += [
            module.register_forward_hook(lambda _, __, planes, name=name: self._note(name, planes))
            for name, module in relus
        ]
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()

    def _note(self, name: str, planes: torch.Tensor) -> None:
        if planes.ndim != 4:
            return
        answered, place = (planes > 0).any(3).any(2).any(0), (name, self._uses[name])
        self._uses[name] += 1
        before = self._answered.get(place)
        self._answered[place] = answered if before is None else answered | before

    def figures(self, world: World) -> dict[str, float]:
        """{"dead": the share of filters that answered nothing on any rank}; empty where none is behind a ReLU."""
        every = world.gather({place: answered.cpu() for place, answered in self._answered.items()})
        places = dict.fromkeys(place for mine in every for place in mine)
        merged = [torch.stack([mine[p] for mine in every if p in mine]).any(0) for p in places]
        count = sum(len(answered) for answered in merged)
        return {DEAD: sum(int((~answered).sum()) for answered in merged) / count} if count else {}
