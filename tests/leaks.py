"""What teaches the trainings of a recipe: a walk from a step's columns back to raw ones, for tests that no truth leaks.

It goes through shards, experts, consensus and models, by what the recipe says alone; a column of an ingest step is
raw. What reports say of a run (`LEAK`) is not asked, so that either can be wrong without the other.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

Steps = Mapping[str, Any]
RawColumn = tuple[str, str]
"""An ingest step and a column of it."""


def names(value: Any) -> tuple[str, ...]:
    """One name or several, as several."""
    return (value,) if isinstance(value, str) else tuple(value)


def trainings(steps: Steps) -> list[str]:
    return [name for name, step in steps.items() if step.stage in ("train", "distill")]


def read(steps: Steps, name: str, columns: set[str], seen: set[RawColumn] | None = None) -> Iterator[RawColumn]:
    """The raw columns behind `columns` of the step `name`."""
    seen = set() if seen is None else seen
    step = steps[name]
    for column in columns - {c for n, c in seen if n == name}:
        seen.add((name, column))
        if step.stage == "ingest":
            yield name, column
        elif column in _made(step):
            expert = next((e for e in getattr(step, "experts", ()) if column in e.out), None)
            if expert is None:
                yield from _read_there(steps, step, _voted(steps, step), seen)
            else:
                yield from read(steps, name, set(expert.in_), seen)  # which another expert of the step may have made
                for model in names(getattr(expert, "model", None) or ()):
                    yield from taught(steps, model, seen)
        else:
            yield from _read_there(steps, step, {column}, seen)


def taught(steps: Steps, name: str, seen: set[RawColumn] | None = None) -> Iterator[RawColumn]:
    """The raw columns that a training reads."""
    step = steps[name]
    columns = {*step.inputs, *(c for sources in step.targets.values() for c in sources)}
    for shards in names(step.data):
        kept = steps[shards].columns
        assert kept, f"{shards} teaches {name}, so it must say which columns it holds"
        yield from read(steps, shards, {c for c in columns if c in kept}, set() if seen is None else seen)


def _read_there(steps: Steps, step: Any, columns: set[str], seen: set[RawColumn]) -> Iterator[RawColumn]:
    for source in names(step.data):
        if source in steps:
            yield from read(steps, source, {c for c in columns if _has(steps, source, c)}, seen)


def _made(step: Any) -> set[str]:
    """The columns that a step makes itself."""
    if step.stage == "consensus":
        extras = [c for choice in step.choices.values() for c in choice.method.extra()]
        return {*step.choices, *extras}
    return {column for expert in getattr(step, "experts", ()) for column in expert.out}


def _voted(steps: Steps, step: Any) -> set[str]:
    """The columns that a consensus weighs and learns from: without `of`, whatever of its modalities labels offer."""
    named = {c for choice in step.choices.values() for c in (*choice.of, choice.truth) if c}
    modalities = {column.partition("@")[0] for column, choice in step.choices.items() if not choice.of}
    offered = {c for n in names(step.data) if n in steps for c in _made(steps[n])}
    return named | {c for c in offered if c.partition("@")[0] in modalities}


def _has(steps: Steps, name: str, column: str) -> bool:
    step = steps[name]
    if step.stage == "ingest":
        return column in step.source.offers()
    return column in _made(step) or any(_has(steps, n, column) for n in names(step.data) if n in steps)
