"""Architectures: what a model is, as JSON, without its weights.

`encoders -> fusion -> trunk -> heads`: each input column is read by its modality's processor (standardised numbers, one
channel a class, or ids), the fusion brings the inputs together as the trunk wants them (planes side by side, or the
tokens that encoders make), the trunk sees all of them, and each task has a head of its own.
Everything that a prediction depends on is in here (columns, modalities, statistics, encoders and heads that were
chosen), so `model.json` beside `model.safetensors` is enough to use a model anywhere. Imports no torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from hyperloom.pipeline import plugins
from hyperloom.pipeline.fingerprint import payload
from hyperloom.pipeline.root.storage import sha256
from hyperloom.stages.modality import Modality
from hyperloom.stages.network.encoders import Encoder
from hyperloom.stages.network.heads import Head
from hyperloom.stages.network.processors import Processor, Scale, processor_of
from hyperloom.stages.network.trunks import Trunk

MODEL_JSON, MODEL_WEIGHTS = "model.json", "model.safetensors"


def model_place(files: Mapping[str, bytes]) -> str:
    """Where the files of a model (name -> bytes) lie in the folder of its training: a name made of what they hold."""
    digests = [sha256(files[name]) for name in (MODEL_JSON, MODEL_WEIGHTS)]
    return f"model/{sha256(' '.join(digests).encode())[:12]}"


@dataclass(frozen=True)
class Input:
    """One input: a column, and those that its encoder reads `beside` it, which have no further ones themselves.
    `chosen` is the encoder where it is not the default one."""

    column: str
    modality: Modality
    scale: Scale
    chosen: Encoder | None = None
    beside: tuple[Input, ...] = ()

    @property
    def processor(self) -> Processor:
        return processor_of(self.modality)

    @property
    def encoder(self) -> Encoder:
        return self.chosen or plugins.parse("encoder", self.processor.encoder)

    @property
    def parts(self) -> tuple[Input, ...]:
        """This column and those beside it."""
        return (self, *self.beside)


@dataclass(frozen=True)
class Task:
    """One modality that the model predicts. `chosen` is the head where it is not the modality's own; answers of the
    input columns in `residual` are passed on to it (`stages.network.residual`)."""

    name: str
    modality: Modality
    scale: Scale
    chosen: Head | None = None
    residual: tuple[str, ...] = ()

    @property
    def processor(self) -> Processor:
        return processor_of(self.modality)

    @property
    def head(self) -> Head:
        return self.chosen or plugins.parse("head", self.modality.head)

    @property
    def regression(self) -> bool:
        """Is it of numbers, rather than of classes?"""
        return self.modality.regression


@dataclass(frozen=True)
class Architecture:
    """Inputs, tasks and trunk. Equal architectures and equal weights predict the same."""

    inputs: tuple[Input, ...]
    tasks: tuple[Task, ...]
    trunk: Trunk

    @property
    def columns(self) -> tuple[str, ...]:
        """The column by which each input is known: what a mask shows or hides."""
        return tuple(i.column for i in self.inputs)

    @property
    def parts(self) -> tuple[Input, ...]:
        """Every column that is read, those beside others included."""
        return tuple(part for i in self.inputs for part in i.parts)

    @property
    def channels(self) -> int:
        """Planes that enter a trunk which reads planes."""
        return sum(self.planes.values())

    @property
    def planes(self) -> dict[str, int]:
        """How many of them are of each input."""
        return {i.column: i.modality.planes * n * n for i, n in zip(self.inputs, self.folds, strict=True)}

    @property
    def size(self) -> tuple[int, int]:
        """Height and width in pixels of what is predicted and of the trunk's planes: that of the tasks, or of the
        smallest input; (1, 1) where there is no raster."""
        tasks = [t.processor.size for t in self.tasks if t.processor.size]
        return min(tasks or [p.processor.size for p in self.parts if p.processor.size], default=(1, 1))

    @property
    def folds(self) -> tuple[int, ...]:
        """How many times larger than `size` each input is, a side: squares of so many pixels become planes."""
        sizes = [i.processor.size for i in self.inputs]
        return tuple(max(1, size[0] // self.size[0]) if size else 1 for size in sizes)

    def grids(self, patch: int | None = None) -> list[tuple[int, ...]]:
        """For each input, the grid on which parts of it can be hidden, squares being `patch` pixels wide (by default
        the trunk's own patches); (1,) where it is a whole."""
        side = patch or int(getattr(self.trunk, "patch", 16))
        return [self.trunk.grid(i, side) for i in self.inputs]

    def with_trunk(self, trunk: Trunk) -> Architecture:
        return replace(self, trunk=trunk)

    def to_json(self) -> dict[str, Any]:
        return {
            "inputs": [_input_json(i) for i in self.inputs],
            "tasks": [_task_json(t) for t in self.tasks],
            "trunk": _plugin(self.trunk),
        }

    @staticmethod
    def from_json(value: Mapping[str, Any]) -> Architecture:
        tasks = tuple(
            Task(t["name"], *_parsed(t), _given("head", t), tuple(t.get("residual", ()))) for t in value["tasks"]
        )
        inputs = tuple(_input(i) for i in value["inputs"])
        return Architecture(inputs, tasks, plugins.parse("trunk", value["trunk"]))


def chosen(kind: str, named: Any, default: str) -> Any:
    """What a recipe names as encoder or head, None where that is the default: equal models are equal bytes."""
    return None if named is None or _plugin(named) == _plugin(plugins.parse(kind, default)) else named


def check_sizes(architecture: Architecture) -> None:
    """Raises ValueError unless all rasters share one height and width, or inputs are a whole number of times as large
    and the trunk folds them, and tasks of a picture have a raster."""
    inputs, tasks = architecture.inputs, architecture.tasks
    sizes = {i.column: i.processor.size for i in inputs if i.processor.size}
    sizes |= {t.name: t.processor.size for t in tasks if t.processor.size}
    larger = {i.column for i in inputs} if architecture.trunk.folds else set()
    one = architecture.size
    for name, size in sizes.items():
        times = size[0] // one[0] if name in larger else 1
        if size != (times * one[0], times * one[1]):
            whole = " or inputs a whole number of times that of the tasks" if architecture.trunk.folds else ""
            raise ValueError(f"inputs and tasks differ in size: {sizes}; give the modalities one size{whole}")
    blind = [t.name for t in tasks if t.head.planes]
    if blind and not sizes:
        raise ValueError(f"{', '.join(blind)} lies in a picture, so a raster must be among the inputs or tasks")
    for task in tasks:
        task.head.check(task)


def _plugin(value: Any) -> dict[str, Any]:
    return {k: v for k, v in payload(value).items() if k != "revision"}


def _chosen(key: str, value: Any) -> dict[str, Any]:
    return {} if value is None else {key: _plugin(value)}


def _json(item: Input | Task) -> dict[str, Any]:
    scale = {"mean": list(item.scale.mean), "std": list(item.scale.std)}
    return {"modality": item.modality.to_recipe(), **scale}


def _task_json(task: Task) -> dict[str, Any]:
    residual = {"residual": list(task.residual)} if task.residual else {}
    return {"name": task.name, **_json(task), **_chosen("head", task.chosen), **residual}


def _input_json(item: Input) -> dict[str, Any]:
    beside = {"beside": [_input_json(i) for i in item.beside]} if item.beside else {}
    return {"column": item.column, **_json(item), **_chosen("encoder", item.chosen), **beside}


def _given(kind: str, value: Mapping[str, Any]) -> Any:
    return plugins.parse(kind, value[kind]) if kind in value else None


def _parsed(item: Mapping[str, Any]) -> tuple[Modality, Scale]:
    return plugins.parse("modality", item["modality"]), Scale(tuple(item["mean"]), tuple(item["std"]))


def _input(value: Mapping[str, Any]) -> Input:
    beside = tuple(_input(i) for i in value.get("beside", ()))
    return Input(value["column"], *_parsed(value), _given("encoder", value), beside)
