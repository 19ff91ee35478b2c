"""Evaluation: figures against brute force, exact merging, honest abstention, and the stage over real shards."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hyperloom.pipeline.commits import manifest as manifests
from hyperloom.pipeline.commits.manifest import Manifest
from hyperloom.pipeline.commits.units import File
from hyperloom.pipeline.errors import RecipeError, SourceError
from hyperloom.pipeline.root.events import read
from hyperloom.pipeline.root.storage import Storage, sha256
from hyperloom.stages.base import modality_of
from hyperloom.stages.evaluate.members import worse
from hyperloom.stages.evaluate.stage import Evaluate
from hyperloom.stages.evaluate.subject import Subject, subjects
from hyperloom.stages.evaluate.verdict import best, sentences, verdict
from hyperloom.stages.evaluate.worker import batches
from hyperloom.stages.measure.classes import ious
from hyperloom.stages.measure.measure import better, directions
from hyperloom.stages.measure.scores import measures, score
from hyperloom.stages.measure.sums import merged
from hyperloom.stages.modality import Dense, Image, Segmentation
from hyperloom.stages.schema import made_by
from hyperloom.stages.shard.stage import Shard
from tests.unit import inline

SIZE = (8, 8)
CLASSES = ("land", "water", "road")
KNOWN: dict[str, Any] = {
    "rgb": Image(type="image", size=SIZE),
    "semantic": Segmentation(type="segmentation", classes=CLASSES, size=SIZE),
    "depth": Dense(type="dense", size=SIZE, unit="m", storage="float32"),
    "normals": Dense(type="dense", channels=3, direction=True, size=SIZE, storage="float32"),
}
SEMANTIC, DEPTH, NORMALS = KNOWN["semantic"], KNOWN["depth"], KNOWN["normals"]
EVERY = np.ones(6, bool)


def _maps(seed: int, unknown: float = 0.1) -> tuple[np.ndarray, np.ndarray]:
    draw = np.random.default_rng(seed)
    truth, told = draw.integers(0, 3, (2, 6, *SIZE)).astype(np.uint8)
    truth[draw.random(truth.shape) < unknown] = 255
    return truth, told


def test_miou_and_accuracy_agree_with_a_count_by_hand() -> None:
    truth, told = _maps(0)
    expected = []
    for label in range(3):
        mine, said = truth == label, (told == label) & (truth != 255)
        expected.append((mine & said).sum() / (mine | said).sum())
    figures = measures(SEMANTIC, score(SEMANTIC, truth, told, EVERY, EVERY))
    assert figures["miou"] == pytest.approx(np.mean(expected))
    assert figures["accuracy"] == pytest.approx((truth == told)[truth != 255].mean())
    assert figures["coverage"] == 1


def test_a_class_without_truth_is_left_out_of_the_mean() -> None:
    truth, told = np.zeros((1, *SIZE), np.uint8), np.zeros((1, *SIZE), np.uint8)
    sums = score(SEMANTIC, truth, told, EVERY[:1], EVERY[:1])
    assert measures(SEMANTIC, sums)["miou"] == 1
    assert ious(SEMANTIC, sums) == {"land": 1.0, "water": None, "road": None}


def test_abstaining_gains_nothing_and_shows_in_coverage() -> None:
    truth, _ = _maps(1, unknown=0)
    shy = truth.copy()
    shy[:, :4] = 255
    figures = measures(SEMANTIC, score(SEMANTIC, truth, shy, EVERY, EVERY))
    assert figures["coverage"] == 0.5
    assert figures["accuracy"] == 0.5
    assert figures["miou"] < 0.6
    silent = score(SEMANTIC, truth, truth, EVERY, ~EVERY)
    assert measures(SEMANTIC, silent) == {}


def test_dense_errors_by_hand_and_null_rows_left_out() -> None:
    truth = np.full((2, *SIZE, 1), 10.0, np.float32)
    told = np.stack([np.full((*SIZE, 1), 12.0), np.full((*SIZE, 1), 1e6)]).astype(np.float32)
    figures = measures(DEPTH, score(DEPTH, truth, told, EVERY[:2], np.array([True, False])))
    assert figures == pytest.approx({"mae": 2.0, "rmse": 2.0, "absrel": 0.2, "coverage": 0.5})


def test_angles_are_in_degrees() -> None:
    up, aside = np.zeros((2, 1, *SIZE, 3), np.float32)
    up[..., 2], aside[..., 0] = 1, 3
    assert measures(NORMALS, score(NORMALS, up, aside, EVERY[:1], EVERY[:1]))["angle"] == pytest.approx(90)


@settings(max_examples=20, deadline=None)
@given(st.lists(st.integers(0, 6), max_size=4), st.integers(0, 99))
def test_merging_parts_is_scoring_the_whole(cuts: list[int], seed: int) -> None:
    truth, told = _maps(seed)
    edges = [0, *sorted(cuts), 6]
    parts = [score(SEMANTIC, truth[a:b], told[a:b], EVERY[a:b], EVERY[a:b]) for a, b in pairwise(edges)]
    assert merged(parts) == score(SEMANTIC, truth, told, EVERY, EVERY)


def test_subjects_gather_a_source_and_know_consensus_from_experts_and_models() -> None:
    about: dict[str, dict[str, Any]] = {
        "semantic@vote": {"kind": "consensus"},
        "semantic@teacher": {"kind": "expert", "expert": {"type": "model"}},
        "depth@color": {},
        "semantic@color": {"kind": "expert", "expert": {"type": "color-classes"}},
    }
    found = subjects({column: made_by(said) for column, said in about.items()}, ["teacher"])
    assert found == [
        Subject("color", "expert", ("depth@color", "semantic@color")),
        Subject("vote", "consensus", ("semantic@vote",)),
        Subject("teacher labels", "model", ("semantic@teacher",)),
    ]


def test_the_verdict_needs_a_rival_that_answered_enough() -> None:
    who = [Subject("a", "expert", ("x",)), Subject("b", "expert", ("y",)), Subject("student", "model")]
    figures = {
        "a": {"semantic.miou": 0.5, "semantic.coverage": 1.0},
        "b": {"semantic.miou": 0.9, "semantic.coverage": 0.1},
        "student": {"semantic.miou": 0.6, "semantic.coverage": 1.0},
    }
    assert best(who, figures, "expert", "semantic", SEMANTIC) == "a"
    decided = verdict(who, figures, {"semantic": SEMANTIC})
    assert decided["student"]["semantic"]["beats"] is True
    assert "beats every single expert" in sentences(decided)[0]
    difference = {"who": "student", "against": "a", "figure": "semantic.miou", "low": -0.1, "better": None}
    close = sentences(decided, None, [difference])[0]
    assert "is above the best expert, too close to call (best: a 0.5)" in close and "beats" not in close
    assert sentences(decided, None, [{**difference, "low": 0.01, "better": True}]) == sentences(decided)
    figures["b"]["semantic.coverage"] = 0.9
    assert "DOES NOT beat the best expert (best: b 0.9)" in sentences(verdict(who, figures, {"semantic": SEMANTIC}))[0]
    assert better(1.0, 2.0, directions(DEPTH)["mae"]) and better(2.0, 1.0, directions(SEMANTIC)["miou"])


def test_a_student_says_what_it_keeps_of_its_teacher_and_of_the_best_expert() -> None:
    who = [Subject("a", "expert", ("x",)), *(Subject(n, "model") for n in ("teacher", "ensemble", "student"))]
    values = {"a": (0.5, 2.0), "teacher": (0.7, 2.0), "ensemble": (0.8, 1.0), "student": (0.6, 1.6)}
    figures = {
        name: {"semantic.miou": iou, "depth.mae": mae, "semantic.coverage": 1.0, "depth.coverage": 1.0}
        for name, (iou, mae) in values.items()
    }
    decided = verdict(who, figures, {"semantic": SEMANTIC, "depth": DEPTH}, {"student": {"teacher", "ensemble"}})
    lines = [line for line in sentences(decided) if line.startswith("student")]
    assert lines[0].endswith("; keeps 0.75 of its teacher (ensemble), 1.20 of the best expert")
    assert lines[1].endswith("; keeps 0.62 of its teacher (ensemble), 1.25 of the best expert")
    assert "keeps" not in decided["teacher"]["semantic"]
    figures["a"]["semantic.miou"] = 0.0  # what is nothing is neither kept nor lost
    decided = verdict(who, figures, {"semantic": SEMANTIC}, {"student": {"teacher", "ensemble"}})
    (line,) = [line for line in sentences(decided) if line.startswith("student")]
    assert line.endswith("beats every single expert (best: a 0); keeps 0.75 of its teacher (ensemble)")
    assert decided["student"]["semantic"]["keeps"]["of_expert"] is None


# -- the stage ---------------------------------------------------------------------------------------------------------
def _samples(count: int, seed: int, truth: bool = True) -> list[dict[str, Any]]:
    draw = np.random.default_rng(seed)
    made = []
    for i in range(count):
        semantic = draw.integers(0, 3, SIZE).astype(np.uint8)
        depth = draw.random((*SIZE, 1)).astype(np.float32) + 1
        wrong = semantic.copy()
        wrong[:2] = (wrong[:2] + 1) % 3
        made.append(
            {
                "rgb@camera": draw.integers(0, 255, (*SIZE, 3)).astype(np.uint8),
                "semantic@truth": semantic if truth else None,
                "depth@truth": depth if truth else None,
                "semantic@exact": semantic,
                "semantic@wrong": wrong,
                "depth@far": depth + 0.5 if i else None,
            }
        )
    return made


def _shards(storage: Storage, truth: bool = True) -> Any:
    raw = inline.ingested(storage, KNOWN, {g: _samples(5, i, truth) for i, g in enumerate(["a", "b", "c"])})
    stage = Shard(stage="shard", data="frames", split={"test": 0.3, "pin": {"test": ["b", "c"], "train": ["a"]}})
    return inline.finish(inline.step(stage, storage, KNOWN, "shards", frames=raw))


def _report(storage: Storage, shards: Any, **config: Any) -> tuple[Any, Any]:
    stage = Evaluate(stage="evaluate", data="shards", **config)
    step = inline.step(stage, storage, KNOWN, "report", shards=shards)
    made = inline.finish(step)
    step.events.flush()
    return made, step


def test_the_stage_judges_every_column_and_shows_it(tmp_path: Path) -> None:
    storage = Storage(str(tmp_path))
    made, step = _report(storage, _shards(storage), pictures=3)
    figures = made.body["figures"]
    assert figures["exact"]["semantic.miou"] == 1
    assert figures["wrong"]["semantic.accuracy"] == pytest.approx(0.75)
    assert figures["far"]["depth.mae"] == pytest.approx(0.5, abs=1e-6)
    assert figures["far"]["depth.coverage"] == pytest.approx(0.8)
    assert made.body["best_expert"] == {"depth": "far", "semantic": "exact"}
    assert made.body["samples"] == 10
    assert [row["who"] for row in made.body["table"]] == ["exact", "far", "wrong"]
    assert {c for c in made.body["table"][0] if "." in c} == {"depth.mae", "depth.coverage", "semantic.miou"}
    assert {r["who"] for r in made.body["classes"]} == {"exact", "wrong"}

    picture = cv2.imdecode(np.frombuffer(storage.read(made.files[0].path), np.uint8), cv2.IMREAD_COLOR)
    assert picture.shape[1] == 6 * 162  # rgb, two truths, three sources
    assert [f.path.rsplit("/")[-1] for f in made.files] == ["collage.png", "depth.png", "semantic.png"]
    told = list(read(storage, step.events.run))
    assert [e["name"] for e in told if e["kind"] == "table"] == ["results", "classes"]  # nobody to compare
    assert any(e["kind"] == "artifact" and e["to"] == "pictures" for e in told)
    assert any("semantic.miou/exact" in e["values"] for e in told if e["kind"] == "metric")


@pytest.mark.parametrize("pictures", [0, 1])
def test_shards_of_which_nothing_is_pictured_are_judged_all_the_same(tmp_path: Path, pictures: int) -> None:
    storage = Storage(str(tmp_path))
    made, _ = _report(storage, _shards(storage), pictures=pictures)
    assert made.body["samples"] == 10 and made.body["figures"]["exact"]["semantic.miou"] == 1
    assert bool(made.files) == bool(pictures)


def test_the_same_evaluation_gives_the_same_bytes(tmp_path: Path) -> None:
    bodies = []
    for name in ("one", "two"):
        storage = Storage(str(tmp_path / name))
        made, _ = _report(storage, _shards(storage))
        bodies.append((made.body, made.records, made.files))
    assert bodies[0] == bodies[1]


def test_without_truth_it_says_so(tmp_path: Path) -> None:
    storage = Storage(str(tmp_path))
    shards = _shards(storage, truth=False)
    with pytest.raises(SourceError, match="truth is missing for every sample of the split 'test'"):
        _report(storage, shards)
    with pytest.raises(RecipeError, match="no column 'semantic@human'"):
        _report(storage, shards, truth={"semantic": "semantic@human"})
    with pytest.raises(RecipeError, match="split 'val' of step 'shards' is empty"):
        _report(storage, shards, split="val")


def test_models_may_be_written_short() -> None:
    short = Evaluate(stage="evaluate", data=["shards"], models=["teacher", "student"])
    long = Evaluate(stage="evaluate", data="shards", models={"teacher": {"model": "teacher"}, "student": "student"})
    assert short.models == long.models


# -- models ------------------------------------------------------------------------------------------------------------
def _trained(storage: Storage, inputs: tuple[str, ...] = ("rgb@camera", "depth@far")) -> Manifest:
    """A network of random weights, as a train step leaves it."""
    import torch

    from hyperloom.stages.network.architecture import MODEL_JSON, MODEL_WEIGHTS, Architecture, Input, Scale, Task
    from hyperloom.stages.network.model import build_model, weights
    from hyperloom.stages.network.unet_trunk import UNetTrunk

    torch.manual_seed(0)
    scale = {"rgb": Scale((128.0,) * 3, (64.0,) * 3), "depth": Scale((1.5,), (0.3,))}
    columns = tuple(Input(c, KNOWN[modality_of(c)], scale[modality_of(c)]) for c in inputs)
    tasks = (Task("semantic", SEMANTIC, Scale()), Task("depth", DEPTH, scale["depth"]))
    model = build_model(Architecture(columns, tasks, UNetTrunk(type="unet", width=2)))
    parts = {MODEL_JSON: json.dumps(model.architecture.to_json()).encode(), MODEL_WEIGHTS: weights(model.state_dict())}
    files = []
    for name, data in parts.items():
        files.append(File(f"{manifests.folder('train', '7' * 64)}/model/random/{name}", len(data), sha256(data)))
        storage.write(files[-1].path, data)
    made = Manifest(
        "train", "7" * 64, {}, (), tuple(files), {"columns_in": list(inputs), "tasks": ["semantic", "depth"]}
    )
    manifests.commit(storage, made)
    return made


def test_a_model_is_asked_and_judged_like_everybody_else(tmp_path: Path) -> None:
    storage = Storage(str(tmp_path))
    shards, trained = _shards(storage), _trained(storage)
    models = {"once": "trained", "often": {"model": "trained", "ensemble": {"type": "masks", "members": 4}}}
    stage = Evaluate(stage="evaluate", data="shards", models=models, pictures=2)
    step = inline.step(stage, storage, KNOWN, "report", shards=shards, trained=trained)
    body = inline.finish(step).body

    from hyperloom.stages.network.ensemble import predictor

    asked = predictor(storage, trained)
    sums = []
    for shard in shards.body["shards"]:
        if shard["split"] == "test":
            for rows in batches(storage, shard["path"], KNOWN, ["rgb@camera", "depth@far", "semantic@truth"], 99):
                values, there = rows.values, rows.valid
                told = asked({**values, "depth@far?": there["depth@far"]}).mean["semantic"].argmax(-1).astype(np.uint8)
                every = there["semantic@truth"]
                sums.append(score(SEMANTIC, values["semantic@truth"], told, every, every))
    assert body["figures"]["once"]["semantic.miou"] == measures(SEMANTIC, merged(sums))["miou"]
    assert body["figures"]["often"] != body["figures"]["once"]
    assert body["verdict"]["once"]["semantic"]["expert"] == "exact"
    assert body["verdict"]["once"]["semantic"]["beats"] is False
    assert any("once: semantic miou" in said and "DOES NOT beat" in said for said in body["said"])
    step.events.flush()
    told = [e for e in read(storage, step.events.run) if e["kind"] == "metric"]
    assert any("milliseconds a frame/once" in e["values"] for e in told)
    assert any("once.semantic.miou" in e["values"] and e["step"] == "" for e in told)

    once, often = body["costs"]["once"], body["costs"]["often"]
    assert once["parameters"] == often["parameters"] and often["members"] == 4
    assert often["flops"] == 4 * once["flops"] > 2 * once["parameters"]
    assert any("latency ms/often/torch" in e["values"] for e in told)
    assert body["figures"]["once"]["semantic.ece"] > 0  # of random weights
    assert [r["against"] for r in body["differences"] if r["figure"] == "semantic.miou"] == ["exact", "exact"]

    (ensemble,) = body["ensembles"].values()
    row = ensemble["semantic"]
    assert [size for size, _ in row["by_members"]] == [1, 2, 4] and row["members"] == 4
    assert row["by_members"][0][1] == pytest.approx(body["figures"]["once"]["semantic.miou"]), "the first sees all"
    assert row["by_members"][2][1] == body["figures"]["often"]["semantic.miou"]
    assert any("makes semantic worse" in said for said in body["said"]) is bool(
        worse("often", SEMANTIC, "semantic", row)
    )
    apart = [
        predictor(storage, trained, stage.models["often"].ensemble)(
            {**rows.values, "depth@far?": rows.valid["depth@far"]}
        ).spread["semantic"]
        for shard in shards.body["shards"]
        if shard["split"] == "test"
        for rows in batches(storage, shard["path"], KNOWN, ["rgb@camera", "depth@far"], 99)
    ]
    assert row["spread"] == pytest.approx(np.concatenate(apart).mean(), rel=1e-4) and row["spread"] > 0
    assert any("spread/semantic/often" in e["values"] for e in told)


def test_a_models_process_gets_the_gpus_of_the_step_or_by_its_size_and_columns_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from hyperloom.stages.label import share

    storage = Storage(str(tmp_path))
    shards, trained = _shards(storage), _trained(storage)

    def gpus(cluster: float, **config: Any) -> dict[str, float]:
        stage = Evaluate(stage="evaluate", data="shards", models={"one": "trained"}, **config)
        step = inline.step(stage, storage, KNOWN, "report", shards=shards, trained=trained)
        step.gpus = lambda: cluster
        return {name: worker.resources.gpus for name, worker in stage.units(step)[1].items()}

    assert gpus(0.0, gpus=0.25) == {"columns": 0.0, "model one": 0.25, "cost one": 0.25}, "as the recipe says"
    assert set(gpus(1.0).values()) == {0.0}, "a small network gets none by itself"
    monkeypatch.setattr(share, "BIG", 1)
    assert gpus(1.0) == {"columns": 0.0, "model one": 0.5, "cost one": 0.5}
    assert set(gpus(0.0).values()) == set(gpus(1.0, gpus=0).values()) == {0.0}


def test_a_model_that_sees_nothing_of_the_shards_is_refused(tmp_path: Path) -> None:
    storage = Storage(str(tmp_path))
    made = Manifest("train", "8" * 64, {}, (), (), {"columns_in": ["rgb@infrared"]})
    stage = Evaluate(stage="evaluate", data="shards", models=["trained"])
    step = inline.step(stage, storage, KNOWN, "report", shards=_shards(storage), trained=made)
    with pytest.raises(RecipeError, match=r"have no input of the model 'trained' \(rgb@infrared\)"):
        step.stage.run(step)
