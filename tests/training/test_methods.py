"""Methods that the core does not know: parts of a network from a file outside the packages, trained, resumed, shared by
two workers, exported and asked like those that ship."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from safetensors.torch import load

from hyperloom.pipeline.errors import RecipeError
from hyperloom.stages.distill import export
from hyperloom.stages.network.architecture import Architecture
from hyperloom.stages.network.model import load_model
from hyperloom.stages.network.predictor import Predictor
from hyperloom.stages.shard.loader import Loader
from hyperloom.stages.train import checkpoint, loop
from hyperloom.stages.train.job import Job
from hyperloom.stages.train.notice import Preempted
from tests.training import everything, ranks
from tests.training.everything import KNOWN
from tests.training.methods import Recurrent
from tests.training.test_worlds import same
from tests.unit import scenes

pytestmark = pytest.mark.timeout(500)
OWN = "tests.training.methods"
FIELDS: dict[str, Any] = {
    "in": ["rgb@a", "points@a", "links@a", "words@a"],
    "targets": {"weather": "weather@a", "caption": "caption@a", "depth": "depth@a"},
    "model": {
        "trunk": {"type": f"{OWN}:Adapted", "width": 2, "patch": 8, "depth": 2, "early": ["weather"]},
        "heads": {"weather": {"type": f"{OWN}:Codebook", "codes": 5}, "caption": f"{OWN}:Decoder", "depth": "dense"},
        "encoders": {
            "points@a": {"type": f"{OWN}:Messages", "with": "links@a"},
            "rgb": {"type": "patches", "patch": 4},
        },
    },
    "mask": {"type": "modality", "keep": 0.6},
    "optimizer": {"lr": 0.01},
    "updates": 6,
    "batch": 6,
    "checkpoint_every": 2,
}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return everything.shards(tmp_path_factory.mktemp("root"), count=16)


def made(data: Any, name: str, **fields: Any) -> Job:
    run = everything.job(data, **{**FIELDS, **fields})
    return replace(run.stage.job(run), folder=f"train/{name}")


def weights(job: Job) -> bytes:
    return scenes.weights(job.storage, job.folder)


@pytest.fixture(scope="module")
def alone(data: Any) -> Job:
    job = made(data, "alone")
    Recurrent.seen.clear()
    loop.fit(job)
    assert Recurrent.seen == [True] * 6, "its own target in every update"
    return job


def test_loss_terms_are_on_the_curve_and_in_the_sum(alone: Job) -> None:
    state = checkpoint.load(alone.storage, alone.folder)
    assert state is not None
    for values in (entry["values"] for entry in state["history"] if "loss" in entry["values"]):
        each = [v for name, v in values.items() if name.startswith("loss.")]
        assert {"loss.commitment", "loss.size"} < set(values) and all(v > 0 for v in each)
        assert values["loss"] == pytest.approx(sum(each), rel=1e-4)
    assert state["history"][-1]["values"]["loss"] < state["history"][0]["values"]["loss"]


def test_a_training_of_own_parts_is_resumed_to_the_byte(data: Any, alone: Job) -> None:
    job = made(data, "resumed")
    for update in (1, 3):
        with pytest.raises(Preempted):
            loop.fit(job, request=ranks.At(update))
    loop.fit(job)
    assert weights(job) == weights(alone)


def test_the_model_says_what_was_chosen_and_nothing_else(data: Any, alone: Job) -> None:
    architecture = load_model(alone.storage, alone.folder).architecture
    assert architecture.columns == ("rgb@a", "points@a", "words@a")
    assert Architecture.from_json(architecture.to_json()) == architecture
    heads = {t["name"]: t.get("head") for t in architecture.to_json()["tasks"]}
    assert heads == {"weather": {"type": f"{OWN}:Codebook", "codes": 5}, "caption": {"type": f"{OWN}:Decoder"},
                     "depth": None}  # fmt: skip
    encoders = [i.get("encoder", {}).get("type") for i in architecture.to_json()["inputs"]]
    assert encoders == ["patches", f"{OWN}:Messages", None]


def test_own_parts_become_onnx_and_predict_without_targets(data: Any, alone: Job) -> None:
    model = load_model(alone.storage, alone.folder)
    exported = export.to_onnx(model)  # compares the two by itself
    loader = Loader(data[0], data[1], KNOWN, tuple(FIELDS["in"]), split="train", batch=7, shuffle=False)
    batch = {k: v.numpy() for k, v in next(iter(loader)).items()}
    told = Predictor(model, [[True] * 3])({c: v for c, v in batch.items() if not c.endswith("?")}).mean
    session = onnxruntime.InferenceSession(exported.data, providers=["CPUExecutionProvider"])
    assert {i.name for i in session.get_inputs()} == set(FIELDS["in"])
    found = session.run(None, {i.name: batch[i.name] for i in session.get_inputs()})
    for task, ours in zip(exported.about["outputs"], found, strict=True):
        assert told[task["name"]] == pytest.approx(ours, abs=1e-3 * max(1.0, float(np.abs(ours).max())))
    assert [o["head"] for o in exported.about["outputs"]] == [f"{OWN}:Codebook", f"{OWN}:Decoder", "dense"]


def test_an_input_of_two_columns_is_missing_where_one_of_them_is(data: Any, alone: Job) -> None:
    model = load_model(alone.storage, alone.folder)
    loader = Loader(data[0], data[1], KNOWN, tuple(FIELDS["in"]), split="train", batch=4, shuffle=False)
    batch = {k: v.numpy() for k, v in next(iter(loader)).items()}
    asked = Predictor(model, [[True] * 3])
    hidden = asked({**batch, "links@a?": np.zeros(4, bool)}).mean["depth"]
    both = asked({**batch, "points@a?": np.zeros(4, bool), "links@a?": np.zeros(4, bool)}).mean["depth"]
    assert np.array_equal(hidden, both) and not np.allclose(hidden, asked(batch).mean["depth"], atol=1e-6)


def test_two_workers_and_parts_train_own_parts_as_one(data: Any, alone: Job, tmp_path: Path) -> None:
    extras = {"views": {"type": "contrastive", "between": "rgb@a", "project": 4}}
    options: dict[str, dict[str, Any]] = {
        "pair": {},
        "pair-parts": {"micro": 2},
        "pair-sharded": {"parallel": "fsdp", "extras": extras},
        "pair-upgrad": {"balancer": "upgrad"},
    }
    jobs = {name: made(data, name, **fields) for name, fields in options.items()}
    assert ranks.train([(j, 0) for j in jobs.values()], 2, tmp_path) == ["done"] * len(jobs)
    for name in ("pair", "pair-parts"):
        same(jobs[name], alone)
    for name in ("pair-sharded", "pair-upgrad"):
        whole = made(data, f"{name}-alone", **{**options[name], "parallel": "ddp"})
        loop.fit(whole)
        same(jobs[name], whole)
    parts = made(data, "parts", micro=2)
    loop.fit(parts)
    same(parts, alone)


def test_own_parts_train_in_bfloat16_and_store_float32(data: Any, alone: Job) -> None:
    extras = {"views": {"type": "contrastive", "between": "rgb@a", "project": 4}}
    job = made(data, "bf16", precision="bf16", extras=extras, updates=2)
    loop.fit(job)
    assert {v.dtype for v in load(weights(job)).values()} == {torch.float32}


@pytest.mark.parametrize(
    ("model", "words"),
    [
        ({"heads": {"wether": "classify"}}, "heads names wether, but the tasks are weather"),
        ({"encoders": {"film": "frames"}}, "encoders names film, but the inputs are rgb@a"),
        ({"encoders": {"points@a": {"type": f"{OWN}:Messages", "with": "edges@a"}}}, "encoders names edges@a"),
    ],
)
def test_a_part_of_what_is_not_there_is_refused_before_anything_runs(data: Any, model: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        everything.job(data, **{**FIELDS, "model": model})


@pytest.mark.parametrize(
    ("encoder", "words"),
    [
        ({"type": "points", "with": "links@a"}, "'points' of points@a reads one column"),
        (f"{OWN}:Messages", "needs its edges"),
    ],
)
def test_an_encoder_that_cannot_read_an_input_is_refused(data: Any, encoder: Any, words: str) -> None:
    with pytest.raises(RecipeError, match=words):
        made(data, "x", model={**FIELDS["model"], "encoders": {"points@a": encoder}})
