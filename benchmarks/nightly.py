"""A tiny recipe that goes from frames in a folder to a champion, and frames that arrive in it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

SIZE = (16, 24)
COLOURS = np.array([[150, 140, 90], [40, 90, 50], [120, 120, 130]])
RECIPE = """\
name: nightly
root: {folder}/root
modalities:
  rgb:      {{type: image, size: {size}}}
  semantic: {{type: segmentation, classes: [land, forest, road]}}
schedule: {schedule}
steps:
  frames:
    stage: ingest
    source:
      type: files
      path: "{folder}/incoming/*/*.png"
      group: "(?P<group>[^/]+)/"
      columns: {{semantic@truth: {{path: "{folder}/truth/{{key}}.png"}}}}
    rows: 4
  labels:
    stage: label
    data: frames
    experts:
      - type: color-classes
        in: rgb@camera
        out: semantic@color
        colors: {{land: ["#968c5a"], forest: ["#285a32"], road: ["#787882"]}}
  shards: {{stage: shard, data: [frames, labels], split: {{by: group, test: 0.4, salt: "{salt}"}}}}
{drift}  teacher: {{stage: train, data: shards, in: rgb@camera, targets: [semantic@color], {training}, updates: 1}}
  student: {{stage: distill, data: shards, in: rgb@camera, targets: {{semantic: semantic@color}},
            {training}, {student}}}
  report: {{stage: evaluate, data: shards, models: [student], champion: nightly, pictures: 0}}
  release: {{stage: release, model: student, report: report, name: nightly, gate: {{semantic.miou: "{gate}"}}}}
"""
TRAINING = "batch: 8, log_every: 10"
NETWORK = {"trunk": {"type": "unet", "width": 2}}
DRIFT = "  drift: {stage: drift, data: shards, champion: nightly, least: 6, pictures: 0}\n"
START = {"champion": "nightly", "absent": "fresh"}


def recipe(
    folder: Path,
    gate: str = ">= champion - 0.5",
    fresh: bool = False,
    salt: str = "",
    drift: bool = False,
    **student: Any,
) -> str:
    """The recipe's text; `fresh` trains from scratch rather than from the champion, `salt` deals the splits; with
    `drift` it trains only where new frames differ from the champion's."""
    model = json.dumps(NETWORK if fresh else {**NETWORK, "start": START})
    fields = json.dumps({"updates": 40, "optimizer": {"lr": 0.02}, **student})[1:-1]
    return RECIPE.format(
        folder=folder, size=list(SIZE), training=TRAINING, gate=gate, salt=salt, student=f"model: {model}, {fields}",
        schedule=f'{{cron: "0 3 * * *", on: {{type: {"drift" if drift else "new-data"}, samples: 4}}}}',
        drift=DRIFT if drift else "",
    )  # fmt: skip


def data_steps(text: str) -> str:
    """The recipe without what trains and what follows from it."""
    return text.partition("  teacher:")[0]


def arrive(folder: Path, group: str, count: int, seed: int = 0, light: int = 0) -> None:
    """`count` frames of a group, with their truth; `light` is added to all pixels."""
    import cv2

    random = np.random.default_rng([seed, *group.encode()])
    for part in ("incoming", "truth"):
        (folder / part / group).mkdir(parents=True, exist_ok=True)
    first = len(list((folder / "incoming" / group).iterdir()))
    for index in range(first, first + count):
        truth = np.kron(random.integers(0, 3, (SIZE[0] // 8, SIZE[1] // 8)), np.ones((8, 8), int)).astype(np.uint8)
        rgb = np.clip(COLOURS[truth] + light + random.normal(0, 12, (*SIZE, 3)), 0, 255).astype(np.uint8)
        cv2.imwrite(str(folder / "incoming" / group / f"{index:03d}.png"), rgb[..., ::-1])
        cv2.imwrite(str(folder / "truth" / group / f"{index:03d}.png"), truth)
