"""`hyperloom curve`: the sizes are the trainings that one would have written, and the picture shows their figures."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, cast

import pytest

from hyperloom.pipeline import cli
from hyperloom.pipeline.commands import opening
from hyperloom.pipeline.errors import RecipeError
from hyperloom.pipeline.planning.plan import plan
from hyperloom.pipeline.recipes import recipe
from hyperloom.pipeline.root.digests import Digests
from hyperloom.pipeline.root.events import Events, read
from hyperloom.pipeline.root.storage import Storage
from hyperloom.stages.evaluate.tradeoff import Point, Tradeoff, resized, rivals_of
from hyperloom.stages.results import Judged, Lineage

RECIPE = """\
name: sizes
root: {root}
modalities:
  rgb: {{type: image, size: [24, 32]}}
  semantic: {{type: segmentation, classes: [land, forest, road, water, building]}}
  depth: {{type: dense, unit: m, range: [0, 1000]}}
  normals: {{type: dense, channels: 3, direction: true}}
  flow: {{type: dense, channels: 2, unit: px}}
  pose: {{type: vector, length: 20}}
steps:
  frames: {{stage: ingest, source: {{type: flights, flights: 3, frames: 2, seed: 1}}, group: flight}}
  shards: {{stage: shard, data: frames, split: {{by: flight, pin: {{test: [flight_02]}}}}}}
  student:
    stage: distill
    data: shards
    in: rgb@camera
    targets: {{semantic: semantic@truth, depth: depth@truth}}
    model: {{trunk: unet, parameters: 20k}}
    updates: 2
    batch: 2
    seeds: 2
  elder: {{like: student, seeds: null, updates: 1}}
  report:
    {{stage: evaluate, data: shards, models: {{small: student, elder: elder}}, truth: {{semantic: semantic@truth}}}}
  release: {{stage: release, model: student, report: report, name: sizes}}
