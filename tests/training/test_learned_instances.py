"""Instances end to end without Ray: shapes of two classes in pictures, as shards, learned, answered and judged."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from hyperloom.pipeline.root.storage import Storage
from hyperloom.stages.measure.scores import measures, score
from hyperloom.stages.network.model import load_model
from hyperloom.stages.network.predictor import Predictor
from hyperloom.stages.shard.loader import Loader
from hyperloom.stages.shard.stage import Shard
from hyperloom.stages.train import loop
from hyperloom.stages.train.stage import Train
from tests.unit import inline

SIZE = (32, 32)
KNOWN: dict[str, Any] = inline.modalities(
    rgb={"type": "image", "size": list(SIZE)},
    things={"type": "instances", "classes": ["square", "disc"], "most": 4},
)
COLUMNS = ("rgb@a", "things@a")
UPDATES = 120


def sample(random: np.random.Generator) -> dict[str, Any]:
    """Two to four shapes, one a quarter of the picture: red squares and green discs of some size and place."""
    y, x = np.mgrid[:32, :32]
    rgb, things = random.normal(60, 8, (*SIZE, 3)), []
    for place in random.permutation(4)[: int(random.integers(2, 5))]:
        top, left = 16 * (place // 2) + random.integers(6, 10), 16 * (place % 2) + random.integers(6, 10)
        radius, kind = random.integers(3, 6), int(random.integers(2))
        far = np.maximum(abs(y - top), abs(x - left)) if kind == 0 else np.hypot(y - top, x - left)
        mask = far <= radius
        rgb[mask, kind] += 130
        things.append({"mask": mask, "class": kind, "id": int(place) + 1})
    return {"rgb@a": rgb.clip(0, 255).astype(np.uint8), "things@a": KNOWN["things"].fit(things)}


def test_a_network_learns_to_tell_shapes_apart(tmp_path: Path) -> None:
    storage, random = Storage(str(tmp_path)), np.random.default_rng(0)
    groups = {name: [sample(random) for _ in range(count)] for name, count in (("g", 96), ("h", 16))}
    frames = inline.ingested(storage, KNOWN, groups, rows=16)
    stage = Shard.model_validate({"stage": "shard", "data": "frames"})
    shards = inline.finish(inline.step(stage, storage, KNOWN, "shards", frames=frames))
    assert shards.body["statistics"]["things@a"]["classes"]["disc"] > 50
    config = Train.model_validate({
        "stage": "train", "data": "shards", "batch": 8, "in": ["rgb@a"], "targets": {"things": "things@a"},
        "model": {"trunk": {"type": "unet", "width": 12}}, "augment": [{"type": "flip"}],
        "optimizer": {"lr": 0.01, "clip": 10.0}, "updates": UPDATES, "log_every": 20,
    })  # fmt: skip
    run = inline.step(config, storage, KNOWN, "teacher", shards=shards)
    job = run.stage.job(run)
    loop.fit(job, log=lambda at, values: None)
    model = load_model(job.storage, job.folder)
    loader = Loader(storage, shards, KNOWN, COLUMNS, split="train", batch=16, shuffle=False)
    batch = {k: v.numpy() for k, v in next(iter(loader)).items()}
    things = KNOWN["things"]
    answers = things.answer(Predictor(model, [[True]])(batch).mean["things"])
    for value in answers:
        things.check(value)
    figures = measures(things, score(things, batch["things@a"], answers, *np.ones((2, len(answers)), bool)))
    assert figures["map50"] > 0.7 and figures["map"] > 0.4, figures
