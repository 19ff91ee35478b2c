"""A sample that brings its worker's process down again and again ends in quarantine, alone; the rest is labelled."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from hyperloom.pipeline.root.storage import Storage
from tests.ray.conftest import RayCluster, hyperloom

RECIPE = """\
name: deadly
root: {folder}/root
modalities: {{rgb: {{type: image, size: [16, 16]}}, value: {{type: dense}}}}
steps:
  frames: {{stage: ingest, source: {{type: files, path: "{folder}/images"}}, rows: 6}}
  labels:
    stage: label
    data: frames
    experts: [{{type: "tests.ray.deadly:Deadly", mark: 5, in: rgb@camera, out: value@x}}]
"""


@pytest.mark.timeout(300)  # four processes start and die
def test_a_sample_that_kills_its_process_is_found(ray_cluster: RayCluster, tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    for i in range(12):
        cv2.imwrite(str(tmp_path / "images" / f"{i:03d}.png"), np.full((16, 16, 3), i, np.uint8))
    recipe = tmp_path / "deadly.yaml"
    recipe.write_text(RECIPE.format(folder=tmp_path))
    done = hyperloom("run", str(recipe), "--no-mlflow", env=ray_cluster.env, timeout=280)
    assert done.returncode == 0, done.stdout + done.stderr
    storage = Storage(str(tmp_path / "root"))
    (listed,) = [p for p in storage.walk("expert") if "/quarantine/" in p]
    (sample,) = storage.read_json(listed)
    assert sample["key"] == "005" and "died on this sample" in sample["error"]
    (manifest,) = [p for p in storage.walk("label") if p.endswith("manifest.json")]
    assert json.loads(storage.read(manifest))["body"]["coverage"] == {"value@x": {"rows": 12, "missing": 1}}
