"""The rendered flights: truth agrees with the picture and with geometry, and the bytes are always the same."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from hyperloom.pipeline.commits.manifest import Manifest
from hyperloom.pipeline.errors import RecipeError
from hyperloom.pipeline.plugins import load
from hyperloom.pipeline.root.storage import Storage
from hyperloom.stages.ingest.camera import Camera, orientation
from hyperloom.stages.ingest.render import Flight, cast
from hyperloom.stages.ingest.terrain import CELL, CELLS, CLASSES, WATER, Terrain
from tests.unit import inline

SIZE = (96, 128)
KNOWN = inline.modalities(
    rgb={"type": "image", "size": list(SIZE)},
    pose={"type": "vector", "length": 20},
    semantic={"type": "segmentation", "classes": ["water", "building", "land", "road", "forest"]},
    depth={"type": "dense", "unit": "m"},
    normals={"type": "dense", "channels": 3, "direction": True},
    flow={"type": "dense", "channels": 2, "unit": "px", "storage": "float32"},
)


@cache
def flight() -> Flight:
    return Flight(5, 0, 4, SIZE)


def ingest(root: Path, rows: int = 32, known: dict[str, Any] = KNOWN) -> tuple[Manifest, Storage]:
    source = {"type": "flights", "flights": 1, "frames": 4, "seed": 5}
    stage = load("stage", "ingest").model_validate({"stage": "ingest", "source": source, "rows": rows})
    storage = Storage(str(root))
    return inline.finish(inline.step(stage, storage, known)), storage


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Manifest, Storage]:
    return ingest(tmp_path_factory.mktemp("whole"))


def test_flow_brings_the_frame_before_onto_this_one() -> None:
    before, now = flight().view(1), flight().view(2)
    v, u = np.mgrid[0:96, 0:128].astype(np.float32)
    assert now.flow is not None
    x, y = u + now.flow[..., 0], v + now.flow[..., 1]
    warped = cv2.remap(before.rgb, x, y, cv2.INTER_LINEAR)
    inside = (x > 0) & (x < 127) & (y > 0) & (y < 95)
    error = np.abs(warped.astype(int) - now.rgb).mean(-1)[inside]
    still = np.abs(before.rgb.astype(int) - now.rgb).mean(-1)[inside]
    assert np.median(error) < 0.5 * np.median(still)
    assert np.median(error) < 10, "little more than the sensor's noise"


def test_flow_follows_from_depth_and_telemetry() -> None:
    view = flight().view(2)
    fx, fy, cx, cy = view.telemetry[:4]
    rotation, shift = view.telemetry[4:13].reshape(3, 3), view.telemetry[13:16]
    v, u = np.mgrid[0:96, 0:128]
    rays = np.stack([((u + 0.5) / 128 - cx) / fx, ((v + 0.5) / 96 - cy) / fy, np.ones_like(u)], -1)
    moved = (rays * view.depth[..., None]) @ rotation.T + shift
    x = (moved[..., 0] / moved[..., 2] * fx + cx) * 128 - 0.5 - u
    y = (moved[..., 1] / moved[..., 2] * fy + cy) * 96 - 0.5 - v
    assert view.flow is not None
    np.testing.assert_allclose(np.stack([x, y], -1), view.flow, atol=5e-3)
    assert np.linalg.norm(shift) > 2, "a drone that stands still shows no parallax"


def test_normals_agree_with_depth_and_telemetry() -> None:
    view = flight().view(1)
    np.testing.assert_allclose(np.linalg.norm(view.normals, axis=-1), 1, atol=1e-5)
    up = view.telemetry[16:19]
    water = view.semantic == WATER
    assert water.sum() > 50
    assert (view.normals[water] @ up > 0.999).mean() > 0.9, "water is level"
    v, u = np.mgrid[0:96, 0:128].astype(np.float32)
    rays = flight().cameras[1].rays(u, v, SIZE)
    assert ((view.normals * rays).sum(-1) < 0.05).mean() > 0.98, "a surface that is seen faces the camera"
    points = rays * view.depth[..., None]
    measured = np.cross(points[:-1, 1:] - points[:-1, :-1], points[1:, :-1] - points[:-1, :-1])
    measured /= -np.linalg.norm(measured, axis=-1, keepdims=True)
    flat = cv2.erode(np.isin(view.semantic, (0, WATER)).astype(np.uint8), np.ones((9, 9), np.uint8))[:-1, :-1] > 0
    assert np.median((measured * view.normals[:-1, :-1]).sum(-1)[flat]) > 0.98


def test_depth_over_a_plane_is_exact() -> None:
    flat = np.full((CELLS, CELLS), 7.0, np.float32)
    zero = np.zeros_like(flat)
    plane = Terrain(flat, flat.astype(np.uint8), zero, zero, (zero, zero), np.array([0, 0, 1.0]), 0.0)
    camera = Camera(np.array([30.0, 40.0, 57.0]), orientation(0.4, -0.9, 0.05), 0.8, 0.8 * 64 / 48)
    v, u = np.mgrid[0:96, 0:128].astype(np.float32)
    rays = camera.rays(u, v, SIZE)
    exact = (7.0 - 57.0) / (rays @ camera.rotation.T)[..., 2]
    np.testing.assert_allclose(cast(plane, camera, rays), exact, rtol=1e-3)


def test_a_step_in_the_ground_is_found() -> None:
    height = np.zeros((CELLS, CELLS), np.float32)
    height[:, 200:300] = 8.0  # x from 100 m to 150 m
    zero = np.zeros_like(height)
    wall = Terrain(height, height.astype(np.uint8), zero, zero, (zero, zero), np.array([0, 0, 1.0]), 0.0)
    camera = Camera(np.array([60.0, 60.0, 50.0]), orientation(0.0, -0.8, 0.0), 0.8, 0.8)
    v, u = np.mgrid[0:96, 0:128].astype(np.float32)
    places = camera.rays(u, v, SIZE) * cast(wall, camera, camera.rays(u, v, SIZE))[..., None]
    places = places @ camera.rotation.T + camera.place
    on_top = (places[..., 0] > 100 + CELL) & (places[..., 0] < 150 - CELL)
    assert on_top.sum() > 100 and np.abs(places[on_top, 2] - 8).max() < 0.1
    assert np.abs(places[places[..., 0] < 100 - CELL, 2]).max() < 0.1


def test_flights_differ_and_see_most_classes() -> None:
    view, other = flight().view(2), Flight(5, 1, 4, SIZE).view(2)
    assert np.abs(other.rgb.astype(int) - view.rgb).mean() > 10
    assert len(np.unique(view.semantic)) >= 4


def test_the_stage_reads_back_what_was_rendered(made: tuple[Manifest, Storage]) -> None:
    manifest, storage = made
    key, view = "flight_00/000002", flight().view(2)
    columns = {c: inline.column(storage, KNOWN, manifest, c) for c in manifest.body["columns"]}
    assert all(sorted(found) == [f"flight_00/{t:06d}" for t in range(4)] for found in columns.values())
    rgb, depth = columns["rgb@camera"][key], columns["depth@truth"][key]
    assert rgb is not None and np.abs(rgb.astype(int) - view.rgb).mean() < 6, "the video is lossy, but not by much"
    assert depth is not None
    np.testing.assert_allclose(depth[..., 0], view.depth, rtol=1e-3)
    np.testing.assert_allclose(columns["normals@truth"][key], view.normals, atol=2e-3)
    np.testing.assert_allclose(columns["flow@truth"][key], view.flow, atol=0.01)
    np.testing.assert_allclose(columns["pose@telemetry"][key], view.telemetry, rtol=1e-6)
    classes = np.array(KNOWN["semantic"].classes)
    assert (classes[columns["semantic@truth"][key]] == np.array(CLASSES)[view.semantic]).all()
    assert columns["flow@truth"]["flight_00/000000"] is None, "the first frame has no frame before it"
    pose = columns["pose@telemetry"]["flight_00/000000"]
    assert pose is not None and pose[13:16].tolist() == [0, 0, 0]


def test_samples_are_the_same_bytes_however_partitions_are_cut(tmp_path: Path, made: tuple[Manifest, Storage]) -> None:
    cut, storage = ingest(tmp_path / "root", rows=3)
    assert [p[3] for p in cut.body["partitions"]] == [3, 1]
    for name in cut.body["columns"]:
        one, two = inline.column(made[1], KNOWN, made[0], name), inline.column(storage, KNOWN, cut, name)
        assert one.keys() == two.keys() and all(np.array_equal(one[k], two[k]) for k in one), name  # type: ignore[arg-type]


def test_modalities_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    known = {name: modality.to_recipe() for name, modality in KNOWN.items()}
    wrong = inline.modalities(**known | {"pose": {"type": "vector", "length": 6}})
    with pytest.raises(RecipeError, match=r"pose@telemetry.*20.*6"):
        ingest(tmp_path / "root", known=wrong)
