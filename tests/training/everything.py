"""Samples with one column of every type of modality, all of them following one hidden number, as shards."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from hyperloom.pipeline.commits.manifest import Manifest
from hyperloom.pipeline.root.storage import Storage
from hyperloom.stages.shard.stage import Shard
from hyperloom.stages.train.stage import Train
from tests.unit import inline

SIZE = [16, 24]
KNOWN: dict[str, Any] = inline.modalities(
    rgb={"type": "image", "size": SIZE},
    depth={"type": "dense", "unit": "m"},
    semantic={"type": "segmentation", "classes": ["a", "b", "c"]},
    soft={"type": "soft", "of": "semantic"},
    weather={"type": "category", "classes": ["sun", "rain", "snow"]},
    traits={"type": "multilabel", "classes": ["big", "red", "old"]},
    level={"type": "ordinal", "levels": 4},
    pose={"type": "vector", "length": 5},
    speed={"type": "scalar"},
    boxes={"type": "boxes", "classes": ["x", "y"], "most": 3},
    points={"type": "keypoints", "points": 4},
    caption={"type": "text", "length": 14},
    words={"type": "tags", "tags": ["N", "V", "D"], "length": 5},
    clue={"type": "embedding", "length": 6},
    sound={"type": "audio", "rate": 1000, "seconds": 0.2},
    track={"type": "series", "steps": 20, "channels": 2},
    links={"type": "graph", "nodes": 4, "edges": 5},
    film={"type": "clip", "frames": 2},
)
COLUMNS = tuple(f"{name}@a" for name in KNOWN)


def sample(random: np.random.Generator, index: int) -> dict[str, Any]:
    """Everything follows `k`, one of three; every seventh value is missing."""
    k = int(random.integers(0, 3))
    width = SIZE[1]
    truth = np.full(SIZE, k, np.uint8)
    truth[:, width // 2 :] = (k + 1) % 3
    rgb = np.clip(np.stack([truth * 80 + 40] * 3, -1) + random.normal(0, 5, (*SIZE, 3)), 0, 255).astype(np.uint8)
    track = np.full((20, 2), np.nan, np.float32)
    track[: 10 + 4 * k] = k + random.normal(0, 0.1, (10 + 4 * k, 2))
    beat = np.sin(np.arange(200) * (k + 1) * 0.3)
    found: dict[str, Any] = {
        "rgb": rgb,
        "depth": (5 + 3.0 * truth[..., None]).astype(np.float32),
        "semantic": truth,
        "soft": np.eye(3, dtype=np.float32)[truth] * 0.9 + np.float32(0.1 / 3),
        "weather": k,
        "traits": np.array([k == 0, k == 1, 255 if k == 2 else 0], np.uint8) * np.array([1, 1, 1], np.uint8),
        "level": k + 1,
        "pose": np.arange(5) * (k - 1.0) + 3,
        "speed": [10.0 * k],
        "boxes": [{"x0": 0.1 + 0.2 * k, "y0": 0.2, "x1": 0.4 + 0.2 * k, "y1": 0.7, "class": k % 2}],
        "points": {str(i): [0.2 + 0.2 * k, 0.1 * i] for i in range(4) if i != k},
        "caption": ["sun is up", "raining", "snow, snow"][k],
        "words": [["D", "N"], ["N", "V", "D"], ["V"]][k],
        "clue": np.cos(np.arange(6) * (k + 1.0)),
        "sound": (0.5 * beat).astype(np.float32),
        "track": track[: 10 + 4 * k],
        "links": [(0, 1), (1, 2 + k % 2), (3, k)],
        "film": np.stack([rgb, 255 - rgb]),
    }
    values: dict[str, Any] = {f"{n}@a": KNOWN[n].fit(v) for n, v in found.items()}
    if index % 7 == 6:
        values[COLUMNS[index % len(COLUMNS)]] = None
    return values


def shards(root: Path, count: int = 32) -> tuple[Storage, Manifest]:
    storage, random = Storage(str(root)), np.random.default_rng(0)
    frames = inline.ingested(storage, KNOWN, {"g": [sample(random, i) for i in range(count)]})
    stage = Shard.model_validate({"stage": "shard", "data": "frames"})
    return storage, inline.finish(inline.step(stage, storage, KNOWN, "shards", frames=frames))


def job(data: tuple[Storage, Manifest], **fields: Any) -> Any:
    """A training over the shards; `fields` are those of the stage."""
    config = Train.model_validate({"stage": "train", "data": "shards", "batch": 8, "log_every": 1, **fields})
    return inline.step(config, data[0], KNOWN, "teacher", shards=data[1])
