"""The students of PHG-MAE's streets: no label of a drive that is tested reaches a training of it."""

from __future__ import annotations

from pathlib import Path

import hyperloom.stages  # noqa: F401  registers the plug-ins
from hyperloom.pipeline.recipes import recipe as recipes
from tests import leaks

STUDENT = Path(__file__).parents[2] / "recipes/papers/phg_mae/student.yaml"


def test_the_students_asked_again_learn_from_no_label_of_their_test_drive() -> None:
    steps = recipes.load(STUDENT).recipe.steps
    labels = steps["frames"].source.columns
    trainings = leaks.trainings(steps)
    drives = {name.rpartition("-")[2] for name in trainings}
    assert len(trainings) == 24 and len(drives) == 3
    for name in trainings:
        drive = name.rpartition("-")[2]
        shown = {column for _, column in leaks.taught(steps, name) if column.startswith("semantic@")}
        assert shown == {f"semantic@few_{drive}"}
        assert not [frame for frame in labels[f"semantic@few_{drive}"].only if frame.startswith(drive)]
        assert steps[steps[name].data].split.of(f"{drive}late") == "test"
        assert (steps[steps[name].data].split.of(f"{drive}early") == "test") == name.startswith("known_apart")
