"""What is expected of the training split: what fails, with its line and samples, and what that changes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from hyperloom.pipeline import expecting
from hyperloom.pipeline.commits.manifest import Manifest
from hyperloom.pipeline.errors import RecipeError, StepFailed
from hyperloom.pipeline.fingerprint import payload
from hyperloom.pipeline.planning.plan import check
from hyperloom.pipeline.recipes import recipe
from hyperloom.pipeline.root.events import Events, read
from hyperloom.pipeline.root.storage import Storage
from hyperloom.stages.consensus.stage import ConsensusStage
from hyperloom.stages.evaluate.stage import Evaluate
from hyperloom.stages.expect.evidence import Evidence, _agreed, look, stated
from hyperloom.stages.expect.expectation import parsed
from hyperloom.stages.expect.unmet import unmet
from hyperloom.stages.ingest.stage import Ingest
from hyperloom.stages.shard.stage import Shard
from hyperloom.stages.shard.statistics import class_shares
from tests.unit import inline

SIZE = (2, 4)
KNOWN: dict[str, Any] = inline.modalities(
    rgb={"type": "image", "size": list(SIZE)},
    semantic={"type": "segmentation", "classes": ["land", "road", "sea"]},
    depth={"type": "dense", "unit": "m", "storage": "float32"},
)


def _stage(expect: Any) -> Shard:
    split = {"pin": {"test": ["g3"]}}
    return Shard.model_validate({"stage": "shard", "data": "frames", "split": split, "expect": expect})


@pytest.fixture
def run(tmp_path: Path) -> Any:
    """Twelve samples that teach: depth 1 to 12 m, every fourth has none, no sea, a quarter of road."""
    storage = Storage(str(tmp_path))
    samples = [
        {
            "rgb@camera": np.full((*SIZE, 3), i, np.uint8),
            "semantic@truth": np.array([[0, 0, 0, 1]] * 2, np.uint8),
            "depth@laser": None if i % 4 == 3 else np.full((*SIZE, 1), i + 1, np.float32),
        }
        for i in range(16)
    ]
    frames = inline.ingested(storage, KNOWN, {f"g{g}": samples[4 * g : 4 * g + 4] for g in range(4)})

    def step(expect: Any) -> Any:
        one = inline.step(_stage(expect), storage, KNOWN, "shards", frames=frames)
        one.events = Events(storage, "run", "driver")
        return one

    return step


@pytest.mark.parametrize(
    ("expect", "words"),
    [
        ({"depth@laser": {"missing": 0.25, "mean": [5, 7], "range": [0, 11]}}, ""),
        ({"semantic@truth": {"classes": ["road"], "share": {"road": [0.2, None]}}, "samples": {"train": 12}}, ""),
        ({"depth@laser": {"missing": 0.2}},
         "expect: depth@laser: missing: 0.2: 0.25 of the samples have none (g0/003, g1/003, g2/003). Next: mend"),
        ({"depth@laser": {"mean": [None, 5]}}, "mean: [null, 5]: it is 6 (g2/002, g2/001, g2/000)"),
        ({"depth@laser": {"range": [3, 10]}}, "range: [3, 10]: they go from 1 to 11 (g0/000, g0/001, g2/002)"),
        ({"semantic@truth": {"classes": ["sea"]}}, "classes: sea: it does not occur (g0/000, g0/001, g0/002). Next"),
        ({"semantic@truth": {"share": {"road": [0.3, 1]}}}, "share: road: [0.3, 1]: it is 0.25 (g0/000, g0/"),
        ({"samples": {"train": 13}}, "expect: samples: train: 13: there are 12"),
        ({"groups": {"test": 2}}, "expect: groups: test: 2: there are 1"),
        ({"each_group": [4, 4]}, ""),
        ({"each_group": [5, None]}, "expect: each_group: [5, null]: 4 of 4 groups have others, 'g0' has 4 (g0/000,"),
        ({"depth@laser": {"each_group": [3, 3]}}, ""),
        ({"depth@laser": {"each_group": [4, None]}},
         "each_group: [4, null]: 4 of 4 groups have others, 'g0' has 3 (g0/000, g1/000, g2/000)"),
    ],
)  # fmt: skip
def test_what_is_not_as_expected_stops_the_step_with_its_line_and_samples(run: Any, expect: Any, words: str) -> None:
    step = run(expect)
    if not words:
        assert inline.finish(step).body["splits"]["train"]["rows"] == 12
        return
    with pytest.raises(StepFailed) as error:
        inline.finish(step)
    assert words in str(error.value)


@pytest.fixture
def votes(tmp_path: Path) -> Any:
    """Two experts on eight pixels of each of eight samples: the second says road where the first says land in g1."""
    storage, land = Storage(str(tmp_path)), np.zeros(SIZE, np.uint8)
    other = {g: np.full(SIZE, g, np.uint8) for g in range(2)}
    samples = {f"g{g}": [{"semantic@a": land, "semantic@b": other[g]} for _ in range(4)] for g in range(2)}
    frames = inline.ingested(storage, KNOWN, samples)

    def step(expect: Any) -> Any:
        config = {"stage": "consensus", "data": "frames", "out": "semantic@votes", "expect": expect}
        config |= {"method": {"type": "vote"}, "of": ["semantic@a", "semantic@b"]}
        one = inline.step(ConsensusStage.model_validate(config), storage, KNOWN, "votes", frames=frames)
        one.compared = {"frames": frames}
        return one

    return step


@pytest.mark.parametrize(
    ("expect", "words"),
    [
        ({"semantic@votes": {"missing": 0, "classes": ["land"], "agreement": [0.5, 1], "each_group": [4, 4]},
          "samples": 8, "groups": 2}, ""),
        ({"semantic@votes": {"agreement": {"semantic@a": [1, 1]}, "drift": {"step": "frames", "most": 0.01,
          "column": "semantic@a"}}}, ""),
        ({"semantic@votes": {"agreement": [0.9, 1]}}, "agreement: semantic@b: [0.9, 1]: it is 0.5 (g0/000,"),
        ({"semantic@votes": {"agreement": {"semantic@c": [0, 1]}}}, "compared with semantic@a, semantic@b"),
        ({"semantic@votes": {"share": {"road": [0.1, 1]}}}, "share: road: [0.1, 1]: it is 0 (g0/000, g0/001, g0/002)"),
        ({"semantic@votes": {"drift": {"step": "frames", "column": "semantic@b", "most": 0.2}}},
         "drift: most 0.2: it is 0.558 from frames (js) (g0/000,"),
        ({"semantic@votes": {"drift": {"step": "frames", "column": "semantic@b", "most": 0.2, "measure": "psi"}}},
         "from frames (psi)"),
        ({"groups": 3}, "expect: groups: 3: there are 2"),
    ],
)  # fmt: skip
def test_a_step_without_statistics_is_measured(votes: Any, expect: Any, words: str) -> None:
    step = votes(expect)
    if not words:
        made = inline.finish(step)
        assert expecting.wrong(step.stage, step.storage, made) == ""
        return
    with pytest.raises(StepFailed) as error:
        inline.finish(step)
    assert words in str(error.value)


def _drifting(storage: Storage, before: dict[str, Any], now: dict[str, Any], column: str, of: Any, **more: Any) -> Any:
    """A step of samples `now` that is compared with one of `before`, whose modalities are `of`."""
    old, new = (inline.ingested(storage, m, {"g": [s] * 4}) for m, s in ((of, before), (KNOWN, now)))
    drift = {"step": "old", "most": 0.1, **more}
    config = {"stage": "ingest", "source": {"type": "files", "path": "*"}, "expect": {column: {"drift": drift}}}
    step = inline.step(Ingest.model_validate(config), storage, KNOWN, "frames")
    step.compared = {"old": old}
    return look(step, new, step.stage.expect).moved[column]


def test_a_version_whose_classes_were_others_is_not_compared_number_by_number(tmp_path: Path) -> None:
    turned = inline.modalities(
        rgb={"type": "image", "size": list(SIZE)}, semantic={"type": "segmentation", "classes": ["road", "land", "sea"]}
    )
    rgb = np.zeros((*SIZE, 3), np.uint8)
    before, now = ({"rgb@camera": rgb, "semantic@truth": np.full(SIZE, i, np.uint8)} for i in (1, 0))  # land in both
    storage = Storage(str(tmp_path))
    with pytest.raises(StepFailed, match="drift from old: semantic@truth: its classes or its unit are others"):
        _drifting(storage, before, now, "semantic@truth", turned)
    assert _drifting(storage, now, now, "semantic@truth", KNOWN) == {"js old semantic@truth": 0.0}


@pytest.mark.parametrize("measure", ["js", "psi", "ks", "shift"])
def test_nothing_has_no_distance(tmp_path: Path, measure: str) -> None:
    rgb, storage = np.zeros((*SIZE, 3), np.uint8), Storage(str(tmp_path))
    there, nothing = ({"rgb@camera": rgb, "depth@laser": d} for d in (np.ones((*SIZE, 1), np.float32), None))
    for before, now in ((there, nothing), (nothing, there)):
        moved = _drifting(storage, before, now, "depth@laser", KNOWN, measure=measure)
        assert moved == {f"{measure} old depth@laser": 0.0}


@pytest.mark.parametrize("measure", ["js", "psi", "ks"])
@pytest.mark.parametrize("of", ["samples", "shards"])
@pytest.mark.parametrize("unit", [1, 1e-10])
def test_numbers_without_a_range_are_seen_to_move_within_a_power_of_four(
    tmp_path: Path, measure: str, of: str, unit: float
) -> None:
    random, storage = np.random.default_rng(0), Storage(str(tmp_path))
    known = inline.modalities(heat={"type": "scalar"})

    def step(mean: float, deviation: float) -> Manifest:
        numbers = (unit * random.normal(mean, deviation, (4, 60, 1))).astype(np.float32)
        frames = inline.ingested(storage, known, {f"g{i}": [{"heat@log": n} for n in numbers[i]] for i in range(4)})
        shard = Shard.model_validate({"stage": "shard", "data": "frames"})
        return frames if of == "samples" else inline.finish(inline.step(shard, storage, known, frames=frames))

    drift = {"step": "old", "most": 0.1, "measure": measure}
    config = {"stage": "ingest", "source": {"type": "files", "path": "*"}, "expect": {"heat@log": {"drift": drift}}}
    run = inline.step(Ingest.model_validate(config), storage, known, "frames")
    run.compared = {"old": step(280, 3)}
    moved = [look(run, now, run.stage.expect).moved["heat@log"] for now in (step(400, 30), step(280, 3))]
    assert [one[f"{measure} old heat@log"] > 0.9 for one in moved] == [True, False]
    assert moved[1][f"{measure} old heat@log"] < 0.2


def test_what_nobody_has_looked_at_is_looked_at_before_the_next_step(votes: Any) -> None:
    made = inline.finish(votes({}))
    step = votes({"semantic@votes": {"missing": 0}})
    assert expecting.wrong(step.stage, step.storage, made) == "expect: semantic@votes: not looked at yet"
    assert inline.finish(step).records == made.records, "what was counted is in no manifest"
    assert expecting.wrong(step.stage, step.storage, made) == ""
    counts = votes({"samples": 9})  # the manifest says it
    assert expecting.wrong(counts.stage, step.storage, made) == "expect: samples: 9: there are 8"


def test_a_step_that_is_only_compared_with_comes_first_and_is_no_input() -> None:
    loaded = recipe.parse(RECIPE.format(expect="{}") + COMPARED, "r.yaml")
    assert loaded.recipe.reads("old") == ["shards", "frames"]
    manifests: Any = {"frames": 1, "shards": 2}
    assert expecting.apart(loaded.recipe.steps["old"], manifests) == ({"frames": 1}, {"shards": 2})
    assert list(check(loaded).steps) == ["frames", "shards", "old"]


def test_figures_of_a_report_are_expected_too(tmp_path: Path) -> None:
    stage = Evaluate.model_validate(
        {"stage": "evaluate", "data": "shards", "models": "student", "expect": {"figures": {"student": FIGURES}}}
    )
    lineage = {"shards": "x", "columns": {}}
    figures = {"student": {"semantic.miou": 0.3, "semantic.f1": 0.5}}
    body = {"split": "test", "lineage": lineage, "figures": figures, "noun": "report"}
    inputs = {n: Manifest(s, str(i) * 64, {}, (), (), {}) for i, (n, s) in enumerate(READ.items())}
    step = inline.step(stage, Storage(str(tmp_path)), KNOWN, "report", **inputs)
    with pytest.raises(StepFailed) as error:
        expecting.accept(step, Manifest("evaluate", step.fingerprint, {}, (), (), body))
    line = "figures: student/semantic.miou: [0.4, null]: it is 0.3; expect: figures: student/semantic.iou: "
    assert line in str(error.value)
    assert "there is no such figure; known: semantic.f1, semantic.miou" in str(error.value)


def test_what_was_never_compared_and_what_nobody_knows_is_not_as_expected() -> None:
    column, equal = "semantic@votes", [[1, None, 0.95], [None, 1, None], [0.95, None, 1]]
    matrix = {"columns": ["semantic@a", "semantic@b", column], "equal": equal}
    figures = {"rows": 9, "missing": 0.0, "classes": {"road": 0}, "unknown": 400}
    seen = Evidence(columns={column: figures}, agreement={column: _agreed(matrix)})

    def failing(expect: Any, evidence: Evidence) -> list[str]:
        return [f"{u.line}: {u.seen}" for u in unmet(parsed({column: expect}), evidence)]

    (one,) = failing({"agreement": [0.6, None]}, seen)
    assert "semantic@b" in one and "no sample has both" in one
    (none,) = failing({"agreement": [0.6, None]}, Evidence(columns={column: figures}, agreement={column: {}}))
    assert "compared with nothing" in none
    (share,) = failing({"share": {"road": [None, 0.5]}}, seen)
    assert "nothing of it is known" in share


def test_samples_with_another_share_of_a_class_are_those_that_have_it(tmp_path: Path) -> None:
    """Of boxes and instances too, whose numbers are no ids: samples were named by their bytes, or none were."""
    size = [4, 4]
    known = inline.modalities(
        marks={"type": "multilabel", "classes": ["wet", "dark", "fast"]},
        boxes={"type": "boxes", "classes": ["car", "man"], "most": 3},
        things={"type": "instances", "classes": ["car", "man"], "most": 3, "size": size},
    )
    shown = {"x0": 0, "y0": 0, "x1": 0.5, "y1": 0.5}
    cars = [3, 0, 2, 1]

    def row(count: int) -> dict[str, Any]:
        kinds = ["car"] * count + ["man"] * (3 - count)
        masks = [{"mask": np.ones(size, bool), "class": kind} for kind in kinds]
        boxes = [{**shown, "class": kind} for kind in kinds]
        marks = ["wet", "fast"][: max(1, 2 - count)]
        values = {"marks": marks, "boxes": boxes, "things": masks}
        return {f"{name}@truth": known[name].fit(value) for name, value in values.items()}

    storage = Storage(str(tmp_path))
    frames = inline.ingested(storage, known, {"a": [row(count) for count in cars]})
    for column, name, bounds, words in (
        ("boxes@truth", "car", [0.9, 1], "share: car: [0.9, 1]: it is 0.5 (a/001, a/003, a/002)"),
        ("things@truth", "man", [None, 0.1], "share: man: [null, 0.1]: it is 0.5 (a/001, a/003, a/002)"),
        ("marks@truth", "fast", [None, 0.1], "share: fast: [null, 0.1]: it is 0.25 (a/001)"),
        ("marks@truth", "fast", [0.1, 0.2], "share: fast: [0.1, 0.2]: it is 0.25 (a/001)"),
    ):
        expect = {column: {"share": {name: bounds}}}
        stage = Shard.model_validate({"stage": "shard", "data": "frames", "expect": expect})
        step = inline.step(stage, storage, known, "shards", frames=frames)
        step.events = Events(storage, "run", "driver")
        with pytest.raises(StepFailed) as error:
            inline.finish(step)
        assert words in str(error.value)


def test_a_warning_is_said_and_stops_nothing(run: Any) -> None:
    step = run({"depth@laser": {"missing": 0.1, "warn": True}})
    made = inline.finish(step)
    step.events.flush()
    events = list(read(step.storage, "run"))
    said = "expect: depth@laser: missing: 0.1: 0.25 of the samples have none (g0/003, g1/003, g2/003)"
    assert [e["text"] for e in events if e["kind"] == "note"][1:] == [said]  # after that there is no sea
    assert {"expect.0": said} in [e["values"] for e in events if e["kind"] == "tag"]
    assert expecting.wrong(step.stage, step.storage, made) == ""


def test_expectations_are_in_no_identity_and_are_asked_of_finished_steps(run: Any) -> None:
    plain, strict = _stage({}), _stage({"depth@laser": {"mean": [8, 9]}, "samples": {"train": 5}})
    assert payload(plain, lambda name: name) == payload(strict, lambda name: name)
    step = run({})
    made = inline.finish(step)
    assert expecting.wrong(plain, step.storage, made) == ""
    assert expecting.wrong(strict, step.storage, made) == "expect: depth@laser: mean: [8, 9]: it is 6"
    assert expecting.lines(strict) == ['depth@laser: {"mean": [8.0, 9.0]}', 'samples: {"train": 5}']


@pytest.mark.parametrize(
    ("expect", "words"),
    [
        ("{depth@laser: {mean: [2, 1]}}", "the lower number first"),
        ("{depth@laser: {maen: [1, 2]}}", "maen"),
        ("{samples: {trian: 3}}", "expected the lowest number by split"),
        ("[a]", "expected columns, samples or groups"),
    ],
)
def test_what_makes_no_sense_is_refused(expect: str, words: str) -> None:
    import yaml

    with pytest.raises((ValidationError, RecipeError), match=words):
        _stage(yaml.safe_load(expect))


FIGURES = {"semantic.miou": [0.4, None], "semantic.iou": [0, 1], "semantic.f1": [0.5, 1]}
READ = {"shards": "shard", "student": "train"}
COMPARED = """\
  old: {stage: shard, data: frames, expect: {semantic@truth: {drift: {step: shards, most: 0.1}}}}
