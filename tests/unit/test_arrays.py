"""Directories of VRE and Dronescapes as columns, and back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hyperloom.pipeline.commits.manifest import Manifest
from hyperloom.pipeline.errors import SourceError
from hyperloom.pipeline.plugins import load
from hyperloom.pipeline.root.storage import Storage
from tests.unit import inline

CLASSES = ["land", "road", "sky"]
KNOWN = inline.modalities(
    rgb={"type": "image", "size": [6, 8]},
    depth={"type": "dense", "storage": "float32"},
    semantic={"type": "segmentation", "classes": CLASSES},
    soft={"type": "soft", "of": "semantic"},
)
RNG = np.random.default_rng(0)


def save(path: Path, value: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(path, value)


def ingest(root: Path, path: Path, columns: dict[str, Any], **source: Any) -> tuple[Manifest, Storage]:
    storage = Storage(str(root))
    written = {"type": "arrays", "path": str(path), "columns": columns, **source}
    stage = load("stage", "ingest").model_validate({"stage": "ingest", "source": written})
    return inline.finish(inline.step(stage, storage, KNOWN)), storage


def test_a_vre_directory_keeps_what_each_frame_has(tmp_path: Path) -> None:
    rgb = {t: RNG.integers(0, 256, (6, 8, 3), np.uint8) for t in (0, 1, 10)}
    depth = {t: RNG.random((6, 8, 1), np.float32) for t in (0, 10)}
    for t, value in rgb.items():
        save(tmp_path / f"flight/rgb/npz/{t}.npz", value)
    for t, value in depth.items():
        save(tmp_path / f"flight/depth_dpt/npz/{t}.npz", value)
    save(tmp_path / "flight/depth_dpt/npz/0_extra.npz", np.zeros(3))
    made, storage = ingest(tmp_path / "root", tmp_path / "flight", {"rgb@camera": "rgb", "depth@dpt": "depth_dpt"})
    found = inline.column(storage, KNOWN, made, "rgb@camera")
    assert list(found) == ["flight/000000", "flight/000001", "flight/000010"]
    assert all(np.array_equal(found[f"flight/{t:06d}"], value) for t, value in rgb.items())
    maps = inline.column(storage, KNOWN, made, "depth@dpt")
    assert maps["flight/000001"] is None
    assert np.array_equal(maps["flight/000010"], depth[10])


def test_a_dronescapes_directory_has_a_group_for_each_scene(tmp_path: Path) -> None:
    for scene in ("atanasie", "slanic_DJI_0956"):
        for t in (3, 4):
            save(tmp_path / f"data/rgb/{scene}_{t:06d}.npz", np.full((6, 8, 3), t, np.uint8))
    made, _ = ingest(tmp_path / "root", tmp_path / "data", {"rgb@camera": "rgb"})
    assert [(p[1], p[2], p[3]) for p in made.body["partitions"]] == [("atanasie", 3, 2), ("slanic_DJI_0956", 3, 2)]


def test_scores_become_classes_and_probabilities(tmp_path: Path) -> None:
    logits = RNG.normal(0, 3, (6, 8, 3)).astype(np.float16)
    save(tmp_path / "v/semantic_m2f/npz/0.npz", logits)
    save(tmp_path / "v/ids/npz/0.npz", np.array([[0, 1, 2, 9] * 2] * 6, np.uint16)[..., None])
    made, storage = ingest(
        tmp_path / "root",
        tmp_path / "v",
        {"semantic@m2f": "semantic_m2f", "soft@m2f": "semantic_m2f", "semantic@ids": {"path": "ids", "void": [9]}},
    )
    assert made.quarantined == 0
    key = "v/000000"
    soft = inline.column(storage, KNOWN, made, "soft@m2f")[key]
    assert soft is not None and np.allclose(soft.sum(-1), 1, atol=0.02)
    assert np.array_equal(inline.column(storage, KNOWN, made, "semantic@m2f")[key], logits.argmax(-1))
    assert inline.column(storage, KNOWN, made, "semantic@ids")[key][0].tolist() == [0, 1, 2, 255] * 2  # type: ignore[index]


@pytest.mark.parametrize("nothing", [0.0, np.nan])
def test_a_pixel_without_scores_is_unknown_and_changes_no_other(tmp_path: Path, nothing: float) -> None:
    chances = np.tile(np.array([0.1, 0.7, 0.2], np.float32), (6, 8, 1))
    chances[2, 3] = nothing
    logits = RNG.normal(0, 3, (6, 8, 3)).astype(np.float32)
    logits[2, 3] = nothing
    save(tmp_path / "v/chances/npz/0.npz", chances)
    save(tmp_path / "v/logits/npz/0.npz", logits)
    columns = {f"{kind}@{name}": name for name in ("chances", "logits") for kind in ("semantic", "soft")}
    made, storage = ingest(tmp_path / "root", tmp_path / "v", columns)
    value = {c: inline.column(storage, KNOWN, made, c)["v/000000"] for c in columns}
    given = np.ones((6, 8), bool)
    given[2, 3] = False
    assert np.allclose(value["soft@chances"][given], chances[given], atol=1 / 255)  # type: ignore[index]
    assert not value["soft@chances"][2, 3].any()  # type: ignore[index]
    for name, scores in (("chances", chances), ("logits", logits)):
        assert np.array_equal(value[f"semantic@{name}"], np.where(given, scores.argmax(-1), 255))  # type: ignore[arg-type]
    softmax = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    assert np.allclose(value["soft@logits"][given], softmax[given], atol=1 / 128)  # type: ignore[index]
    # zeros are logits like others; no numbers are none
    assert bool(value["soft@logits"][2, 3].any()) is (nothing == 0)  # type: ignore[index]


def test_a_torn_file_costs_its_frame_alone(tmp_path: Path) -> None:
    for t in range(3):
        save(tmp_path / f"v/rgb/npz/{t}.npz", np.zeros((6, 8, 3), np.uint8))
    torn = tmp_path / "v/rgb/npz/1.npz"
    torn.write_bytes(torn.read_bytes()[:50])
    made, storage = ingest(tmp_path / "root", tmp_path / "v", {"rgb@camera": "rgb"})
    assert (made.rows, made.quarantined) == (2, 1)
    noted = storage.read_json(f"{made.records[0].space}/quarantine/{made.records[0].id}.json")
    assert noted[0]["key"] == "v/000001" and "1.npz holds no array" in noted[0]["error"]


def test_another_frame_number_is_other_data(tmp_path: Path) -> None:
    save(tmp_path / "v/rgb/npz/0.npz", np.zeros((6, 8, 3), np.uint8))
    before, _ = ingest(tmp_path / "a", tmp_path / "v", {"rgb@camera": "rgb"})
    (tmp_path / "v/rgb/npz/0.npz").rename(tmp_path / "v/rgb/npz/7.npz")
    after, _ = ingest(tmp_path / "b", tmp_path / "v", {"rgb@camera": "rgb"})
    assert before.records[0].id != after.records[0].id


def test_a_folder_without_frames_is_named(tmp_path: Path) -> None:
    (tmp_path / "v").mkdir()
    with pytest.raises(SourceError, match="v/rgb holds no frames"):
        ingest(tmp_path / "root", tmp_path / "v", {"rgb@camera": "rgb"})


def test_many_videos_are_one_pattern(tmp_path: Path) -> None:
    for video in ("a", "b"):
        save(tmp_path / f"out/{video}/rgb/npz/0.npz", np.zeros((6, 8, 3), np.uint8))
    made, _ = ingest(tmp_path / "root", tmp_path / "out/*", {"rgb@camera": "rgb"})
    assert [p[1] for p in made.body["partitions"]] == ["a", "b"]


def test_the_logarithm_of_no_chance_is_a_score(tmp_path: Path) -> None:
    chances = np.tile(np.array([0.7, 0.3, 0], np.float32), (6, 8, 1))
    chances[0] = [0, 1, 0]
    with np.errstate(divide="ignore"):
        save(tmp_path / "v/logs/npz/0.npz", np.log(chances).astype(np.float16))
    made, storage = ingest(tmp_path / "root", tmp_path / "v", {"semantic@logs": "logs", "soft@logs": "logs"})
    value = {c: inline.column(storage, KNOWN, made, c)["v/000000"] for c in ("semantic@logs", "soft@logs")}
    assert np.array_equal(value["semantic@logs"], chances.argmax(-1))  # type: ignore[arg-type]
    assert np.allclose(value["soft@logs"], chances, atol=1 / 128)  # type: ignore[arg-type]
