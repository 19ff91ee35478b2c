"""Residuals: the answer of an expert among the inputs, passed unchanged to the head of its task.

A task whose own modality is among the inputs starts from their answers: class maps as log-probabilities, probabilities
as their logarithms (of a task of probabilities too), numbers as values, each mapped to the task's classes by name or to
its unit. What the head adds begins as zero, so an untrained network answers what its input does, and learns what to
change (`stages.network.passing` says which inputs these are). Of several inputs that are visible at a site their
answers are mixed with weights that are learned, one number an input, and each has a gain
for each class. Where nothing of a task's is visible, or its input has no answer, nothing is passed on and the head
answers alone.

Read from what the network was given (`MultiTask.encode`), so numbers are clipped as inputs are. Maps of pixels only.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import nn

from hyperloom.stages.meaning import translation
from hyperloom.stages.network.architecture import Architecture, Input, Task

if TYPE_CHECKING:
    from hyperloom.stages.network.visible import Visible

SURE = 0.9
"""The probability that a class map speaks of when it names a class; and the least part of that a probability is."""
FIRST = 3.0
"""How much more the input counts that a training begins with, in the exponent."""


class Residual(nn.Module):
    """What the inputs of one task say, added to what its head does."""

    def __init__(self, architecture: Architecture, task: Task):
        super().__init__()
        place = {column: i for i, column in enumerate(architecture.columns)}
        self.inputs = [place[column] for column in task.residual]
        self.readers = nn.ModuleList(PassedOn(architecture.inputs[i], task) for i in self.inputs)
        self.weights = nn.Parameter(torch.zeros(len(self.inputs)))
        self.gains = nn.Parameter(torch.ones(len(self.inputs) * task.modality.planes))  # a vector does not decay

    def begin_with(self, first: int) -> None:
        """Start from input `first` of the task's, where it is visible."""
        with torch.no_grad():
            self.weights[first] = FIRST

    def forward(self, raw: torch.Tensor, planes: Sequence[torch.Tensor], seen: Visible | None) -> torch.Tensor:
        """`raw` (N, C, H, W) with the answers of the inputs added, of which `planes` are what the network was given."""
        answers, present = [], []
        for i, read in zip(self.inputs, self.readers, strict=True):
            answer, known = read(planes[i])
            answers.append(answer)
            present.append(known if seen is None else known & seen.sites(i, raw.shape[2:]).unsqueeze(1))
        gains = self.gains.view(len(answers), 1, -1, 1, 1)
        if len(answers) == 1:
            return raw + torch.where(present[0], answers[0] * gains[0], 0.0)
        visible = torch.stack(present)  # (inputs, N, 1, H, W)
        share = torch.where(visible, self.weights.exp().view(-1, 1, 1, 1, 1), 0.0)
        share = share / share.sum(0).clamp(min=1e-9)
        return raw + (share * torch.stack(answers) * gains).sum(0)


class PassedOn(nn.Module):
    """An input's planes (N, C, H, W) as an answer of the task on the scale of its head's, and where it has one,
    (N, 1, H, W) bool."""

    def __init__(self, item: Input, task: Task):
        super().__init__()
        how = translation(item.modality.meaning, task.modality.meaning)
        self.classes = bool(task.modality.counted) or task.modality.soft
        channels = task.modality.planes
        if self.classes:
            order = torch.tensor(how.places).argsort() if how.places else torch.arange(channels)
            self.least = (1 - SURE) / max(1, channels - 1)
            self.hard = item.modality.shape != (*task.modality.shape[:2], channels)
            self.register_buffer("order", order, persistent=False)
            return
        mean, std = item.scale.mean or (0.0,) * channels, item.scale.std or (1.0,) * channels
        own_mean, own_std = task.scale.mean or (0.0,) * channels, task.scale.std or (1.0,) * channels
        factors = [s * how.factor / t for s, t in zip(std, own_std, strict=True)]
        shifts = [(m * how.factor - o) / t for m, o, t in zip(mean, own_mean, own_std, strict=True)]
        self.register_buffer("factor", torch.tensor(factors).view(1, -1, 1, 1), persistent=False)
        self.register_buffer("shift", torch.tensor(shifts).view(1, -1, 1, 1), persistent=False)

    def forward(self, planes: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        if not self.classes:
            return planes * self.factor + self.shift, (planes != 0).any(1, keepdim=True)  # unknown numbers are zero
        planes, known = planes.index_select(1, self.order), planes.sum(1, keepdim=True) > 0.5
        shares = planes * (SURE - self.least) + self.least if self.hard else planes.clamp(min=self.least / 100)
        return shares.log(), known
