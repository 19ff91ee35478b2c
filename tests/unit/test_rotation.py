"""What a turn of the picture does to labels, beside OpenCV's warps, and beside labelling the turned picture."""

from __future__ import annotations

import math
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hyperloom.stages.augment.views import Crop, Rotate
from hyperloom.stages.label.algorithms.appearance import gradient_edges
from hyperloom.stages.label.algorithms.pose import rays
from hyperloom.stages.label.algorithms.surface import normals_from_depth
from hyperloom.stages.modality import Modality
from hyperloom.stages.network.processors import Scale, processor_of
from tests.unit import inline

QUICK = settings(max_examples=15, deadline=None)
ANGLES, SEEDS = st.floats(-180, 180), st.integers(0, 10**6)
SIZES = st.sampled_from([(24, 32), (33, 21), (28, 28)])


def modality(frame: tuple[int, int], **definition: Any) -> Any:
    return inline.modalities(rgb={"type": "image", "size": list(frame)}, one=definition)["one"]


def turned(one: Any, value: Any, degrees: float, aspect: float | None = None) -> np.ndarray:
    """One value after its picture turned clockwise."""
    aspect = one.height_width[0] / one.height_width[1] if aspect is None else aspect
    values = torch.from_numpy(np.asarray(value)[None].copy())
    return one.turned(values, torch.tensor([math.radians(degrees)]), aspect)[0].numpy()


def warped(value: np.ndarray, degrees: float, nearest: bool, outside: float) -> np.ndarray:
    """The same by OpenCV, to which positive angles are counter-clockwise and the middles of pixels are integers."""
    height, width = value.shape[:2]
    matrix = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), -degrees, 1)
    how = cv2.INTER_NEAREST if nearest else cv2.INTER_LINEAR
    return np.asarray(cv2.warpAffine(value, matrix, (width, height), flags=how, borderValue=[outside] * 4))


def inner(size: tuple[int, int], margin: float = 2) -> np.ndarray:
    """(H, W) bool: pixels that come from well within the picture whatever the angle."""
    y, x = (np.arange(n) + 0.5 - n / 2 for n in size)
    return np.asarray(np.hypot(y[:, None], x) < min(size) / 2 - margin)


# -- beside a second implementation ------------------------------------------------------------------------------------
@QUICK
@given(SEEDS, ANGLES, SIZES)
def test_classes_and_numbers_move_as_opencv_moves_them(seed: int, degrees: float, size: tuple[int, int]) -> None:
    random = np.random.default_rng(seed)
    ids = cv2.resize(
        random.choice([0, 1, 2, 255], (5, 6)).astype(np.uint8), size[::-1], interpolation=cv2.INTER_NEAREST
    )
    semantic = modality(size, type="segmentation", classes=["a", "b", "c"])
    mine, twin = turned(semantic, ids, degrees), warped(ids, degrees, True, 255)
    assert np.mean(mine == twin) > 0.95  # OpenCV rounds places to 1/1024 of a pixel
    semantic.check(mine)
    smooth = cv2.GaussianBlur(random.random(size).astype(np.float32) * 9 + 1, (0, 0), 1.5)
    depth = turned(modality(size, type="dense", unit="m"), smooth[..., None], degrees)[..., 0]
    there = np.isfinite(depth)
    assert np.abs(depth - warped(smooth, degrees, False, 0))[inner(size)].max() < 0.1
    assert np.array_equal(there, inside(size, degrees))
    rgb = random.integers(0, 255, (*size, 3)).astype(np.uint8)
    image = turned(modality(size, type="image"), cv2.GaussianBlur(rgb, (0, 0), 1), degrees)
    assert np.abs(image - warped(cv2.GaussianBlur(rgb, (0, 0), 1), degrees, False, 0))[inner(size)].max() < 4
    assert not image[~inside(size, degrees)].any()
    clip = modality(size, type="clip", frames=2)
    assert np.allclose(
        turned(clip, np.stack([rgb, rgb[::-1]]), degrees)[1], turned(modality(size, type="image"), rgb[::-1], degrees)
    )


def inside(size: tuple[int, int], degrees: float) -> np.ndarray:
    """(H, W) bool: which pixels come from within the picture."""
    y, x = np.meshgrid(*(np.arange(n) + 0.5 - n / 2 for n in size), indexing="ij")
    c, s = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    from_x, from_y = c * x + s * y, c * y - s * x
    return np.asarray((abs(from_x) <= size[1] / 2 + 1e-5) & (abs(from_y) <= size[0] / 2 + 1e-5))


