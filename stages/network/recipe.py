"""What a recipe says of a network: its trunk, how large it is, and heads and encoders where others than those that the
modalities name are wanted.

    model:
      trunk: vit
      parameters: 430k
      heads: {semantic: {type: "mine:Prototypes", per_class: 4}}
      encoders: {rgb: {type: patches, patch: 8}}

Imports no torch: a recipe is read without it. How the network is taught is not said here (`stages.train`).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Annotated, Any

from pydantic import Field, field_validator

from hyperloom.pipeline.config import Config
from hyperloom.pipeline.plugins import of
from hyperloom.stages.base import modality_of
from hyperloom.stages.network.architecture import Input, Task, chosen
from hyperloom.stages.network.passing import Residuals, passing
from hyperloom.stages.network.unet_trunk import UNetTrunk

_SIZES = {"": 1, "k": 1_000, "m": 1_000_000}


class NetworkRecipe(Config):
    """`{trunk: unet, parameters: 430k}`: the width is the one whose count is nearest, unless the trunk gives it."""

    trunk: Annotated[Any, of("trunk")] = UNetTrunk(type="unet")
    parameters: int = Field(430_000, gt=0)
    heads: dict[str, Annotated[Any, of("head")]] = {}
    """By task."""
    encoders: dict[str, Annotated[Any, of("encoder")]] = {}
    """By input column, or by modality for all of its columns."""
    residual: Residuals = False
    """Whose answers are passed on to the head of their task: all that fit, or by task the columns."""

    @field_validator("residual", mode="before")
    @classmethod
    def _listed(cls, value: Any) -> Any:
        named = value.items() if isinstance(value, dict) else ()
        return {t: (c,) if isinstance(c, str) else tuple(c) for t, c in named} if named else value

    @field_validator("parameters", mode="before")
    @classmethod
    def _with_suffix(cls, value: Any) -> Any:
        match = re.fullmatch(r"([0-9.]+)\s*([km]?)", value.lower()) if isinstance(value, str) else None
        return round(float(match[1]) * _SIZES[match[2]]) if match else value

    def check(self, columns: Sequence[str], tasks: Iterable[str]) -> None:
        """Raises ValueError when a head or an encoder is named for what is no task or no input."""
        if unknown := sorted(set(self.heads) - set(tasks)):
            raise ValueError(f"model: heads names {', '.join(unknown)}, but the tasks are {', '.join(tasks)}")
        known = {*columns, *(modality_of(c) for c in columns)}
        beside = [b for e in self.encoders.values() for b in e.beside]
        if unknown := [*sorted(set(self.encoders) - known), *(b for b in beside if b not in columns)]:
            raise ValueError(f"model: encoders names {', '.join(unknown)}, but the inputs are {', '.join(columns)}")
        if twice := sorted({b for b in beside if beside.count(b) > 1 or b in self.encoders}):
            raise ValueError(
                f"model: {', '.join(twice)} is read beside another column, so it has no encoder of its own"
            )
        if wide := [n for n, e in self.encoders.items() if e.beside and n not in columns]:
            raise ValueError(f"model: encoders: {wide[0]} reads columns beside one, so name the column: {wide[0]}@...")

    def inputs(self, read: Mapping[str, Input]) -> tuple[Input, ...]:
        """The inputs of a network that reads these columns, each with its encoder and what that reads beside it."""
        beside = {b for e in self.encoders.values() for b in e.beside}
        return tuple(self._input(item, read) for column, item in read.items() if column not in beside)

    def _input(self, item: Input, read: Mapping[str, Input]) -> Input:
        named = self.encoders.get(item.column) or self.encoders.get(modality_of(item.column))
        further = tuple(read[b] for b in named.beside) if named else ()
        return replace(item, chosen=chosen("encoder", named, item.processor.encoder), beside=further)

    def tasks(self, tasks: Iterable[Task], inputs: Sequence[Input]) -> tuple[Task, ...]:
        """The tasks, each with its head and with what is passed on to it of `inputs`. Raises ValueError."""
        return passing(self.residual, [self.task(task) for task in tasks], inputs)

    def task(self, task: Task) -> Task:
        """The task with its head."""
        return replace(task, chosen=chosen("head", self.heads.get(task.name), task.modality.head))
