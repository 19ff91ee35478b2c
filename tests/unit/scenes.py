"""Tiny scenes with labels, as shards that training can read: blocks of classes, their colours, noise and depth."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from hyperloom.pipeline.commits.manifest import Manifest
from hyperloom.pipeline.root.storage import Storage
from hyperloom.stages.shard.stage import Shard
from hyperloom.stages.train import fitted
from hyperloom.stages.train.job import Job
from hyperloom.stages.train.stage import Train
from tests.unit import inline

SIZE = (16, 24)
CLASSES = ("land", "forest", "road")
KNOWN: dict[str, Any] = inline.modalities(
    rgb={"type": "image", "size": list(SIZE)},
    semantic={"type": "segmentation", "classes": list(CLASSES)},
    soft={"type": "soft", "of": "semantic"},
    depth={"type": "dense", "unit": "m"},
    normals={"type": "dense", "channels": 3, "direction": True},
    spread={"type": "dense"},
)
TRAIN: dict[str, Any] = {
    "stage": "train",
    "data": "shards",
    "in": ["rgb@camera", "semantic@noisy"],
    "targets": {"semantic": "semantic@truth", "depth": "depth@laser"},
    "model": {"trunk": {"type": "unet", "width": 2}},
    "mask": {"type": "modality", "keep": 0.6},
    "batch": 4,
    "updates": 8,
    "checkpoint_every": 3,
    "log_every": 1,
}
TEACHER = "e" * 64
"""Fingerprint of the step whose answers `soft@teacher` are."""
LEARN: dict[str, Any] = {"model": {"parameters": "160k"}, "optimizer": {"lr": 0.02}, "updates": 40, "log_every": 10}
"""Enough to learn these scenes in a second."""


def scene(random: np.random.Generator, index: int) -> dict[str, Any]:
    """One sample. Every fourth has no noisy labels, every third no depth; some truth pixels are unknown."""
    height, width = SIZE
    truth = np.kron(random.integers(0, 3, (height // 8, width // 8)), np.ones((8, 8), int)).astype(np.uint8)
    colours = np.array([[150, 140, 90], [40, 90, 50], [120, 120, 130]])[truth]
    rgb = np.clip(colours + random.normal(0, 12, (height, width, 3)), 0, 255).astype(np.uint8)
    noisy = np.where(random.random(truth.shape) < 0.3, random.integers(0, 3, truth.shape), truth).astype(np.uint8)
    depth = (10 + 5.0 * truth[..., None] + random.normal(0, 0.2, (height, width, 1))).astype(np.float32)
    soft = (np.eye(3, dtype=np.float32)[truth] * 0.9 + 0.1 / 3).astype(np.float32)
    marked = truth.copy()
    marked[:2, :2] = 255
    return {
        "rgb@camera": rgb,
        "semantic@noisy": None if index % 4 == 3 else noisy,
        "semantic@truth": marked,
        "depth@laser": None if index % 3 == 2 else depth,
        "soft@teacher": soft,
    }


def shards(root: Path, val: bool = False) -> tuple[Storage, Manifest, Manifest]:
    """A root, an ingest and a shard manifest of 16 samples: g1 tests, with `val` g0 validates, others train."""
    storage, random = Storage(str(root)), np.random.default_rng(0)
    made = inline.ingested(storage, KNOWN, {f"g{g}": [scene(random, i) for i in range(4)] for g in range(4)})
    about = {"kind": "expert", "expert": {"type": "model"}, "revision": 1, "models": [TEACHER]}
    made.body["columns"]["soft@teacher"]["about"] = about
    pin = {"test": ["g1"], **({"val": ["g0"]} if val else {})}
    stage = Shard.model_validate({"stage": "shard", "data": "frames", "split": {"pin": pin}})
    return storage, made, inline.finish(inline.step(stage, storage, KNOWN, "shards", frames=made))


def step(storage: Storage, made: Manifest, kind: type[Train] = Train, **fields: Any) -> Any:
    """A StepRun of a training over the shards `made`; `fields` replace those of `TRAIN`."""
    config = kind.model_validate({**TRAIN, **fields})
    teacher = Manifest("train", TEACHER, {}, body={"columns_in": ["rgb@camera"], "tasks": ["semantic"]})
    return inline.step(config, storage, KNOWN, "teacher", shards=made, teacher=teacher)


def job(data: Any, name: str, **fields: Any) -> Job:
    """A training over `shards(...)` in a folder of its own."""
    run = step(data[0], data[2], **fields)
    return replace(run.stage.job(run), folder=f"train/{name}")


def trained(storage: Storage, folder: str) -> tuple[bytes, Any]:
    """What a training has left, to be compared with another: its weights, and how it ended."""
    return weights(storage, folder), storage.read_json(f"{folder}/trained.json")


def weights(storage: Storage, folder: str, name: str = "model.safetensors") -> bytes:
    """The weights, or another file of the model, that a training in `folder` has left."""
    done = fitted.load(storage, folder)
    assert done is not None, folder
    (path,) = (file.path for file in done.files if file.path.endswith(f"/{name}"))
    return storage.read(path)


class Said:
    """A training's log that keeps what is said once."""

    def __init__(self) -> None:
        self.texts: list[str] = []

    def __call__(self, at: int, values: dict[str, float]) -> None: ...

    def once(self, text: str) -> None:
        self.texts.append(text)
