"""Trained models in use: files, predictions from any subset of inputs, ensembles, the expert, the ONNX file."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from hyperloom.pipeline.commits.manifest import Manifest
from hyperloom.pipeline.errors import IntegrityError, RecipeError
from hyperloom.stages.distill import export
from hyperloom.stages.distill.stage import Distill
from hyperloom.stages.label.model import Model
from hyperloom.stages.label.stage import Label
from hyperloom.stages.network.ensemble import Masks, predictor
from hyperloom.stages.network.masks import ModalityMask
from hyperloom.stages.network.model import MultiTask, load_model
from hyperloom.stages.train import loop
from tests.unit import inline, scenes


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Manifest, Manifest]:
    """A root, its ingest manifest, and the manifest of a teacher that has learned something."""
    storage, frames, made = scenes.shards(tmp_path_factory.mktemp("root"))
    run = scenes.step(storage, made, **scenes.LEARN)
    loop.fit(run.stage.job(run))
    return storage, frames, inline.finish(run)


def _batch(count: int = 4) -> dict[str, np.ndarray]:
    random = np.random.default_rng(5)
    samples = [scenes.scene(random, 0) for _ in range(count)]
    return {c: np.stack([s[c] for s in samples]) for c in ("rgb@camera", "semantic@noisy", "semantic@truth")}


def _right(told: np.ndarray, batch: dict[str, np.ndarray]) -> float:
    truth = batch["semantic@truth"]
    return float((told.argmax(-1) == truth)[truth != 255].mean())


def test_a_model_answers_from_any_subset(trained: Any) -> None:
    storage, _, teacher = trained
    told, batch = predictor(storage, teacher), _batch()
    whole = told(batch)
    assert whole.mean["semantic"].shape == (4, *scenes.SIZE, 3)
    assert whole.mean["semantic"].sum(-1) == pytest.approx(np.ones((4, *scenes.SIZE)), abs=1e-5)
    assert _right(whole.mean["semantic"], batch) > 0.85
    assert 5 < whole.mean["depth"].mean() < 25  # in metres
    assert not whole.spread["semantic"].any()
    alone = told({"rgb@camera": batch["rgb@camera"]}).mean["semantic"]
    masked = told({**batch, "semantic@noisy?": np.zeros(4, bool)}).mean["semantic"]
    assert np.array_equal(alone, masked)
    assert not np.allclose(alone, whole.mean["semantic"])
    assert _right(alone, batch) > 0.7


def test_predicted_numbers_stay_within_their_modalitys_range(trained: Any) -> None:
    storage, _, teacher = trained
    free = load_model(storage, teacher.folder)
    tasks = [t if t.name != "depth" else replace(t, modality=_within(t.modality)) for t in free.architecture.tasks]
    bound = MultiTask(replace(free.architecture, tasks=tuple(tasks))).eval()
    bound.load_state_dict(free.state_dict())
    columns = {c: torch.from_numpy(_batch()[c]) for c in free.architecture.columns}
    with torch.inference_mode():
        before, after = free.predict(columns)["depth"], bound.predict(columns)["depth"]
    assert before.min() < 14 and before.max() > 16
    assert torch.equal(after, before.clamp(14, 16))


def _within(depth: Any) -> Any:
    return depth.model_copy(update={"range": (14.0, 16.0)})


def test_an_ensemble_is_the_mean_of_its_members(trained: Any) -> None:
    storage, _, teacher = trained
    batch = _batch()
    mask = ModalityMask(type="modality", visible="rgb")
    ensemble = Masks(type="masks", members=8, mask=mask)
    drawn = ensemble.members(("rgb@camera", "semantic@noisy"))
    assert drawn[0] == [True, True] and all(row[0] for row in drawn)
    told = predictor(storage, teacher)
    both, alone = told(batch).mean["depth"], told({"rgb@camera": batch["rgb@camera"]}).mean["depth"]
    share = np.mean([row[1] for row in drawn])
    made = predictor(storage, teacher, ensemble)(batch)
    assert made.mean["depth"] == pytest.approx(share * both + (1 - share) * alone, abs=1e-3)
    expected = np.sqrt(share * (1 - share)) * np.abs(both - alone)
    assert made.spread["depth"] == pytest.approx(expected, abs=2e-2)


def test_a_trained_model_is_an_expert(trained: Any) -> None:
    storage, frames, teacher = trained
    out = ["semantic@model", "soft@model", "depth@model", "spread@model"]
    expert = {"type": "model", "model": "teacher", "out": out, "ensemble": {"type": "masks", "members": 4}}
    stage = Label.model_validate({"stage": "label", "data": "frames", "experts": [expert]})
    run = inline.step(stage, storage, scenes.KNOWN, "soft", frames=frames, teacher=teacher)
    made = inline.finish(run)
    classes, soft = (inline.column(storage, scenes.KNOWN, made, c) for c in out[:2])
    assert len(classes) == 16
    for key, told in classes.items():
        assert told is not None and soft[key] is not None  # also where the noisy labels are missing
        assert (told == soft[key].argmax(-1)).mean() > 0.99
    spread = inline.column(storage, scenes.KNOWN, made, "spread@model")
    for key, differs in spread.items():
        assert differs is not None and differs.any() == (not key.endswith("3"))  # with one input there is one opinion


def test_an_expert_that_the_model_cannot_serve_is_refused(trained: Any) -> None:
    storage, frames, teacher = trained
    good = Model.model_validate({"type": "model", "model": "teacher", "out": "semantic@teacher"})
    assert good.bind({"teacher": teacher}).in_ == ("rgb@camera", "semantic@noisy")
    with pytest.raises(RecipeError, match="holds no model"):
        good.bind({"teacher": frames})
    for wrong, said in (
        ({"in": "depth@a"}, "the model of 'teacher' has no input 'depth@a'"),
        ({"model": "frames"}, "'frames' gives samples"),
    ):
        expert = {"type": "model", "model": "teacher", "out": "semantic@teacher", **wrong}
        stage = Label.model_validate({"stage": "label", "data": "frames", "experts": [expert]})
        with pytest.raises(RecipeError, match=said):
            stage.units(inline.step(stage, storage, scenes.KNOWN, "soft", frames=frames, teacher=teacher))
    with pytest.raises(RecipeError, match="nothing for normals@teacher"):
        useless = good.model_copy(update={"out": ("normals@teacher",)}).bind({"teacher": teacher})
        useless.build(scenes.KNOWN, storage)
    with pytest.raises(IntegrityError, match="whole model"):
        load_model(storage, "train/nowhere")


def test_a_student_is_one_onnx_file_that_agrees(tmp_path: Any) -> None:
    storage, _, made = scenes.shards(tmp_path)
    run = scenes.step(
        storage, made, Distill, stage="distill", teacher="teacher", mask="none", **{"in": "rgb@camera"},
        targets={"semantic": {"soft@teacher": 1.0, "semantic@truth": 0.5}, "depth": "depth@laser"}, updates=2,
        losses={"soft": {"type": "kl", "temperature": 2}},
    )  # fmt: skip
    loop.fit(run.stage.job(run))
    student = inline.finish(run)
    data = storage.read(next(f.path for f in student.all_files() if f.path.endswith(".onnx")))
    model = load_model(storage, student.folder)
    assert export.compare(model, data, samples=1) < 1e-4
    assert export.to_onnx(model).data == data
    assert b"site-packages" not in data and __file__.encode() not in data
    session = _session(data)
    image = _batch(3)["rgb@camera"]
    told = dict(zip((o.name for o in session.get_outputs()), session.run(None, {"rgb@camera": image}), strict=True))
    ours = predictor(storage, student)({"rgb@camera": image}).mean
    assert told["semantic"] == pytest.approx(ours["semantic"], abs=1e-4)
    assert told["depth"] == pytest.approx(ours["depth"], abs=1e-3)


def _session(data: bytes) -> Any:
    import onnxruntime

    return onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
