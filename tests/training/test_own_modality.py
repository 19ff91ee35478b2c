"""A modality of one's own, its encoder, head and measure, from a file outside the packages, up to a report."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest

from hyperloom.pipeline.commits.manifest import Manifest
from hyperloom.pipeline.root.storage import Storage
from hyperloom.stages.distill import export
from hyperloom.stages.evaluate.stage import Evaluate
from hyperloom.stages.network.model import load_model
from hyperloom.stages.shard.stage import Shard
from hyperloom.stages.train import loop
from hyperloom.stages.train.stage import Train
from tests.unit import inline

OWN = "tests.training.heading"
KNOWN: dict[str, Any] = inline.modalities(
    heading={"type": f"{OWN}:Heading"},
    wind={"type": f"{OWN}:Heading"},
    field={"type": "image", "size": [8, 8]},
)
FIELDS: dict[str, Any] = {
    "stage": "train",
    "data": "shards",
    "in": ["heading@compass", "field@camera"],
    "targets": {"wind": "wind@truth"},
    "model": {"trunk": {"type": "vit", "width": 4, "patch": 8, "depth": 1, "decoder": 0}},
    "optimizer": {"lr": 0.01},
    "updates": 120,
    "batch": 16,
}


def samples(count: int, seed: int) -> list[dict[str, Any]]:
    """The wind comes from where the heading is, and 90 degrees on."""
    random = np.random.default_rng(seed)
    headings = random.uniform(0, 360, count)
    fields = random.integers(0, 255, (count, 8, 8, 3)).astype(np.uint8)
    return [
        {
            "heading@compass": KNOWN["heading"].fit(h),
            "field@camera": f,
            "wind@truth": KNOWN["wind"].fit(h + 90),
            "wind@guess": KNOWN["wind"].fit(h),
        }
        for h, f in zip(headings, fields, strict=True)
    ]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Storage, Manifest, Manifest]:
    """The storage, the shards, and the model as its step leaves it."""
    storage = Storage(str(tmp_path_factory.mktemp("root")))
    raw = inline.ingested(storage, KNOWN, {"a": samples(64, 0), "b": samples(16, 1)})
    split = {"test": 0.2, "pin": {"test": ["b"], "train": ["a"]}}
    sharding = Shard.model_validate({"stage": "shard", "data": "frames", "split": split})
    shards = inline.finish(inline.step(sharding, storage, KNOWN, "shards", frames=raw))
    made = inline.finish(inline.step(Train.model_validate(FIELDS), storage, KNOWN, "compass", shards=shards))
    return storage, shards, made


def test_a_modality_from_outside_is_trained_and_judged_by_its_own_measure(trained: Any) -> None:
    storage, shards, model = trained
    stage = Evaluate.model_validate({"stage": "evaluate", "data": "shards", "models": ["compass"], "pictures": 2})
    body = inline.finish(inline.step(stage, storage, KNOWN, "report", shards=shards, compass=model)).body
    assert body["figures"]["guess"]["wind.turn"] == pytest.approx(90, abs=0.01)
    assert body["figures"]["compass"]["wind.turn"] < 20
    assert body["verdict"]["compass"]["wind"]["beats"] is True


def test_a_modality_from_outside_becomes_onnx(trained: Any) -> None:
    storage, _, made = trained
    model = load_model(storage, made.folder)
    exported = export.to_onnx(model)
    assert export.compare(model, exported.data, samples=7) < 1e-3
    session = onnxruntime.InferenceSession(exported.data, providers=["CPUExecutionProvider"])
    asked = np.array([[0.0], [100.0], [300.0]], np.float32)
    given = {"heading@compass": asked, "field@camera": np.full((3, 8, 8, 3), 128, np.uint8)}
    (told,) = session.run(None, given)
    apart = np.abs((told - (asked + 90) + 180) % 360 - 180)
    assert told.shape == (3, 1) and apart.max() < 45
    assert exported.about["outputs"][0]["head"] == f"{OWN}:Turn"


def test_a_modality_that_brings_nothing_is_read_and_predicted_by_its_shape(tmp_path: Path) -> None:
    shapes = {"one": (3,), "steps": (6, 2), "map": (8, 8, 2), "block": (2, 3, 4, 2)}
    types = {n: "Map" if n == "map" else "Plain" for n in shapes}
    known = inline.modalities(**{n: {"type": f"{OWN}:{types[n]}", "sizes": list(shapes[n])} for n in shapes})
    storage, random = Storage(str(tmp_path)), np.random.default_rng(0)
    rows = [{f"{n}@a": random.normal(3, 2, s).astype(np.float32) for n, s in shapes.items()} for _ in range(8)]
    raw = inline.ingested(storage, known, {"a": rows})
    sharding = Shard.model_validate({"stage": "shard", "data": "frames"})
    shards = inline.finish(inline.step(sharding, storage, known, "shards", frames=raw))
    fields = {"in": [f"{n}@a" for n in shapes], "targets": {n: f"{n}@a" for n in shapes}, "batch": 4, "updates": 30}
    fields |= {"optimizer": {"lr": 0.02}, "log_every": 1}
    step = inline.step(Train.model_validate({**FIELDS, **fields}), storage, known, "plain", shards=shards)
    job, curve = step.stage.job(step), []
    loop.fit(job, log=lambda at, values: curve.append(values) if "loss" in values else None)
    for name in shapes:
        assert np.mean([v[f"loss.{name}"] for v in curve[-5:]]) < 0.9 * curve[0][f"loss.{name}"], name
    model = load_model(storage, job.folder)
    exported = export.to_onnx(model)
    assert {o["name"]: tuple(o["shape"]) for o in exported.about["outputs"]} == shapes
    assert model.architecture.size == (8, 8)
