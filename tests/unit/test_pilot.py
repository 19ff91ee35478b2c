"""Pilots: few samples of every split, whose units the run of the whole finds done; and what the whole will cost."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hyperloom.pipeline.commits.retry import Budget
from hyperloom.pipeline.commits.units import Unit
from hyperloom.pipeline.errors import RecipeError
from hyperloom.pipeline.output.progress import Progress
from hyperloom.pipeline.planning import estimate, forecast, spending
from hyperloom.pipeline.planning.plan import plan
from hyperloom.pipeline.recipes import recipe
from hyperloom.pipeline.recipes.budget import CostBudget
from hyperloom.pipeline.root.digests import Digests
from hyperloom.pipeline.root.storage import Storage
from hyperloom.pipeline.running import runner
from hyperloom.stages.results import Shards
from hyperloom.stages.starter.pilot import UPDATES, Pilot, pilot
from hyperloom.stages.starter.sample import chosen
from hyperloom.stages.table import read_table

cv2 = pytest.importorskip("cv2")
TEXT = """
name: mine
root: {root}
modalities:
  rgb: {{type: image, size: [16, 16]}}
  edges: {{type: dense, range: [0, 1]}}
  semantic: {{type: segmentation, classes: [a, b]}}
steps:
  frames:
    stage: ingest
    rows: 4
    group: group
    source: {{type: files, path: "{path}", columns: {{semantic@truth: "{labels}/{{key}}.png"}}}}
  labels:
    stage: label
    data: frames
    experts: [{{type: edges, in: rgb@camera, out: edges@gradient}}{more}]
  shards: {{stage: shard, data: [frames, labels], split: {{by: group, {split}}}}}
{rest}
"""
TRAINED = """
  teacher: {stage: train, data: shards, in: rgb@camera, targets: {semantic: semantic@truth}, epochs: 300, batch: 32}
  student: {stage: distill, data: shards, in: rgb@camera, targets: {edges: edges@gradient}, updates: 20, batch: 4}
  report: {stage: evaluate, data: shards, models: [student], truth: {semantic: semantic@truth}}
  release: {stage: release, model: student, report: report, name: mine}