@pytest.mark.parametrize(("degrees", "quarters"), [(90, -1), (180, 2), (-90, 1)])
def test_quarter_turns_lose_nothing(degrees: float, quarters: int) -> None:
    """NumPy's `rot90` of a square; two numbers that point to the right then point downwards."""
    size, random = (12, 12), np.random.default_rng(0)
    ids = random.choice([0, 1, 2, 255], size).astype(np.uint8)
    assert np.array_equal(
        turned(modality(size, type="segmentation", classes=["a", "b", "c"]), ids, degrees), np.rot90(ids, quarters)
    )
    flow = random.normal(0, 3, (*size, 4)).astype(np.float32)
    c, s = round(math.cos(math.radians(degrees))), round(math.sin(math.radians(degrees)))
    expected = np.stack([c * flow[..., 0] - s * flow[..., 1], s * flow[..., 0] + c * flow[..., 1]], -1)
    mine = turned(modality(size, type="dense", channels=4, unit="px", storage="float32"), flow, degrees)
    assert np.allclose(mine[..., :2], np.rot90(expected, quarters), atol=1e-4)
    upwards = modality(size, type="dense", channels=3, kind="vector", unit="m", y="up")
    mine = turned(upwards, np.tile(np.float32([1, 0, 7]), (*size, 1)), degrees)
    assert np.allclose(mine, [c, -s, 7], atol=1e-5)
    boxes = modality(size, type="boxes", classes=["car"], most=2)
    box = boxes.fit([{"x0": 0.1, "y0": 0.2, "x1": 0.3, "y1": 0.9, "class": "car"}])
    around = {90: [0.1, 0.1, 0.8, 0.3], 180: [0.7, 0.1, 0.9, 0.8], -90: [0.2, 0.7, 0.9, 0.9]}[int(degrees)]
    assert turned(boxes, box, degrees, 1.0)[0, :4] == pytest.approx(around, abs=1e-5)
    points = modality(size, type="keypoints", points=["a", "b"])
    place = {90: [0.8, 0.1], 180: [0.9, 0.8], -90: [0.2, 0.9]}[int(degrees)]
    assert np.allclose(turned(points, points.fit({"a": [0.1, 0.2]}), degrees, 1.0), [[*place, 1], [0, 0, 0]], atol=1e-5)


# -- labelling the turned picture --------------------------------------------------------------------------------------
@QUICK
@given(SEEDS, ANGLES, SIZES)
def test_boxes_and_points_lie_where_a_detector_sees_them(seed: int, degrees: float, size: tuple[int, int]) -> None:
    """Ellipses of the turned picture: their extent is the turned box, their middle the turned point."""
    random, (height, width) = np.random.default_rng(seed), size
    x, y = random.uniform(0.3, 0.7, 2)
    a, b = random.uniform(0.1, 0.25, 2) * min(size)
    boxes = modality(size, type="boxes", classes=["car"], most=1)
    extent = {"x0": x - a / width, "y0": y - b / height, "x1": x + a / width, "y1": y + b / height}
    mine = turned(boxes, boxes.fit([{**extent, "class": "car"}]), degrees, height / width)[0]
    fine = 8
    mask = np.zeros((height * fine, width * fine), np.uint8)
    centre, axes = (x * width * fine, y * height * fine), (2 * a * fine, 2 * b * fine)
    cv2.ellipse(mask, (centre, axes, 0.0), 1, -1)
    rows, columns = np.nonzero(warped(mask, degrees, True, 0))
    seen = [
        columns.min() / fine / width,
        rows.min() / fine / height,
        (columns.max() + 1) / fine / width,
        (rows.max() + 1) / fine / height,
    ]
    assert mine[:4] == pytest.approx(np.clip(seen, 0, 1), abs=2.5 / (fine * min(size)) * 1.5)
    boxes.check(mine[None])
    if min(seen) <= 0 or max(seen) >= 1:
        return  # part of it is outside, so that its middle is not seen
    points = modality(size, type="keypoints", points=["middle"])
    point = turned(points, points.fit({"middle": [x, y]}), degrees, height / width)[0]
    assert point[:2] == pytest.approx(
        [(seen[0] + seen[2]) / 2, (seen[1] + seen[3]) / 2], abs=2.5 / (fine * min(size)) * 1.5
    )


@QUICK
@given(st.floats(-0.3, 0.3), st.floats(-0.3, 0.3), ANGLES, st.sampled_from(["down", "up"]))
def test_normals_of_a_turned_depth_are_the_turned_normals(across: float, down: float, degrees: float, y: str) -> None:
    """A plane before a camera with square pixels, and the same plane after the camera rolled."""
    size, axis = (24, 32), np.float32([1, 1 if y == "down" else -1, 1])
    ways = rays(*size, (1.0, size[1] / size[0]))

    def normals(nx: float, ny: float) -> np.ndarray:
        depth = 5 / (1 + ways[..., 0] * nx + ways[..., 1] * ny)
        return normals_from_depth(depth.astype(np.float32), ways, 1.0)

    c, s = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    one = modality(size, type="dense", channels=3, direction=True, y=y)
    mine = turned(one, normals(across, down) * axis, degrees)
    expected = normals(c * across - s * down, s * across + c * down) * axis
    assert np.abs(mine - expected)[inner(size, 4)].max() < 0.01
    assert not mine[~inside(size, degrees)].any()


