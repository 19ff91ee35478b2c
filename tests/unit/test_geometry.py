"""What a mirror and a resize do to labels: changing picture and labels is labelling the changed picture."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hyperloom.pipeline import plugins
from hyperloom.pipeline.fingerprint import payload
from hyperloom.stages.augment.views import Colour, Crop, Flip
from hyperloom.stages.ingest.stage import Ingest
from hyperloom.stages.label.algorithms.appearance import canny_edges, gradient_edges, sobel_edges
from hyperloom.stages.label.algorithms.pose import rays
from hyperloom.stages.label.algorithms.surface import normals_from_depth
from hyperloom.stages.modality import sides
from tests.unit import inline

SIZE = (24, 32)
QUICK = settings(max_examples=25, deadline=None)


def modality(**definition: Any) -> Any:
    return inline.modalities(rgb={"type": "image", "size": list(SIZE)}, one=definition)["one"]


def flipped(one: Any, value: Any) -> np.ndarray:
    """One value after a flip, as a batch of two of which both are mirrored."""
    flip, columns = Flip(type="flip", probability=1), {"one@a": one}
    flip.check(columns)
    batch = {"one@a": torch.from_numpy(np.stack([value, value]))}
    changed: np.ndarray = inline.augmented(flip, batch, columns, slice(0, 2))["one@a"][1].numpy()
    return changed


def refused(one: Any) -> str:
    with pytest.raises(ValueError, match="flip cannot mirror one@a") as error:
        Flip(type="flip").check({"one@a": one})
    return str(error.value)


def picture(seed: int) -> np.ndarray:
    rough = np.random.default_rng(seed).integers(0, 255, (4, 5, 3)).astype(np.uint8)
    return np.asarray(cv2.resize(rough, SIZE[::-1], interpolation=cv2.INTER_CUBIC))


# -- procedural experts ------------------------------------------------------------------------------------------------
@QUICK
@given(st.integers(0, 10**6))
def test_edges_of_a_mirrored_picture_are_the_mirrored_edges(seed: int) -> None:
    rgb, one = picture(seed), modality(type="dense", range=[0, 1])
    for label in (lambda x: gradient_edges(x, 1, 0.1), lambda x: sobel_edges(x, 1, 0.1)):
        assert np.allclose(flipped(one, label(rgb)[..., None])[..., 0], label(rgb[:, ::-1].copy()), atol=1e-5)
    thin = canny_edges(rgb, 1), canny_edges(rgb[:, ::-1].copy(), 1)
    assert np.mean(flipped(one, thin[0][..., None])[..., 0] == thin[1]) > 0.95  # ties of neighbours are broken by place


@QUICK
@given(st.integers(0, 10**6), st.floats(0.5, 2))
def test_normals_of_a_mirrored_depth_are_the_mirrored_normals(seed: int, focal: float) -> None:
    depth = 5 + cv2.GaussianBlur(np.random.default_rng(seed).random(SIZE).astype(np.float32), (0, 0), 2)
    ways, one = rays(*SIZE, (focal, focal)), modality(type="dense", channels=3, direction=True)
    normals = normals_from_depth(depth, ways, 1.0).astype(np.float32)
    mirrored = normals_from_depth(depth[:, ::-1].copy(), ways, 1.0)
    assert np.allclose(flipped(one, normals)[1:-1, 1:-1], mirrored[1:-1, 1:-1], atol=1e-4)


@QUICK
@given(st.integers(0, 10**6), st.integers(-3, 3), st.integers(-3, 3), st.sampled_from([2, 4]))
def test_flow_of_a_mirrored_pair_carries_it_as_before(seed: int, dx: int, dy: int, channels: int) -> None:
    """`flow` says where a pixel was: so it does in the mirror."""
    before = picture(seed)
    now = np.roll(before, (-dy, -dx), (0, 1))
    field = np.tile(np.array([dx, dy], np.float32), (*SIZE, channels // 2))
    mirrored = flipped(modality(type="dense", channels=channels, unit="px"), field)
    flipped_now, flipped_before = now[:, ::-1], before[:, ::-1]
    y, x = np.mgrid[4:20, 4:28]
    for pair in range(0, channels, 2):
        at_x, at_y = x + mirrored[y, x, pair].astype(int), y + mirrored[y, x, pair + 1].astype(int)
        assert np.array_equal(flipped_now[y, x], flipped_before[at_y, at_x])


@QUICK
@given(st.integers(1, 4), st.sampled_from([1, 2, 4]), st.floats(-9, 9), st.floats(-9, 9))
def test_displacements_and_disparities_grow_with_their_axes(tall: int, wide: int, dx: float, dy: float) -> None:
    """Flow and disparity of a picture of another size, brought to this one."""
    height, width = SIZE[0] // tall, SIZE[1] // wide
    flow = np.full((height, width, 2), (dx, dy), np.float32)
    assert np.allclose(modality(type="dense", channels=2, unit="px").fit(flow), (dx * wide, dy * tall), atol=1e-3)
    disparity = np.full((height, width), abs(dx), np.float32)
    assert np.allclose(modality(type="dense", unit="px").fit(disparity), abs(dx) * wide, atol=1e-3)
    for other in ({"unit": "m"}, {"unit": "px", "kind": "scalar"}, {}):
        assert np.allclose(modality(type="dense", **other).fit(disparity), abs(dx), atol=1e-3)


@pytest.mark.parametrize(
    "unit", ["pixels", "pixel", "Pixels", "[px]", " px", "PX", "px/frame", "pixels/s", "pixels per frame"]
)
def test_pixels_are_pixels_however_they_are_spelled(unit: str) -> None:
    plain, flow = modality(type="dense", channels=2, unit="px"), modality(type="dense", channels=2, unit=unit)
    small = np.full((SIZE[0] // 2, SIZE[1] // 2, 2), (4, 2), np.float32)
    assert (flow.fit(small) == plain.fit(small)).all() and (flow.fit(small) == (8, 4)).all()
    assert (flipped(flow, flow.fit(small)) == (-8, 4)).all()
    window = torch.tensor([[0.0, 0.0, 0.5]])
    assert (flow.windowed(torch.from_numpy(flow.fit(small))[None], window) == torch.tensor([16.0, 8.0])).all()
    one = modality(type="dense", unit=unit)
    if "/" in unit or "per" in unit:  # a shift along the rows, or an amount: nobody knows
        assert "kind: disparity" in refused(one)
        with pytest.raises(ValueError, match="crop cannot show a window of one@a: .*kind: scalar"):
            Crop(type="crop").check({"one@a": one})
    else:
        assert (one.fit(small[..., :1]) == 8).all() and "rows of the picture" in one.unturned
    assert (payload(flow)["revision"], payload(plain)["revision"]) == (3, 2)  # maps that were made before are stale
    assert payload(modality(type="dense", channels=2, unit=unit, kind="displacement"))["revision"] == 2


@pytest.mark.parametrize("kind", [None, "angle"])
def test_angles_are_never_mixed(kind: str | None) -> None:
    heading = modality(type="dense", unit="deg", range=[0, 360], unknown="nan", **({"kind": kind} if kind else {}))
    with pytest.raises(ValueError, match="crop cannot show a window of one@a: .* 359 and 1 deg .*kind: scalar"):
        Crop(type="crop").check({"one@a": heading})
    wide = np.full((48, 65), 359, np.float32)
    wide[:, 32:], wide[:, 60:] = 1, np.nan
    fitted = heading.fit(wide)
    assert {float(v) for v in np.unique(fitted[np.isfinite(fitted)])} == {1.0, 359.0}
    assert np.isnan(fitted[:, -2:]).all() and payload(heading)["revision"] == 3
    of_a_network = plugins.parse("decoder", {"type": "dense"}).finish(np.nan_to_num(wide, nan=1), heading)
    assert {float(v) for v in np.unique(of_a_network)} == {1.0, 359.0}
    Crop(type="crop").check({"one@a": modality(type="dense", unit="deg", kind="scalar")})


def test_an_experts_displacements_are_in_pixels_of_its_own_map() -> None:
    decoder = plugins.parse("decoder", {"type": "dense"})
    small = np.full((SIZE[0] // 2, SIZE[1] // 4, 2), (1, 1), np.float32)
    assert np.allclose(decoder.finish(small, modality(type="dense", channels=2, unit="px")), (4, 2))
    assert np.allclose(decoder.finish(small, modality(type="dense", channels=2, unit="m")), 1)


# -- maps --------------------------------------------------------------------------------------------------------------
def test_a_disparity_keeps_its_sign_and_its_range() -> None:
    ramp = np.linspace(20, 30, 32, dtype=np.float32)[None, :, None].repeat(24, 0)
    for definition in ({"range": [0, 64]}, {}, {"kind": "disparity"}):
        one = modality(type="dense", unit="px", **definition)
        assert np.array_equal(flipped(one, ramp), ramp[:, ::-1])
        one.check(flipped(one, ramp))
    two = np.concatenate([ramp, ramp], -1)
    lengths = modality(type="dense", unit="px", channels=2, range=[0, 64])
    assert np.array_equal(flipped(lengths, two), two[:, ::-1])
    assert np.array_equal(flipped(modality(type="dense", unit="px", channels=2, kind="scalar"), two), two[:, ::-1])


def test_maps_of_which_nobody_knows_what_a_mirror_does_are_refused_by_name() -> None:
    assert "from where are they measured" in refused(modality(type="dense", unit="deg"))
    assert "which of its 3 channels" in refused(modality(type="dense", unit="px", channels=3))
    assert "leave its range [-3.0, 5.0]" in refused(modality(type="dense", unit="px", channels=2, range=[-3, 5]))
    assert flipped(modality(type="dense", unit="deg", kind="scalar"), np.ones((*SIZE, 1), np.float32)).all()
    for wrong in ({"kind": "displacement", "channels": 3}, {"kind": "scalar", "channels": 3, "direction": True}):
        with pytest.raises(ValueError, match="kind: "):
            modality(type="dense", **wrong)


# -- left and right ----------------------------------------------------------------------------------------------------
LIMBS = ["left arm", "right arm", "bg"]


def test_classes_that_are_sides_are_exchanged_wherever_they_stand() -> None:
    row = np.array([1, 1, 1, 0, 0, 2, 255, 255] * 4, np.uint8)[None].repeat(24, 0)
    other = np.array([1, 0, 2] + [255] * 253, np.uint8)
    semantic = modality(type="segmentation", classes=LIMBS)
    assert np.array_equal(flipped(semantic, row), other[row[:, ::-1]])
    soft = modality(type="soft", classes=LIMBS)
    values = np.random.default_rng(0).dirichlet(np.ones(3), SIZE).astype(np.float32)
    assert np.array_equal(flipped(soft, values), values[:, ::-1][..., [1, 0, 2]])
    stored = soft.to_stored(values).astype(np.uint8)
    assert np.array_equal(flipped(soft, stored), stored[:, ::-1][..., [1, 0, 2]])
    labels = modality(type="multilabel", classes=LIMBS)
    assert flipped(labels, np.array([1, 0, 255], np.uint8)).tolist() == [0, 1, 255]
    turn = modality(type="category", classes=["turn left", "ahead", "turn right"])
    assert [int(flipped(turn, np.array(i))) for i in (0, 1, 2, -1)] == [2, 1, 0, -1]
    boxes = modality(type="boxes", classes=LIMBS, most=2)
    mirrored = flipped(boxes, boxes.fit([{"x0": 0.1, "y0": 0, "x1": 0.3, "y1": 1, "class": "left arm"}]))
    assert mirrored[0] == pytest.approx([0.7, 0, 0.9, 1, 1, 1]) and np.isnan(mirrored[1]).all()
    plain = modality(type="category", classes=["bright", "cleft", "upright"])
    assert plain.sides == "none" and int(flipped(plain, np.array(1))) == 1


@pytest.mark.parametrize("kind", ["segmentation", "soft", "multilabel", "category", "boxes"])
def test_a_side_without_its_counterpart_is_refused(kind: str) -> None:
    assert "no 'right lane'" in refused(modality(type=kind, classes=["left lane", "road"]))


def test_names_of_sides() -> None:
    names = ["LeftArm", "RightArm", "leg_l", "leg_r", "LEFT EYE", "RIGHT EYE", "lefthand", "righthand", "l", "bright"]
    assert sides.exchange(names) == (1, 0, 3, 2, 5, 4, 7, 6, 8, 9)
    assert sides.alone(names) == [] and sides.alone(["turn left", "stop"]) == ["turn left"]
    assert sides.mirrored("Left of the rightmost, LEFT") == "Right of the rightmost, RIGHT"


@pytest.mark.parametrize(
    ("names", "sided"),
    [
        (["L", "R"], True),
        (["l", "r", "none"], True),
        (["L", "C", "R"], True),
        (["s", "l", "r"], True),
        (["turn_l", "turn_n", "turn_r"], True),
        (["row_l", "row_r", "row_k"], False),
        (list("ABCDEFGHIJKLMNOPQRSTUVWXYZ"), False),
        (["S", "M", "L", "R"], False),
        ([*"0123456789", "l", "r"], False),
        (["letter L", "letter R", "letter Q"], False),
    ],
)
def test_a_letter_is_no_side(names: list[str], sided: bool) -> None:
    one, other = (next(i for i, n in enumerate(names) if n.casefold().endswith(e)) for e in ("l", "r"))
    order = list(range(len(names)))
    if sided:
        order[one], order[other] = other, one
    assert sides.exchange(names) == tuple(order)
    sign = modality(type="category", classes=names)
    assert int(flipped(sign, np.array(one))) == order[one]
    assert sides.lettered(names) is (not sided) or "_" in names[0]


def test_a_crowd_stays_as_far_as_it_is_shown() -> None:
    """Its middle is not shown, and yet it is most of what is."""
    kind = modality(type="boxes", classes=["man"], most=4)
    crowd = {"x0": 0, "y0": 0, "x1": 0.9, "y1": 1, "class": "man", "crowd": True}
    man = {"x0": 0, "y0": 0, "x1": 0.9, "y1": 1, "class": "man"}
    gone = {"x0": 0, "y0": 0, "x1": 0.3, "y1": 1, "class": "man", "crowd": True}
    values = torch.from_numpy(kind.fit([gone, man, crowd]))[None]
    shown = kind.windowed(values.clone(), torch.tensor([[0.0, 0.5, 0.5]]))[0].numpy()
    assert shown[0] == pytest.approx([0, 0, 0.8, 1, 0, 0]) and np.isnan(shown[1:]).all()
    turned = kind.turned(values.clone(), torch.tensor([0.1]), 1.0)[0].numpy()
    assert (~np.isnan(turned).any(1)).sum() == 3


def test_points_change_places_and_hidden_ones_stay_hidden() -> None:
    eyes = modality(type="keypoints", points=["nose", "left eye", "right eye"])
    mirrored = flipped(eyes, eyes.fit({"nose": [0.5, 0.2], "left eye": [0.6, 0.1]}))
    assert np.allclose(mirrored, [[0.5, 0.2, 1], [0, 0, 0], [0.4, 0.1, 1]])
    eyes.check(mirrored)
    assert "tell no left and right" in refused(modality(type="keypoints", points=4))
    corners = modality(type="keypoints", points=["tl", "tr", "tip"], swap=[["tl", "tr"]])
    mirrored = flipped(corners, corners.fit({"tl": [0.1, 0], "tip": [0.5, 1]}))
    assert np.allclose(mirrored, [[0, 0, 0], [0.9, 0, 1], [0.5, 1, 1]])
    with pytest.raises(ValueError, match="swap: each name"):
        modality(type="keypoints", points=["a"], swap=[["a", "b"]])


def test_numbers_of_samples_say_what_a_mirror_changes_or_refuse() -> None:
    for definition in ({"type": "vector", "length": 3}, {"type": "scalar"}, {"type": "embedding", "length": 2}):
        assert "mirror: []" in refused(modality(**definition))
    assert "mirror: []" in refused(modality(type="series", steps=2, channels=2))
    pose = modality(type="vector", length=3, mirror=[0, 2])
    assert flipped(pose, np.array([1, 2, 3], np.float32)).tolist() == [-1, 2, -3]
    assert flipped(modality(type="scalar", mirror=[]), np.array([4], np.float32)).tolist() == [4]
    track = modality(type="series", steps=2, channels=2, mirror=[1])
    assert flipped(track, np.array([[1, 2], [3, 4]], np.float32)).tolist() == [[1, -2], [3, -4]]
    for wrong in ({"length": 2, "mirror": [2]}, {"length": 2, "mirror": [0], "range": [0, 1]}):
        with pytest.raises(ValueError, match="mirror: "):
            modality(type="vector", **wrong)


def test_numbers_that_are_called_by_their_sides_change_places() -> None:
    """The chances of left and right stayed where they were when their picture was mirrored."""
    chances = modality(type="vector", length=3, classes=["left lane", "right lane", "none"], mirror=[])
    assert flipped(chances, np.array([1, 2, 3], np.float32)).tolist() == [2, 1, 3]
    arms = modality(type="vector", length=3, classes=["left arm x", "right arm x", "y"], mirror=[0, 1])
    assert flipped(arms, np.array([1, 2, 3], np.float32)).tolist() == [-2, -1, 3]
    assert "there is no 'right'" in refused(modality(type="vector", length=2, classes=["left", "up"], mirror=[]))
    assert "mirror: []" in refused(modality(type="vector", length=2, classes=["left", "right"]))
    assert "called by their sides" in refused(modality(type="dense", channels=2, names=["left eye", "right eye"]))
    assert flipped(modality(type="dense", channels=2, names=["time left", "depth"]), np.ones((*SIZE, 2))).all()


def test_a_left_and_a_right_camera_are_not_mirrored_each_by_itself() -> None:
    picture = modality(type="image")
    Flip(type="flip").check({"rgb@left": picture, "depth@right": modality(type="dense", unit="m")})
    for pair in (("rgb@left", "rgb@right"), ("rgb@cam_l", "rgb@cam_r"), ("rgb@front_left", "rgb@front_right")):
        with pytest.raises(ValueError, match=f"flip cannot mirror {pair[0]} beside {pair[1]}.*Next: "):
            Flip(type="flip").check({**dict.fromkeys(pair, picture), "rgb@rear": picture})


def test_texts_exchange_their_words() -> None:
    caption = modality(type="text", length=24)
    mirrored = flipped(caption, caption.fit("a man left of a car"))
    assert caption.words(mirrored) == "a man right of a car"
    assert caption.words(flipped(caption, caption.fit("left of left of left"))) == "right of right of right"
    assert caption.words(flipped(caption, caption.fit("left left left left left"))) == "right right right right "


@QUICK
@given(st.data())
def test_a_second_mirror_brings_all_back(data: st.DataObject) -> None:
    """Whatever a type says of a mirror, twice is nothing, and what comes is a good value again."""
    definition = data.draw(st.sampled_from(TWICE))
    one = modality(**definition)
    random = np.random.default_rng(data.draw(st.integers(0, 10**6)))
    value = np.asarray(one.example(random)).astype(one.dtype)
    once = flipped(one, value)
    one.check(once)
    assert np.allclose(flipped(one, once), value, atol=1e-5, equal_nan=True)


TWICE: list[dict[str, Any]] = [
    {"type": "image"},
    {"type": "clip", "frames": 2},
    {"type": "dense", "unit": "m", "unknown": 0},
    {"type": "dense", "channels": 2, "unit": "px"},
    {"type": "dense", "channels": 3, "direction": True},
    {"type": "segmentation", "classes": LIMBS},
    {"type": "soft", "classes": LIMBS},
    {"type": "boxes", "classes": LIMBS, "most": 3},
    {"type": "keypoints", "points": ["left", "right", "top"]},
    {"type": "category", "classes": LIMBS},
    {"type": "ordinal", "levels": ["left", "centre", "right"]},
    {"type": "multilabel", "classes": LIMBS},
    {"type": "vector", "length": 3, "mirror": [1]},
    {"type": "tags", "tags": 3, "length": 4},
    {"type": "audio", "rate": 8, "seconds": 1},
    {"type": "graph", "nodes": 3, "edges": 2},
    {"type": "text", "length": 16},
]


# -- windows -----------------------------------------------------------------------------------------------------------
WINDOW = np.array([0.25, 0.5, 0.5], np.float32)
"""Top, left and the share of both sides: rows 6 to 18, columns 16 to 32."""


def shown(one: Any, value: Any, window: np.ndarray = WINDOW) -> np.ndarray:
    return one.windowed(torch.from_numpy(value[None].copy()), torch.from_numpy(window[None]))[0].numpy()


@QUICK
@given(st.integers(0, 10**6))
def test_labels_of_a_window_are_the_window_of_the_labels(seed: int) -> None:
    rgb = picture(seed)
    inside = cv2.resize(rgb[6:18, 16:32], SIZE[::-1], interpolation=cv2.INTER_LINEAR)
    cut = shown(modality(type="image"), rgb)
    assert np.abs(cut - inside)[2:-2, 2:-2].max() <= 1
    semantic = modality(type="segmentation", classes=LIMBS)
    ids = np.random.default_rng(seed).choice([0, 1, 2, 255], SIZE).astype(np.uint8)
    assert np.array_equal(shown(semantic, ids), np.kron(ids[6:18, 16:32], np.ones((2, 2), np.uint8)))
    soft = modality(type="soft", classes=LIMBS)
    assert shown(soft, soft.fit(np.eye(3)[ids % 3])).sum(-1) == pytest.approx(1, abs=1e-5)


@QUICK
@given(st.floats(-2, 2), st.floats(-2, 2), st.floats(0.3, 1), st.floats(0, 1), st.floats(0, 1))
def test_what_is_in_pixels_grows_with_its_window(dx: float, dy: float, share: float, top: float, left: float) -> None:
    """The expert knows the truth: a plane that moves and turns away, looked at through the window."""
    window = np.array([top * (1 - share), left * (1 - share), share], np.float32)
    middle = (np.arange(SIZE[1]) + 0.5) / SIZE[1]
    field = np.stack([dx * middle, dy * middle], -1).astype(np.float32)[None].repeat(SIZE[0], 0)
    seen = window[1] + share * middle
    for definition, factor in (({"unit": "px"}, 1 / share), ({"unit": "m"}, 1.0)):
        expected = np.stack([dx * seen, dy * seen], -1)[None] * factor
        one = modality(type="dense", channels=2, storage="float32", **definition)
        assert np.abs(shown(one, field, window) - expected)[2:-2, 2:-2].max() < 1e-4
        depth = modality(type="dense", storage="float32", **definition)
        assert np.abs(shown(depth, np.abs(field[..., :1]), window) - np.abs(expected[..., :1]))[2:-2, 2:-2].max() < 1e-4


def test_a_window_mixes_nothing_with_what_is_unknown() -> None:
    depth = np.full((*SIZE, 1), 5, np.float32)
    depth[:, 20:] = np.nan
    cut = shown(modality(type="dense", unknown=0), depth)[..., 0]
    assert np.isnan(cut[:, 8:]).all() and (cut[:, :8] == 5).all()
    normals = np.zeros((*SIZE, 3), np.float32)
    normals[:, :20, 2] = 1
    cut = shown(modality(type="dense", channels=3, direction=True), normals)
    assert not cut[:, 8:].any() and (cut[:, :8] == (0, 0, 1)).all()


def test_boxes_are_cut_and_points_outside_are_hidden() -> None:
    boxes = modality(type="boxes", classes=["car"], most=3)
    whole = [{"x0": 0.0, "y0": 0.3, "x1": 0.2, "y1": 0.5}, {"x0": 0.4, "y0": 0.3, "x1": 0.7, "y1": 0.5}]
    cut = shown(boxes, boxes.fit([{**box, "class": "car"} for box in whole]))
    assert cut[0, :4] == pytest.approx([0, 0.1, 0.4, 0.5]) and np.isnan(cut[1:]).all()
    boxes.check(cut)
    points = modality(type="keypoints", points=["left", "right"])
    cut = shown(points, points.fit({"left": [0.75, 0.5], "right": [0.4, 0.5]}))
    assert cut.tolist() == [[0.5, 0.5, 1], [0, 0, 0]]


def test_images_and_clips_of_a_sample_come_into_the_same_light() -> None:
    columns = {"rgb@a": modality(type="image"), "film@a": modality(type="clip", frames=2)}
    rgb = torch.from_numpy(np.stack([picture(seed) for seed in range(3)]))
    batch = {"rgb@a": rgb, "film@a": torch.stack([rgb, rgb], 1)}
    lit = inline.augmented(Colour(type="colour"), batch, columns, slice(0, 3), seed=1)
    assert (lit["rgb@a"] - rgb).abs().max() > 5
    assert torch.allclose(lit["film@a"], torch.stack([lit["rgb@a"]] * 2, 1), atol=1e-3)


def test_a_crop_moves_all_columns_alike_on_any_number_of_workers_and_refuses_by_name() -> None:
    columns = {"rgb@a": modality(type="image"), "ids@a": modality(type="segmentation", classes=["a"])}
    ramp = np.arange(32, dtype=np.uint8)[None].repeat(24, 0)
    grey = ramp[..., None].repeat(3, -1)
    batch = {name: torch.from_numpy(np.stack([v] * 6)) for name, v in (("rgb@a", grey), ("ids@a", ramp))}
    crop = Crop(type="crop", probability=0.7)

    def part(some: slice) -> dict[str, torch.Tensor]:
        augmented: dict[str, torch.Tensor] = inline.augmented(crop, batch, columns, some, seed=3)
        return augmented

    whole, first, second = part(slice(0, 6)), part(slice(0, 3)), part(slice(3, 6))
    for column, values in whole.items():
        assert torch.allclose(values.float(), torch.cat([first[column], second[column]]).float())
    assert (whole["rgb@a"][..., 0] - whole["ids@a"].float()).abs().max() <= 1
    assert 1 < len(whole["ids@a"].flatten(1).unique(dim=0)) < 7
    for definition in ({"type": "vector", "length": 2}, {"type": "dense", "channels": 3, "unit": "px"}):
        with pytest.raises(ValueError, match="crop cannot show a window of one@a: "):
            crop.check({"one@a": modality(**definition)})
    crop.check({"one@a": modality(type="category", classes=["turn left", "ahead"])})


@pytest.mark.parametrize("augment", [{"type": "crop"}, {"type": "rotate"}])
def test_a_graph_that_numbers_boxes_is_refused_where_boxes_leave(augment: dict[str, Any]) -> None:
    columns = {
        "rgb@a": modality(type="image"),
        "things@a": modality(type="boxes", classes=["cup", "man"], most=4),
        "holds@a": modality(type="graph", nodes=4, edges=2),
    }
    with pytest.raises(ValueError, match="not shown of things@a.* numbers in holds@a .*Next: "):
        plugins.parse("augment", augment).check(columns)
    for one in ("things@a", "holds@a"):
        plugins.parse("augment", augment).check({k: m for k, m in columns.items() if k != one})
    Flip(type="flip").check(columns)


@pytest.mark.parametrize("side", [(256, 256), (128, 96), (48, 64), (17, 31), (12, 16), (24, 32)])
def test_a_class_map_of_another_size_lies_where_its_picture_does(side: tuple[int, int]) -> None:
    """The middle of a disc stays where it was, by classes as by numbers, larger or smaller."""
    semantic, share = modality(type="segmentation", classes=["a", "b"]), modality(type="dense", range=[0, 1])
    y, x = np.mgrid[: side[0], : side[1]] + 0.5
    random, away = np.random.default_rng(0), []
    for _ in range(40):
        row, column = random.uniform(0.35, 0.65, 2)
        disc = np.hypot(y / side[0] - row, x / side[1] - column) < 0.25
        for fitted in (semantic.fit(disc.astype(np.uint8)) == 1, share.fit(disc.astype(np.float32))[..., 0]):
            at = [(fitted * places).sum() / fitted.sum() for places in np.mgrid[: SIZE[0], : SIZE[1]] + 0.5]
            away.append([at[0] - row * SIZE[0], at[1] - column * SIZE[1]])
    half = max(0.5 * SIZE[i] / side[i] for i in (0, 1))  # of two pixels that are as near one is taken
    assert np.abs(np.mean(away[::2], 0)).max() < 0.1 + min(half, 0.25) and np.abs(np.mean(away[1::2], 0)).max() < 0.1


def test_a_network_of_ids_puts_them_where_files_do_on_either_processor() -> None:
    ids = np.random.default_rng(0).integers(0, 5, (2, 17, 50)).astype(np.uint8)
    semantic = modality(type="segmentation", classes=list("abcde"))
    decoder = plugins.parse("decoder", {"type": "classes", "activation": "ids"})
    host = np.stack([decoder.finish(one, semantic) for one in ids])
    assert np.array_equal(host, np.stack([semantic.fit(one) for one in ids]))
    assert np.array_equal(decoder.on_device(torch.from_numpy(ids), semantic).numpy(), host)
    revisions = [plugins.parse("decoder", {"type": "classes", "activation": a}).revised() for a in ("ids", "softmax")]
    assert revisions == [3, 2]


def test_class_maps_of_files_are_made_anew_and_nothing_else() -> None:
    known = inline.modalities(
        rgb={"type": "image", "size": [8, 8]}, semantic={"type": "segmentation", "classes": ["a"]}
    )
    columns: dict[str, Any] = {"semantic@truth": "{stem}.png"}
    files = Ingest.model_validate({"stage": "ingest", "source": {"type": "files", "path": "*.jpg", "columns": columns}})
    plain = Ingest.model_validate({"stage": "ingest", "source": {"type": "files", "path": "*.jpg"}})
    flights = Ingest.model_validate({"stage": "ingest", "source": {"type": "flights"}})
    assert [one.revised_for(known) for one in (files, plain, flights)] == [{"nearest": 2}, {}, {}]
    resized = plugins.parse("expert", {"type": "resize", "in": "big@a", "out": "semantic@a"})
    assert resized.revised_for(known) == {"nearest": 2}