"""
FLOW = ", {type: flow, in: rgb@camera, out: flow@dis}"


class World:
    """Five folders of twelve pictures; two pictures of each of two folders have a label."""

    def __init__(self, folder: Path):
        self.folder, self.storage = folder, Storage(str(folder / "root"))
        random = np.random.default_rng(0)
        for group in "abcde":
            for number in range(12):
                self._write("in", f"{group}/{number:02}.png", random.integers(0, 255, (16, 16, 3), np.uint8))
        for name in ("b/07", "b/10", "d/03", "d/09"):
            self._write("labels", f"{name}.png", random.integers(0, 2, (16, 16), np.uint8))

    def _write(self, kind: str, name: str, pixels: np.ndarray) -> None:
        path = self.folder / kind / name
        path.parent.mkdir(parents=True, exist_ok=True)
        assert cv2.imwrite(str(path), pixels)

    def load(self, rest: str = "", split: str = "pin: {test: [d], val: [e]}", more: str = "") -> recipe.RecipeFile:
        places = {"root": self.storage, "path": self.folder / "in", "labels": self.folder / "labels"}
        text = TEXT.format(rest=rest, split=split, more=more, **places)
        return recipe.parse(text.replace("edges: {type: dense, range: [0, 1]}", FLOWING) if more else text, "mine.yaml")

    def plan(self, loaded: recipe.RecipeFile) -> list[Any]:
        return plan(loaded, self.storage, Digests(self.storage))

    def pilot(self, loaded: recipe.RecipeFile, samples: int) -> Pilot:
        return pilot(loaded, self.plan(loaded), self.storage, samples)

    def run(self, loaded: recipe.RecipeFile) -> runner.RunResult:
        return runner.run(loaded, progress=Progress(quiet=True), track=False, budget=Budget(task=1))


FLOWING = "edges: {type: dense, range: [0, 1]}\n  flow: {type: dense, channels: 2, unit: px}"


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def test_the_whole_finds_the_units_of_its_pilot(world: World) -> None:
    loaded = world.load()
    one = world.pilot(loaded, 20)
    assert (one.taken, one.total) == (20, 60) and one.loaded.recipe.name == "mine-pilot"
    assert world.run(one.loaded).ok
    units = {
        s: forecast.forecast(world.storage, world.plan(loaded), loaded.recipe.modalities)[s]
        for s in ("frames", "labels")
    }
    assert {s: [(u.run, u.reuse) for u in shares or ()] for s, shares in units.items()} == {
        "frames": [(10, 5)], "labels": [(10, 5)],
    }  # fmt: skip
    before = {p: world.storage.read(p) for p in world.storage.walk("") if "/data/" in p and "shard" not in p}
    assert world.run(loaded).states == {"frames": "done", "labels": "done", "shards": "done"}, (
        "nothing passes for the whole"
    )
    assert before and all(world.storage.read(p) == data for p, data in before.items())
    fresh = World.load(world)
    assert [s.state for s in world.plan(fresh)] == ["fresh"] * 3


def test_every_split_and_the_labels_are_in_a_pilot(world: World) -> None:
    """Of five groups one tests and one validates; few samples still have all of them, and labelled ones first."""
    one = world.pilot(world.load(), 12)
    split = one.loaded.recipe.steps["shards"].split
    assert split.pin["test"] == ("d",) and split.pin["val"] == ("e",) and split.pin["train"]
    assert world.run(one.loaded).ok
    (frames,) = [s for s in world.plan(one.loaded) if s.name == "frames"]
    assert frames.manifest is not None and frames.manifest.rows == 12
    missing = [r.meta.get("look", {}).get("semantic@truth", {}).get("samples", 0) for r in frames.manifest.records]
    assert sum(missing) >= 2, "partitions with labels are taken"


def test_a_group_of_torn_pictures_ends_neither_pilot_nor_whole(world: World) -> None:
    """A pilot pins every group by name, and a recipe may pin one: whether it can be read nobody knows before."""
    for group in ("f", "g"):
        world._write("in", f"{group}/00.png", np.zeros((16, 16, 3), np.uint8))
        path = world.folder / "in" / group / "00.png"
        path.write_bytes(path.read_bytes()[:40])
    loaded = world.load(split="pin: {test: [d, f], val: [e]}")
    one = world.pilot(loaded, 70).loaded
    assert {"f", "g"} < {g for groups in one.recipe.steps["shards"].split.pin.values() for g in groups}
    for each in (one, loaded):
        assert world.run(each).ok and world.run(each).states["shards"] == "fresh"
    (shards,) = [s for s in world.plan(loaded) if s.name == "shards"]
    assert shards.manifest is not None and shards.manifest.body["splits"]["test"]["groups"] == ["d"]
    assert "split.pin: nothing of f could be read, so no split has it" in shards.manifest.body["remarks"]


@pytest.mark.parametrize("split", ["test: 0.3, val: 0.2, salt: x3", "test: 0.4, salt: y0"])
def test_groups_keep_the_split_that_the_whole_gives_them(world: World, split: str) -> None:
    loaded = world.load(split=split)
    whole = loaded.recipe.steps["shards"].split.assign("abcde")
    pins = world.pilot(loaded, 24).loaded.recipe.steps["shards"].split.pin
    assert {g: s for s, groups in pins.items() for g in groups}.items() <= whole.items()
    assert set(pins) == set(whole.values())


def test_neighbours_are_taken_together(world: World) -> None:
    """Flow reads the frame before: partitions from a group's start, whose units the whole finds done."""
    loaded = world.load(more=FLOW)
    assert world.run(world.pilot(loaded, 40).loaded).ok
    shares = forecast.forecast(world.storage, world.plan(loaded), loaded.recipe.modalities)["labels"]
    assert [(s.run, s.reuse) for s in shares or ()] == [(5, 10), (5, 10)]


