"""Figures of parts of the samples: beside the same by hand, the planted weak part, and what is found where none is."""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from pydantic import ValidationError

from hyperloom.pipeline.commits.manifest import Manifest
from hyperloom.pipeline.errors import RecipeError
from hyperloom.pipeline.planning.plan import check
from hyperloom.pipeline.recipes import recipe
from hyperloom.pipeline.root.storage import Storage
from hyperloom.stages.evaluate.slices import Slice, drawing, look, members
from hyperloom.stages.evaluate.stage import Evaluate
from hyperloom.stages.measure.intervals import Intervals, Sheets
from hyperloom.stages.measure.scores import score
from hyperloom.stages.measure.sheet import Sheet
from hyperloom.stages.release.gate import judge, parse
from hyperloom.stages.release.standing import standing
from hyperloom.stages.results import Judged
from hyperloom.stages.shard.stage import Shard
from hyperloom.stages.table import write_table
from tests.unit import inline

SIZE = (4, 6)
KNOWN: dict[str, Any] = inline.modalities(
    rgb={"type": "image", "size": list(SIZE)},
    semantic={"type": "segmentation", "classes": ["land", "water"]},
    weather={"type": "category", "classes": ["day", "night"]},
    traits={"type": "multilabel", "classes": ["wet", "far"]},
    speed={"type": "scalar"},
    depth={"type": "dense"},
)
TRIALS = int(os.environ.get("HYPERLOOM_SLICES", "10"))


def _sample(random: np.random.Generator, i: int) -> dict[str, Any]:
    """An expert that fails at night; speed says nothing."""
    truth = random.integers(0, 2, SIZE).astype(np.uint8)
    night = i % 4 == 1
    told = np.where(random.random(SIZE) < (0.5 if night else 0.1), 1 - truth, truth).astype(np.uint8)
    return {
        "rgb@camera": random.integers(0, 255, (*SIZE, 3)).astype(np.uint8),
        "semantic@truth": truth,
        "semantic@expert": told,
        "weather@truth": None if i % 8 == 7 else np.int64(night),
        "traits@hand": np.array([i % 2, i % 3 == 0], np.uint8),
        "speed@sensor": None if i == 2 else np.array([i], np.float32),
    }


def _report(root: Path, slices: list[Any], **config: Any) -> tuple[Manifest, list[dict[str, Any]]]:
    storage, random = Storage(str(root)), np.random.default_rng(0)
    samples = [_sample(random, i) for i in range(64)]
    groups = {f"g{g}": samples[8 * g : 8 * g + 8] for g in range(8)}
    raw = inline.ingested(storage, KNOWN, {**groups, "rest": samples[:1]}, 3)
    split = {"pin": {"test": list(groups), "train": ["rest"]}}
    shard = Shard.model_validate({"stage": "shard", "data": "frames", "split": split, "shard_mb": 0.001})
    shards = inline.finish(inline.step(shard, storage, KNOWN, "shards", frames=raw))
    fields = {"truth": {"semantic": "semantic@truth"}, "intervals": {"over": "frames"}, "pictures": 0, **config}
    stage = Evaluate.model_validate({"stage": "evaluate", "data": "shards", "slices": slices, **fields})
    return inline.finish(inline.step(stage, storage, KNOWN, "report", shards=shards)), samples


