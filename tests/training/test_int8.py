"""Students in 8 bits: what they cost is measured on samples that chose no scale, and one that costs too much is left
out in words."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import numpy_helper

from hyperloom.pipeline import plugins
from hyperloom.pipeline.commits.manifest import Manifest
from hyperloom.pipeline.commits.units import Output, Unit
from hyperloom.pipeline.errors import RecipeError
from hyperloom.pipeline.root.events import read
from hyperloom.stages.distill import export, int8
from hyperloom.stages.distill.examples import examples
from hyperloom.stages.distill.stage import Distill
from hyperloom.stages.evaluate.cost import CostWorker
from hyperloom.stages.evaluate.worker import Evaluation
from hyperloom.stages.network.architecture import Architecture, Input, Task
from hyperloom.stages.network.model import build_model
from hyperloom.stages.network.processors import Scale
from hyperloom.stages.network.stored import weight_bytes
from hyperloom.stages.results import Trained
from hyperloom.stages.train import validation
from tests.training.test_export import PICTURE
from tests.training.test_export import _model as tiny_model
from tests.unit import inline, scenes

STUDENT: dict[str, Any] = {
    **scenes.LEARN,
    "updates": 12,
    "stage": "distill",
    "in": "rgb@camera",
    "mask": "none",
    "targets": {"semantic": {"soft@teacher": 1.0, "semantic@truth": 0.5}, "depth": "depth@laser"},
    "teacher": "teacher",
    "model": {"trunk": {"type": "inverted", "width": 4}},
}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return scenes.shards(tmp_path_factory.mktemp("root"), val=True)


def _finished(data: Any, **fields: Any) -> tuple[Manifest, dict[str, Any], list[str]]:
    run = scenes.step(data[0], data[2], Distill, **{**STUDENT, **fields})
    notes: list[str] = []
    run.events.listeners = (lambda event: notes.append(event["text"]) if event["kind"] == "note" else None,)
    manifest = inline.finish(run)
    onnx = Trained.from_manifest(manifest).onnx
    assert onnx is not None
    return manifest, dict(onnx["int8"]), [n for n in notes if "int8" in n]


def _plain(data: Any) -> tuple[Manifest, Any]:
    run = scenes.step(data[0], data[2], Distill, **STUDENT)
    return inline.finish(run), run


def _small(manifest: Manifest) -> list[Any]:
    return [f for f in manifest.all_files() if f.path.endswith(f".{int8.SUFFIX}")]


def _whole(manifest: Manifest) -> list[Any]:
    return [f for f in manifest.all_files() if f.path.endswith("/student.onnx")]


def test_a_student_in_bytes_says_what_it_costs(data: Any) -> None:
    manifest, about, notes = _finished(data, int8={"margin": 0.5, "samples": 8})
    small, whole = (data[0].read(file.path) for file in (_small(manifest)[0], _whole(manifest)[0]))
    assert about["bytes"] == [len(whole), len(small)] and len(small) < len(whole)
    assert about["split"] == "val" and about["samples"] == 4 and about["kept"]
    picture = np.random.default_rng(0).integers(0, 256, (3, *scenes.SIZE, 3)).astype(np.uint8)
    answers = [onnxruntime.InferenceSession(net).run(None, {"rgb@camera": picture})[0] for net in (whole, small)]
    assert not np.array_equal(*answers) and np.abs(answers[0] - answers[1]).mean() < 0.1
    assert set(about["figures"]) == {"semantic.miou", "depth.mae"}
    fp32 = Trained.from_manifest(manifest).final["val.semantic.miou"]
    assert about["figures"]["semantic.miou"][0] == pytest.approx(fp32, abs=1e-3), (
        "floats are judged as the training did"
    )
    assert len(notes) == 1 and "semantic.miou" in notes[0] and "on 4 samples of val" in notes[0]
    again, _, _ = _finished((data[0], data[1], data[2]), int8={"margin": 0.49, "samples": 8})
    assert [f.sha256 for f in _small(again)] == [f.sha256 for f in _small(manifest)]
    plain, _ = _plain(data)
    assert _whole(plain) == _whole(again) and not _small(plain), "nothing was trained anew"
    assert Trained.from_manifest(again).folders(again) == (plain.folder,) != (again.folder,)
    assert weight_bytes(again) == weight_bytes(plain) > 1000


def test_a_student_is_judged_and_released_by_what_it_may_see(data: Any) -> None:
    """With an input that the mask always hides the file had an miou of .32, where training and evaluation had .85."""
    hiding = {"in": ["rgb@camera", "depth@laser"], "mask": {"type": "modality", "hidden": ["depth@laser"]}}
    manifest, about, _ = _finished(data, int8={"margin": 9}, **hiding)
    trained = Trained.from_manifest(manifest)
    assert [i["name"] for i in trained.onnx["inputs"]] == ["rgb@camera"] == list(trained.visible)  # type: ignore[index]
    for figure, (whole, _) in about["figures"].items():
        assert whole == pytest.approx(trained.final[f"val.{figure}"], abs=1e-3), figure
    asked = [Distill.model_validate({**scenes.TRAIN, **STUDENT, **h}).revised_for(scenes.KNOWN) for h in ({}, hiding)]
    assert asked == [{}, {"hidden inputs": 2}]


@pytest.mark.parametrize("members, runtimes", [(1, {"torch", "onnx"}), (3, {"torch"})])
def test_a_file_that_asks_once_says_nothing_of_the_time_of_an_ensemble(data: Any, members: int, runtimes: Any) -> None:
    manifest, _, _ = _finished(data, **{"in": ["rgb@camera", "semantic@noisy"], "int8": {"samples": 4}, "updates": 1})
    many = plugins.parse("ensemble", {"type": "masks", "members": members})
    step, task = ("distill", manifest.fingerprint), Evaluation(data[0], scenes.KNOWN, {})
    name = f"timed-{len(runtimes)}"
    worker = CostWorker(task, name, step, ("rgb@camera",), many, name)  # the shards lack one of its inputs
    unit = Unit("evaluate/x-cost", "cost", "cost", {"step": "report"})
    worker.run(unit, Output(data[0], unit))
    values = {key for e in read(data[0], name) if e["kind"] == "metric" for key in e["values"]}
    assert values == {f"latency ms/{name}/{runtime}" for runtime in runtimes}


def test_one_that_costs_more_than_its_margin_is_left_out(data: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(int8, "_lost", lambda modality, whole, small: 0.04)
    manifest, about, notes = _finished(data, int8={"samples": 4})
    assert not about["kept"] and not _small(manifest)
    assert "4.0% is lost, more than the margin of 2.0%, so student.int8.onnx is left out. Next: int8:" in notes[0]


@pytest.mark.parametrize(
    "whole, small, kept, words",
    [
        (
            {"semantic.miou": 0.6, "depth.mae": 0.5},
            {"semantic.miou": 0.6, "depth.mae": math.nan},
            False,
            "no number any",
        ),
        ({"semantic.miou": 0.6, "depth.mae": 0.5}, {"semantic.miou": 0.6}, False, "depth.mae is no number any more"),
        ({"semantic.miou": 0.6}, {"semantic.miou": 0.6}, True, "not measured: depth.mae"),
    ],
)
def test_a_task_that_bytes_answer_no_more_is_lost_and_one_that_was_not_measured_is_named(
    data: Any, whole: Any, small: Any, kept: bool, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    figures = iter((whole, small))
    monkeypatch.setattr(validation, "validate", lambda *_: next(figures))
    run = scenes.step(data[0], data[2], Distill, **STUDENT)
    job = run.stage.job(run)
    with monkeypatch.context() as patch:
        patch.setattr(int8, "quantised", lambda network, batches: network)
        patch.setattr(int8, "OnnxNetwork", lambda architecture, network: None)
        _, about = int8.brought(job, job.architecture, b"network", int8.Int8())
    about |= {"margin": 0.02, "kept": about["worst"] is not None and about["worst"] <= 0.02}
    assert about["kept"] is kept and words in int8.sentence(about)


def test_what_was_said_before_figures_could_be_gone_is_still_a_sentence() -> None:
    figures = {"semantic.miou": [0.6, 0.59]}
    before = {"bytes": [4000, 1000], "split": "val", "samples": 4, "figures": figures, "worst": 0.0167}
    assert "semantic.miou 0.59 against 0.6 on 4 samples" in int8.sentence(before | {"kept": True, "margin": 0.02})


def test_without_a_split_val_other_training_samples_judge(tmp_path: Path) -> None:
    data = scenes.shards(tmp_path)
    _, about, notes = _finished(data, int8={"samples": 4, "judged": 4, "margin": 1}, updates=4)
    assert about["split"] == "train" and about["samples"] == 4 and "of train" in notes[0]


def test_without_a_sample_that_lacks_nothing_there_are_no_scales() -> None:
    """It ended in ONNX Runtime's words."""
    model = tiny_model({"rgb@a": PICTURE}, "unet", kind=plugins.parse("modality", {"type": "scalar"}))
    network = export.to_onnx(model).data
    with pytest.raises(RecipeError, match=r"has all of rgb@a, and scales are .* Next: int8: \{samples: 1024\} looks"):
        int8.quantised(network, [])