"""


def test_a_curve_is_trained_drawn_and_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    monkeypatch.setattr(opening, "connect", lambda loaded: None)  # in this process, without Ray
    path = tmp_path / "sizes.yaml"
    path.write_text(RECIPE.format(root=tmp_path / "runs"))
    command = ["curve", str(path), "student", "--parameters", "4k,20k", "--no-mlflow"]
    assert cli.main(command) == 0
    shown = capsys.readouterr().out
    (picture,) = (tmp_path / "runs/curves").glob("*/curve.png")
    rows = {r["who"]: r for r in json.loads(picture.with_suffix(".json").read_bytes())["rows"]}
    assert picture.read_bytes().startswith(b"\x89PNG") and str(picture) in shown
    assert list(rows) == ["student-4k", "student-20k", "elder"], "of families the mean, not their members"
    assert all(r["seeds"] == 2 and r["low"] < r["semantic.miou"] < r["high"] for r in list(rows.values())[:2])
    events = [
        e for run in Storage(str(tmp_path / "runs")).names("events") for e in read(Storage(str(tmp_path / "runs")), run)
    ]
    took = [e["cpu_seconds"] for e in events if e["kind"] == "trained" and e["step"] == "student-4k"]
    assert len(took) == 2 and rows["student-4k"]["minutes"] == round(sum(took) / 120, 1), "of one training"
    assert rows["student-4k"]["parameters"] < rows["student-20k"]["parameters"]
    assert all(r["milliseconds"] > 0 and r["minutes"] >= 0 for r in list(rows.values())[:2])
    assert {r["timed in"] for r in list(rows.values())[:2]} == {"ONNX Runtime, one CPU thread"}
    assert cli.main([*command, "--figure", "semantic.nothing"]) == 2
    assert "the report 'student-curve' has no figure 'semantic.nothing' of student-" in capsys.readouterr().err

    storage = Storage(str(tmp_path / "runs"))
    with Events(storage, "99999999-000000-ffffff", "cost-student-4k") as elsewhere:  # a model of that name elsewhere
        names = [f"latency ms/student-4k {member}/onnx" for member in ("seed0", "seed1")]
        elsewhere.metric("report", dict.fromkeys(names, 1e-6), space="evaluate/other-cost")
    assert cli.main(command) == 0
    again = {r["who"]: r for r in json.loads(picture.with_suffix(".json").read_bytes())["rows"]}
    assert again["student-4k"]["milliseconds"] == rows["student-4k"]["milliseconds"] > 0
    # the size that the recipe has is the recipe's own step
    planned = {s.name: s.state for s in plan(recipe.load(path), storage, Digests(storage))}
    assert (planned["student"], planned["report"]) == ("fresh", "missing")


def test_a_student_is_held_against_experts_consensus_and_its_teacher() -> None:
    members = {"teacher seed0": "seed0", "teacher seed1": "seed1"}
    judged = Judged(
        split="test",
        lineage=Lineage("s"),
        figures={
            who: {"semantic.miou": v}
            for who, v in {"deeplab": 0.5, "consensus": 0.6, "blind": 0.1, "s-4k": 0.3}.items()
        }
        | {
            "teacher seed0": {"semantic.miou": 0.7},
            "teacher seed1": {"semantic.miou": 0.8},
            "metres": {"depth.mae": 1.0},
        },
        models={"teacher seed0": "t", "teacher seed1": "t", "blind": "b", "s-4k": "s"},
        members=members,
    )
    held = rivals_of(judged, "semantic.miou", {"s-4k"}, "t")
    assert held == {"deeplab": 0.5, "consensus": 0.6, "teacher": pytest.approx(0.75)}
    assert set(rivals_of(judged, "semantic.miou", {"s-4k"}, "")) == {"deeplab", "consensus", "teacher", "blind"}


def test_what_has_no_sizes_is_refused(tmp_path: Path) -> None:
    loaded = recipe.parse(RECIPE.format(root=tmp_path))
    with pytest.raises(RecipeError, match="'shards' is no training of this recipe; its trainings: student"):
        resized(loaded, "shards", ["4k"])
    with pytest.raises(RecipeError, match="'tiny' is no number of parameters, such as 80k"):
        resized(loaded, "student", ["tiny"])
    alone = recipe.parse(RECIPE.format(root=tmp_path).replace("small: student, ", ""))
    with pytest.raises(RecipeError, match="no report judges 'student'. Next: add one"):
        resized(alone, "student", ["4k"])


@pytest.mark.parametrize(
    "model", ["{trunk: {type: unet, width: 6}}", "{trunk: unet, latency_ms: 3}", "20k", "{trunk: {type: espnet}}"]
)
def test_sizes_take_the_place_of_what_else_says_how_large_it_is(model: str, tmp_path: Path) -> None:
    loaded = recipe.parse(RECIPE.format(root=tmp_path).replace("{trunk: unet, parameters: 20k}", model))
    steps = resized(loaded, "student", ["40k", "80k"])[0].recipe.steps
    models = [cast(Any, steps[f"student-{size}"]).model for size in ("40k", "80k")]
    assert [m.parameters for m in models] == [40_000, 80_000]
    assert all(m.trunk.width is None and m.latency_ms is None for m in models)


def test_a_trunk_that_needs_a_time_says_so(tmp_path: Path) -> None:
    text = RECIPE.format(root=tmp_path)
    timed = "{trunk: {type: inverted, fused: auto}, latency_ms: 3}"
    with pytest.raises(RecipeError, match="fused: auto is chosen by latency_ms, a number by you"):
        resized(recipe.parse(text.replace("{trunk: unet, parameters: 20k}", timed)), "student", ["40k"])


@pytest.mark.parametrize(("higher", "sign"), [(True, 1), (False, -1)])
def test_the_sentence_names_the_smallest_size_that_is_as_good(higher: bool, sign: int) -> None:
    figures = [(10, 0.2), (20, 0.52), (40, 0.5), (80, 0.55)]
    points = [Point(f"s-{n}", sign * v, (sign * v - 0.04, sign * v + 0.04), n) for n, v in figures]
    points.insert(1, Point("s-11", sign * 0.1, None, 10))
    curve = Tradeoff("s", "report", "a.b", higher, "test", 9, points, {})
    assert "s-80 is the best of 5 sizes" in curve.sentence() and "s-20 (" in curve.sentence()
    assert curve.sentence().endswith("s-10 and s-11 are networks of the same size: widths come in steps")