def test_a_planted_weak_part_is_found_and_its_figures_are_those_by_hand(tmp_path: Path) -> None:
    columns = ["weather@truth", "group", "traits@hand", "speed@sensor", {"column": "speed@sensor", "edges": [10, 30]}]
    made, samples = _report(tmp_path, columns)
    rows = {(row["slice"], row["figure"]): row for row in made.body["slices"]}
    (said,) = [line for line in made.body["said"] if "is weakest where" in line]
    assert said.startswith("expert is weakest where weather@truth is night: semantic miou 0.3")
    assert "elsewhere (16 samples; p below 0.001, corrected for " in said
    members = {
        "weather@truth=night": [i for i in range(64) if i % 4 == 1],
        "weather@truth=unknown": [i for i in range(64) if i % 8 == 7],
        "group=g3": range(24, 32),
        "traits@hand=wet": range(1, 64, 2),
        "traits@hand=far": range(0, 64, 3),
        "speed@sensor=unknown": [2],
        "speed@sensor=below 10": [i for i in range(10) if i != 2],
        "speed@sensor=10 to 30": range(10, 30),
        "speed@sensor=from 30": range(30, 64),
    }
    for part, places in members.items():
        true, told = (np.stack([samples[i][f"semantic@{who}"] for i in places]) for who in ("truth", "expert"))
        ious = [((true == c) & (told == c)).sum() / ((true == c) | (told == c)).sum() for c in (0, 1)]
        assert rows[part, "semantic.miou"]["value"] == pytest.approx(np.mean(ious)), part
        assert rows[part, "semantic.accuracy"]["value"] == pytest.approx((true == told).mean())
        assert rows[part, "semantic.miou"]["samples"] == len(places)
    quarters = [rows[f"speed@sensor={i} of 4", "semantic.miou"]["samples"] for i in (1, 2, 3, 4)]
    assert sum(quarters) == 63 and max(quarters) - min(quarters) <= 1
    assert rows["speed@sensor=unknown", "semantic.miou"]["p"] is None  # one sample tells nothing of chance


def test_where_no_part_is_weak_hardly_ever_one_is_found() -> None:
    """Five parts of samples that are all as hard: about one trial in twenty cries, corrected for five looks."""
    cried = 0
    for trial in range(TRIALS):
        random = np.random.default_rng(trial)
        sheet, every = Sheet(), np.ones(1, bool)
        for i in range(60):
            truth = random.integers(0, 2, (1, *SIZE)).astype(np.uint8)
            told = np.where(random.random(truth.shape) < 0.2, 1 - truth, truth)
            sheet.add(f"{i:02d}", "g", i, {"semantic": score(KNOWN["semantic"], truth, told, every, every)})
        sheets = _sheets(sheet)
        parts = {f"x={k}": {f"{i:02d}" for i in range(60) if i % 5 == k} for k in range(5)}
        rows = look("expert", sheets, {"semantic": ("semantic", KNOWN["semantic"])}, parts).rows
        cried += any(row["p"] is not None and row["p"] < 0.05 for row in rows)
    assert cried <= 0.09 * TRIALS + 1


def _sheets(sheet: Sheet) -> Sheets:
    import tempfile

    storage = Storage(tempfile.mkdtemp())
    storage.write("sheet.parquet", sheet.to_parquet())
    record = SimpleNamespace(files=(None, SimpleNamespace(path="sheet.parquet")))
    return Sheets(drawing(Intervals(over="frames")), storage, [record])  # type: ignore[list-item]


BODY = {
    "split": "test",
    "samples": 64,
    "lineage": {"shards": ""},
    "figures": {"student": {"semantic.miou": 0.6}, "color": {"semantic.miou": 0.5}, "champion": {"semantic.miou": 0.6}},
    "best_expert": {"semantic": "color"},
    "slices": [
        {"who": who, "slice": "speed@s=0.5 to 2", "samples": 9, "figure": "semantic.miou", "value": value,
         "elsewhere": 0.5, "p": None} for who, value in (("student", 0.3), ("color", 0.4), ("champion", 0.2))
    ],
}  # fmt: skip


@pytest.mark.parametrize(("text", "passed"), [(">= 0.3", True), ("> best_expert", False), (">= champion + 0.05", True)])
def test_a_gate_may_name_a_part(text: str, passed: bool) -> None:
    report = Judged.from_manifest(Manifest("evaluate", "", {}, body=BODY))
    figure = "semantic.miou[speed@s=0.5 to 2]"
    met = standing(SimpleNamespace(figures={}, behind={}, meaning={}), report, True, {})  # type: ignore[arg-type]
    decision = judge(parse(figure, text), "student", report, met)
    assert decision.passed is passed and "it is 0.3, on 9 samples of the split `test`" in decision.reason
    with pytest.raises(ValueError, match=r"has no semantic.miou\[speed@s=3\] of 'student'; its slices are speed@s=0.5"):
        judge(parse("semantic.miou[speed@s=3]", ">= 0.3"), "student", report, None)
    for wrong in ("semantic.miou[", "semantic.miou[]", "miou[speed@s=1]", "semantic.iou[speed@s=1]"):
        with pytest.raises(ValueError, match="is no figure"):
            parse(wrong, ">= 0.3")


