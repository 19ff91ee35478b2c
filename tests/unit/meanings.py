"""The scenes of `scenes`, with the same truth once more in other orders of the classes and in other units."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from hyperloom.pipeline.commits.manifest import Manifest
from hyperloom.pipeline.root.storage import Storage
from hyperloom.stages.shard.stage import Shard
from tests.unit import inline, scenes

ORDER = ("road", "forest", "land")
PLACES = [ORDER.index(name) for name in scenes.CLASSES]
KNOWN: dict[str, Any] = scenes.KNOWN | inline.modalities(
    rgb={"type": "image", "size": list(scenes.SIZE)},
    other={"type": "segmentation", "classes": list(ORDER)},
    foreign={"type": "segmentation", "classes": ["road", "forest", "sea"]},
    more={"type": "segmentation", "classes": [*scenes.CLASSES, "sea"]},
    osoft={"type": "soft", "classes": list(ORDER)},
    depth_cm={"type": "dense", "unit": "cm", "storage": "float32"},
    depth_px={"type": "dense", "unit": "px"},
    depth_bare={"type": "dense"},
    place={"type": "category", "classes": list(scenes.CLASSES)},
    oplace={"type": "category", "classes": list(ORDER)},
    tags={"type": "multilabel", "classes": list(scenes.CLASSES)},
    otags={"type": "multilabel", "classes": list(ORDER)},
    chances={"type": "vector", "length": 3, "classes": list(scenes.CLASSES)},
    ochances={"type": "vector", "length": 3, "classes": list(ORDER)},
    near={"type": "dense", "unit": "m", "range": [0, 10]},
    far={"type": "dense", "unit": "m", "range": [0, 50]},
    far_cm={"type": "dense", "unit": "centimetres", "range": [0, 5000], "storage": "uint16"},
)


def turned(ids: np.ndarray) -> np.ndarray:
    """Ids of the scenes' classes in the other order."""
    table = np.arange(256, dtype=np.uint8)
    table[: len(PLACES)] = PLACES
    return table[ids]


def scene(random: np.random.Generator, index: int) -> dict[str, Any]:
    """A scene and its truths in other words."""
    sample = scenes.scene(random, index)
    truth, depth = sample["semantic@truth"], sample["depth@laser"]
    most = int(np.bincount(truth[truth < 3].reshape(-1), minlength=3).argmax())
    there = np.isin([0, 1, 2], truth).astype(np.uint8)
    back = [scenes.CLASSES.index(name) for name in ORDER]
    return sample | {
        "other@truth": turned(truth),
        "osoft@teacher": sample["soft@teacher"][..., back],
        "depth_cm@laser": None if depth is None else depth * 100,
        "place@truth": np.array(most),
        "oplace@truth": np.array(PLACES[most]),
        "chances@soft": np.eye(3, dtype=np.float32)[most] * 0.9 + 0.1 / 3,
        "ochances@soft": (np.eye(3, dtype=np.float32)[most] * 0.9 + 0.1 / 3)[back],
        "tags@truth": there,
        "otags@truth": there[back],
        "far@laser": depth,
        "far_cm@laser": None if depth is None else depth * 100,
    }


def shards(root: Path) -> tuple[Storage, Manifest, Manifest]:
    """A root, an ingest and a shard manifest of 16 samples: g1 tests, g0 validates."""
    storage, random = Storage(str(root)), np.random.default_rng(0)
    frames = inline.ingested(storage, KNOWN, {f"g{g}": [scene(random, i) for i in range(4)] for g in range(4)})
    stage = Shard.model_validate(
        {"stage": "shard", "data": "frames", "split": {"pin": {"test": ["g1"], "val": ["g0"]}}}
    )
    return storage, frames, inline.finish(inline.step(stage, storage, KNOWN, "shards", frames=frames))
