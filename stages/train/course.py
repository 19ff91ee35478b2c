"""The course of a training: what changes from one of its phases to the next.

Each phase has a criterion, what it lets rest, perhaps a balancer and shares of the data of its own; a training without
phases is one phase. What several phases have in common is one object, so balancers keep what they learned and the data
go on where they were. Torch side of `stages.train.phases`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn
from torch.optim.lr_scheduler import LambdaLR

from hyperloom.stages.train.batches import BatchSource
from hyperloom.stages.train.clipping import Clipping
from hyperloom.stages.train.criterion import Criterion
from hyperloom.stages.train.groups import freeze
from hyperloom.stages.train.job import Job, Span
from hyperloom.stages.train.learners import Setup
from hyperloom.stages.train.length import Length
from hyperloom.stages.train.preparation import Preparation
from hyperloom.stages.train.schedules import Rates
from hyperloom.stages.world import World


class Course:
    """The phases of `job`. `criterion` is that of the whole job, whose extras all phases share."""

    def __init__(self, job: Job, criterion: Criterion, names: Sequence[str], world: World):
        self.job, self.criterion, self.world = job, criterion, world
        self.spans = job.spans or (job.span,)
        self.movable = {name for name, p in criterion.model.named_parameters() if p.requires_grad}
        kinds = [t.regression for t in criterion.tasks]
        kinds += [False] * (len(names) - len(kinds))
        own = [job.balancer, *(s.balancer for s in self.spans if s.balancer is not None)]
        self.balancers = nn.ModuleList(b.build(names, kinds) for b in own).to(world.device)
        self.sources = Sources(job, self.spans, world)
        self.clipping = Clipping(world)
        self.now = 0
        self.resting: list[nn.Module] = freeze(criterion.model, self.spans[0].freeze, self.movable)

    def at(self, update: int) -> int:
        """Which phase update `update` (from 0) belongs to."""
        return next(i for i, span in enumerate(self.spans) if update < span.end)

    def enter(self, phase: int, setup: Setup) -> tuple[Preparation, BatchSource]:
        """Begin a phase: set what the learner works with; what prepares its batches, and where they come from."""
        span, model = self.spans[phase], self.criterion.model
        job = self.job.within(span) if self.job.spans else self.job
        criterion = self.criterion
        if self.job.spans:
            criterion = Criterion(job, model, self.criterion.hinted).to(self.world.device)
            criterion.extras, criterion.network = self.criterion.extras, self.criterion.network
        self.now, self.resting = phase, freeze(model, span.freeze, self.movable)
        balancer = self.balancers[self._balancer(phase)]
        heard = [m for n, m in zip(job.extras, criterion.extras, strict=True) if n not in job.silent]
        setup.job, setup.criterion, setup.balancer = job, criterion, balancer
        setup.parameters = [p for m in (model, *heard, balancer) for p in m.parameters() if p.requires_grad]
        return Preparation(job, criterion, self.world, self.clipping), self.sources.of(phase)

    def schedule(self, phase: int, optimizer: torch.optim.Optimizer, length: Length) -> Rates:
        """The schedule that a phase is part of, at its start: from the last restart to the next."""
        restarts = [i for i, span in enumerate(self.spans) if span.restart and i]
        first = max((i for i in restarts if i <= phase), default=0)
        last = min((i for i in restarts if i > phase), default=len(self.spans)) - 1
        for group in optimizer.param_groups:
            group["lr"] = group.get("initial_lr", group["lr"])
        if not length.fixed:
            job = self.job
            return LambdaLR(optimizer, lambda update: length.rate(update, job.schedule, job.optimizer))
        updates = self.spans[last].end - self.spans[first].start
        return self.job.schedule.build(optimizer, updates, self.job.optimizer)

    def name(self, phase: int) -> str:
        span = self.spans[phase]
        named = f" ({span.name})" if span.name else ""
        return f"phase {phase + 1} of {len(self.spans)}{named}: updates {span.start + 1} to {span.end}"

    def _balancer(self, phase: int) -> int:
        own = [i for i, span in enumerate(self.spans) if span.balancer is not None]
        return own.index(phase) + 1 if phase in own else 0


class Sources:
    """The sources of batches of all phases: one for each way of sharing the data, opened when it is needed."""

    def __init__(self, job: Job, spans: Sequence[Span], world: World):
        self.job, self.spans, self.world = job, spans, world
        self.open: dict[int, BatchSource] = {}

    def of(self, phase: int) -> BatchSource:
        """The source of a phase, where it stands."""
        key = next(i for i, span in enumerate(self.spans) if span.sampler == self.spans[phase].sampler)
        if key not in self.open:
            job = self.job.within(self.spans[key]) if self.job.spans else self.job
            self.open[key] = job.batches.open(job, self.job.columns, self.world)
        return self.open[key]

    def state_dict(self) -> dict[str, Any]:
        return {str(key): source.state_dict() for key, source in self.open.items()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        for key, value in state.items():
            self.of(int(key)).load_state_dict(value)