TINY: dict[str, Any] = {
    "boxes": {"type": "boxes", "classes": ["x", "y"], "most": 5},
    "review": {"type": "text", "length": 24},
    "pos": {"type": "tags", "tags": ["N", "V"], "length": 6},
    "track": {"type": "series", "steps": 9, "channels": 2},
}


@pytest.mark.parametrize("name", TINY)
def test_padding_spoils_no_scale(name: str) -> None:
    """Of texts, tags and boxes some scales were infinite, and half of an answer's range was lost; others failed."""
    torch.manual_seed(0)
    modality, trunk = plugins.parse("modality", TINY[name]), {"type": "vit", "width": 8, "depth": 1, "patch": 8}
    kind = plugins.parse("modality", {"type": "category", "classes": ["a", "b", "c"]})
    inputs, tasks = (Input(f"{name}@a", modality, Scale()),), (Task("kind", kind, Scale()),)
    model = build_model(Architecture(inputs, tasks, plugins.parse("trunk", trunk)))
    network, batch = export.to_onnx(model).data, {f"{name}@a": examples(inputs, 16)[0]}
    small = int8.quantised(network, [batch])
    assert len(small) < len(network)
    whole, less = (onnxruntime.InferenceSession(one).run(None, batch)[0] for one in (network, small))
    scales = [numpy_helper.to_array(i) for i in onnx.load_from_string(small).graph.initializer if "_scale" in i.name]
    assert len(scales) > 10 and all(np.isfinite(scale).all() for scale in scales)
    assert np.abs(whole - less).max() < 0.4 * np.ptp(whole)


