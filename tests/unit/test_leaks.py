"""Nobody is judged on what taught him: random pipelines of label, shard, train, distill and evaluate, in which every
leak is found and no clean one is cried at; and what a report then says.

The stages are the real ones; only the networks are played (nothing is learned, so a figure would tell nothing anyway).
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hyperloom.pipeline.commits.manifest import Manifest
from hyperloom.pipeline.plugins import parse
from hyperloom.pipeline.root.storage import Storage
from hyperloom.stages.distill.worker import Exporter
from hyperloom.stages.evaluate.cost import CostWorker
from hyperloom.stages.evaluate.worker import ModelJudge
from hyperloom.stages.label.model import Model
from hyperloom.stages.meaning import translation
from hyperloom.stages.train import fitted
from hyperloom.stages.train.worker import Trainer
from tests.unit import inline

SIZE = (8, 8)
KNOWN = inline.modalities(
    rgb={"type": "image", "size": list(SIZE)},
    semantic={"type": "segmentation", "classes": ["land", "water"], "size": list(SIZE)},
    pose={"type": "vector", "length": 3},
)
RGB, HAND, TRUTH = "rgb@camera", "semantic@hand", "semantic@truth"
GROUPS = {
    "frames": {"g0": "0", "g1": "1", "g2": "2", "g3": "3", "copy_of_g0": "0"},
    "more": {"h4": "4", "h5": "5", "copy_of_g1": "1"},
}
"""Ingest step -> group -> what its pictures are."""
EXAMPLES = int(os.environ.get("HYPERLOOM_LEAKS", "8"))


@pytest.fixture(autouse=True, scope="module")
def _played() -> Iterator[None]:
    """Networks that learn nothing and answer class 0 everywhere."""

    def train(worker: Trainer, job: Any, out: Any) -> Any:
        about = {"parameters": 1, "updates": 1, "final": {"val.semantic.miou": 0.5}}
        files = {"model.json": b"{}", "model.safetensors": job.folder.encode()}
        fitted.save(job.storage, job.folder, about, files)
        return fitted.load(job.storage, job.folder)

    def export(worker: Exporter, unit: Any, out: Any) -> None:
        out.meta = {"outputs": []}
        out.write("onnx", unit.space.encode())

    def growing(given: Any, counts: Any) -> list[Any]:
        count = len(next(iter(given.values())))
        return [SimpleNamespace(mean={"semantic": _nothing(count)}, spread={"semantic": None}) for _ in counts]

    def setup(judge: ModelJudge) -> None:
        kind = KNOWN["semantic"]
        judge._answering, judge._meanings = {"semantic": kind}, {"semantic": translation(kind.meaning, kind.meaning)}
        every = lambda given: np.ones(len(next(iter(given.values()))), bool)  # noqa: E731
        judge._predictor = SimpleNamespace(members=[None], growing=growing, answerable=every)

    def cost(worker: CostWorker, unit: Any, out: Any) -> None:
        out.rows, out.meta = 1, {"parameters": 1, "members": 1, "flops": 1}

    def build(expert: Model, modalities: Any, storage: Storage) -> Any:
        return lambda batch: {c: np.zeros((len(next(iter(batch.values()))), *SIZE), np.uint8) for c in expert.out}

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Trainer, "_train", train)
        patch.setattr(Exporter, "run", export)
        patch.setattr(ModelJudge, "setup", setup)
        patch.setattr(CostWorker, "run", cost)
        patch.setattr(Model, "build", build)
        yield


def _nothing(count: int) -> np.ndarray:
    return np.broadcast_to(np.array([1, 0], np.float32), (count, *SIZE, 2)).copy()


class Pipeline:
    """Steps over one root, by name, as a recipe would have them."""

    def __init__(self, root: str):
        self.storage = Storage(root)
        self.steps: dict[str, Manifest] = {name: self._ingested(groups) for name, groups in GROUPS.items()}

    def add(self, name: str, inputs: list[str], **config: Any) -> Manifest:
        stage = parse("stage", {"type": config.pop("stage"), **config}) if "type" in config else _stage(config)
        step = inline.step(stage, self.storage, KNOWN, name, **{n: self.steps[n] for n in inputs})
        self.steps[name] = inline.finish(step)
        return self.steps[name]

    def shard(self, name: str, data: str | list[str], places: Mapping[str, str], **config: Any) -> Manifest:
        pin: dict[str, list[str]] = {}
        for group, split in places.items():
            pin.setdefault(split, []).append(group)
        names = [data] if isinstance(data, str) else data
        return self.add(name, names, stage="shard", data=names, split={"pin": pin}, **config)

    def label(self, name: str, data: str, model: str) -> Manifest:
        experts = [{"type": "model", "model": model, "out": f"semantic@{model}"}]
        return self.add(name, [data, model], stage="label", data=data, experts=experts)

    def train(self, name: str, data: str | list[str], target: str = HAND, **config: Any) -> Manifest:
        names = [data] if isinstance(data, str) else list(data)
        start = config.pop("start", "")
        model = {"trunk": {"type": "unet", "width": 2}, **({"start": start} if start else {})}
        more = {"stage": "distill" if "teacher" in config else "train", "updates": 1, "batch": 1, "in": RGB, **config}
        more = {field: value for field, value in more.items() if (field, value) != ("teacher", "")}
        others = [n for n in (start, config.get("teacher", "")) if n in self.steps]
        return self.add(name, [*names, *others], data=data, targets=[target], model=model, **more)

    def report(self, data: str, *models: str, **config: Any) -> dict[str, Any]:
        config = {"truth": {"semantic": HAND}, "pictures": 0, "intervals": None, **config}
        asked = config.pop("models", list(models))
        made = self.add("report", [data, *models], stage="evaluate", data=data, models=asked, **config)
        return made.body

    def _ingested(self, groups: Mapping[str, str]) -> Manifest:
        samples = {
            group: [{RGB: _picture(kind, i), HAND: _labels(group, i), TRUTH: _labels(group, i)} for i in range(2)]
            for group, kind in groups.items()
        }
        return inline.ingested(self.storage, KNOWN, samples)


def _stage(config: dict[str, Any]) -> Any:
    from hyperloom.pipeline.plugins import load

    return load("stage", config["stage"]).model_validate(config)


def _picture(kind: str, i: int) -> np.ndarray:
    return np.random.default_rng([int(kind), i]).integers(0, 255, (*SIZE, 3)).astype(np.uint8)


def _labels(group: str, i: int) -> np.ndarray:
    return np.random.default_rng([len(group), i]).integers(0, 2, SIZE).astype(np.uint8)


@pytest.fixture
def pipeline(tmp_path: Path) -> Pipeline:
    return Pipeline(str(tmp_path))


# -- random pipelines --------------------------------------------------------------------------------------------------
@settings(max_examples=EXAMPLES, deadline=None)
@given(st.data())
def test_every_leak_is_found_and_nothing_clean_is_cried_at(data: st.DataObject) -> None:
    with tempfile.TemporaryDirectory() as root:
        line = Pipeline(root)
        shards: dict[str, tuple[str, dict[str, str]]] = {}
        learned: dict[str, set[str]] = {}
        for i in range(data.draw(st.sampled_from([3, 2, 1]), "models")):
            _one_more(line, data, i, shards, learned)
        judged = data.draw(st.sampled_from(sorted(shards)), "judged")
        ingest, places = shards[judged]
        split = data.draw(st.sampled_from(sorted(set(places.values()))), "split")
        pictures = {GROUPS[ingest][g] for g, place in places.items() if place == split}
        body = line.report(judged, *learned, split=split)
        for model, those in learned.items():
            leaks = bool(those & pictures)
            assert (model in body["leaks"]) == leaks, (model, body["leaks"], body["said"])
            assert (model in body["unseen"]) != leaks
            assert (body["seen"].get(model, 0) > 0) == leaks
            labels = f"{model} labels"
            assert labels not in body["kinds"] or (labels in body["leaks"]) == leaks


def _one_more(
    line: Pipeline,
    data: st.DataObject,
    i: int,
    shards: dict[str, tuple[str, dict[str, str]]],
    learned: dict[str, set[str]],
) -> None:
    """Shards over one of the ingest steps, split at random, and a model that learns from them and from what came
    before, in whatever way."""
    name = f"m{i}"
    ingest = data.draw(st.sampled_from(sorted(GROUPS)), "ingest")
    groups = sorted(GROUPS[ingest])
    order = data.draw(st.permutations(groups), "order")  # few train, so that models differ in what they saw
    places = dict(zip(order, ["train", "test", "val", *("test",) * len(order)], strict=False))
    labelled = [m for m in learned if data.draw(st.sampled_from([True, True, False]), f"labels of {m}")]
    for model in labelled:
        if f"{ingest} by {model}" not in line.steps:
            line.label(f"{ingest} by {model}", ingest, model)
    line.shard(f"s{i}", [ingest, *(f"{ingest} by {m}" for m in labelled)], places)
    shards[f"s{i}"] = ingest, places
    before = st.sampled_from(["", "", *learned])
    start, target = data.draw(before, "start"), data.draw(st.sampled_from([*labelled, ""]), "target")
    teacher = target if data.draw(st.booleans(), "distill") else ""
    stops = "val" in places.values() and data.draw(st.booleans(), "stop")
    config: dict[str, Any] = {"teacher": teacher} if teacher else {}
    config |= {"stop": {"metric": "semantic.miou"}} if stops else {}
    line.train(name, f"s{i}", f"semantic@{target}" if target else HAND, start=start, **config)
    taught = {GROUPS[ingest][g] for g, place in places.items() if place == "train" or (stops and place == "val")}
    for other in {start, target} - {""}:
        taught |= learned[other]
    learned[name] = taught


# -- one by one --------------------------------------------------------------------------------------------------------
APART = {"g0": "train", "g1": "test", "g2": "train", "g3": "train", "copy_of_g0": "train"}


def test_a_second_shard_step_without_the_split_is_found_out(pipeline: Pipeline) -> None:
    """The student's shards have no split, so it was trained on the test groups of the report's shards."""
    pipeline.shard("shards", "frames", APART)
    pipeline.train("teacher", "shards")
    pipeline.label("soft", "frames", "teacher")
    pipeline.shard("taught", ["frames", "soft"], {}, columns=[RGB, "semantic@teacher"])
    pipeline.train("student", "taught", "semantic@teacher", teacher="teacher")
    body = pipeline.report("shards", "teacher", "student")
    assert body["unseen"] == ["teacher"] and body["seen"] == {"student": 2}
    leak = "LEAK: student: it was trained on 2 of the 2 samples that are judged (groups g1): its figures prove nothing"
    assert body["leaks"] == {"student": [leak]} and leak in body["said"]
    assert not any("student" in line and "beats every" in line for line in body["said"])
    assert any(line.startswith("student (judged on what it learned from): semantic miou") for line in body["said"])
    assert body["verdict"]["student"]["semantic"]["beats"] is None


def test_a_teacher_that_saw_the_test_groups_leaks_through_its_labels(pipeline: Pipeline) -> None:
    pipeline.shard("all", "frames", {})
    pipeline.train("teacher", "all")
    pipeline.label("soft", "frames", "teacher")
    pipeline.shard("shards", ["frames", "soft"], APART)
    pipeline.train("student", "shards", "semantic@teacher")
    body = pipeline.report("shards", "student")
    assert body["leaks"]["student"] == [
        "LEAK: student: semantic@teacher, from which it learned, was trained on 2 of the 2 samples that are judged "
        "(groups g1): its figures prove nothing"
    ]
    assert "teacher" in body["leaks"], "and so do its labels, which are judged too"


def test_copies_are_known_by_their_bytes(pipeline: Pipeline) -> None:
    pipeline.shard("shards", "frames", {**APART, "g1": "train", "copy_of_g0": "test"})
    pipeline.train("teacher", "shards")
    (leak,) = pipeline.report("shards", "teacher")["leaks"]["teacher"]
    assert "2 of the 2 samples that are judged (groups copy_of_g0, 2 of them copies, byte for byte)" in leak


def test_few_copies_are_named_and_hold_nothing_up(pipeline: Pipeline) -> None:
    black = {RGB: np.zeros((*SIZE, 3), np.uint8), HAND: _labels("x", 0)}
    groups = {g: [black, *({**black, RGB: _picture(str(i), k)} for k in range(150))] for i, g in enumerate("ab")}
    pipeline.steps["frames"] = inline.ingested(pipeline.storage, KNOWN, groups, rows=200)
    pipeline.shard("shards", "frames", {"a": "train", "b": "test"})
    pipeline.train("teacher", "shards")
    body = pipeline.report("shards", "teacher")
    assert body["leaks"] == {} and body["unseen"] == [] and body["seen"] == {"teacher": 1}
    assert any("teacher: it was trained on 1 of the 151 samples that are judged" in line for line in body["said"])


def test_early_stopping_on_the_judged_split_is_a_leak(pipeline: Pipeline) -> None:
    pipeline.shard("shards", "frames", {**APART, "g2": "val"})
    pipeline.train("stopped", "shards", stop={"metric": "semantic.miou"})
    pipeline.train("family", "shards", seeds=2)
    pipeline.train("plain", "shards", seed=1)
    models = ("stopped", "family", "plain")
    assert pipeline.report("shards", *models)["leaks"] == {}
    body = pipeline.report("shards", *models, split="val")
    assert set(body["leaks"]) == {"stopped", "family seed0", "family seed1"} and body["unseen"] == ["plain"]
    assert "was chosen by (early stopping, the best of several seeds) 2 of the 2" in body["leaks"]["stopped"][0]


def test_weights_that_a_training_starts_from_and_an_ensemble_bring_what_they_saw(pipeline: Pipeline) -> None:
    pipeline.shard("all", "frames", {})
    pipeline.shard("shards", "frames", APART)
    pipeline.train("first", "all")
    pipeline.train("second", "shards", start="first")
    pipeline.train("third", "shards", seed=1)
    together = {"both": {"model": "third", "ensemble": {"type": "models", "models": ["first"]}}}
    body = pipeline.report(
        "shards", "first", "second", "third", models={"second": "second", "third": "third", **together}
    )
    assert set(body["leaks"]) == {"second", "both"} and body["unseen"] == ["third"]
    assert "its start first, from which it learned, was trained on" in body["leaks"]["second"][0]


def test_a_start_from_elsewhere_is_not_called_unseen(pipeline: Pipeline, tmp_path: Path) -> None:
    pipeline.shard("shards", "frames", APART)
    (tmp_path / "old.safetensors").write_bytes(b"elsewhere")
    pipeline.train("teacher", "shards", start=str(tmp_path / "old.safetensors"))
    body = pipeline.report("shards", "teacher")
    assert body["leaks"] == {} and body["unseen"] == []
    assert any("was not checked: its start old.safetensors comes from elsewhere" in line for line in body["said"])


def test_what_an_own_stage_does_not_say_is_not_called_unseen(pipeline: Pipeline) -> None:
    pipeline.shard("shards", "frames", APART)
    made = pipeline.train("teacher", "shards")
    body = {k: v for k, v in made.body.items() if k != "learned"}
    pipeline.steps["teacher"] = Manifest("mine", "9" * 64, {}, (), made.files, body)
    report = pipeline.report("shards", "teacher")
    assert report["unseen"] == [] and any("was not checked: the mine step 999" in line for line in report["said"])


def test_a_student_that_comes_back_as_an_expert_brings_what_it_saw(pipeline: Pipeline, tmp_path: Path) -> None:
    from hyperloom.stages.lesson import Lesson
    from hyperloom.stages.provenance import resolved

    pipeline.shard("all", "frames", {})
    student = pipeline.train("student", "all", teacher="")
    digest = next(f.sha256 for f in student.all_files() if f.path.endswith(".onnx"))
    known = [Lesson(digest, "", "weights", "semantic@net"), Lesson("0" * 64, "", "weights", "semantic@other")]
    assert {(lesson.how, lesson.by) for lesson in resolved(pipeline.storage, known)} == {("trained", "semantic@net")}


def test_groups_that_are_only_called_alike_are_said_and_no_leak(pipeline: Pipeline) -> None:
    other = {"g1": [{RGB: _picture("9", i), HAND: _labels("g1", i)} for i in range(2)]}
    pipeline.steps["other"] = inline.ingested(pipeline.storage, KNOWN, other)
    pipeline.shard("theirs", "other", {})
    pipeline.shard("shards", "frames", APART)
    pipeline.train("teacher", "theirs")
    body = pipeline.report("shards", "teacher")
    assert body["leaks"] == {} and body["unseen"] == []
    assert any("1 judged group called like groups that it learned from (g1)" in line for line in body["said"])


def test_a_truth_that_experts_made_is_no_truth(pipeline: Pipeline) -> None:
    pipeline.shard("shards", "frames", APART)
    pipeline.train("teacher", "shards")
    pipeline.label("soft", "frames", "teacher")
    votes = {"method": "vote", "of": [HAND, "semantic@teacher"]}
    pipeline.add("votes", ["frames", "soft"], stage="consensus", data=["frames", "soft"], out="semantic@votes", **votes)
    pipeline.shard("judged", ["frames", "soft", "votes"], APART)
    body = pipeline.report("judged", "teacher", truth={"semantic": "semantic@votes"})
    why = f"semantic@votes is no ground truth: a consensus made it from {HAND}, semantic@teacher"
    assert body["untrue"] == {"semantic": why} and body["said"][0].startswith(f"NO TRUTH: {why}")
    assert not any("beats every" in line for line in body["said"])


@pytest.mark.parametrize(("method", "leaks"), [("vote", False), ("dawid-skene", True)])
def test_weights_that_were_fitted_on_truth_are_a_leak(pipeline: Pipeline, method: str, leaks: bool) -> None:
    """A consensus over truth and others teaches the training split alone, but its estimates are of all samples."""
    votes = {"method": method, "of": [HAND, TRUTH]}
    pipeline.add("votes", ["frames"], stage="consensus", data="frames", out="semantic@votes", **votes)
    pipeline.shard("shards", ["frames", "votes"], APART)
    pipeline.train("teacher", "shards", "semantic@votes")
    body = pipeline.report("shards", "teacher", truth={"semantic": TRUTH})
    assert ("teacher" in body["leaks"]) == leaks
    assert "it is made of semantic@truth, by which it is judged" in body["leaks"]["votes"][0]
    if leaks:
        assert "semantic@votes on semantic@truth were fitted on all samples" in body["leaks"]["teacher"][0]


def test_a_model_that_is_shown_the_truth_is_found_out(pipeline: Pipeline) -> None:
    pipeline.shard("shards", "frames", APART)
    pipeline.train("teacher", "shards", **{"in": [RGB, TRUTH]})
    (leak,) = pipeline.report("shards", "teacher", truth={"semantic": TRUTH})["leaks"]["teacher"]
    assert "it is made of semantic@truth, by which it is judged" in leak
    assert pipeline.report("shards", "teacher")["leaks"] == {}, "judged by others it may see it"


def test_a_model_that_is_judged_without_an_input_says_so_in_the_same_line(pipeline: Pipeline) -> None:
    pipeline.shard("shards", "frames", APART)
    pipeline.shard("fewer", "frames", APART, columns=[RGB, TRUTH])
    pipeline.train("teacher", "shards", **{"in": [RGB, HAND]})
    body = pipeline.report("fewer", "teacher", truth={"semantic": TRUTH})
    assert body["lacking"] == {"teacher": {HAND: 2}}
    assert any(line.startswith(f"teacher (judged without {HAND}): semantic miou") for line in body["said"])
    assert pipeline.report("shards", "teacher", truth={"semantic": TRUTH})["lacking"] == {}


def test_an_input_that_is_null_in_the_judged_samples_is_missing_too(pipeline: Pipeline) -> None:
    known = {
        g: [{RGB: _picture(k, i), HAND: _labels(g, i), TRUTH: _labels(g, i)} for i in range(2)] for g, k in ("a1", "b2")
    }
    groups = {**known, "b": [{**sample, HAND: None} for sample in known["b"]]}
    pipeline.steps["frames"] = inline.ingested(pipeline.storage, KNOWN, groups)
    pipeline.shard("shards", "frames", {"a": "train", "b": "test"})
    pipeline.train("teacher", "shards", TRUTH, **{"in": [RGB, HAND]})
    body = pipeline.report("shards", "teacher", truth={"semantic": TRUTH})
    assert any(line.startswith(f"teacher (judged without {HAND}): semantic miou") for line in body["said"])


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ({"type": "files", "path": "x"}, "files in the order of their names"),
        ({"type": "files", "path": "x", "group": r"(?P<group>.+)_(?P<index>\d+)"}, ""),
        ({"type": "video", "path": "x", "every": 5}, "every 5th frame of a video"),
        ({"type": "video", "path": "x"}, ""),
    ],
)
def test_neighbours_that_are_no_consecutive_frames_are_said(pipeline: Pipeline, source: Any, words: str) -> None:
    """Flow between pictures that only happen to lie beside each other in a folder is no motion."""
    from hyperloom.pipeline.root.events import Events, read

    order = parse("source", source).order()
    assert order == words
    known = KNOWN | inline.modalities(flow={"type": "dense", "channels": 2, "size": list(SIZE)})
    frames = pipeline.steps["frames"]
    frames.body["columns"][RGB]["about"] = {"order": order} if order else {}
    experts = [{"type": "flow", "in": RGB, "out": "flow@dis"}]
    stage = _stage({"stage": "label", "data": ["frames"], "experts": experts})
    step = inline.step(stage, pipeline.storage, known, "labels", frames=frames)
    step.events = Events(pipeline.storage, "run", "driver")
    inline.finish(step)
    step.events.flush()
    notes = [e["text"] for e in read(pipeline.storage, "run") if e["kind"] == "note" and "neighbours" in e["text"]]
    assert [words in note for note in notes] == ([True] if words else [])
