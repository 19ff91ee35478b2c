"""Pretexts: tasks whose labels come from what was done to the picture itself, so that its trunk learns without labels.

    turns: {type: rotation, of: rgb@camera}
    tiles: {type: jigsaw, of: rgb@camera, grid: 3, permutations: 24}

One input is changed, shown alone, and a linear layer on what is pooled of it must say how. The tasks of the model never
see the changed picture.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING, ClassVar

import numpy as np
from pydantic import Field, model_validator

from hyperloom.stages.objective.extras import Extra, ObjectiveInputs, alone
from hyperloom.stages.transfer import constant

if TYPE_CHECKING:
    import torch
    from torch import nn

    from hyperloom.stages.network.architecture import Architecture
    from hyperloom.stages.network.model import MultiTask

POOL = 5000
"""Permutations among which those that differ most are looked for."""


class Pretext(Extra):
    """Base of pretexts: `of` is the input column that is changed in one of `ways` ways."""

    of: str
    weight: float = Field(1.0, gt=0)

    @property
    def ways(self) -> int:
        raise TypeError(f"the objective {self.type!r} has no ways")

    def changed(self, planes: torch.Tensor, way: torch.Tensor) -> torch.Tensor:
        """`planes` (N, C, H, W), each sample changed in its own `way`, (N,) from 0 to `ways` - 1."""
        raise TypeError(f"the objective {self.type!r} has no changed()")

    def check(self, columns: Sequence[str]) -> None:
        if self.of not in columns:
            raise ValueError(f"{self.type} of {self.of}, but the inputs are {', '.join(columns)}")

    def fits(self, architecture: Architecture) -> None:
        modality = architecture.inputs[architecture.columns.index(self.of)].modality
        if modality.height_width is None:
            raise ValueError(f"{self.type} changes pictures, and {self.of} is none")

    def build(self, architecture: Architecture) -> nn.Module:
        from torch import nn

        return nn.Linear(architecture.trunk.sizes.pooled, self.ways)

    def draw(self, architecture: Architecture, count: int, generator: torch.Generator) -> torch.Tensor:
        import torch

        return torch.randint(self.ways, (count,), generator=generator)

    def count(self, columns: Sequence[str], valid: torch.Tensor) -> torch.Tensor:
        return valid[:, columns.index(self.of)].sum()

    def loss(self, model: MultiTask, own: nn.Module, samples: ObjectiveInputs) -> torch.Tensor:
        import torch
        from torch.nn.functional import cross_entropy

        i = model.architecture.columns.index(self.of)
        planes = samples.planes[i]
        assert not isinstance(planes, tuple)
        logits = own(alone(model, samples, i, planes=self.changed(planes, samples.drawn)).pooled.float())
        each = cross_entropy(logits, samples.drawn, reduction="none")
        return torch.where(samples.valid[:, i], each, 0.0).sum() * self.weight


class Rotation(Pretext):
    """By how many quarter turns was the picture rotated (Gidaris, Singh & Komodakis 2018)? Of a picture that is not
    square the middle is turned, and what lies beside it is blank."""

    revision: ClassVar[int] = 1

    @property
    def ways(self) -> int:
        return 4

    def changed(self, planes: torch.Tensor, way: torch.Tensor) -> torch.Tensor:
        import torch

        height, width = planes.shape[2:]
        side = min(height, width)
        top, left = (height - side) // 2, (width - side) // 2
        middle = planes[:, :, top : top + side, left : left + side]
        turned = torch.stack([middle.rot90(k, (2, 3)) for k in range(4)])
        rotated = torch.zeros_like(planes)
        rotated[:, :, top : top + side, left : left + side] = turned[way, torch.arange(len(way), device=way.device)]
        return rotated


class Jigsaw(Pretext):
    """In which of `permutations` orders were the tiles of the picture laid (Noroozi & Favaro 2016)? The shuffled tiles
    go through the trunk as one picture (as in Carlucci et al. 2019), the orders differ in as many places as possible,
    and the edges of the tiles are blank, lest their lines be matched."""

    revision: ClassVar[int] = 1
    grid: int = Field(3, ge=2, le=8)
    """Tiles along each side."""
    permutations: int = Field(24, ge=2, le=1000)
    gap: int = Field(2, ge=0)
    """Pixels that are blank along each edge of a tile."""

    @model_validator(mode="after")
    def _enough(self) -> Jigsaw:
        most = math.factorial(self.grid**2)
        if self.permutations > most:
            raise ValueError(f"permutations: {self.grid}x{self.grid} tiles have {most} orders, not {self.permutations}")
        return self

    @property
    def ways(self) -> int:
        return self.permutations

    def fits(self, architecture: Architecture) -> None:
        super().fits(architecture)
        height, width = architecture.size
        if min(height, width) // self.grid <= 2 * self.gap:
            raise ValueError(
                f"{self.type}: tiles of {height // self.grid}x{width // self.grid} pixels are blank with a gap of "
                f"{self.gap}; take a smaller grid or gap"
            )

    def changed(self, planes: torch.Tensor, way: torch.Tensor) -> torch.Tensor:
        import torch

        n, gap = self.grid, self.gap
        height, width = planes.shape[2] // n, planes.shape[3] // n
        cut = planes[:, :, : n * height, : n * width].unflatten(3, (n, width)).unflatten(2, (n, height))
        tiles = cut.permute(0, 2, 4, 1, 3, 5).flatten(1, 2)  # (N, tiles, C, height, width)
        inner = torch.zeros_like(tiles)
        inner[..., gap : height - gap, gap : width - gap] = tiles[..., gap : height - gap, gap : width - gap]
        order = constant(_places(n * n, self.permutations), torch.int64, way.device)[way]
        laid = inner[torch.arange(len(way), device=way.device)[:, None], order]
        shuffled = torch.zeros_like(planes)
        whole = laid.unflatten(1, (n, n)).permute(0, 3, 1, 4, 2, 5).flatten(4, 5).flatten(2, 3)
        shuffled[:, :, : n * height, : n * width] = whole
        return shuffled


def orders(tiles: int, count: int) -> np.ndarray:
    """(count, tiles) permutations, one after the other that which differs in most places from its nearest before."""
    if math.factorial(tiles) <= POOL:
        pool = np.array(list(itertools.permutations(range(tiles))))
    else:
        pool = np.random.default_rng(0).permuted(np.tile(np.arange(tiles), (POOL, 1)), axis=1)
    chosen = [0]
    nearest = (pool != pool[0]).sum(1)
    while len(chosen) < count:
        chosen.append(int(nearest.argmax()))
        nearest = np.minimum(nearest, (pool != pool[chosen[-1]]).sum(1))
    return pool[chosen]


@cache
def _places(tiles: int, count: int) -> tuple[tuple[int, ...], ...]:
    return tuple(map(tuple, orders(tiles, count).tolist()))
