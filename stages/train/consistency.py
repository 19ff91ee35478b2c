"""Consistency: a mean teacher of the student itself, the torch side of `stages.train.learners.MeanTeacher`."""

from __future__ import annotations

import math
from copy import deepcopy
from typing import Any

import torch

from hyperloom.stages.base import VALID
from hyperloom.stages.network.architecture import Task
from hyperloom.stages.network.features import Forward
from hyperloom.stages.network.visible import present, shown
from hyperloom.stages.objective.hints import answered
from hyperloom.stages.train.criterion import Losses
from hyperloom.stages.train.descent import Descent
from hyperloom.stages.train.learners import PLAIN, MeanTeacher, Setup, Update, UpdateBatch


class Consistency(Descent):
    """`teacher` follows the weights of the model."""

    def __init__(self, setup: Setup, config: MeanTeacher):
        super().__init__(setup)
        self.config = config
        self.teacher = deepcopy(setup.model).eval().requires_grad_(False)
        tasks = setup.model.architecture.tasks
        self.tasks = [t for t in tasks if (t.name in config.of or not config.of) and answered(t.modality)]

    def update(self, batch: UpdateBatch) -> Update:
        update = super().update(batch)
        decay = min(self.config.decay, 1 - 1 / (batch.number + 2))
        with torch.no_grad():
            mine, theirs = (list(m.parameters()) for m in (self.teacher, self.setup.model))
            torch._foreach_lerp_(mine, theirs, 1 - decay)
            for one, other in zip(self.teacher.buffers(), self.setup.model.buffers(), strict=True):
                one.copy_(other)
        return update

    def losses(self, batch: UpdateBatch, counts: torch.Tensor | None) -> Losses:
        criterion, kept = self.setup.criterion, []
        network = criterion.network

        def keeping(*given: Any) -> Forward:
            result = network(*given)
            kept.append(result)
            return result

        criterion.network = keeping  # its first pass is that of the tasks
        try:
            known = super().losses(batch, counts)
        finally:
            criterion.network = network
        valid = present(self.setup.model.architecture, batch.columns)
        each = torch.stack([self._apart(t, kept[0].predictions[t.name], a) for t, a in self._answers(batch, valid)])
        whole = torch.where(valid.any(1), each.mean(0), 0.0).sum() / self.setup.job.batch
        own = whole * self.config.weight * self._risen(batch.number)
        always = torch.ones(1, dtype=torch.bool, device=known.present.device)
        return Losses(torch.cat([known.values, own.view(1)]), torch.cat([known.present, always]))

    @torch.no_grad()
    def _answers(self, batch: UpdateBatch, valid: torch.Tensor) -> list[tuple[Task, torch.Tensor]]:
        """What the teacher makes of the inputs before their light was changed, with all visible that ever are: of
        others its student's weights know nothing."""
        columns = dict(batch.columns)
        for part in self.teacher.architecture.parts:
            for name in (part.column, part.column + VALID):
                columns[name] = columns[_plain(name)]
        never = self.setup.job.mask.hidden_inputs(self.teacher.architecture.columns)
        seen = shown(valid, torch.ones_like(valid) & ~torch.tensor(never, device=valid.device))
        raw = self.teacher(columns, seen, [t.name for t in self.tasks]).predictions
        return [(task, raw[task.name].float()) for task in self.tasks]

    @staticmethod
    def _apart(task: Task, student: torch.Tensor, teacher: torch.Tensor) -> torch.Tensor:
        """(N,): the mean squared difference of probabilities, or of standardised numbers."""
        if not task.regression:
            student, teacher = student.softmax(1), teacher.softmax(1)
        return (student - teacher).square().flatten(1).mean(1)

    def _risen(self, number: int) -> float:
        """How much of the weight counts by now."""
        share = number / max(1.0, self.config.rise * self.setup.job.updates)
        return math.exp(-5 * (1 - min(1.0, share)) ** 2)

    def state_dict(self) -> dict[str, Any]:
        return {"teacher": self.teacher.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.teacher.load_state_dict(state["teacher"])


def _plain(name: str) -> str:
    """The name in a batch of an input as it was before its light was changed."""
    column = name.removesuffix(VALID)
    return column + PLAIN + name[len(column) :]
