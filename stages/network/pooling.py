"""Pooling: how the answers of an ensemble's members become one, and how much they differ.

`mean` and `vote` take members as they come, so memory does not grow with their number; `median` keeps them all.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import torch

How = Literal["mean", "median", "vote"]
Answers = Mapping[str, torch.Tensor]
"""By task: (N, ..., C)."""


class Pooling:
    """Gathers members' answers. `classed`: the tasks whose answers are probabilities of classes, along the last axis;
    `directed`: those of unit vectors along it.

    The spread is the standard deviation over members, its square averaged over channels, whatever the pooling.
    """

    def __init__(self, how: How, classed: frozenset[str], directed: frozenset[str] = frozenset()):
        self.how, self.classed, self.directed, self.count = how, classed, directed, 0
        self._total: dict[str, torch.Tensor] = {}
        self._middle: dict[str, torch.Tensor] = {}
        self._apart: dict[str, torch.Tensor] = {}
        self._votes: dict[str, torch.Tensor] = {}
        self._kept: dict[str, list[torch.Tensor]] = {}

    def add(self, answers: Answers) -> None:
        """Take in one member's answers."""
        self.count += 1
        for task, values in answers.items():
            self._gather(task, values)
            if self.how == "median":
                self._kept.setdefault(task, []).append(values)
            elif self.how == "vote" and task in self.classed:
                _add(self._votes, task, torch.nn.functional.one_hot(values.argmax(-1), values.shape[-1]).float())

    def _gather(self, task: str, values: torch.Tensor) -> None:
        """The sum, and squared distances from the mean so far (Welford 1962): the difference of two large squares has
        no digits left of how far depths in metres are apart."""
        _add(self._total, task, values)
        if task not in self._middle:
            self._middle[task], self._apart[task] = values, torch.zeros_like(values)
            return
        before = values - self._middle[task]
        self._middle[task] = self._middle[task] + before / self.count
        self._apart[task] = self._apart[task] + before * (values - self._middle[task])

    def pooled(self) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
        """Answers (N, ..., C) and spread (N, ..., 1), by task. Votes are shares of members, numbers then their mean;
        medians of probabilities are made to sum to one again, directions to have length one."""
        spread = {t: (v / self.count).clamp(min=0).mean(-1, keepdim=True).sqrt() for t, v in self._apart.items()}
        pooled = {t: v / self.count for t, v in self._total.items()}
        for task, votes in self._votes.items():
            pooled[task] = votes / self.count
        for task, kept in self._kept.items():
            ordered = torch.stack(kept).sort(0).values
            middle = (ordered[(self.count - 1) // 2] + ordered[self.count // 2]) / 2
            whole = middle.sum(-1, keepdim=True).clamp(min=1e-6)
            pooled[task] = middle / whole if task in self.classed else middle
        for task in self.directed & pooled.keys() if self.count > 1 else ():
            pooled[task] = torch.nn.functional.normalize(pooled[task], dim=-1, eps=1e-6)
        return pooled, spread


def _add(totals: dict[str, torch.Tensor], task: str, values: torch.Tensor) -> None:
    totals[task] = totals[task] + values if task in totals else values
