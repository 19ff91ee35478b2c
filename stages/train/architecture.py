"""Architectures: what a model is, as JSON, without its weights.

`encoders -> fusion -> trunk -> heads`: each input column is encoded by its modality (standardised numbers, or one
channel a class), the encodings are concatenated, the trunk sees all of them, and each task has a head of its own.
Everything that a prediction depends on is in here (columns, modalities, statistics), so `model.json` beside
`model.safetensors` is enough to use a model anywhere. Imports no torch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from pipeline import plugins
from pipeline.fingerprint import payload
from stages.modality import Dense, Image, Modality, Segmentation, Soft, Vector
from stages.train.trunks import Trunk

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
        return isinstance(self.modality, Dense)


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
        """Channels that enter the trunk."""
        return sum(i.modality.channels for i in self.inputs)

    @property
    def size(self) -> tuple[int, int]:
        """Height and width in pixels, one for all modalities."""
        return self.tasks[0].modality.shape[0], self.tasks[0].modality.shape[1]

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
    """Raises ValueError unless all rasters share one height and width and every task is one."""
    for item in inputs:
        if not isinstance(item.modality, Image | Dense | Segmentation | Soft | Vector):
            raise ValueError(f"{item.column} cannot be an input: no encoder for {item.modality.type} modalities")
    sizes = {i.column: i.modality.shape[:2] for i in inputs if not isinstance(i.modality, Vector)}
    for task in tasks:
        if not isinstance(task.modality, Dense | Segmentation):
            raise ValueError(f"{task.name} cannot be a task: a model predicts dense and segmentation modalities")
        sizes[task.name] = task.modality.shape[:2]
    if len(set(sizes.values())) > 1:
        raise ValueError(f"inputs and tasks differ in size: {sizes}; give the modalities one size")


def scale_of(modality: Modality, statistics: Mapping[str, Any]) -> Scale:
    """How values of a column are standardised: by its statistics for numbers and images, not at all for the rest."""
    standardised = isinstance(modality, Image | Vector) or (isinstance(modality, Dense) and not modality.direction)
    if isinstance(modality, Segmentation | Soft) or not standardised or not statistics.get("mean"):
        return Scale()
    return Scale(tuple(map(float, statistics["mean"])), tuple(max(float(s), 1e-6) for s in statistics["std"]))
