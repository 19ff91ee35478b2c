"""Who made a column can be read back from the label file, from the shard and from MLflow, and is the same in all."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pyarrow.parquet as pq
import pytest

import hyperloom.stages  # noqa: F401  registers the plug-ins
from hyperloom.pipeline.output.progress import Progress
from hyperloom.pipeline.recipes import recipe
from hyperloom.pipeline.root.storage import Storage, sha256
from hyperloom.pipeline.running.runner import run
from tests.tracking.conftest import Server, track

RECIPE = """\
name: provenance
root: {folder}/root
modalities:
  rgb:   {{type: image, size: [16, 16]}}
  depth: {{type: dense, range: [0, 1]}}
  edges: {{type: dense, range: [0, 1]}}
steps:
  frames: {{stage: ingest, source: {{type: files, path: "{folder}/images"}}}}
  labels:
    stage: label
    data: frames
    experts:
      - type: torch
        path: {folder}/net.pth
        net: torch.nn:Conv2d
        arguments: {{in_channels: 3, out_channels: 1, kernel_size: 1}}
        in: rgb@camera
        out: depth@net
        decode: {{type: dense, activation: sigmoid}}
      - {{type: edges, in: rgb@camera, out: edges@sobel, method: sobel}}
  shards: {{stage: shard, data: [frames, labels]}}
"""


@pytest.mark.timeout(240)
def test_who_made_a_column_is_known_everywhere(server: Server, client: Any, tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    (tmp_path / "images").mkdir()
    for i in range(3):
        cv2.imwrite(str(tmp_path / f"images/{i}.png"), np.full((16, 16, 3), 40 * i, np.uint8))
    torch.save(torch.nn.Conv2d(3, 1, 1).state_dict(), tmp_path / "net.pth")
    ready = recipe.parse(RECIPE.format(folder=tmp_path))
    run(ready, None, track=False, progress=Progress(io.StringIO(), quiet=True))
    storage = Storage(ready.recipe.root)
    (name,) = storage.names("events")
    process = track(storage, name, server.url, "provenance")
    _, said = process.communicate(timeout=90)
    assert process.returncode == 0, said
    found = client.get_experiment_by_name("provenance")
    runs = {r.info.run_name: r for r in client.search_runs([found.experiment_id])}
    weights = [sha256((tmp_path / "net.pth").read_bytes())]
    expected = {
        "depth@net": {"kind": "expert", "expert": "torch", "revision": 1, "inputs": ["rgb@camera"], "weights": weights},
        "edges@sobel": {"kind": "expert", "expert": "edges", "revision": 1, "inputs": ["rgb@camera"], "weights": []},
    }
    for step in ("labels", "shards"):
        tags = runs[step].data.tags
        assert {c: json.loads(tags[f"column.{c.replace('@', '.')}"]) for c in expected} == expected
        assert "column.rgb.camera" not in tags
    files = [p for p in (tmp_path / "root").rglob("*.parquet") if "ingest" not in str(p)]
    told = [(c, field) for p in files for c in expected for field in pq.read_schema(p) if field.name == c]
    assert len(told) == 4, "each column is in a label file and in a shard"
    for column, field in told:
        made = json.loads(field.metadata[b"hyperloom"])["producer"]
        assert {**made, "expert": made["expert"]["type"]} == expected[column]
