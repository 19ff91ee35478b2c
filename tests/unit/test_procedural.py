"""The procedural experts against scenes whose answer is known in closed form."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import pytest
from pydantic import ValidationError

import hyperloom.stages  # noqa: F401  registers the plug-ins
from hyperloom.pipeline import plugins
from hyperloom.pipeline.errors import RecipeError
from hyperloom.pipeline.fingerprint import payload
from hyperloom.pipeline.root.storage import Storage
from hyperloom.stages.label.algorithms.pose import rays
from hyperloom.stages.label.algorithms.surface import ground_level
from hyperloom.stages.label.algorithms.triangulation import filled
from hyperloom.stages.label.stage import Label
from tests.unit.inline import column, finish, ingested, modalities, step

H, W = 48, 64
FOCAL = (0.9, 0.9 * W / H)
KNOWN = modalities(
    rgb={"type": "image", "size": [H, W]},
    flow={"type": "dense", "channels": 2, "storage": "float32"},
    depth={"type": "dense", "channels": 1, "storage": "float32"},
    normals={"type": "dense", "channels": 3, "direction": True, "storage": "float32"},
    pose={"type": "vector", "length": 20},
    softseg={"type": "dense", "channels": 2, "range": [0, 1]},
    semantic={"type": "segmentation", "classes": ["grass", "lake", "house"]},
    fluid={"type": "segmentation", "classes": ["water", "solid", "house"]},
)
NOWHERE: Any = None
"""Procedural experts never touch the root."""


def built(**fields: Any) -> Any:
    expert = plugins.parse("expert", fields)
    return expert.build(KNOWN, NOWHERE)


def photo(seed: int = 0, height: int = H, width: int = W) -> np.ndarray:
    """Something with texture at every scale."""
    rng = np.random.default_rng(seed)
    layers = [
        cv2.resize(rng.random((height // s + 2, width // s + 2, 3)), (width, height), interpolation=cv2.INTER_CUBIC)
        for s in (3, 6, 12)
    ]
    return np.clip(sum(layers) / 3 * 255, 0, 255).astype(np.uint8)


def telemetry(rotation: np.ndarray, shift: np.ndarray, up: tuple[float, float, float] = (0, -1, 0)) -> np.ndarray:
    return np.array([*FOCAL, 0.5, 0.5, *rotation.ravel(), *shift, *up, 40], np.float32)


def slanted(normal: tuple[float, float, float], distance: float) -> tuple[np.ndarray, np.ndarray]:
    """Depth (H, W) of the plane n.X = -distance with n towards the camera, and n."""
    n = np.array(normal) / np.linalg.norm(normal)
    return -distance / (rays(H, W, FOCAL) @ n), n


def exact_flow(depth: np.ndarray, rotation: np.ndarray, shift: np.ndarray) -> np.ndarray:
    points = (rays(H, W, FOCAL) * depth[..., None]) @ rotation.T + shift
    u = (points[..., 0] / points[..., 2] * FOCAL[0] + 0.5) * W - 0.5
    v = (points[..., 1] / points[..., 2] * FOCAL[1] + 0.5) * H - 0.5
    return (np.stack([u, v], -1) - np.stack(np.meshgrid(np.arange(W), np.arange(H)), -1)).astype(np.float32)


def angle(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.degrees(np.arccos(np.clip((a * b).sum(-1), -1, 1)))


TURN = cv2.Rodrigues(np.array([0.01, -0.02, 0.005]))[0]
SHIFT = np.array([1.5, 0.4, 0.6])


def test_hsv_and_edges_of_plain_pictures() -> None:
    picture = np.zeros((1, H, W, 3), np.uint8)
    picture[:, :, W // 2 :] = (0, 255, 0)
    made = built(type="hsv", **{"in": "rgb@camera"}, out="hsv@rgb")({"rgb@camera": picture})["hsv@rgb"][0]
    assert np.allclose(made[0, 0], 0) and np.allclose(made[0, -1], [1 / 3, 1, 1])
    for method in ("gradient", "sobel", "canny"):
        call = built(type="edges", **{"in": "rgb@camera"}, out="edges@x", method=method)
        edges = call({"rgb@camera": picture})["edges@x"][0]
        assert edges.shape == (H, W, 1) and edges.max() <= 1
        assert (edges[:, W // 2 - 2 : W // 2 + 2].max(1) > 0.9).all() and edges[:, : W // 2 - 4].max() == 0


def test_flow_points_to_the_frame_before_and_stops_at_gaps(tmp_path: Any) -> None:
    world = photo(1, H + 20, W + 20)
    frames = [{"rgb@camera": world[10 + 2 * i : 10 + 2 * i + H, 10 - 3 * i : 10 - 3 * i + W]} for i in range(4)]
    storage = Storage(str(tmp_path))
    stage = Label(stage="label", data="frames", experts=[{"type": "flow", "in": "rgb@camera", "out": "flow@dis"}])
    made = finish(step(stage, storage, KNOWN, frames=ingested(storage, KNOWN, {"g": frames}, rows=2)))
    values = column(storage, KNOWN, made, "flow@dis")
    assert values["g/000"] is None and made.quarantined == 0
    for key in ("g/001", "g/002", "g/003"):  # g/002 has its frame before in another partition
        flow = values[key]
        assert flow is not None
        inside = flow[8:-8, 8:-8]
        assert (
            np.abs(np.median(inside, (0, 1)) - [-3, 2]).max() < 0.2
        )  # the camera moved by (-3, 2) pixels of the world
    call = built(type="flow", **{"in": "rgb@camera"}, out="flow@dis", max_gap=2)
    pair = np.stack([f["rgb@camera"] for f in frames[:3]])
    batch = {
        "rgb@camera": pair,
        "rgb@camera[-1]": pair[[0, 0, 0]],
        "index": np.array([4, 5, 9]),
        "index[-1]": np.array([4, 3, 5]),
    }
    assert [v is None for v in call(batch)["flow@dis"]] == [True, False, True]


def test_depth_from_exact_flow_is_the_depth() -> None:
    depth, _ = slanted((0.1, -0.8, -0.6), 30)
    call = built(type="depth-from-flow", **{"in": ["flow@dis", "pose@telemetry"]}, out="depth@motion", sigma=0.7)
    flow, pose = exact_flow(depth, TURN, SHIFT), telemetry(TURN, SHIFT)
    made = call({"flow@dis": flow[None], "pose@telemetry": pose[None]})["depth@motion"][0]
    assert made.shape == (H, W, 1)
    assert np.abs(made[..., 0] / depth - 1).mean() < 0.005
    flow[10:14, 20:24] += (4, -9)  # something that moves by itself: off the epipolar line, so filled in from around
    again = call({"flow@dis": flow[None], "pose@telemetry": pose[None]})["depth@motion"][0]
    assert np.abs(again[..., 0] / depth - 1)[10:14, 20:24].max() < 0.1


def test_depth_needs_parallax() -> None:
    call = built(type="depth-from-flow", **{"in": ["flow@dis", "pose@telemetry"]}, out="depth@motion")
    turned = exact_flow(np.full((H, W), 20.0), TURN, np.zeros(3))
    poses = np.stack([telemetry(TURN, np.zeros(3)), telemetry(np.eye(3), np.zeros(3))])
    assert call({"flow@dis": np.stack([turned, 0 * turned]), "pose@telemetry": poses})["depth@motion"] == [None, None]


def test_holes_are_filled_from_around() -> None:
    values, sure = np.full((H, W), 2.0), np.ones((H, W), bool)
    sure[5:40, 5:40] = values[5:40, 5:40] = False
    assert np.allclose(filled(values, sure, 1.0), 2.0, atol=1e-4)


@pytest.mark.parametrize("method", ["inverse-depth", "svd"])
@pytest.mark.parametrize("normal", [(0, 0, -1), (0.1, -0.9, -0.5), (-0.4, -0.3, -0.8)])
def test_normals_of_a_plane(normal: tuple[float, float, float], method: str) -> None:
    depth, n = slanted(normal, 25)
    depth = depth[None, ..., None].astype(np.float32)
    call = built(type="normals", **{"in": "depth@x"}, out="normals@x", focal=FOCAL[0], sigma=1.5, method=method)
    made = call({"depth@x": depth})["normals@x"][0]
    assert np.allclose(np.linalg.norm(made, axis=-1), 1, atol=1e-5)
    assert angle(made, n)[6:-6, 6:-6].max() < 1
    call = built(type="normals", **{"in": ["depth@x", "pose@t"]}, out="normals@x", sigma=1.5, level=0.999)
    up = (0.0, -0.8, -0.6)
    made = call({"depth@x": depth, "pose@t": telemetry(np.eye(3), np.zeros(3), up)[None]})["normals@x"][0]
    assert angle(made, np.array(up)).max() < 1


def test_svd_normals_leave_out_what_has_no_depth() -> None:
    depth, n = slanted((0.1, -0.9, -0.5), 25)
    depth[5:30, 10:40] = 0
    call = built(type="normals", **{"in": "depth@x"}, out="normals@x", focal=FOCAL[0], sigma=1.0, method="svd")
    made = call({"depth@x": depth[None, ..., None].astype(np.float32)})["normals@x"][0]
    assert angle(made, n).max() < 1, "holes take the normal of the nearest pixel that has one"
    with pytest.raises(ValueError, match="no three points"):
        call({"depth@x": np.zeros((1, H, W, 1), np.float32)})


def test_soft_colors_tell_regions_apart() -> None:
    rng = np.random.default_rng(0)
    picture = np.zeros((H, W, 3), np.int64)
    picture[:, : W // 2], picture[:, W // 2 :] = (40, 60, 150), (200, 190, 90)
    picture[: H // 3, W // 4 : 3 * W // 4] = (30, 120, 40)
    picture = np.clip(picture + rng.integers(-6, 7, picture.shape), 0, 255).astype(np.uint8)
    call = built(type="soft-colors", **{"in": "rgb@camera"}, out="softseg@color")
    first, again, flat = call({"rgb@camera": np.stack([picture, picture, np.full_like(picture, 90)])})["softseg@color"]
    assert np.array_equal(first, again) and first.shape == (H, W, 2) and first.min() >= 0 and first.max() <= 1
    left, right, top = first[-8:, 4:20], first[-8:, -20:-4], first[3:10, W // 2 - 8 : W // 2 + 8]
    assert right[..., 0].mean() - left[..., 0].mean() > 0.6, "the first layer parts the two large regions, light above"
    means = np.stack([part.mean((0, 1)) for part in (left, right, top)])
    apart = [np.linalg.norm(means[a] - means[b]) for a, b in ((0, 1), (0, 2), (1, 2))]
    assert min(apart) > 0.3 and max(part.std((0, 1)).max() for part in (left, right, top)) < 0.1
    assert (flat == 0.5).all()


def test_rules_derive_classes_and_do_not_guess() -> None:
    up, wall = (0, -1, 0), (0, 0, -1)
    normals = np.array([[up, up, wall, up, up, wall]], np.float32)
    depth = np.array([[5, 50, 5, 5, 5, 5]], np.float32)[..., None]
    ids = np.array([[0, 0, 0, 1, 255, 255]], np.uint8)
    known = modalities(
        normals={"type": "dense", "channels": 3, "size": [1, 6]},
        depth={"type": "dense", "size": [1, 6]},
        semantic={"type": "segmentation", "classes": ["grass", "lake"], "size": [1, 6]},
        landing={"type": "segmentation", "classes": ["safe", "wet", "unsafe"], "size": [1, 6]},
    )
    flat = {"column": "normals@x", "towards": up, "within": 20}
    rules = [
        {"class": "safe", "when": [flat, {"column": "depth@x", "above": 0, "below": 40},
                                   {"column": "semantic@x", "classes": ["grass"]}]},
        {"class": "wet", "when": [{"column": "semantic@x", "classes": ["lake"]}]},
    ]  # fmt: skip
    fields = {"type": "rules", "in": ["normals@x", "depth@x", "semantic@x"], "out": "landing@x", "rules": rules}
    batch = {"normals@x": normals[None], "depth@x": depth[None], "semantic@x": ids[None]}
    for otherwise, expected in (("unsafe", [0, 2, 2, 1, 255, 255]), (None, [0, 255, 255, 1, 255, 255])):
        call = plugins.parse("expert", {**fields, "otherwise": otherwise}).build(known, NOWHERE)
        assert call(batch)["landing@x"][0][0].tolist() == expected
    with pytest.raises(ValidationError, match="not among the inputs"):
        plugins.parse("expert", {**fields, "in": "depth@x"})
    with pytest.raises(ValidationError, match="give classes, or above"):
        plugins.parse("expert", {**fields, "rules": [{"class": "wet", "when": [{"column": "depth@x"}]}]})
    bad = [{"class": "wet", "when": [{"column": "semantic@x", "classes": ["ice"]}]}]
    with pytest.raises(RecipeError, match="no class 'ice'; it has grass, lake"):
        plugins.parse("expert", {**fields, "rules": bad}).build(known, NOWHERE)


def test_rules_take_no_unknown_number_or_direction_for_a_no() -> None:
    known = modalities(
        depth={"type": "dense", "size": [1, 4], "unknown": 0},
        normals={"type": "dense", "channels": 3, "size": [1, 4], "direction": True},
        plain={"type": "dense", "channels": 3, "size": [1, 4]},
        landing={"type": "segmentation", "classes": ["safe", "unsafe"], "size": [1, 4]},
    )
    side, away = (1, 0, 0), (0, 0, 1)
    normals = np.array([[side, away, (0, 0, 0), side]], np.float32)
    values = {"depth": np.array([[3, 10, np.nan, 4]], np.float32)[..., None], "normals": normals, "plain": normals}
    for name, value in values.items():
        condition = {"below": 5} if name == "depth" else {"towards": side, "within": 60}
        rule = {"class": "unsafe", "when": [{"column": f"{name}@x", **condition}]}
        fields = {"type": "rules", "in": f"{name}@x", "out": "landing@x", "rules": [rule], "otherwise": "safe"}
        expert = plugins.parse("expert", fields)
        assert expert.build(known, NOWHERE)({f"{name}@x": value[None]})["landing@x"][0][0].tolist() == [1, 0, 255, 1]
        assert payload(expert)["revision"] == 2
    ids = {"class": "safe", "when": [{"column": "landing@a", "classes": ["safe"]}]}
    same = plugins.parse("expert", {"type": "rules", "in": "landing@a", "out": "landing@x", "rules": [ids]})
    assert payload(same)["revision"] == 1  # rules of class maps alone mean what they meant


def test_what_stands_is_above_the_ground() -> None:
    depth, n = slanted((0, -0.8, -0.6), 30)
    lower, _ = slanted((0, -0.8, -0.6), 26)
    depth[20:28, 30:38] = lower[20:28, 30:38]
    height = ((rays(H, W, FOCAL) * depth[..., None]) @ n).astype(np.float32)
    above = height - ground_level(height, 8)
    assert above[22:26, 32:36].min() > 3 and np.abs(above[5:15, 5:25]).max() < 1


def test_color_classes_follow_colours_whatever_the_exposure() -> None:
    picture = np.zeros((H, W, 3), np.uint8)
    picture[:, : W // 2], picture[:, W // 2 :] = (60, 140, 50), (60, 90, 160)
    colors = {"lake": ["#3c5aa0"], "grass": ["#3c8c32"]}
    call = built(type="color-classes", **{"in": "rgb@camera"}, out="semantic@color", colors=colors)
    made = call({"rgb@camera": np.stack([picture, (picture * 0.7).astype(np.uint8)])})["semantic@color"]
    for classes in made:
        assert (classes[:, : W // 2 - 2] == 0).all() and (classes[:, W // 2 + 2 :] == 1).all()
    call = built(
        type="color-classes", **{"in": "rgb@camera"}, out="semantic@color", colors={"lake": ["#3c5aa0"]}, reject=0.5
    )
    assert (call({"rgb@camera": picture[None]})["semantic@color"][0][:, : W // 2 - 4] == 255).all()


def test_texture_classes_tell_rough_from_smooth_of_one_colour() -> None:
    rng = np.random.default_rng(0)
    picture = np.full((H, W, 3), 110, np.uint8)
    picture[:, W // 2 :] += rng.integers(0, 70, (H, W // 2, 1), np.uint8)
    picture[:, : W // 2] += rng.integers(0, 4, (H, W // 2, 1), np.uint8)
    looks = {"lake": [{"rough": -6}], "house": [{"rough": -3}]}
    call = built(type="texture-classes", **{"in": "rgb@camera"}, out="semantic@texture", looks=looks)
    made = call({"rgb@camera": np.stack([picture, picture])})["semantic@texture"]
    assert (made[0] == made[1]).all()
    assert (made[0][:, : W // 2 - 6] == 1).mean() > 0.95 and (made[0][:, W // 2 + 6 :] == 2).mean() > 0.95


def test_relief_classes_see_what_stands() -> None:
    depth, n = slanted((0, -0.8, -0.6), 30)
    depth[20:30, 28:40] = slanted((0, -0.8, -0.6), 24)[0][20:30, 28:40]
    looks = {"grass": [{"above": 0}], "house": [{"above": 5}]}
    columns = ["rgb@camera", "depth@x", "pose@t"]
    call = built(type="relief-classes", **{"in": columns}, out="semantic@relief", looks=looks, reach=9)
    values = (photo(), depth[..., None].astype(np.float32), telemetry(np.eye(3), np.zeros(3), tuple(n)))
    made = call({c: v[None] for c, v in zip(columns, values, strict=True)})["semantic@relief"][0]
    assert (made[22:28, 30:38] == 2).all() and (made[5:15, 5:20] == 0).all()


def test_remap_by_name_and_by_vote() -> None:
    maps = {"semantic@a": np.array([[[0, 1, 2, 255]]], np.uint8), "semantic@b": np.array([[[0, 0, 0, 1]]], np.uint8)}
    table = {"lake": "water", "grass": "solid"}
    call = built(type="remap", **{"in": "semantic@a"}, out="fluid@a", table=table)
    assert call(maps)["fluid@a"].tolist() == [[[1, 0, 2, 255]]]
    call = built(type="remap", **{"in": "semantic@a"}, out="fluid@a", table={**table, "house": None})
    assert call(maps)["fluid@a"].tolist() == [[[1, 0, 255, 255]]]
    call = built(type="remap", **{"in": ["semantic@a", "semantic@b"]}, out="fluid@v", table={**table, "house": None})
    assert call(maps)["fluid@v"].tolist() == [[[1, 0, 1, 0]]]


def test_mistakes_are_said() -> None:
    with pytest.raises(ValidationError, match="expected 2 column"):
        built(type="depth-from-flow", **{"in": "flow@dis"}, out="depth@x")
    with pytest.raises(ValidationError, match="#rrggbb, got 'blue'"):
        built(type="color-classes", **{"in": "rgb@x"}, out="semantic@x", colors={"lake": ["blue"]})
    with pytest.raises(ValidationError, match="expected some of the features light, green"):
        built(type="texture-classes", **{"in": "rgb@x"}, out="semantic@x", looks={"lake": [{"wet": 1}]})
    with pytest.raises(RecipeError, match="knows pond, but semantic@x has grass, lake, house"):
        built(type="color-classes", **{"in": "rgb@x"}, out="semantic@x", colors={"pond": ["#000000"]})
    with pytest.raises(RecipeError, match="gives 'ice', but its classes are water"):
        built(type="remap", **{"in": "semantic@a"}, out="fluid@a", table={"lake": "ice"})
