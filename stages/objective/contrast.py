"""Contrast: objectives that need no labels, only that two looks at one sample agree more than looks at two samples.

    extras:
      pairs: {type: contrastive, between: [rgb@camera, caption@web], temperature: 0.1}
      views: {type: contrastive, between: [rgb@camera], keep: 0.5}

InfoNCE (van den Oord, Li & Vinyals 2018; Radford et al. 2021): each input is shown alone, a projector makes a point on
a sphere of what the trunk pools of it, and of all samples of the batch, those of other workers too, the own one must be
the nearest. One input alone is compared with itself under two random sets of patches.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import combinations
from typing import TYPE_CHECKING, ClassVar

from pydantic import Field, field_validator

from hyperloom.pipeline.config import as_tuple
from hyperloom.stages.objective.extras import Extra, ObjectiveInputs, alone

if TYPE_CHECKING:
    import torch
    from torch import nn

    from hyperloom.stages.network.architecture import Architecture
    from hyperloom.stages.network.model import MultiTask
    from hyperloom.stages.world import World


class Contrastive(Extra):
    """`between` names one input column, or several, of which each pair is contrasted."""

    revision: ClassVar[int] = 2
    between: tuple[str, ...] = Field(min_length=1)
    temperature: float = Field(0.1, gt=0)
    weight: float = Field(1.0, gt=0)
    keep: float = Field(0.5, gt=0, lt=1)
    """Share of the patches in each of two views of one input."""
    project: int | None = Field(128, ge=2)
    """Length of the points. Each input's projector has two layers (Chen et al. 2020); null for none, which compares
    what is pooled itself."""

    _tuple = field_validator("between", mode="before")(as_tuple)

    def check(self, columns: Sequence[str]) -> None:
        if unknown := [c for c in self.between if c not in columns]:
            raise ValueError(f"contrast between {', '.join(unknown)}, but the inputs are {', '.join(columns)}")

    @property
    def pairs(self) -> list[tuple[str, str]]:
        return list(combinations(self.between, 2)) or [(self.between[0], self.between[0])]

    def build(self, architecture: Architecture) -> nn.Module:
        from torch import nn

        pooled, length = architecture.trunk.sizes.pooled, self.project

        def projector() -> nn.Module:
            if length is None:
                return nn.Identity()
            return nn.Sequential(nn.Linear(pooled, pooled), nn.ReLU(), nn.Linear(pooled, length))

        return nn.ModuleList(projector() for _ in self.between)

    def draw(self, architecture: Architecture, count: int, generator: torch.Generator) -> torch.Tensor:
        """(count, 2, *grid) bool, what each of two views shows; nothing between several inputs."""
        import torch

        from hyperloom.stages.network.patches import share

        if len(self.between) > 1:
            return super().draw(architecture, count, generator)
        grid = architecture.grids()[architecture.columns.index(self.between[0])]
        return torch.stack([share(grid, self.keep, count, generator) for _ in range(2)], 1)

    def count(self, columns: Sequence[str], valid: torch.Tensor) -> torch.Tensor:
        return sum(self._both(columns, valid, pair).sum() for pair in self.pairs)  # type: ignore[return-value]

    def loss(self, model: MultiTask, own: nn.Module, samples: ObjectiveInputs) -> torch.Tensor:
        from torch.nn.functional import normalize

        from hyperloom.stages.network.patches import share_of

        columns = model.architecture.columns
        views = samples.drawn.unbind(1) if len(self.between) == 1 else [None] * len(self.between)
        shown = self.between * 2 if len(self.between) == 1 else self.between
        points = []
        for column, squares in zip(shown, views, strict=True):
            project = own[self.between.index(column)]  # type: ignore[index]
            each = None if squares is None else (squares, share_of(math.prod(squares.shape[1:]), self.keep))
            pooled = alone(model, samples, columns.index(column), each).pooled
            points.append(normalize(project(pooled.float()), dim=1))
        total = samples.valid.new_zeros((), dtype=points[0].dtype)
        for i, j in combinations(range(len(shown)), 2):
            both = self._both(columns, samples.valid, (shown[i], shown[j]))
            total = total + info_nce(points[i], points[j], both, self.temperature, samples.world) * self.weight
        return total

    @staticmethod
    def _both(columns: Sequence[str], valid: torch.Tensor, pair: tuple[str, str]) -> torch.Tensor:
        return valid[:, columns.index(pair[0])] & valid[:, columns.index(pair[1])]


def info_nce(
    one: torch.Tensor, other: torch.Tensor, both: torch.Tensor, temperature: float, world: World
) -> torch.Tensor:
    """Sum over this rank's samples with both looks, (): cross-entropy of finding the own one among all ranks' samples,
    averaged over the two directions. `one`, `other` (N, P) unit vectors, `both` (N,) bool."""
    import torch
    from torch.nn.functional import cross_entropy

    everyone = [world.together(look) for look in (one, other)]
    valid = world.together(both.float()[:, None])[:, 0] > 0.5
    own = world.place(len(one)) + torch.arange(len(one), device=one.device)
    total = one.new_zeros(())
    for look, among in ((one, everyone[1]), (other, everyone[0])):
        scores = (look @ among.T / temperature).masked_fill(~valid, -1e4)
        total = total + torch.where(both, cross_entropy(scores, own, reduction="none"), 0.0).sum() / 2
    return total
