"""Detectors into the modality `boxes` from a recipe alone: one car and one person, in every form that exporters write.

Truth: a car of class 2 of the network at x 2..8, y 1..5 of 16 x 8 pixels with .9, the same again a little off with .6,
and a person of class 0 at x 10..12, y 2..6 with .8; besides, things that are faint and a class that nobody wants.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto as T
from onnx import helper, numpy_helper, save

from hyperloom.pipeline import plugins
from hyperloom.pipeline.errors import RecipeError
from hyperloom.pipeline.fingerprint import payload
from hyperloom.pipeline.root.storage import Storage
from tests.unit.inline import modalities

SHAPE = HEIGHT, WIDTH = 32, 64
KNOWN = modalities(
    rgb={"type": "image", "size": SHAPE},
    objects={"type": "boxes", "classes": ["person", "car"], "most": 5},
)
CORNERS = np.array([[8, 4, 32, 20], [9, 4, 32, 20], [40, 8, 48, 24], [0, 0, 9, 9], [20, 20, 30, 30]], np.float32)
SCORES = np.array([[0, 0, 0.9], [0, 0.1, 0.6], [0.8, 0.1, 0], [0.05, 0, 0.1], [0, 0.7, 0.1]], np.float32)
MAP = ["person", None, "car"]
TRUTH = np.array([[8 / 64, 4 / 32, 32 / 64, 20 / 32, 1, 0.9], [40 / 64, 8 / 32, 48 / 64, 24 / 32, 0, 0.8]], np.float32)
CENTRES = np.concatenate([(CORNERS[:, :2] + CORNERS[:, 2:]) / 2, CORNERS[:, 2:] - CORNERS[:, :2]], 1)
SIDES = np.concatenate([CORNERS[:, :2], CORNERS[:, 2:] - CORNERS[:, :2]], 1)
SHARES = CORNERS / np.array([WIDTH, HEIGHT, WIDTH, HEIGHT], np.float32)
LOGITS = np.log(np.clip(SCORES, 1e-6, 1 - 1e-6) / (1 - np.clip(SCORES, 1e-6, 1 - 1e-6))).astype(np.float32)
NOTHING = (1 - SCORES.sum(1, keepdims=True)).astype(np.float32)
BEST, OF = SCORES.max(1), SCORES.argmax(1)


def detector(path: Path, **outputs: Any) -> str:
    """A network that answers every frame with these arrays."""
    nodes, kept, named = [], [], []
    for name, value in outputs.items():
        array = np.asarray(value)
        kept += [numpy_helper.from_array(array[None], f"{name}0"), numpy_helper.from_array(np.array([0]), f"{name}z")]
        nodes += [
            helper.make_node("Shape", ["x"], [f"{name}s"], start=0, end=1),
            helper.make_node("ConstantOfShape", [f"{name}s"], [f"{name}c"],
                             value=helper.make_tensor("v", T.INT64, [1], [0])),
            helper.make_node("Gather", [f"{name}0", f"{name}c"], [name], axis=0),
        ]  # fmt: skip
        named.append(helper.make_empty_tensor_value_info(name))
    graph = helper.make_graph(
        nodes, "detector", [helper.make_tensor_value_info("x", T.FLOAT, ["n", 3, *SHAPE])], named, kept
    )
    save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), str(path))
    return str(path)


def asked(path: str, **decode: Any) -> np.ndarray:
    """The boxes of two frames, which must be alike, without padding."""
    fields = {"type": "onnx", "path": path, "in": "rgb@camera", "out": "objects@net", "batch": 2}
    expert = plugins.parse("expert", {**fields, "decode": {"type": "detections", **decode}})
    frames = np.random.default_rng(0).integers(0, 256, (2, *SHAPE, 3), np.uint8)
    found = expert.build(KNOWN, Storage("memory://detections"))({"rgb@camera": frames})["objects@net"]
    assert found.shape == (2, 5, 6) and np.array_equal(found[0], found[1], equal_nan=True)
    KNOWN["objects"].check(found[0])
    return found[0][~np.isnan(found[0, :, 0])]


TWO = {"boxes": "b", "scores": "s", "map": MAP}
ONE = {"map": MAP}
SWAPPED, BACKGROUND = {**TWO, "units": "shares", "format": "yxyx"}, {**TWO, "background": 0}
WITH_NOTHING = np.concatenate([NOTHING, SCORES], 1)


@pytest.mark.parametrize(
    "outputs, decode",
    [
        pytest.param({"b": CORNERS, "s": SCORES}, TWO, id="two tensors"),
        pytest.param({"s": SCORES, "b": CORNERS}, {**TWO, "boxes": 1, "scores": 0}, id="by number"),
        pytest.param({"b": CORNERS[:, None], "s": SCORES}, TWO, id="an axis more"),
        pytest.param({"b": CORNERS.T, "s": SCORES.T}, TWO, id="transposed"),
        pytest.param({"b": SHARES, "s": SCORES}, {**TWO, "units": "shares"}, id="shares"),
        pytest.param({"b": SHARES[:, [1, 0, 3, 2]], "s": SCORES}, SWAPPED, id="yxyx"),
        pytest.param({"b": CENTRES, "s": SCORES}, {**TWO, "format": "cxcywh"}, id="cxcywh"),
        pytest.param({"b": SIDES, "s": SCORES}, {**TWO, "format": "xywh"}, id="xywh"),
        pytest.param({"b": CORNERS, "s": LOGITS}, TWO, id="logits"),
        pytest.param({"b": CORNERS, "s": WITH_NOTHING}, BACKGROUND, id="background"),
        pytest.param({"b": CORNERS, "s": np.log(WITH_NOTHING.clip(1e-6))}, BACKGROUND, id="softmax and background"),
        pytest.param({"b": CORNERS, "s": BEST, "l": OF.astype(np.float32)}, {**TWO, "labels": "l"}, id="three tensors"),
        pytest.param({"b": CORNERS, "s": BEST, "l": OF + 1}, {**TWO, "labels": "l", "map": {1: "person", 3: "car"}},
                     id="ids from 1"),
        pytest.param({"b": CORNERS, "s": BEST, "l": OF + 1}, {**BACKGROUND, "labels": "l"}, id="ids and background 0"),
        pytest.param({"b": CORNERS, "s": BEST, "l": np.array([3, 3, 0, 0, 2])},
                     {**BACKGROUND, "labels": "l", "background": 1, "map": ["person", None, "car"]}, id="background 1"),
        pytest.param({"b": np.concatenate([CORNERS, CORNERS[:2]]), "s": np.append(BEST, [0.99, 0.99]),
                      "l": np.append(OF + 1, [0, -1])}, {**BACKGROUND, "labels": "l"}, id="nothing and padding"),
        pytest.param({"y": np.concatenate([CENTRES, SCORES], 1)}, {**ONE, "format": "cxcywh"}, id="one tensor"),
        pytest.param({"y": np.concatenate([CENTRES, SCORES], 1).T}, {**ONE, "format": "cxcywh"}, id="YOLOv8"),
        pytest.param({"y": np.concatenate([CENTRES, np.full((5, 1), 0.9), SCORES / 0.9], 1).astype(np.float32)},
                     {**ONE, "format": "cxcywh", "objectness": True}, id="YOLOv5"),
        pytest.param({"y": np.concatenate([CORNERS, BEST[:, None], OF[:, None]], 1).astype(np.float32)},
                     {**ONE, "chosen": True}, id="box, score, class"),
        pytest.param({"y": np.concatenate([CORNERS, BEST[:, None], OF[:, None] + 1], 1).astype(np.float32)},
                     {**ONE, "chosen": True, "background": 0}, id="class and background"),
    ],
)  # fmt: skip
def test_the_same_boxes_from_every_form(tmp_path: Path, outputs: Any, decode: Any) -> None:
    found = asked(detector(tmp_path / "d.onnx", **outputs), **decode)
    np.testing.assert_allclose(found, TRUTH, atol=2e-3)


def test_only_who_gives_ids_and_names_a_background_means_something_new() -> None:
    def revision(**decode: Any) -> int:
        return int(payload(plugins.parse("decoder", {"boxes": "b", "scores": "s", **decode}))["revision"])

    assert revision(type="detections", background=0) == revision(type="detections", labels="l") == 1
    assert revision(type="detections", background=0, labels="l") == 2
    assert revision(type="instances", masks="m", background=0) == 1 and revision(type="instances", masks="m") == 1
    assert revision(type="instances", masks="m", labels="l") == 2  # padding was a class


@pytest.mark.parametrize(
    "outputs, decode, said",
    [
        pytest.param({"b": CORNERS, "s": SCORES}, {**TWO, "units": "shares"}, "no share.*units: pixels", id="pixels"),
        pytest.param({"b": SHARES, "s": SCORES}, TWO, "units: shares", id="shares"),
        pytest.param({"b": CENTRES * [1, 1, 0.1, 0.1], "s": SCORES}, TWO, "format: cxcywh", id="format"),
        pytest.param({"b": CORNERS, "s": SCORES}, {**TWO, "map": None}, "3 classes, and 2 are listed", id="classes"),
        pytest.param({"b": CORNERS, "s": SCORES[:4]}, TWO, r"\(4, 3\) belong to no 5 boxes", id="counts"),
        pytest.param({"y": np.zeros((5, 9), np.float32)}, ONE, "no axis of the tensor .* has 7 numbers", id="width"),
        pytest.param({"b": CORNERS, "s": SCORES}, {**TWO, "scores": "scores"}, "no output 'scores'", id="name"),
        pytest.param({"b": CORNERS, "s": LOGITS}, {**TWO, "activation": "none"}, "where probabilities", id="logits"),
    ],
)  # fmt: skip
def test_what_cannot_be_boxes_is_refused_with_the_field_to_set(
    tmp_path: Path, outputs: Any, decode: Any, said: str
) -> None:
    floats = {name: np.asarray(value, np.float32) for name, value in outputs.items()}
    with pytest.raises(RecipeError, match=said):
        asked(detector(tmp_path / "d.onnx", **floats), **decode)


def test_tensors_without_an_axis_for_frames(tmp_path: Path) -> None:
    """As many detectors are exported: boxes (m, 4), labels (m), scores (m) of the one frame."""
    arrays = {"b": CORNERS, "l": OF, "s": BEST}
    nodes = [helper.make_node("Constant", [], [n], value=numpy_helper.from_array(a, n)) for n, a in arrays.items()]
    graph = helper.make_graph(
        nodes, "whole", [helper.make_tensor_value_info("x", T.FLOAT, ["n", 3, *SHAPE])],
        [helper.make_empty_tensor_value_info(n) for n in arrays],
    )  # fmt: skip
    path = str(tmp_path / "d.onnx")
    save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    with pytest.raises(RecipeError, match="batched: false"):
        asked(path, **TWO, labels="l")
    np.testing.assert_allclose(asked(path, **TWO, labels="l", batched=False), TRUTH, atol=1e-6)


def test_a_frame_without_objects_and_one_with_more_than_fit(tmp_path: Path) -> None:
    empty = {"b": np.zeros((0, 4), np.float32), "s": np.zeros((0, 3), np.float32)}
    assert len(asked(detector(tmp_path / "d.onnx", **empty), **TWO)) == 0
    rows = np.arange(20, dtype=np.float32)[:, None] * [3, 0, 3, 0] + [0, 0, 2, 30]
    scores = np.linspace(0.3, 0.9, 20, dtype=np.float32)[:, None]
    found = asked(detector(tmp_path / "d.onnx", b=rows.astype(np.float32), s=scores), **{**TWO, "map": ["car"]})
    np.testing.assert_allclose(found[:, 5], scores[:-6:-1, 0], atol=1e-6)
    assert found[0, 0] == np.float32(57 / 64), "the best five"


@pytest.mark.parametrize("form", ["ids", "scores"])
@pytest.mark.parametrize("named", [False, True])
def test_detectors_may_know_hundreds_of_classes(form: str, named: bool) -> None:
    """Maps hold 255; such a detector failed with what NumPy says of shapes."""
    kinds = [f"c{i}" for i in range(365)]
    objects = modalities(objects={"type": "boxes", "classes": kinds, "most": 3})["objects"]
    ids = np.array([254, 255, 364])
    scores = np.zeros((3, 365), np.float32)
    scores[np.arange(3), ids] = [0.9, 0.8, 0.7]
    raw = np.concatenate([CORNERS[:3], scores if form == "scores" else np.c_[scores.max(1), ids]], 1)
    fields = {"chosen": form == "ids", "activation": "none", "overlap": 1}
    decoder = plugins.parse("decoder", {"type": "detections", **fields, **({"map": kinds} if named else {})})
    found = decoder.finish((raw.astype(np.float32), SHAPE), objects)
    assert found[:, 4].tolist() == ids.tolist()