@pytest.mark.parametrize("trunk", ["unet", "vit"])
def test_boxes_are_found_in_bytes(trunk: str) -> None:
    model = tiny_model({"rgb@a": PICTURE}, trunk, boxes=plugins.parse("modality", TINY["boxes"]))
    network, batch = export.to_onnx(model).data, {"rgb@a": examples(model.architecture.parts, 4)[0]}
    small = int8.quantised(network, [batch])
    whole, less = (onnxruntime.InferenceSession(one).run(None, batch)[0] for one in (network, small))
    assert whole.shape == less.shape and (np.isnan(whole) == np.isnan(less)).all()
    assert "QuantizeLinear" in {node.op_type for node in onnx.load_from_string(small).graph.node}


def test_only_students_whose_bytes_changed_are_made_anew_and_none_is_taught_anew() -> None:
    known = inline.modalities(**TINY, rgb={"type": "image", "size": [16, 24]})
    fields = {**scenes.TRAIN, "stage": "distill", "targets": {"pos": "pos@a"}, "mask": "none"}
    students = [
        Distill.model_validate({**fields, "in": f"{name}@a", "int8": bytes_})
        for name, bytes_ in (("rgb", True), ("review", False), ("review", True))
    ]
    assert [one.revised_for(known) for one in students] == [{}, {}, {"padding in 8 bits": 2}]
    assert students[2].training.revised_for(known) == {}


def test_losses_by_hand() -> None:
    semantic, depth = scenes.KNOWN["semantic"], scenes.KNOWN["depth"]
    assert int8._lost(semantic, 0.5, 0.45) == pytest.approx(0.1)
    assert int8._lost(depth, 2.0, 2.5) == pytest.approx(0.25)
    assert int8._lost(depth, 2.0, 1.0) < 0 and int8._lost(semantic, 0.0, 0.0) == 0


def test_int8_may_be_said_in_a_word() -> None:
    def parsed(value: Any) -> Any:
        config = {**scenes.TRAIN, **STUDENT, "int8": value}
        return Distill.model_validate(config).int8

    assert parsed(True) == int8.Int8() and parsed(False) is None and parsed({"margin": 0.1}).margin == 0.1
    assert parsed(0.05).margin == 0.05
    with pytest.raises(ValueError, match="int8: true, or what it may cost"):
        parsed("yes please")
    with pytest.raises(ValueError, match="margn"):
        parsed({"margn": 0.1})
