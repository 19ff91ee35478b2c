"""One network over every type of modality: as inputs, as tasks, hidden at random, kept in files, and as answers."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch

from hyperloom.pipeline import plugins
from hyperloom.pipeline.errors import RecipeError
from hyperloom.stages.distill import export
from hyperloom.stages.modality import Raster
from hyperloom.stages.modality.boxes import Boxes
from hyperloom.stages.network.model import build_model, load_model
from hyperloom.stages.network.predictor import Predictor
from hyperloom.stages.network.visible import Visible
from hyperloom.stages.shard.loader import Loader
from hyperloom.stages.train import loop
from tests.training import everything
from tests.training.everything import COLUMNS, KNOWN

ALL: dict[str, Any] = {
    "in": list(COLUMNS),
    "targets": {n: f"{n}@a" for n in KNOWN},
    "model": {"trunk": {"type": "vit", "width": 4, "patch": 8, "depth": 2, "decoder": 1}},
    "mask": {"type": "modality", "keep": 0.5},
    "optimizer": {"lr": 0.01, "clip": 10.0},
    "updates": 70,
}
READABLE = [n for n in KNOWN if n not in ("caption", "words", "sound", "track", "boxes", "links")]
"""What a U-Net reads."""


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return everything.shards(tmp_path_factory.mktemp("root"))


@pytest.fixture(scope="module")
def learned(data: Any) -> tuple[Any, list[dict[str, float]]]:
    run = everything.job(data, **ALL)
    job, curve = run.stage.job(run), []
    loop.fit(job, log=lambda at, values: curve.append(values))
    return job, curve


def test_every_task_is_learned(learned: Any) -> None:
    _, curve = learned
    for task in KNOWN:
        told = [v[f"loss.{task}"] for v in curve if f"loss.{task}" in v]
        assert np.isfinite(told).all(), task
        share = 0.995 if isinstance(KNOWN[task], Raster) else 0.75  # pixels take longer
        assert np.mean(told[-16:]) < share * np.mean(told[:4]), (task, told[:4], told[-8:])


def test_predictions_are_values_of_their_modalities(data: Any, learned: Any) -> None:
    job, _ = learned
    model = load_model(job.storage, job.folder)
    batch = {k: v.numpy() for k, v in next(iter(_loader(data))).items()}
    told = Predictor(model, [[True] * len(COLUMNS), [c == "rgb@a" for c in COLUMNS]])(batch)
    right = {}
    for name, modality in KNOWN.items():
        made = modality.answer(told.mean[name])
        assert made.shape == (len(batch["rgb@a"]), *modality.shape), name
        cells = getattr(model.heads[name], "grid", None) if isinstance(modality, Boxes) else None
        sites = told.mean[name].shape[1:-1] if cells is None else cells  # boxes differ by the cells of their head
        assert told.spread[name].shape == (len(made), *sites, 1) and np.isfinite(told.spread[name]).all(), name
        for value in made:
            modality.check(value)
        right[name] = made
    there = batch["weather@a?"]
    assert (right["weather"] == batch["weather@a"])[there].mean() > 0.9
    assert (right["level"] == batch["level@a"])[batch["level@a?"]].mean() > 0.6
    texts = zip(right["caption"], batch["caption@a"], batch["caption@a?"], strict=True)
    same = [KNOWN["caption"].words(a) == KNOWN["caption"].words(b) for a, b, ok in texts if ok]
    assert np.mean(same) > 0.6


def _loader(data: Any) -> Loader:
    return Loader(data[0], data[1], KNOWN, COLUMNS, split="train", batch=16, shuffle=False)


def test_hidden_tokens_change_nothing_and_cost_nothing(data: Any, learned: Any) -> None:
    """Dropping hidden tokens gives what attending to the visible alone gives, whatever the hidden values are."""
    model = load_model(learned[0].storage, learned[0].folder)
    batch = next(iter(_loader(data)))
    visible = torch.rand(len(batch["rgb@a"]), len(COLUMNS), generator=torch.Generator().manual_seed(0)) < 0.4
    visible[:, 0] = True
    with torch.inference_mode():
        whole = model(batch, visible).predictions
        other = {c: v.clone() for c, v in batch.items()}
        for i, column in enumerate(COLUMNS):
            other[column][~visible[:, i]] = batch[column].flip(0)[~visible[:, i]]
        again = model(other, visible).predictions
        fused, *_ = model.fusion(model.encode(batch), Visible(visible[:1].expand(len(visible), -1)))
        alone = model({c: v[:1] for c, v in batch.items()}, visible[:1]).predictions
    for task, values in whole.items():
        assert torch.allclose(values, again[task], atol=1e-4), task
        assert torch.allclose(values[:1], alone[task], atol=1e-4), task  # padding of others does not matter
    everything_ = model.fusion(model.encode(batch), None)[0]
    assert fused.shape[1] < 0.6 * everything_.shape[1]


def test_the_unet_serves_every_head_over_rasters_and_numbers(data: Any) -> None:
    fields = {**ALL, "in": [f"{n}@a" for n in READABLE], "model": {"trunk": {"type": "unet", "width": 4}}, "updates": 3}
    run = everything.job(data, **fields)
    job, curve = run.stage.job(run), []
    loop.fit(job, log=lambda at, values: curve.append(values))
    assert all(np.isfinite(v) for values in curve for v in values.values())
    assert {f"loss.{n}" for n in KNOWN} <= set(curve[-1])


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"in": ["rgb@a", "caption@a"], "model": {"trunk": "unet"}}, "unet cannot read caption@a"),
        ({"in": ["weather@a"], "targets": {"depth": "depth@a"}, "model": {"trunk": "unet"}}, "needs a raster"),
        ({"targets": {"weather": "level@a"}}, "cannot teach 'weather'"),
        ({"targets": {"weather": "weather@a"}, "losses": {"weather": "huber"}}, "does not fit weather@a"),
        ({"targets": {"pose": "pose@a"}, "losses": {"pose": "kl"}}, "kl compares probabilities of classes"),
        ({"targets": {"pose": "pose@a"}, "losses": {"pose": ["l1", "dist"]}}, "dist compares probabilities of classes"),
        ({"targets": {"clue": "clue@a"}, "losses": {"clue": "kl"}}, "kl compares probabilities of classes"),
        ({"in": ["weather@a"], "targets": {"boxes": "boxes@a"}}, "lies in a picture"),
    ],
)
def test_what_a_trunk_cannot_do_is_said_before_it_starts(data: Any, fields: dict[str, Any], words: str) -> None:
    run = everything.job(data, **{**ALL, **fields})
    with pytest.raises(RecipeError, match=words):
        run.stage.job(run)


@pytest.mark.parametrize("mask", ["patch", {"type": "both"}, {"type": "dirichlet", "visible": "caption"}])
@pytest.mark.parametrize("masked", ["drop", "replace"])
def test_patches_are_hidden_from_the_transformer(data: Any, mask: Any, masked: str) -> None:
    trunk = {**ALL["model"]["trunk"], "masked": masked}
    run = everything.job(data, **{**ALL, "mask": mask, "model": {"trunk": trunk}, "updates": 2})
    job, curve = run.stage.job(run), []
    loop.Training(job, loop.World(), lambda at, values: curve.append(values)).run()
    assert np.isfinite(curve[-1]["loss"])


@pytest.mark.parametrize("trunk", ["vit", "unet"])
def test_a_model_of_every_type_becomes_an_onnx_file_for_any_number_of_samples(
    data: Any, learned: Any, trunk: str
) -> None:
    model = load_model(learned[0].storage, learned[0].folder)
    if trunk == "unet":
        inputs = tuple(i for i in model.architecture.inputs if i.column.removesuffix("@a") in READABLE)
        unet = plugins.parse("trunk", {"type": "unet", "width": 4})
        torch.manual_seed(0)
        model = build_model(replace(model.architecture, inputs=inputs, trunk=unet)).eval()
    exported = export.to_onnx(model)
    batch = next(iter(_loader(data)))
    assert not all(batch[f"{c}?"].all() for c in COLUMNS), "missing values are tried too"
    asked = {c: batch[c][:11] for c in model.architecture.columns}
    with torch.inference_mode():
        told = {name: made.numpy() for name, made in model.predict(asked).items()}
    session = onnxruntime.InferenceSession(exported.data, providers=["CPUExecutionProvider"])
    found = session.run(list(told), {c: v.numpy() for c, v in asked.items()})
    for (name, ours), theirs in zip(told.items(), found, strict=True):
        assert theirs == pytest.approx(ours, abs=3e-4 * max(1.0, float(np.nanmax(np.abs(ours)))), nan_ok=True), name
    _described(exported.about, told)


def _described(about: dict[str, Any], told: dict[str, np.ndarray]) -> None:
    """What is said of the outputs, in their order, is what came."""
    outputs = {o["name"]: o for o in about["outputs"]}
    assert list(outputs) == list(told) == list(KNOWN)
    for name, made in told.items():
        assert (outputs[name]["shape"], outputs[name]["dtype"]) == (list(made.shape[1:]), made.dtype.name), name
        assert (outputs[name]["type"], outputs[name]["head"]) == (KNOWN[name].type, KNOWN[name].head)
    assert outputs["depth"] == {"name": "depth", "shape": [16, 24, 1], "dtype": "float32", "type": "dense",
                                "head": "dense", "classes": [], "unit": "m"}  # fmt: skip
    shapes = {"level": [4], "boxes": [3, 6], "points": [4, 3], "caption": [14, 257], "links": [4, 4], "sound": [200]}
    assert {n: outputs[n]["shape"] for n in shapes} == shapes
    classes = {"soft": ["a", "b", "c"], "weather": ["sun", "rain", "snow"], "level": ["0", "1", "2", "3"],
               "boxes": ["x", "y"], "words": ["N", "V", "D"], "points": ["0", "1", "2", "3"], "clue": []}  # fmt: skip
    assert {n: outputs[n]["classes"] for n in classes} == classes
