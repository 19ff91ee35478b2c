"""The graph of experts on a real cluster: partitions flow without barriers, clips cross borders, weights load once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np

import hyperloom.stages
from hyperloom.pipeline.plugins import parse
from hyperloom.pipeline.root.storage import Storage
from hyperloom.stages.table import read_table
from tests.ray.conftest import RayCluster, hyperloom
from tests.ray.flowing import notes

PARTS, ROWS = 14, 4
RECIPE = """\
name: flow
root: {folder}/root
modalities:
  rgb: {{type: image, size: [8, 8]}}
  value: {{type: dense, storage: float32}}
  things: {{type: instances, classes: [dark, bright], most: 3}}
steps:
  frames: {{stage: ingest, source: {{type: files, path: "{folder}/images", group: "(?P<group>x)"}}, rows: 4}}
  labels:
    stage: label
    data: frames
    experts:
      - {{type: "tests.ray.flowing:Timed", in: value@depth, out: value@normals, seconds: 0.1, log: {folder}/log}}
      - type: "tests.ray.flowing:Timed"
        in: value@depth
        out: value@clip
        clip: true
        seconds: 0.1
        log: {folder}/log
      - {{type: "tests.ray.flowing:Timed", in: rgb@camera, out: value@depth, seconds: 0.3, log: {folder}/log}}
      - {{type: python, call: "tests.ray.flowing:things", per: sample, in: rgb@camera, out: things@seen}}
"""


def test_partitions_flow_through_the_experts(ray_cluster: RayCluster, tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    for i in range(PARTS * ROWS):
        cv2.imwrite(str(tmp_path / "images" / f"x{i:03d}.png"), np.full((8, 8, 3), i, np.uint8))
    recipe = tmp_path / "flow.yaml"
    recipe.write_text(RECIPE.format(folder=tmp_path))
    done = hyperloom("run", str(recipe), "--no-mlflow", env=ray_cluster.env)
    assert done.returncode == 0, done.stdout + done.stderr
    told = notes(tmp_path / "log")

    built = [(n["pid"], n["out"]) for n in told if n["what"] == "built"]
    assert len(built) == len(set(built)), "weights load once in each process"
    ran = {(n["pid"], n["out"]) for n in told if n["what"] == "batch"}
    assert ran <= set(built) and len({pid for pid, _ in ran}) == 2

    def of(column: str, first: int) -> list[dict[str, float]]:
        """When work on each partition began and ended; `first` is what the first frame's value is."""
        mine = [(int(n["frame"] - first) // ROWS, n) for n in told if n["what"] == "batch" and n["out"] == column]
        parts = [[n for at, n in mine if at == part] for part in range(PARTS)]
        return [{"began": min(n["began"] for n in p), "ended": max(n["ended"] for n in p)} for p in parts]

    depth, normals, clip = of("value@depth", 0), of("value@normals", 1), of("value@clip", 1)
    last = max(n["began"] for n in depth)
    for reader in (normals, clip):
        assert reader[3]["ended"] < last, "partition 3 has both before depth begins its last one: there is no barrier"
    for i in range(PARTS):
        assert normals[i]["began"] >= depth[i]["ended"]
        assert clip[i]["began"] >= max(d["ended"] for d in depth[max(0, i - 1) : i + 2])
    waiting = [sum(d["ended"] <= n["began"] for d in depth) - i for i, n in enumerate(normals)]
    assert max(waiting) <= 6, "what depth made does not pile up"
    check_clip(Storage(str(tmp_path / "root")))
    check_things(Storage(str(tmp_path / "root")))


def check_things(storage: Storage) -> None:
    """Frame i has i % 3 things, each a row of pixels of its own with the class of the frame's light."""
    kind: Any = parse("modality", {"type": "instances", "classes": ["dark", "bright"], "most": 3, "size": [8, 8]})
    seen = {}
    for table in (read_table(storage, path) for path in storage.walk("expert") if path.endswith(".parquet")):
        if "things@seen" in table.column_names:
            values = map(kind.unpacked_value, kind.decode(table["things@seen"])[0])
            seen |= dict(zip(table["key"].to_pylist(), values, strict=True))
    for i, one in enumerate(seen[key] for key in sorted(seen)):
        assert one.classes.tolist() == [int(i > 27)] * (i % 3) and one.ids.tolist() == [5, 6][: i % 3]
        assert [m.nonzero()[0].tolist() for m in one.masks] == [[row] * 8 for row in range(i % 3)]
    assert len(seen) == PARTS * ROWS


def check_clip(storage: Storage) -> None:
    """Frame i of `clip` sums depth (i + 1) over i-1, i, i+1, plus one; at the ends a frame stands for itself."""
    found: dict[str, float] = {}
    for path in storage.walk("expert"):
        if path.endswith(".parquet"):
            table = read_table(storage, path)
            if "value@clip" in table.column_names:
                values = [np.frombuffer(v.as_py(), np.float32)[0] for v in table["value@clip"].combine_chunks()]
                found |= dict(zip(table["key"].to_pylist(), map(float, values), strict=True))
    count = PARTS * ROWS
    assert [found[key] for key in sorted(found)] == [
        (i + 1) + (max(0, i - 1) + 1) + (min(count - 1, i + 1) + 1) + 1 for i in range(count)
    ]


MISTAKEN = """\
name: mistaken
root: {folder}/root
modalities:
  rgb: {{type: image, size: [8, 8]}}
  semantic: {{type: segmentation, classes: [dark, bright]}}
steps:
  frames: {{stage: ingest, source: {{type: files, path: "{folder}/images", group: "(?P<group>x)"}}, rows: 1}}
  labels:
    stage: label
    data: frames
    experts:
      - type: rules
        in: rgb@camera
        out: semantic@rules
        rules: [{{class: bright, when: [{{column: rgb@camera, channel: 7, above: 3}}]}}]
"""


def test_a_mistake_that_a_worker_finds_ends_the_step_at_its_first_attempt(
    ray_cluster: RayCluster, tmp_path: Path
) -> None:
    (tmp_path / "images").mkdir()
    for i in range(6):
        cv2.imwrite(str(tmp_path / "images" / f"x{i}.png"), np.full((8, 8, 3), i, np.uint8))
    recipe = tmp_path / "mistaken.yaml"
    recipe.write_text(MISTAKEN.format(folder=tmp_path))
    done = hyperloom("run", str(recipe), "--no-mlflow", env=ray_cluster.env)
    printed = done.stdout + done.stderr
    assert done.returncode == 2, printed
    assert printed.count("failure (attempt 1)") == 1 and "attempt 2" not in printed
    assert "step 'labels': rgb@camera: the condition needs a channel 7 of numbers" in printed
