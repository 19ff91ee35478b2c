"""A tiny training on a real cluster: two tasks of one U-Net, from twelve rendered frames."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

SIZE = (24, 32)


def recipe(root: Path, **training: Any) -> str:
    """The recipe's text, with more fields of its training."""
    model = {
        "stage": "train",
        "data": "shards",
        "in": "rgb@camera",
        "targets": {"semantic": "semantic@truth", "depth": "depth@truth"},
        "model": {"trunk": {"type": "unet", "width": 2}},
        **training,
    }
    return f"""\
name: tiny
root: {root}
modalities:
  rgb:      {{type: image, size: {list(SIZE)}}}
  semantic: {{type: segmentation, classes: [land, forest, road, water, building]}}
  depth:    {{type: dense, unit: m}}
  normals:  {{type: dense, channels: 3, direction: true}}
  flow:     {{type: dense, channels: 2, unit: px}}
  pose:     {{type: vector, length: 20}}
steps:
  frames: {{stage: ingest, source: {{type: flights, flights: 3, frames: 4, seed: 3}}, group: flight, rows: 4}}
  shards: {{stage: shard, data: frames}}
  model: {json.dumps(model)}
"""