@QUICK
@given(SEEDS, st.floats(-3, 3), st.floats(-3, 3), ANGLES)
def test_flow_of_a_turned_pair_carries_it_as_before(seed: int, dx: float, dy: float, degrees: float) -> None:
    """Flow says where a pixel was: in the turned pictures too."""
    size, random = (40, 48), np.random.default_rng(seed)
    waves = random.uniform(-0.3, 0.3, (4, 2))
    y, x = np.mgrid[: size[0], : size[1]].astype(np.float32)

    def scene(x: Any, y: Any) -> np.ndarray:
        return np.asarray(sum(np.sin(u * x + v * y) for u, v in waves), np.float32)

    now, before = scene(x, y), scene(x - dx, y - dy)
    flow = turned(
        modality(size, type="dense", channels=2, unit="px", storage="float32"),
        np.tile(np.float32([dx, dy]), (*size, 1)),
        degrees,
    )
    numbers = modality(size, type="dense", storage="float32")
    now, before = (np.nan_to_num(turned(numbers, v[..., None], degrees)[..., 0]) for v in (now, before))
    u, v = np.nan_to_num(flow).transpose(2, 0, 1)
    fetched = cv2.remap(before, x + u, y + v, cv2.INTER_LINEAR)
    assert np.abs(fetched - now)[inner(size, 7)].max() < 0.12


@QUICK
@given(SEEDS, ANGLES)
def test_edges_of_a_turned_picture_are_the_turned_edges(seed: int, degrees: float) -> None:
    size, one = (48, 48), modality((48, 48), type="dense", range=[0, 1])
    rough = np.random.default_rng(seed).integers(0, 255, (5, 5, 3)).astype(np.uint8)
    rgb = cv2.resize(rough, size, interpolation=cv2.INTER_CUBIC)
    picture = np.rint(turned(modality(size, type="image"), rgb, degrees)).astype(np.uint8)
    mine, seen = turned(one, gradient_edges(rgb, 1, 0.5)[..., None], degrees)[..., 0], gradient_edges(picture, 1, 0.5)
    assert np.abs(mine - seen)[inner(size, 6)].mean() < 0.03


# -- unknown and refused -----------------------------------------------------------------------------------------------
def test_what_is_unknown_stays_so_and_mixes_with_nothing() -> None:
    size = (24, 24)
    depth = np.full((*size, 1), 5, np.float32)
    depth[:, 12:] = np.nan
    mine = turned(modality(size, type="dense", unknown=0), depth, 30)[..., 0]
    assert np.allclose(mine[np.isfinite(mine)], 5) and np.isfinite(mine).mean() < 0.5
    soft = modality(size, type="soft", classes=["a", "b"])
    values = np.full((*size, 2), 0.5, np.float32)
    values[:, 12:] = 0
    mine = turned(soft, values, 30)
    assert set(np.unique(mine.sum(-1).round(4))) == {0, 1}
    bounded = modality(size, type="dense", channels=2, unit="px", range=[-4, 4])
    mine = turned(bounded, np.full((*size, 2), 4, np.float32), 45)
    assert not bounded.known(mine[None]).any()  # 5.7 px downwards are outside of what this modality holds


def test_a_turn_moves_all_columns_alike_on_any_number_of_workers() -> None:
    size = (24, 32)
    columns: dict[str, Modality] = {
        "rgb@a": modality(size, type="image"), "ids@a": modality(size, type="segmentation", classes=["a"]),
        "small@a": modality(size, type="dense", size=[12, 16]), "points@a": modality(size, type="keypoints", points=1),
        "kind@a": modality(size, type="category", classes=["left", "right"]),
    }  # fmt: skip
    ramp = np.arange(32, dtype=np.uint8)[None].repeat(24, 0)
    rows = {
        "rgb@a": ramp[..., None].repeat(3, -1), "ids@a": ramp, "small@a": ramp[::2, ::2, None].astype(np.float32) + 0.5,
        "points@a": np.float32([[0.25, 0.5, 1]]), "kind@a": np.int64(1),
    }  # fmt: skip
    batch = {name: torch.from_numpy(np.stack([value] * 6)) for name, value in rows.items()}
    rotate = Rotate(type="rotate", degrees=40, probability=0.7)
    rotate.check(columns)

    def part(some: slice) -> dict[str, torch.Tensor]:
        augmented: dict[str, torch.Tensor] = inline.augmented(rotate, batch, columns, some, seed=5)
        return augmented

    whole, first, second = part(slice(0, 6)), part(slice(0, 3)), part(slice(3, 6))
    for column, values in whole.items():
        assert torch.allclose(values.float(), torch.cat([first[column], second[column]]).float(), equal_nan=True)
    known = whole["ids@a"] < 255
    assert (whole["rgb@a"][..., 0] - whole["ids@a"].float()).abs()[known].max() <= 1.5
    assert torch.equal(whole["kind@a"], batch["kind@a"])
    for i in range(6):
        x, y, _ = whole["points@a"][i, 0].tolist()
        assert abs(whole["rgb@a"][i, int(y * 24), int(x * 32), 0] - 7.5) < 1.6
        assert abs(whole["small@a"][i, int(y * 12), int(x * 16), 0] - 7.5) < 3
    assert 1 < len(whole["ids@a"].flatten(1).unique(dim=0)) < 7