RECIPE = """\
name: small
modalities:
  rgb: {{type: image, size: [8, 8]}}
  semantic: {{type: segmentation, classes: [land, road]}}
  weather: {{type: category, classes: [day, night]}}
steps:
  frames:
    stage: ingest
    source: {{type: files, path: "*.jpg", columns: {{semantic@truth: "{{stem}}.png", weather@truth: "{{stem}}.txt"}}}}
  shards: {{stage: shard, data: frames, split: {{test: 0.3}}}}
  student: {{stage: distill, data: shards, in: rgb@camera, targets: [semantic@truth], updates: 1}}
  report: {{stage: evaluate, data: shards, models: student, truth: {{semantic: semantic@truth}}, slices: {slices}}}
  out: {{stage: release, model: student, report: report, name: x, gate: {{{gate}: ">= 0.1"}}}}
"""


@pytest.mark.parametrize(
    ("slices", "gate", "words"),
    [
        ("[weather@truth, group]", "'semantic.miou[weather@truth=night]'", ""),
        ("[weather@truth, group]", "'semantic.miou[group=flight_1]'", ""),
        ("[weather@trut]", "semantic.miou", "did you mean 'weather@truth'"),
        ("[rgb@camera]", "semantic.miou", "rgb@camera has no one class or number for a sample"),
        ("weather@truth", "'semantic.miou[weather@truth=nigth]'", "no slice of weather@truth is called 'nigth'"),
        ("group", "'semantic.miou[weather@truth=night]'", "'report' has no slices by 'weather@truth'"),
    ],
)
def test_plan_knows_the_parts(slices: str, gate: str, words: str) -> None:
    loaded = recipe.parse(RECIPE.format(slices=slices, gate=gate), "r.yaml")
    if not words:
        check(loaded)
        return
    with pytest.raises(RecipeError, match=words.replace("[", r"\[")):
        check(loaded)


def test_edges_rise() -> None:
    with pytest.raises(ValidationError, match="edges: expected rising numbers"):
        Evaluate.model_validate({"stage": "evaluate", "data": "s", "slices": [{"column": "a@b", "edges": [2, 1]}]})


@pytest.mark.parametrize(
    ("edges", "values", "parts"),
    [
        ([0.7], [0.6, 0.7, 0.8], ["below 0.7", "from 0.7", "from 0.7"]),
        ([0.1, 0.9], [0.0, 0.1, 0.9], ["below 0.1", "0.1 to 0.9", "from 0.9"]),
        ([1e6, 1e6 + 1], [999_999, 1e6, 1e6 + 1], ["below 1e+06", "1e+06 to 1000001", "from 1000001"]),
    ],
)  # fmt: skip
def test_a_number_on_an_edge_lies_from_there_on_and_edges_are_told_apart(
    tmp_path: Path, edges: list[float], values: list[float], parts: list[str]
) -> None:
    """A stored .7 is a little below .7, and 1,000,001 is not 1e+06."""
    storage, kind = Storage(str(tmp_path)), KNOWN["speed"]
    rows = kind.encode([kind.fit(value) for value in values])
    keys = pa.array([str(i) for i in range(len(values))])
    table = write_table({"key": keys, "speed@x": rows}, [pa.field("key", pa.string()), kind.field("speed@x")])
    storage.write("part.parquet", table)
    one = Slice(column="speed@x", edges=tuple(edges))
    cut = members([one], storage, ["part.parquet"], KNOWN)
    assert {key: name.partition("=")[2] for name, keys in cut.items() for key in keys} == dict(
        zip(map(str, range(len(values))), parts, strict=True)
    )
    judged = Evaluate.model_validate({"stage": "evaluate", "data": "shards", "slices": [one]})
    plain = Evaluate.model_validate(
        {"stage": "evaluate", "data": "shards", "slices": [{"column": "x@y", "edges": [10, 30]}]}
    )
    assert [one.revised_for(KNOWN).get("edges") for one in (judged, plain)] == [2, None]
