"""Recipes of consensus over scenes: they are right as they stand, and no truth of what they test teaches anything."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

import hyperloom.stages  # noqa: F401  registers the plug-ins
from hyperloom.pipeline import recipe
from hyperloom.pipeline.plan import check

RECIPES = sorted((Path(__file__).parents[2] / "recipes/papers/scene-consensus").glob("*.yaml"))
Steps = Mapping[str, Any]


def _names(value: Any) -> tuple[str, ...]:
    return (value,) if isinstance(value, str) else tuple(value)


def _makers(steps: Steps) -> dict[tuple[str, str], tuple[str, set[str]]]:
    """(step, column) -> the step that reads for it, and all columns that it may have read."""
    found: dict[tuple[str, str], tuple[str, set[str]]] = {}
    for name, step in steps.items():
        for expert in getattr(step, "experts", ()):
            asked = getattr(expert, "model", None)
            read = set(expert.in_) or ({"*"} if asked is None else set())
            if asked is not None:
                read |= {f"{asked}!"}
            found |= {(name, column): (name, read) for column in expert.out}
    return found


def _read(steps: Steps, name: str, columns: set[str], seen: set[tuple[str, str]]) -> Iterator[tuple[str, str]]:
    """(ingest step, raw column) behind `columns` of the step `name`, through shards, experts, consensus and models."""
    makers = _makers(steps)
    for column in columns - {c for n, c in seen if n == name}:
        seen.add((name, column))
        step = steps[name]
        if step.stage == "ingest":
            yield name, column
        elif column.endswith("!"):
            yield from _taught(steps, column[:-1], seen)
        elif (name, column) in makers:
            _, read = makers[name, column]
            yield from _read(steps, name, read, seen)
        elif step.stage == "consensus" and column.partition("@")[2] in {c.partition("@")[2] for c in _outs(step)}:
            voted = [c for n in _names(step.data) for c in _columns(steps, n) if c.partition("@")[0] == "semantic"]
            yield from _read(steps, name, set(voted), seen)
        else:
            for source in _names(step.data):
                if source in steps and _has(steps, source, column):
                    yield from _read(steps, source, {column}, seen)


def _outs(step: Any) -> tuple[str, ...]:
    return tuple(step.columns) if getattr(step, "columns", None) else (step.out,)


def _columns(steps: Steps, name: str) -> list[str]:
    step = steps[name]
    return [column for expert in getattr(step, "experts", ()) for column in expert.out]


def _has(steps: Steps, name: str, column: str) -> bool:
    step = steps[name]
    if step.stage == "ingest":
        return column in step.source.offers()
    if step.stage == "label" and column in _columns(steps, name):
        return True
    if step.stage == "consensus" and column.partition("@")[2] in {c.partition("@")[2] for c in _outs(step)}:
        return True
    return any(_has(steps, n, column) for n in _names(step.data) if n in steps)


def _taught(steps: Steps, name: str, seen: set[tuple[str, str]]) -> Iterator[tuple[str, str]]:
    """What a training reads."""
    step = steps[name]
    columns = {*step.inputs, *(c for sources in step.targets.values() for c in sources)}
    for shards in _names(step.data):
        kept = steps[shards].columns
        assert kept, f"{shards} teaches {name}, so it must say which columns it holds"
        assert "semantic@truth" not in kept or not _tested(steps, shards)
        yield from _read(steps, shards, {c for c in columns if c in kept}, seen)


def _tested(steps: Steps, shards: str) -> bool:
    """Has a shard step groups that are tested?"""
    return bool(steps[shards].split.pin.get("test"))


def _leaks(steps: Steps) -> list[str]:
    """The trainings that read truth of samples that are tested."""
    tested = {
        found
        for report in steps["verdict"].report
        for shards in _names(steps[report].data)
        for found in _read(steps, shards, {"semantic@truth"}, set())
    }
    assert tested, "the walk sees no truth even where it is"
    steps_of_it = {name for name, _ in tested}
    trainings = [name for name, step in steps.items() if step.stage in ("train", "distill")]
    return [
        training
        for training in trainings
        if any(column.endswith("@truth") and name in steps_of_it for name, column in _taught(steps, training, set()))
    ]


@pytest.mark.parametrize("path", RECIPES, ids=lambda p: p.stem)
def test_a_recipe_is_right_and_no_truth_of_its_test_teaches(path: Path) -> None:
    loaded = recipe.load(path)
    check(loaded)
    assert not _leaks(loaded.recipe.steps)


@pytest.mark.parametrize("path", RECIPES, ids=lambda p: p.stem)
def test_truth_that_comes_through_an_expert_is_seen(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    changed = text.replace("{type: hsv, in: rgb@camera,", "{type: hsv, in: semantic@truth,")
    assert changed != text and _leaks(recipe.parse(changed).recipe.steps)


def test_each_drive_is_tested_once_and_its_labelled_frames_teach_nobody() -> None:
    steps = recipe.load(next(p for p in RECIPES if p.stem == "001-phg-mae-streets")).recipe.steps
    trainings = [n for n, s in steps.items() if s.stage in ("train", "distill")]
    drives = {n.rpartition("-")[2] for n in trainings}
    few = steps["few_frames"].source.only
    assert {d: sum(name.startswith(d) for name in few) for d in drives} == dict.fromkeys(drives, 13)
    for training in trainings:
        drive = training.rpartition("-")[2]
        shards = steps[_names(steps[training].data)[0]]
        assert {d: shards.split.of(d) for d in drives} == {d: "test" if d == drive else "train" for d in drives}
    judged = _read(steps, "experts", {"semantic@experts"}, set())
    assert not {column for _, column in judged if column in ("semantic@few", "semantic@truth")}