def test_trainings_are_cut_and_no_release_comes_of_it(world: World) -> None:
    one = world.pilot(world.load(TRAINED), 20)
    steps = one.loaded.recipe.steps
    assert one.left_out == ["release"] and "release" not in steps
    assert steps["teacher"].updates == UPDATES and steps["teacher"].epochs is None
    assert steps["teacher"].batch <= 12 and steps["student"].updates == 20, "a short one is left as it is"
    names = {s.name: s.fingerprint for s in world.plan(one.loaded)}
    whole = {s.name: s.fingerprint for s in world.plan(world.load(TRAINED))}
    assert not set(names.values()) & set(whole.values()), "no step of a pilot passes for one of the whole"


@pytest.mark.parametrize("length", ["minutes: 90", ""])
def test_open_ended_trainings_are_cut_too(world: World, length: str) -> None:
    """By time they cost what they say; where only the run tells, that is said."""
    rest = "  teacher: {stage: train, data: shards, in: rgb@camera, targets: {edges: edges@gradient}, batch: 4, %s}"
    loaded = world.load(rest % length)
    assert world.pilot(loaded, 20).loaded.recipe.steps["teacher"].updates == UPDATES
    steps = [s for s in world.plan(loaded) if s.name == "teacher"]
    cost = estimate.estimate(world.storage, loaded.recipe, steps, {"teacher": None})
    assert (cost.hours, cost.unknown) == ((1.5, []) if length else (0, ["teacher"]))


def test_a_pilot_of_more_than_all_is_all(world: World) -> None:
    one = world.pilot(world.load(), 1000)
    assert one.taken == one.total == 60
    with pytest.raises(RecipeError, match="from 1"):
        world.pilot(world.load(), 0)


def test_the_estimate_scales_what_was_measured(world: World) -> None:
    loaded = world.load()
    assert estimate.estimate(world.storage, loaded.recipe, world.plan(loaded), {}).unknown
    assert world.run(world.pilot(loaded, 20).loaded).ok
    costs = spending.load(world.storage, "mine-pilot")
    for rate in costs.spaces.values():
        rate.seconds, rate.gpu_seconds, rate.bytes = 360.0 * rate.units, 36.0 * rate.units, 1000 * rate.units
    costs.steps["shards"].seconds, costs.slots = 60.0, 2
    spending.Spending(costs=costs).keep(world.storage, "mine-pilot")
    steps = world.plan(loaded)
    cost = estimate.estimate(
        world.storage, loaded.recipe, steps, forecast.forecast(world.storage, steps, loaded.recipe.modalities)
    )
    assert cost.hours == pytest.approx(20 * 0.1 / 2 + 3 * 60 / 3600)
    assert cost.gpu_hours == pytest.approx(0.2) and cost.unknown == []
    assert "1.1" in cost.sentence() or "63 min" in cost.sentence()
    assert "will NOT do: hours: 1.05 of 1" in cost.of(CostBudget(hours=1))
    assert "the budget will do" in cost.of(CostBudget(hours=2, gpu_hours=1))


def test_a_training_is_forecast_by_its_batch_and_its_own_gpus(world: World) -> None:
    """A pilot of 20 samples has a batch of 8 where the whole has 32: its updates are that much shorter. Of a training
    by time the GPUs count as of any other."""
    rest = "  teacher: {stage: train, data: shards, in: rgb@camera, targets: {edges: edges@gradient}, batch: 32, %s}"

    def cost(length: str) -> estimate.CostEstimate:
        loaded = world.load(rest % length)
        steps = [s for s in world.plan(loaded) if s.name == "teacher"]
        rate = spending.StepRate(130.0, 10, 60.0, 20, paced=120.0, gpu_seconds=65.0, portion=8)
        spending.Spending(costs=spending.Costs(steps={"teacher": rate})).keep(world.storage, "mine-pilot")
        return estimate.estimate(world.storage, loaded.recipe, steps, {"teacher": None})

    whole = cost("updates: 600")
    assert whole.hours * 3600 == pytest.approx(10 + 120 * 10 * 4)
    assert whole.gpu_hours == pytest.approx(whole.hours / 2)
    assert cost("minutes: 90").gpu_hours == pytest.approx(0.75)


