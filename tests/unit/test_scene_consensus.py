"""Recipes of consensus over scenes: they are right as they stand, and no truth of what they test teaches anything."""

from __future__ import annotations

from pathlib import Path

import pytest

import hyperloom.stages  # noqa: F401  registers the plug-ins
from hyperloom.pipeline.host import project
from hyperloom.pipeline.planning.plan import check
from hyperloom.pipeline.recipes import recipe
from tests.leaks import Steps, names, read, taught, trainings

FOLDER = Path(__file__).parents[2] / "recipes/papers/scene-consensus"
RECIPES = sorted(FOLDER.glob("[0-9]*.yaml"))
APART = ("001-phg-mae-lessons", "001-phg-mae-teachers", "001-phg-mae-draws", "001-phg-mae-asked", "001-phg-mae-tasks")
"""Those that are judged on flights of which no training reads anything."""


def _tested(steps: Steps) -> set[str]:
    """The ingest steps whose samples are tested."""
    tested = {
        ingest
        for report in steps["verdict"].report
        for shards in names(steps[report].data)
        for ingest, _ in read(steps, shards, {"semantic@truth"})
    }
    assert tested, "the walk sees no truth even where it is"
    return tested


def _leaks(steps: Steps) -> list[str]:
    """The trainings that read truth of samples that are tested."""
    tested = _tested(steps)
    for training in trainings(steps):
        for shards in names(steps[training].data):
            assert "semantic@truth" not in steps[shards].columns or not steps[shards].split.pin.get("test")
    return [
        training
        for training in trainings(steps)
        if any(column.endswith("@truth") and ingest in tested for ingest, column in taught(steps, training))
    ]


@pytest.mark.parametrize("path", RECIPES, ids=lambda p: p.stem)
def test_a_recipe_is_right_and_no_truth_of_its_test_teaches(path: Path) -> None:
    loaded = recipe.load(path)
    check(loaded)
    assert not _leaks(loaded.recipe.steps)


@pytest.mark.parametrize("path", RECIPES, ids=lambda p: p.stem)
def test_truth_that_comes_through_an_expert_is_seen(path: Path, tmp_path: Path) -> None:
    """Whether it stands in the recipe or in the one that it builds on."""
    for other in FOLDER.glob("*.yaml"):
        text = other.read_text(encoding="utf-8")
        (tmp_path / other.name).write_text(
            text.replace("{type: hsv, in: rgb@camera,", "{type: hsv, in: semantic@truth,")
        )
    steps = recipe.load(tmp_path / path.name).recipe.steps
    project.enter()
    reads = {ingest for training in trainings(steps) for ingest, _ in taught(steps, training)}
    assert reads and (path.stem in APART) == reads.isdisjoint(_tested(steps))
    assert bool(_leaks(steps)) == (path.stem not in APART)


@pytest.mark.parametrize(
    ("there", "put"),
    [
        ("semantic@pascal, semantic@few]", "semantic@pascal, semantic@truth]"),  # weighed by the consensus
        (':Depth", in: disparity@tcmono,', ':Depth", in: semantic@truth,'),  # through an expert that reads an expert
    ],
)
def test_truth_that_takes_a_longer_way_is_seen(there: str, put: str) -> None:
    text = next(p for p in RECIPES if p.stem == "001-phg-mae-streets").read_text(encoding="utf-8")
    assert text.count(there) == 1 and "teacher-0001TP" in _leaks(recipe.parse(text.replace(there, put)).recipe.steps)


def test_each_drive_is_tested_once_and_its_labelled_frames_teach_nobody() -> None:
    steps = recipe.load(next(p for p in RECIPES if p.stem == "001-phg-mae-streets")).recipe.steps
    drives = {n.rpartition("-")[2] for n in trainings(steps)}
    few = steps["few_frames"].source.only
    assert {d: sum(name.startswith(d) for name in few) for d in drives} == dict.fromkeys(drives, 13)
    for training in trainings(steps):
        drive = training.rpartition("-")[2]
        shards = steps[names(steps[training].data)[0]]
        assert {d: shards.split.of(d) for d in drives} == {d: "test" if d == drive else "train" for d in drives}
    judged = read(steps, "experts", {"semantic@experts"})
    assert not {column for _, column in judged if column in ("semantic@few", "semantic@truth")}
