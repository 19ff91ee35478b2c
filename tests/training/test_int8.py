"""Students in 8 bits: what they cost is measured on samples that chose no scale, and one that costs too much is left
out in words."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest

from hyperloom.pipeline.commits.manifest import Manifest
from hyperloom.stages.distill import int8
from hyperloom.stages.distill.stage import Distill
from hyperloom.stages.network.stored import weight_bytes
from hyperloom.stages.results import Trained
from hyperloom.stages.train import validation
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