def test_epochs_are_forecast_over_the_samples_that_teach(world: World) -> None:
    """Of 60 samples 36 are in the training split: an epoch was forecast as one of all 60. Once the shards of the whole
    are there, it is as many samples as they hold."""
    train = "stage: train, data: shards, in: rgb@camera, targets: {edges: edges@gradient}"
    rest = f"  teacher: {{{train}, batch: 8, epochs: 80}}"
    loaded = world.load(rest)
    one = world.pilot(loaded, 20).loaded
    assert world.run(_without(one, "teacher")).ok
    steps = world.plan(one)
    shards = next(s.manifest for s in steps if s.name == "shards")
    rows, taken = shards.body["splits"]["train"]["rows"], next(s.manifest.rows for s in steps if s.name == "frames")
    assert 0 < rows < taken
    spent = spending.Spending()
    spent.step(next(s for s in steps if s.name == "teacher"), 130.0, steps)
    rate = spent.costs.steps["teacher"]
    assert (rate.learned, rate.samples, rate.effort) == (rows, taken, UPDATES)
    free = {n: replace(r, seconds=0.0) for n, r in spending.load(world.storage, "mine-pilot").steps.items()}
    spent.costs.steps |= {**free, "teacher": replace(rate, paced=120.0)}
    spent.keep(world.storage, "mine-pilot")

    def seconds() -> float:
        planned = [s for s in world.plan(loaded) if s.state != "fresh" or s.name != "teacher"]
        costs = estimate.estimate(world.storage, loaded.recipe, planned, {s.name: [] for s in planned[:-1]})
        return costs.hours * 3600

    share = round(rows * 60 / taken)
    assert seconds() == pytest.approx(10 + 120 * 80 * (share // 8) / UPDATES * 8 / rate.portion)
    assert world.run(_without(loaded, "teacher")).ok
    assert seconds() == pytest.approx(10 + 120 * 80 * (36 // 8) / UPDATES * 8 / rate.portion)


@pytest.mark.parametrize("range_", ["", ", range: [0, 1]", ", range: [-2, 2]"])
def test_epochs_are_forecast_over_the_samples_that_only_chooses(world: World, range_: str) -> None:
    """Of 36 in the training split it chooses every fifth, 8; an epoch was forecast as one of 36."""
    for i, path in enumerate(sorted((world.folder / "in").glob("*/*.png"))):
        number = {0: "1", 1: "0", 2: "-0.5" if "-2" in range_ else "0"}.get(i % 5, "")
        text = world.folder / "labels" / path.parent.name / f"{path.stem}.txt"
        text.parent.mkdir(parents=True, exist_ok=True)
        if number:
            text.write_text(number)
    train = "stage: train, data: shards, in: rgb@camera, targets: {edges: edges@gradient}, batch: 4"
    loaded = world.load(f"  teacher: {{{train}, epochs: 80, only: pick@truth}}\n  other: {{{train}, epochs: 80}}")
    side = f'semantic@truth: "{world.folder}/labels/{{key}}.png"'
    text = loaded.text.replace(side, f'{side}, pick@truth: "{world.folder}/labels/{{key}}.txt"')
    text = text.replace("  semantic: {", f"  pick: {{type: scalar{range_}}}\n  semantic: {{")
    loaded = recipe.parse(text, "mine.yaml")
    short = _without(_without(loaded, "teacher"), "other")
    assert world.run(short).ok
    steps = {s.name: s for s in world.plan(loaded)}
    inputs = {"shards": steps["shards"].manifest}
    table = _table(world, inputs["shards"])
    picked = sum(v is not None and v > 0 for v in table)
    assert (len(table), steps["other"].stage.learned(inputs)) == (36, 36)
    assert (picked, steps["teacher"].stage.learned(inputs)) == (8, 8)


def _table(world: World, shards: Any) -> list[Any]:
    """The values of pick@truth in the training split."""
    splits = [s.split for s in Shards.from_manifest(shards).shards]
    files = [r.file.path for r, split in zip(shards.records, splits, strict=True) if split == "train"]
    return [v for path in files for v in read_table(world.storage, path)["pick@truth"].to_pylist()]


def _without(loaded: recipe.RecipeFile, name: str) -> recipe.RecipeFile:
    steps = {n: s for n, s in loaded.recipe.steps.items() if n != name}
    return replace(loaded, recipe=loaded.recipe.model_copy(update={"steps": steps}))


def test_units_are_forecast_sample_for_sample(world: World) -> None:
    """A pilot's units are often the short ends of groups: two units of ten samples said nothing of units of fifty."""
    loaded = world.load()
    steps = world.plan(loaded)
    shares = forecast.forecast(world.storage, steps, loaded.recipe.modalities)
    assert {share.rows for name in ("frames", "labels") for share in shares[name] or ()} == {60}, "all that is to do"
    labels = [s for s in steps if s.name == "labels"]
    rate = spending.UnitRate(units=2, rows=20, seconds=40.0, bytes=2000, gpu_seconds=10.0)
    spending.Spending(costs=spending.Costs(spaces={"expert/a": rate})).keep(world.storage, "mine-pilot")
    share = forecast.Share("edges", "expert/a", run=10, reuse=2, rows=500)
    cost = estimate.estimate(world.storage, loaded.recipe, labels, {"labels": [share]})
    assert (cost.hours * 3600, cost.gpu_hours * 3600, cost.bytes) == (pytest.approx(1000), pytest.approx(250), 50_000)


def test_units_wait_for_the_gpus_that_there_are(world: World) -> None:
    """Of sixteen slots two have half of the only GPU each: what needs it takes as long as that."""
    loaded = world.load()
    labels = [s for s in world.plan(loaded) if s.name == "labels"]
    rate = spending.UnitRate(units=10, seconds=3600.0, gpu_seconds=1800.0)
    kept = spending.Costs({"expert/a": rate}, slots=16, gpus=1.0)
    spending.Spending(costs=kept).keep(world.storage, "mine-pilot")
    cost = estimate.estimate(
        world.storage, loaded.recipe, labels, {"labels": [forecast.Share("edges", "expert/a", run=100, reuse=0)]}
    )
    assert cost.hours == pytest.approx(5) and cost.gpu_hours == pytest.approx(5)


def test_a_forecast_is_written_as_it_is() -> None:
    """`2.5e+02 GPU hours`, `1e+03 kB`, `1e+04 of 10000` and `8 of 8` said less than was known, or the contrary."""
    cost = estimate.CostEstimate(hours=8.004, gpu_hours=253.0, bytes=999_600, calls=10_001)
    assert cost.sentence() == "about 8.0 hours, 253 GPU hours, 1 MB, at most 10,001 paid calls"
    assert "hours: 8.004 of 8, gpu_hours: 253 of 100, calls: 10,001 of 10,000" in cost.fits(
        CostBudget(hours=8, gpu_hours=100, calls=10_000)
    )
    assert "12,300 TB" in estimate.CostEstimate(hours=1, bytes=12_300 * 10**12).sentence()


def test_a_group_of_one_sample_is_not_all_that_is_learned_from() -> None:
    """As a torn file among sounds of four speakers, each one partition: nothing was left to train on."""
    sizes = {"ann": 24, "bob": 24, "kaputt": 1, "cy": 24, "lucas": 24}
    units = [
        Unit("ingest/x", name, "ingest", {"group": name, "items": [{"sides": []}] * count})
        for name, count in sizes.items()
    ]
    strata = {name: "test" if name == "lucas" else "train" for name in sizes}
    taken = [unit.id for unit in chosen(units, strata, 16, False)]
    assert "lucas" in taken and {"ann", "bob", "cy"} & set(taken) and len(taken) <= 3
    assert {unit.id for unit in chosen(units, strata, 10_000, False)} == set(sizes)
