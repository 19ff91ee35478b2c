"""What teaches the trainings of a recipe: a walk from a step's columns back to raw ones, for tests that no truth leaks.

It goes through shards, experts, consensus, teachers and starts, by what the recipe says alone; a column of an ingest
step is raw. What reports say of a run (`LEAK`) is not asked, so that either can be wrong without the other.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from hyperloom.pipeline.fields import step_refs
from hyperloom.pipeline.fingerprint import canonical

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
                    if (model, "") not in seen:
                        seen.add((model, ""))
                        yield from taught(steps, model, seen)
        else:
            yield from _read_there(steps, step, {column}, seen)


def taught(steps: Steps, name: str, seen: set[RawColumn] | None = None) -> Iterator[RawColumn]:
    """The raw columns that a training reads, by itself or through those whose weights or answers it takes."""
    seen = set() if seen is None else seen
    for shards in names(steps[name].data):
        yield from read(steps, shards, _lessons(steps, name, shards), seen)
    for other in step_refs(steps[name]):
        if other in trainings(steps) and (other, "") not in seen:
            seen.add((other, ""))
            yield from taught(steps, other, seen)


def leaks(steps: Steps) -> list[str]:
    """Sentences about trainings that read truth by which a verdict's report judges them. Truth may teach only through
    shards that split as the report's do, so that the test keeps its own: nothing may learn from it on the way."""
    sentences = []
    for report in (steps[r] for s in steps.values() if s.stage == "verdict" for r in s.report):
        assert report.split == "test", "a verdict is about the test split"
        splits = [steps[shards].split for shards in names(report.data)]
        truth = {
            (_origin(steps, ingest), column)
            for shards in names(report.data)
            for ingest, column in read(steps, shards, set(report.truth.values()))
        }
        assert truth, "the walk sees no truth even where it is"
        for training in _before(steps, report):
            for shards in names(steps[training].data):
                apart = steps[shards].split in splits
                for column in sorted(_lessons(steps, training, shards)):
                    plain = apart and _untouched(steps, shards, column)
                    behind = {(_origin(steps, i), c) for i, c in read(steps, shards, {column}, _own(steps))}
                    sentences += [
                        f"{training}: {column} is made of {c}" for _, c in sorted(behind & truth) if not plain
                    ]
    return list(dict.fromkeys(sentences))


def _before(steps: Steps, step: Any) -> list[str]:
    """The trainings behind a step, however far."""
    before: set[str] = set()
    left = [step]
    while left:
        new = set(step_refs(left.pop())) - before
        before |= new
        left += [steps[name] for name in new]
    return [name for name in trainings(steps) if name in before]


def _untouched(steps: Steps, shards: str, column: str) -> bool:
    """Is a column of the shards one that an ingest step reads from its source, so that a sample's is its own?"""
    sources = [n for n in names(steps[shards].data) if n in steps and _has(steps, n, column)]
    return bool(sources) and all(steps[n].stage == "ingest" for n in sources)


def _own(steps: Steps) -> set[RawColumn]:
    """For a walk that stops at trainings: each is looked at by itself."""
    return {(name, "") for name in trainings(steps)}


def _origin(steps: Steps, ingest: str) -> str:
    """What an ingest step reads, so that two that read the same are one."""
    source = steps[ingest].source.model_dump()
    place = next((source[k] for k in ("files", "path", "call") if source.get(k)), source.get("seed"))
    return canonical([source["type"], str(place)])


def _lessons(steps: Steps, name: str, shards: str) -> set[str]:
    """The columns of its shards that a training reads."""
    step, kept = steps[name], set(steps[shards].columns)
    columns = {*step.inputs, *(c for sources in step.targets.values() for c in sources), *step.validate_on.values()}
    columns |= {weight.column for weight in step.confidence.values()} | ({step.only} if step.only else set())
    there = {c for n in names(steps[shards].data) if n in steps for c in columns if _has(steps, n, c)}
    return there & kept if kept else there


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
