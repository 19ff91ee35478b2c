"""Passing on: which inputs' answers go unchanged to the head of a task (see `stages.network.residual`).

    model: {residual: true}                                     # of every task that has inputs of its own modality
    model: {residual: {semantic: [semantic@deeplab]}}           # of these, from these

Recipe side; imports no torch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from hyperloom.stages.meaning import translation
from hyperloom.stages.network.architecture import Input, Task

Residuals = bool | dict[str, tuple[str, ...]]
"""What a recipe says: all that fit or none, or by task the input columns."""


def passing(named: Residuals, tasks: Sequence[Task], inputs: Sequence[Input]) -> tuple[Task, ...]:
    """The tasks, each with the columns whose answers are passed on to it. Raises ValueError for one that is named and
    cannot be."""
    if named is False:
        return tuple(tasks)
    read = {item.column: item for item in inputs}
    if named is True:
        return tuple(replace(t, residual=tuple(c for c, i in read.items() if not why_not(t, i))) for t in tasks)
    _check(named, {t.name: t for t in tasks}, read)
    return tuple(replace(t, residual=tuple(named.get(t.name, ()))) for t in tasks)


def why_not(task: Task, item: Input) -> str:
    """What keeps an input's answers from being passed on to a task; empty when nothing does."""
    modality, predicted = item.modality, task.modality
    if task.chosen is not None or predicted.head != "dense" or predicted.times > 1 or predicted.rgb:
        return f"{task.name!r} is no map of classes or numbers with its default head"
    if not modality.teaches(predicted) or item.beside:
        return f"{item.column} and {task.name!r} differ in kind or channels"
    try:
        translation(modality.meaning, predicted.meaning, (item.column, f"the task {task.name!r}"))
    except ValueError as error:
        return str(error)
    return ""


def _check(named: Mapping[str, Sequence[str]], tasks: Mapping[str, Task], inputs: Mapping[str, Input]) -> None:
    for task, columns in named.items():
        if task not in tasks:
            raise ValueError(f"model: residual names {task!r}, but the tasks are {', '.join(tasks)}")
        for column in columns:
            if column not in inputs:
                raise ValueError(f"model: residual: {column!r} is no input; they are {', '.join(inputs)}")
            if why := why_not(tasks[task], inputs[column]):
                raise ValueError(f"model: residual: {column} cannot be passed on to {task!r}: {why}")
