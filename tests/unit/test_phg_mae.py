"""The study of PHG-MAE: its recipe holds for every test drive, no truth of that drive reaches a training, and its rule
for verdicts can say each of its three words."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import hyperloom.stages  # noqa: F401  registers the plug-ins
from benchmarks import phg_mae
from hyperloom.pipeline import recipe as recipes
from recipes.papers.phg_mae import figures
from tests import leaks

DRIVES = {"0001TP": 124, "0006R0": 101, "0016E5": 204, "Seq05VD": 171}
FRAMES = [phg_mae.Frame(f"{d}_{i:05d}", d, False) for d, count in DRIVES.items() for i in range(count)]
CLIP = [phg_mae.Frame(f"0016E5_9{i:04d}", "0016E5", True) for i in range(101)]


def variant(test: str, drives: list[str]) -> Any:
    frames = [f for f in [*FRAMES, *CLIP] if f.drive in drives]
    value = phg_mae.variant(Path("/data"), frames, test, 2, "/root", 90)
    return recipes.parse(json.dumps(value), "variant.yaml").recipe


def read_by(recipe: Any, shard: str) -> set[str]:
    """The raw columns from which those of a shard step come."""
    return {column for _, column in leaks.read(recipe.steps, shard, set(recipe.steps[shard].columns))}


@pytest.mark.parametrize("drives", [list(DRIVES)[:3], list(DRIVES)])
@pytest.mark.parametrize("test", DRIVES)
def test_no_truth_of_the_test_drive_reaches_a_training(test: str, drives: list[str]) -> None:
    if test not in drives:
        pytest.skip("this drive is not among the three")
    recipe = variant(test, drives)
    assert set(leaks.trainings(recipe.steps)) == set(phg_mae.TRAINED)
    for step in map(recipe.steps.__getitem__, phg_mae.TRAINED):
        shard = recipe.steps[step.data]
        assert "semantic@truth" not in read_by(recipe, step.data)
        assert "semantic@few" in read_by(recipe, step.data) and shard.columns
        frames = recipe.steps[shard.data[0]].source
        shown = frames.columns["semantic@few"].only
        assert len(shown) == phg_mae.LABELLED and not any(name.startswith(test) for name in shown)
        assert set(frames.only) == set(shown) if step.data == "few_lessons" else shard.split.of(test) == "test"
        assert all(shard.split.of(d) == "train" for d in drives if d != test)
    assert "semantic@truth" in read_by(recipe, "exam"), "the walk over makers sees no truth even where it is"
    assert recipe.steps["choice"].truth == {"semantic": "semantic@few"} and recipe.steps["choice"].split == "train"


def test_labelled_frames_are_spread_over_the_training_drives() -> None:
    names = phg_mae.few([*FRAMES, *CLIP], "0001TP")
    assert len(set(names)) == 25 and not set(names) & {f.name for f in CLIP}
    assert {d: sum(n.startswith(d) for n in names) for d in DRIVES} == {
        "0001TP": 0, "0006R0": 9, "0016E5": 8, "Seq05VD": 8
    }  # fmt: skip


def test_seeds_and_updates_reach_all_trainings() -> None:
    recipe = variant("0016E5", list(DRIVES)[:3])
    steps = [recipe.steps[name] for name in phg_mae.TRAINED]
    assert {s.seed for s in steps} == {2}
    assert {s.updates for s in steps[:-1]} == {90} and steps[-1].updates > 90


def test_the_recipe_as_it_stands_is_the_variant_of_its_test_drive() -> None:
    recipe = recipes.load(phg_mae.RECIPE).recipe
    (test,) = recipe.steps["lessons"].split.pin["test"]
    shown = recipe.steps["frames"].source.columns["semantic@few"].only
    assert len(shown) == 25 and not any(name.startswith(test) for name in shown)


def outcome(right: float, seed: int, drives: int = 3) -> dict[str, np.ndarray]:
    """(3 seeds, 6 blocks, 3 classes, 4): about `right` of the pixels told right, with noise by drive, seed, block."""
    generator = np.random.default_rng(seed)
    found = {}
    for drive in range(drives):
        share = np.clip(right + generator.normal(0, 0.02, (3, 6, 1, 1)), 0, 1)
        matrix = np.eye(3, 4) * share + (1 - np.eye(3, 4)) * (1 - share) / 3
        found[f"drive{drive}"] = np.rint(1000 * matrix)
    return found


def test_the_rule_says_each_of_its_words() -> None:
    good, bad, like = outcome(0.8, 1), outcome(0.6, 2), outcome(0.8, 3)
    assert figures.compared(good, bad)["verdict"] == "holds"
    assert figures.compared(bad, good)["verdict"] == "reversed"
    assert figures.compared(good, like)["verdict"] == "not shown"
    assert figures.compared(bad, good, np.divide, 0.9)["verdict"] == "reversed"
    assert figures.compared(like, good, np.divide, 0.9)["verdict"] == "holds"


def test_drives_that_contradict_each_other_show_nothing() -> None:
    good, bad = outcome(0.8, 1), outcome(0.6, 2)
    mixed = {**bad, "drive0": good["drive0"] + 0}
    assert figures.compared(mixed, {**good, "drive0": bad["drive0"]})["verdict"] == "not shown"


def test_mean_iou_counts_the_classes_that_the_truth_has() -> None:
    matrix = np.array([[8, 2, 0, 0], [1, 6, 0, 3], [0, 0, 0, 0]])
    assert figures.miou(matrix) == pytest.approx((8 / 11 + 6 / 12) / 2)


def test_agreement_follows_the_flow() -> None:
    maps = np.zeros((2, 4, 6), np.uint8)
    maps[0, :, 2], maps[1, :, 3] = 1, 1  # a pole moves one pixel to the right
    flow = np.zeros((2, 4, 6, 2), np.float32)
    still = figures.agreement(maps, flow)
    flow[1, ..., 0] = -1  # each pixel was one to the left
    assert figures.agreement(maps, flow) == pytest.approx([1.0]) and still == pytest.approx([4 / 6])


def test_the_students_asked_again_learn_from_no_label_of_their_test_drive() -> None:
    steps = recipes.load(phg_mae.CHECKOUT / "recipes/papers/phg_mae/student.yaml").recipe.steps
    labels = steps["frames"].source.columns
    trainings = leaks.trainings(steps)
    drives = {name.rpartition("-")[2] for name in trainings}
    assert len(trainings) == 15 and len(drives) == 3
    for name in trainings:
        drive = name.rpartition("-")[2]
        shown = {column for _, column in leaks.taught(steps, name) if column.startswith("semantic@")}
        assert shown == {f"semantic@few_{drive}"}
        assert not [frame for frame in labels[f"semantic@few_{drive}"].only if frame.startswith(drive)]
        assert steps[steps[name].data].split.of(f"{drive}late") == "test"