"""
RECIPE = """\
name: small
modalities:
  rgb: {{type: image, size: [8, 8]}}
  semantic: {{type: segmentation, classes: [land, road]}}
steps:
  frames: {{stage: ingest, source: {{type: files, path: "*.jpg", columns: {{semantic@truth: "{{stem}}.png"}}}}}}
  shards: {{stage: shard, data: frames, expect: {expect}}}
"""


@pytest.mark.parametrize(
    ("expect", "words"),
    [
        ("{semantic@truht: {missing: 0}}", "did you mean 'semantic@truth'"),
        ("{semantic@truth: {mising: 0}}", "unknown field 'mising'; did you mean 'missing'"),
        ("{samples: {train: true}}", "expected the lowest number by split"),
        ("{semantic@truth: {classes: [raod]}}", "expect: semantic@truth has no class 'raod'; did you mean 'road'"),
        ("{semantic@truth: {mean: [0, 1]}}", "semantic@truth has classes, no numbers"),
        ("{semantic@truth: {agreement: [0, 1]}}", "agreement is of a consensus; it is made by: raw"),
        ("{semantic@truth: {drift: {step: frames, most: 1, measure: shift}}}", "no mean that shifts"),
        ("{semantic@truth: {drift: {step: frames, most: 1, column: semantic@turth}}}", "did you mean 'semantic@truth'"),
        ("{figures: {loss: [0, 1]}}", "only models and reports"),
    ],
)
def test_plan_knows_columns_and_classes(expect: str, words: str) -> None:
    check(recipe.parse(RECIPE.format(expect="{semantic@truth: {classes: [road]}}"), "r.yaml"))
    with pytest.raises(RecipeError, match=words):
        check(recipe.parse(RECIPE.format(expect=expect), "r.yaml"))


def test_a_range_is_as_numbers_are_stored() -> None:
    def failing(low: float, high: float, *bounds: float) -> list[Any]:
        stored = {"min": [float(np.float32(low))], "max": [float(np.float32(high))], "mean": [0.3], "missing": 0.0}
        return unmet(parsed({"x@a": {"range": bounds}}), Evidence(columns={"x@a": stored}))

    assert not failing(0.7, 0.9, 0.7, 0.9) and not failing(0.1, 0.3, 0.1, 0.3)
    assert failing(0.69, 0.9, 0.7, 0.9) and failing(0.1, 0.31, 0.1, 0.3)


def test_a_share_of_several_classes_a_sample_is_of_the_samples(tmp_path: Path) -> None:
    """Nine of ten are wet and nine dark: each was half of all that is said."""
    known = inline.modalities(labels={"type": "multilabel", "classes": ["wet", "dark"]})
    marks = [None, *([[1, 0]] + [[1, 1]] * 8 + [[0, 1]])]
    rows = [{"labels@truth": None if v is None else np.array(v, np.uint8)} for v in marks]
    storage = Storage(str(tmp_path))
    frames = inline.ingested(storage, known, {"g": rows}, rows=11)
    stage = Shard.model_validate({"stage": "shard", "data": "frames"})
    made = inline.finish(inline.step(stage, storage, known, "shards", frames=frames))

    def failing(step: Any, manifest: Manifest, low: float) -> list[str]:
        expected = parsed({"labels@truth": {"share": {"wet": [low, None]}}})
        return [one.seen for one in unmet(expected, look(step, manifest, expected))]

    for manifest in (made, frames):
        step = inline.step(stage, storage, known, "shards", frames=frames)
        assert failing(step, manifest, 0.9) == [] and failing(step, manifest, 0.95) == ["it is 0.9"]
    assert class_shares(known["labels"], made.body["statistics"]["labels@truth"]) == {"wet": 0.9, "dark": 0.9}
    strange = unmet(parsed({"labels@truth": {"share": {"wet": [0.95, 1]}}}), stated(made))[0].wrong
    assert strange is not None
    shown = strange(known["labels"], np.array([[1, 0], [0, 1], [255, 1]], np.uint8), np.ones(3, bool))
    assert (shown > 0).tolist() == [False, True, False]
