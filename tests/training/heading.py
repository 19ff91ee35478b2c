"""A modality as somebody would add it beside a recipe: headings, and what reads, predicts and measures them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import torch
from torch import nn

from hyperloom.stages.measure.measure import Measure
from hyperloom.stages.modality import Defaults, Modality
from hyperloom.stages.network.architecture import Architecture, Input, Task
from hyperloom.stages.network.encoders import Encoder
from hyperloom.stages.network.features import Features, Sizes
from hyperloom.stages.network.heads import Head
from hyperloom.stages.network.processors import Processor, Scale

OWN = __name__
RADIAN = math.pi / 180
"""Of a degree. ONNX knows neither degrees nor an arctangent of two numbers."""


class Heading(Modality):
    """(1,) float32 degrees from 0 to 360; 359 and 1 are neighbours."""

    revision: ClassVar[int] = 1
    defaults: ClassVar[Defaults] = Defaults(f"{OWN}:Turn", "huber", "turn", f"{OWN}:TurnMeasure")
    processor: ClassVar[str] = f"{OWN}:Circle"

    @property
    def shape(self) -> tuple[int, ...]:
        return (1,)

    @property
    def planes(self) -> int:
        return 2

    def fit(self, value: Any) -> np.ndarray:
        return np.array([float(value) % 360], np.float32)


class Circle(Processor):
    """Degrees as points of a circle, and back."""

    @property
    def encoder(self) -> str:
        return f"{OWN}:Needle"

    def reader(self, scale: Scale) -> nn.Module:
        return Points()

    def finish(self, raw: torch.Tensor, scale: Scale) -> torch.Tensor:
        x, y = raw[:, :1], raw[:, 1:]
        angle = 2 * torch.atan(y / ((x.square() + y.square() + 1e-12).sqrt() + x + 1e-6))
        return (angle / RADIAN) % 360


class Points(nn.Module):
    def forward(self, values: torch.Tensor) -> torch.Tensor:
        angle = values.float() * RADIAN
        return torch.cat([angle.cos(), angle.sin()], 1)


class Needle(Encoder):
    """One token, from the point and its double turn."""

    revision: ClassVar[int] = 1

    def build(self, item: Input, width: int, patch: int) -> nn.Module:
        return Doubled(width)


class Doubled(nn.Module):
    def __init__(self, width: int):
        super().__init__()
        self.grid = (1,)
        self.project = nn.Linear(4, width)

    def forward(self, values: torch.Tensor) -> tuple[torch.Tensor, None]:
        x, y = values[:, :1], values[:, 1:]
        return self.project(torch.cat([values, x * x - y * y, 2 * x * y], 1)).unsqueeze(1), None


class Turn(Head):
    """A point near the circle."""

    revision: ClassVar[int] = 1

    def build(self, task: Task, sizes: Sizes, architecture: Architecture) -> nn.Module:
        return Pointing(sizes.pooled)


class Pointing(nn.Module):
    def __init__(self, pooled: int):
        super().__init__()
        self.out = nn.Sequential(nn.Linear(pooled, 32), nn.GELU(), nn.Linear(32, 2))

    def forward(self, features: Features) -> torch.Tensor:
        return self.out(features.pooled)


class TurnMeasure(Measure):
    """turn, the mean difference in degrees, at most 180."""

    higher_is_better: ClassVar[Mapping[str, bool]] = {"turn": False}

    def statistics(
        self, modality: Modality, truth: np.ndarray, prediction: np.ndarray, answered: np.ndarray
    ) -> dict[str, Any]:
        apart = np.abs((prediction[answered] - truth[answered] + 180) % 360 - 180).astype(np.float64)
        return {"known": len(truth), "answered": int(answered.sum()), "turned": float(apart.sum())}

    def measured(self, modality: Modality, sums: Mapping[str, Any]) -> dict[str, float]:
        return {"turn": sums["turned"] / sums["answered"]}


class Plain(Modality):
    """Numbers of any shape, with nothing of their own for networks."""

    revision: ClassVar[int] = 1
    defaults: ClassVar[Defaults] = Defaults("regress", "huber", "mae")
    sizes: tuple[int, ...]

    @property
    def shape(self) -> tuple[int, ...]:
        return self.sizes


class Map(Plain):
    """Numbers on a grid."""

    revision: ClassVar[int] = 1
    defaults: ClassVar[Defaults] = Defaults("dense", "l1", "mae")