@pytest.mark.parametrize("augment", [Rotate(type="rotate", probability=0.5), Crop(type="crop", probability=0.5)])
@pytest.mark.parametrize("storage", ["uint8", "float16"])
def test_what_is_moved_lies_on_the_scale_of_what_is_not(augment: Any, storage: str) -> None:
    """Probabilities in bytes: once moved ones became shares beside bytes that were read as shares of 127."""
    columns = {
        "rgb@a": modality((8, 8), type="image"),
        "soft@a": modality((8, 8), type="soft", classes=["a", "b"], storage=storage),
    }
    half = torch.full((8, 8, 8, 2), 127, dtype=torch.uint8) if storage == "uint8" else torch.full((8, 8, 8, 2), 0.498)
    batch = {"rgb@a": torch.zeros(8, 8, 8, 3, dtype=torch.uint8), "soft@a": half}
    moved = inline.augmented(augment, batch, columns, slice(0, 8))["soft@a"]
    read = processor_of(columns["soft@a"]).target(Scale())(moved)
    assert torch.allclose(read[:, :, 4, 4], torch.tensor(0.498), atol=2e-3)


@pytest.mark.parametrize(
    ("definition", "words"),
    [
        ({"type": "vector", "length": 2, "mirror": []}, "one@a: nobody knows what a turn does to it"),
        ({"type": "series", "steps": 2}, "nobody knows what a turn does"),
        ({"type": "dense", "unit": "px"}, "a disparity lies along the rows"),
        ({"type": "dense", "unit": "deg"}, "from where are they measured"),
        ({"type": "dense", "unit": "m", "channels": 3}, "do its 3 channels in m point somewhere"),
        ({"type": "dense", "size": [24, 24]}, "rgb@a has 24 x 32 pixels and one@a 24 x 24"),
    ],
)
def test_what_nobody_can_turn_is_refused_by_name(definition: dict[str, Any], words: str) -> None:
    columns = {"rgb@a": modality((24, 32), type="image"), "one@a": modality((24, 32), **definition)}
    with pytest.raises(ValueError, match=words):
        Rotate(type="rotate").check(columns)


def test_sides_hold_up_to_45_degrees_and_a_frame_has_a_form() -> None:
    lanes = {"lanes@a": modality((24, 32), type="segmentation", classes=["left lane", "right lane"])}
    Rotate(type="rotate", degrees=45).check(lanes)
    Rotate(type="rotate", degrees=90, sides="object").check(lanes)
    for columns in (lanes, {**lanes, "turn@a": modality((4, 4), type="category", classes=["left", "on"])}):
        with pytest.raises(ValueError, match="lanes@a.* by 90 degrees: left and right may change places"):
            Rotate(type="rotate", degrees=90).check(columns)
    with pytest.raises(ValueError, match="no picture beside it"):
        Rotate(type="rotate").check({"points@a": modality((4, 4), type="keypoints", points=1)})


def test_lengths_that_may_point_somewhere_are_refused_by_a_mirror_too() -> None:
    scene_flow = modality((4, 4), type="dense", channels=3, unit="m/s")
    assert "kind: vector" in scene_flow.sideless
    moving = modality((4, 4), type="dense", channels=3, unit="m/s", kind="vector")
    assert moving.mirrored(torch.ones(1, 4, 4, 3))[0, 0, 0].tolist() == [-1, 1, 1]
    for still in ({"kind": "scalar"}, {"range": [0, 9]}):
        one = modality((4, 4), type="dense", channels=3, unit="m", **still)
        assert one.sideless == "" and one.mirrored(torch.ones(1, 4, 4, 3)).min() == 1
    for wrong, words in (({"kind": "vector"}, "x and y first"), ({"y": "up"}, "axis of the camera")):
        with pytest.raises(ValueError, match=words):
            modality((4, 4), type="dense", **wrong)
