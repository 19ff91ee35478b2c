"""Plug-ins of a training from outside the packages: methods of an update, an optimizer, a schedule, batches."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from copy import deepcopy
from typing import Any, ClassVar

import torch

from hyperloom.stages.base import VALID, modality_of
from hyperloom.stages.network.visible import shown
from hyperloom.stages.train.batches import Batches, BatchSource
from hyperloom.stages.train.criterion import Losses
from hyperloom.stages.train.descent import Descent
from hyperloom.stages.train.job import Job, seed_of
from hyperloom.stages.train.learners import Learner, Setup, Update, UpdateBatch, UpdateMethod
from hyperloom.stages.train.optimizers import Optimizer, ParameterGroups
from hyperloom.stages.train.schedules import Rates, Schedule
from hyperloom.stages.world import World


class Sharpness(Learner):
    """SAM (Foret et al. 2021): the gradient at the worst point nearby."""

    radius: float = 0.05

    def build(self, setup: Setup) -> UpdateMethod:
        return Climbing(setup, self.radius)


class Climbing(Descent):
    def __init__(self, setup: Setup, radius: float):
        super().__init__(setup)
        self.radius = radius

    def update(self, batch: UpdateBatch) -> Update:
        losses, total = self.gradients(batch)
        moved = [p for p in self.setup.parameters if p.grad is not None]
        climb = [p.grad.clone() for p in moved if p.grad is not None]
        norm = torch.stack([g.norm() for g in climb]).norm() + 1e-12
        with torch.no_grad():
            torch._foreach_add_(moved, climb, alpha=float(self.radius / norm))
        self.gradients(batch)
        with torch.no_grad():
            torch._foreach_sub_(moved, climb, alpha=float(self.radius / norm))
        return self.descend(batch, losses, total)


class MeanTeacher(Learner):
    """A slow copy of the network sees everything and teaches what the network says of what it sees (Tarvainen & Valpola
    2017)."""

    terms: ClassVar[tuple[str, ...]] = ("consistency",)
    decay: float = 0.9

    def build(self, setup: Setup) -> UpdateMethod:
        return Teaching(setup, self.decay)


class Teaching(Descent):
    def __init__(self, setup: Setup, decay: float):
        super().__init__(setup)
        self.decay = decay
        self.teacher = deepcopy(setup.model).requires_grad_(False)

    def update(self, batch: UpdateBatch) -> Update:
        made = super().update(batch)
        with torch.no_grad():
            for mine, theirs in zip(self.teacher.parameters(), self.setup.model.parameters(), strict=True):
                mine.lerp_(theirs, 1 - self.decay)
        return made

    def losses(self, batch: UpdateBatch, counts: torch.Tensor | None) -> Losses:
        known = super().losses(batch, counts)
        columns = self.setup.model.architecture.columns
        there = torch.stack([batch.columns[c + VALID] for c in columns], 1)
        with torch.no_grad():
            wanted = self.teacher(batch.columns, shown(there, torch.ones_like(there))).predictions["depth"]
        told = self.setup.criterion.network(batch.columns, shown(there, batch.visible)).predictions["depth"]
        own = (told - wanted).square().mean((1, 2, 3)).sum() / self.setup.job.batch
        return Losses(
            torch.cat([known.values, own.view(1)]), torch.cat([known.present, torch.ones(1, dtype=torch.bool)])
        )

    def state_dict(self) -> dict[str, Any]:
        return {"teacher": self.teacher.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.teacher.load_state_dict(state["teacher"])


class Lion(Optimizer):
    """Lion (Chen et al. 2023)."""

    betas: tuple[float, float] = (0.9, 0.99)

    def build(self, groups: ParameterGroups) -> torch.optim.Optimizer:
        return Signs(groups, {"lr": self.lr, "betas": self.betas})


class Signs(torch.optim.Optimizer):
    @torch.no_grad()
    def step(self, closure: Any = None) -> None:
        for group in self.param_groups:
            first, second = group["betas"]
            for p in group["params"]:
                if p.grad is None:
                    continue
                mean = self.state[p].setdefault("mean", torch.zeros_like(p))
                p.mul_(1 - group["lr"] * group["weight_decay"])
                p.sub_(torch.sign(mean.lerp(p.grad, 1 - first)), alpha=group["lr"])
                mean.lerp_(p.grad, 1 - second)


class Doubling(Schedule):
    """A rate that looks at what it did, so it must be in checkpoints: each update's is the last one's times `by`."""

    by: float = 0.8

    def build(self, built: torch.optim.Optimizer, updates: int, optimizer: Optimizer) -> Rates:
        return Multiplied(built, self.by)


class Multiplied:
    def __init__(self, built: torch.optim.Optimizer, by: float):
        self.built, self.by, self.steps = built, by, 0

    def step(self) -> None:
        self.steps += 1
        for group in self.built.param_groups:
            group["lr"] *= self.by

    def get_last_lr(self) -> list[float]:
        return [float(group["lr"]) for group in self.built.param_groups]

    def state_dict(self) -> dict[str, Any]:
        return {"steps": self.steps}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.steps = state["steps"]


class Invented(Batches):
    """Noise with a class in it, made on the spot; `start` easy batches come first (a curriculum)."""

    start: int = 3

    def open(self, job: Job, columns: Sequence[str], world: World) -> BatchSource:
        return Inventor(self, job, columns, world)


class Inventor:
    def __init__(self, config: Invented, job: Job, columns: Sequence[str], world: World):
        self.config, self.job, self.columns, self.world, self.position = config, job, columns, world, 0

    def __iter__(self) -> Iterator[dict[str, torch.Tensor]]:
        while True:
            generator = torch.Generator().manual_seed(seed_of(self.job.seed, "invented", self.position))
            kind = torch.randint(0, 3, (self.job.batch, 1, 1), generator=generator)
            spread = 5 if self.position < self.config.start else 40
            batch = {}
            for column in self.columns:
                modality = self.job.modalities[modality_of(column)]
                shape = (self.job.batch, *modality.shape)
                each = kind.view(-1, *[1] * len(modality.shape)).expand(shape)
                noise = torch.randn(shape, generator=generator) * spread
                values = {"rgb": (noise + each * 80 + 40).clamp(0, 255).to(torch.uint8), "depth": each.half()}
                values["semantic"] = each.to(torch.uint8)
                mine = self.world.slice(self.job.batch)
                batch[column] = values[modality_of(column)][mine]
                batch[column + VALID] = torch.ones(len(batch[column]), dtype=torch.bool)
            self.position += 1
            yield batch

    def state_dict(self) -> dict[str, Any]:
        return {"position": self.position}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.position = state["position"]
