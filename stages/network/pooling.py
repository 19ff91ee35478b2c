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
    """Gathers members' answers. `classed`: the tasks whose answers are probabilities of classes, along the last axis.

    The spread is the standard deviation over members, its square averaged over channels, whatever the pooling.
    """

    def __init__(self, how: How, classed: frozenset[str]):
        self.how, self.classed, self.count = how, classed, 0
        self._total: dict[str, torch.Tensor] = {}
        self._square: dict[str, torch.Tensor] = {}
        self._votes: dict[str, torch.Tensor] = {}
        self._kept: dict[str, list[torch.Tensor]] = {}

    def add(self, answers: Answers) -> None:
        """Take in one member's answers."""
        self.count += 1
        for task, values in answers.items():
            _add(self._total, task, values)
            _add(self._square, task, values.square())
            if self.how == "median":
                self._kept.setdefault(task, []).append(values)
            elif self.how == "vote" and task in self.classed:
                _add(self._votes, task, torch.nn.functional.one_hot(values.argmax(-1), values.shape[-1]).float())

    def pooled(self) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
        """Answers (N, ..., C) and spread (N, ..., 1), by task. Votes are shares of members, numbers then their mean;
        medians of probabilities are made to sum to one again."""
        mean = {t: v / self.count for t, v in self._total.items()}
        variance = {
            t: (self._square[t] / self.count - m.square()).clamp(min=0).mean(-1, keepdim=True) for t, m in mean.items()
        }
        pooled = dict(mean)
        for task, votes in self._votes.items():
            pooled[task] = votes / self.count
        for task, kept in self._kept.items():
            ordered = torch.stack(kept).sort(0).values
            middle = (ordered[(self.count - 1) // 2] + ordered[self.count // 2]) / 2
            whole = middle.sum(-1, keepdim=True).clamp(min=1e-6)
            pooled[task] = middle / whole if task in self.classed else middle
        return pooled, {t: v.sqrt() for t, v in variance.items()}


def _add(totals: dict[str, torch.Tensor], task: str, values: torch.Tensor) -> None:
    totals[task] = totals[task] + values if task in totals else values
