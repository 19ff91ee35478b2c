"""Architectures: what a model is, as JSON, without its weights.

`encoders -> fusion -> trunk -> heads`: each input column is encoded by its modality (standardised numbers, one channel
a class, or ids), the fusion brings the encodings together as the trunk wants them (planes side by side, or tokens),
the trunk sees all of them, and each task has a head of its own.
Everything that a prediction depends on is in here (columns, modalities, statistics), so `model.json` beside
`model.safetensors` is enough to use a model anywhere. Imports no torch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from hyperloom.pipeline import plugins
from hyperloom.pipeline.fingerprint import payload
from hyperloom.stages.modality import (
    Audio,
    Clip,
    Dense,
    Embedding,
    Image,
    Modality,
    Raster,
    Segmentation,
    Series,
    Soft,
    Vector,
)
from hyperloom.stages.network.grids import planes_of
from hyperloom.stages.network.trunks import Trunk

MODEL_JSON, MODEL_WEIGHTS = "model.json", "model.safetensors"


@dataclass(frozen=True)
class Scale:
    """Mean and standard deviation of each channel; empty where values are not standardised (classes, directions)."""

    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()


@dataclass(frozen=True)
class Input:
    """One input column."""

    column: str
    modality: Modality
    scale: Scale


@dataclass(frozen=True)
class Task:
    """One modality that the model predicts."""

    name: str
    modality: Modality
    scale: Scale

    @property
    def regression(self) -> bool:
        """Is it of numbers, rather than of classes?"""
        head = self.modality.head
        return head in ("regress", "embed", "series") or (
            head == "dense" and not isinstance(self.modality, Segmentation | Soft)
        )


@dataclass(frozen=True)
class Architecture:
    """Inputs, tasks and trunk. Equal architectures and equal weights predict the same."""

    inputs: tuple[Input, ...]
    tasks: tuple[Task, ...]
    trunk: Trunk

    @property
    def columns(self) -> tuple[str, ...]:
        return tuple(i.column for i in self.inputs)

    @property
    def channels(self) -> int:
        """Planes that enter a trunk which reads planes."""
        return sum(planes_of(i.modality) for i in self.inputs)

    @property
    def size(self) -> tuple[int, int]:
        """Height and width in pixels, one for all rasters; (1, 1) where there is none."""
        every = [*(t.modality for t in self.tasks), *(i.modality for i in self.inputs)]
        return next((m.height_width for m in every if isinstance(m, Raster)), (1, 1))

    def grids(self, patch: int | None = None) -> list[tuple[int, ...]]:
        """For each input, the grid on which parts of it can be hidden, squares being `patch` pixels wide (by default
        the trunk's own patches); (1,) where it is a whole."""
        side = patch or int(getattr(self.trunk, "patch", 16))
        return [self.trunk.grid(i.modality, side) for i in self.inputs]

    def with_trunk(self, trunk: Trunk) -> Architecture:
        return replace(self, trunk=trunk)

    def to_json(self) -> dict[str, Any]:
        def part(item: Input | Task) -> dict[str, Any]:
            scale = {"mean": list(item.scale.mean), "std": list(item.scale.std)}
            return {"modality": item.modality.to_recipe(), **scale}

        return {
            "inputs": [{"column": i.column, **part(i)} for i in self.inputs],
            "tasks": [{"name": t.name, **part(t)} for t in self.tasks],
            "trunk": {k: v for k, v in payload(self.trunk).items() if k != "revision"},
        }

    @staticmethod
    def from_json(value: Mapping[str, Any]) -> Architecture:
        def part(item: Mapping[str, Any]) -> tuple[Modality, Scale]:
            return plugins.parse("modality", item["modality"]), Scale(tuple(item["mean"]), tuple(item["std"]))

        inputs = tuple(Input(i["column"], *part(i)) for i in value["inputs"])
        tasks = tuple(Task(t["name"], *part(t)) for t in value["tasks"])
        return Architecture(inputs, tasks, plugins.parse("trunk", value["trunk"]))


def check_sizes(inputs: Sequence[Input], tasks: Sequence[Task]) -> None:
    """Raises ValueError unless all rasters share one height and width, and tasks of a picture have a raster."""
    sizes = {i.column: i.modality.height_width for i in inputs if isinstance(i.modality, Raster)}
    sizes |= {t.name: t.modality.height_width for t in tasks if isinstance(t.modality, Raster)}
    if len(set(sizes.values())) > 1:
        raise ValueError(f"inputs and tasks differ in size: {sizes}; give the modalities one size")
    blind = [t.name for t in tasks if t.modality.head == "boxes"]
    if blind and not sizes:
        raise ValueError(f"{', '.join(blind)} lies in a picture, so a raster must be among the inputs or tasks")


def scale_of(modality: Modality, statistics: Mapping[str, Any]) -> Scale:
    """How values of a column are standardised: by its statistics for numbers and images, not at all for the rest."""
    numbers = isinstance(modality, Image | Clip | Series | Audio | Vector) and not isinstance(modality, Embedding)
    numbers = numbers or (isinstance(modality, Dense) and not modality.direction)
    if not numbers or not statistics.get("mean"):
        return Scale()
    return Scale(tuple(map(float, statistics["mean"])), tuple(max(float(s), 1e-6) for s in statistics["std"]))
