"""Two columns that meet: the same classes in another order are mapped, other units of one kind converted, all else is
refused with both sides named."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from hyperloom.pipeline.errors import RecipeError
from hyperloom.pipeline.root.storage import Storage
from hyperloom.stages import quantity
from hyperloom.stages.consensus.stage import ConsensusStage
from hyperloom.stages.meaning import MeaningsDiffer, Translation, translation
from hyperloom.stages.network.processors import Scale
from hyperloom.stages.train.criterion import target_reader
from tests.unit import inline, meanings, scenes

MODALITIES = meanings.KNOWN


# -- two meanings ------------------------------------------------------------------------------------------------------
@given(st.permutations(["a", "b", "c", "d", "e"]), st.lists(st.integers(0, 4), min_size=1, max_size=20))
def test_ids_channels_and_tensors_say_the_same_names_in_any_order(order: list[str], ids: list[int]) -> None:
    names = ("a", "b", "c", "d", "e")
    known = inline.modalities(
        one={"type": "category", "classes": list(names)}, two={"type": "category", "classes": order}
    )
    how = translation(known["one"].meaning, known["two"].meaning)
    values = np.array([*ids, -1])
    expected = [*(names[i] for i in ids), None]
    for answer in (how.ids(values), how.ids(torch.from_numpy(values)).numpy(), how.ids(values.astype(np.int64))):
        assert [order[i] if i >= 0 else None for i in answer] == expected
    maps = np.array([*ids, 255], np.uint8)
    for answer in (how.ids(maps), how.ids(torch.from_numpy(maps)).numpy()):
        assert answer.dtype == np.uint8 and [order[i] for i in answer[:-1]] == expected[:-1] and answer[-1] == 255
    shares = np.random.default_rng(0).random((3, 2, 5))
    for moved in (how.channels(shares), how.channels(torch.from_numpy(shares)).numpy()):
        for k, name in enumerate(order):
            assert (moved[..., k] == shares[..., names.index(name)]).all()


@pytest.mark.parametrize(
    ("one", "other", "factor"),
    [
        ("m", "cm", 100), ("mm", "m", 1e-3), ("km", "m", 1e3), ("deg", "rad", math.pi / 180), ("degrees", "deg", 1),
        ("Metres", "m", 1), ("px", "px", 1), ("m/s", "km/h", 3.6), ("lux", "lux", 1), ("ms", "s", 1e-3),
        ("px", "m", None), ("m", "rad", None), ("m", "", None), ("", "m", None), ("C", "K", None), ("m", "m/s", None),
    ],
)  # fmt: skip
def test_units_of_one_kind_convert_and_no_others(one: str, other: str, factor: float | None) -> None:
    found = quantity.factor(one, other)
    assert found is None if factor is None else found == pytest.approx(factor)


@pytest.mark.parametrize(
    ("one", "other", "message"),
    [
        ("semantic", "foreign", r"classes of one: \[land, forest, road\]; of the other: \[road, forest, sea\]"),
        ("semantic", "more", r"classes of one: \[land, forest, road\]; of the other: \[land, forest, road, sea\]"),
        ("depth", "depth_px", "unit of one: m; of the other: px"),
        ("depth", "depth_bare", "unit of one: m; of the other: not given. Next: `unit: m` on the modality that"),
        ("far_cm", "near", "range of one: 0 to 5000 centimetres; of the other: 0 to 10 m"),
    ],
)
def test_what_cannot_be_mapped_is_refused_with_both_sides(one: str, other: str, message: str) -> None:
    with pytest.raises(MeaningsDiffer, match=message):
        translation(MODALITIES[one].meaning, MODALITIES[other].meaning)


def test_a_range_within_a_wider_one_keeps_its_numbers_but_those_that_were_clipped() -> None:
    """0 is an end of both; at 10 m lies all that was further off."""
    near, wide = MODALITIES["near"], MODALITIES["far_cm"]
    how = translation(near.meaning, wide.meaning)
    values = np.array([0, 0.01, 5, 9.9, 10, np.nan], np.float32).reshape(1, 1, 6, 1)
    expected = [0, 1, 500, 990, np.nan, np.nan]
    for kind in (np.asarray, torch.from_numpy):
        assert np.allclose(np.asarray(near.translated(kind(values), how)).ravel(), expected, equal_nan=True)
        predicted = np.asarray(near.mean_translated(kind(values), how)).ravel()
        assert np.allclose(predicted[:5], [0, 1, 500, 990, 1000])  # an answer is judged as it is
    taught = target_reader(near, wide, Scale())(torch.from_numpy(values)).ravel()
    assert taught[:4].isfinite().all() and taught[4:].isnan().all()
    said = near.model_copy(update={"unknown": "outside"})
    how = translation(said.meaning, wide.meaning)
    assert np.allclose(said.translated(values, how).ravel()[:5], [0, 1, 500, 990, 1000])  # nothing is clipped there


@pytest.mark.parametrize("unknown", [None, 0])
def test_a_consensus_leaves_out_what_a_source_clipped(tmp_path: Path, unknown: float | None) -> None:
    storage, size = Storage(str(tmp_path)), (1, 3)
    known = inline.modalities(
        rgb={"type": "image", "size": list(size)},
        near={"type": "dense", "unit": "m", "range": [0, 10]},
        far={"type": "dense", "unit": "cm", "range": [0, 5000], "unknown": unknown},
    )
    sample = {
        "rgb@camera": np.zeros((*size, 3), np.uint8),
        "near@a": np.array([[[1], [10], [10]]], np.float32),
        "far@b": np.array([[[300], [4000], [np.nan if unknown == 0 else 9]]], np.float32),
    }
    frames = inline.ingested(storage, known, {"g": [sample]})
    stage = ConsensusStage(stage="consensus", data="labels", out="far@all", of=["near@a", "far@b"], method="mean")
    run = inline.step(stage, storage, known, "votes", labels=frames)
    if unknown is None:
        with pytest.raises(
            RecipeError, match="near@a holds at an end of its range .* 'far' has no notion. Next: `unknown"
        ):
            inline.finish(run)
        return
    values = inline.column(storage, known, inline.finish(run), "far@all")["g/000"]
    assert values is not None and np.allclose(values.ravel(), [200, 4000, np.nan], equal_nan=True)


@pytest.mark.parametrize("unit", ["", "score"])
def test_a_range_without_a_unit_may_be_another_scale(unit: str) -> None:
    one, other = (inline.modalities(
        rgb={"type": "image", "size": [2, 2]}, x={"type": kind, **extra, "unit": unit, "range": [0, high]}
    )["x"].meaning for kind, extra, high in (("dense", {}, 1), ("vector", {"length": 1}, 255)))  # fmt: skip
    if unit:
        assert translation(one, other).factor == 1
        return
    with pytest.raises(MeaningsDiffer, match="0 to 1; of the other: 0 to 255. Next: `unit:` on both"):
        translation(one, other)


def test_levels_in_another_order_are_refused_and_ranges_convert_with_their_unit() -> None:
    known = inline.modalities(
        up={"type": "ordinal", "levels": ["low", "mid", "high"]},
        down={"type": "ordinal", "levels": ["high", "mid", "low"]},
        slow={"type": "audio", "rate": 8000, "seconds": 2},
        fast={"type": "audio", "rate": 16000, "seconds": 1},
    )
    with pytest.raises(MeaningsDiffer, match=r"order of the levels.*low, mid, high.*high, mid, low"):
        translation(known["up"].meaning, known["down"].meaning)
    with pytest.raises(MeaningsDiffer, match="rate of one: 8000; of the other: 16000"):
        translation(known["slow"].meaning, known["fast"].meaning)
    assert translation(MODALITIES["far"].meaning, MODALITIES["far_cm"].meaning) == Translation(
        factor=pytest.approx(100)
    )


def test_boxes_and_points_are_mapped_as_values_and_as_predictions() -> None:
    known = inline.modalities(
        boxes={"type": "boxes", "classes": ["car", "bus"], "most": 3},
        oboxes={"type": "boxes", "classes": ["bus", "car"], "most": 3},
        points={"type": "keypoints", "points": ["nose", "left", "right"]},
        opoints={"type": "keypoints", "points": ["right", "nose", "left"]},
    )
    corners = {"x0": 0, "y0": 0, "x1": 0.5, "y1": 0.5}
    boxes = known["boxes"].fit([{**corners, "class": "car"}, {**corners, "class": "bus", "score": 0.4}])[None]
    how = translation(known["boxes"].meaning, known["oboxes"].meaning)
    for values in (boxes, torch.from_numpy(boxes)):
        for moved in (known["boxes"].translated(values, how), known["boxes"].mean_translated(values, how)):
            assert known["oboxes"].words(np.asarray(moved[0])) == "1 bus, 1 car"
            assert np.asarray(moved)[0, :, 4].tolist()[:2] == [1, 0] and np.isnan(np.asarray(moved)[0, 2]).all()
    points = known["points"].fit({"nose": [0.1, 0.2], "left": [0.3, 0.4]})[None]
    how = translation(known["points"].meaning, known["opoints"].meaning)
    moved = known["points"].translated(points, how)[0]
    assert np.allclose(moved, known["opoints"].fit({"nose": [0.1, 0.2], "left": [0.3, 0.4]}))


# -- an expert and a consensus -----------------------------------------------------------------------------------------
def _consensus(root: Path, out: str, of: list[str], method: Any = "vote", **more: Any) -> dict[str, Any]:
    storage = Storage(str(root))
    samples = []
    for _ in range(2):
        ids = np.zeros(scenes.SIZE, np.uint8)
        ids[:, 12:] = scenes.CLASSES.index("road")
        other = meanings.turned(ids)
        other[:2] = 255
        lone = meanings.turned(np.full(scenes.SIZE, scenes.CLASSES.index("forest"), np.uint8))
        share = np.eye(3, dtype=np.float32)[lone]
        metres = np.full((*scenes.SIZE, 1), 2.0, np.float32)
        samples.append(
            {"semantic@a": ids, "other@b": other, "other@c": lone, "osoft@c": share, "foreign@d": ids,
             "depth@a": metres, "depth_cm@b": metres * 300, "depth_px@c": metres}
        )  # fmt: skip
    frames = inline.ingested(storage, MODALITIES, {"g": samples})
    stage = ConsensusStage(stage="consensus", data="labels", out=out, of=of, method=method, **more)
    run = inline.step(stage, storage, MODALITIES, "votes", labels=frames)
    made = inline.finish(run)
    values = inline.column(storage, MODALITIES, made, out)
    return {"first": values["g/000"], "body": made.body}


def test_sources_in_other_orders_vote_by_name(tmp_path: Path) -> None:
    of = ["other@c", "semantic@a", "other@b"]
    done = _consensus(tmp_path, "semantic@all", of)
    expected = np.where(np.arange(24) < 12, 0, 2)[None].repeat(16, 0)
    expected[:2] = 1  # where one of two abstains, the first listed wins the tie
    assert (done["first"] == expected).all()
    matrix = done["body"]["agreement"]["semantic@all"]
    assert matrix["columns"] == [*of, "semantic@all"]
    assert next(v for k, v in matrix.items() if k != "columns")[1][2] == 1.0  # a and b agree wherever both say one


def test_probabilities_in_another_order_vote_by_name(tmp_path: Path) -> None:
    method = {"type": "vote", "confidence": {"semantic@a": "osoft@c"}}
    done = _consensus(tmp_path, "semantic@sure", ["semantic@a"], method)
    assert (done["first"] == scenes.CLASSES.index("forest")).all()


@pytest.mark.parametrize("method", ["dawid-skene", {"type": "vote", "smooth": 1.0}, "copy"])
def test_methods_that_learn_or_look_around_get_the_same_words(tmp_path: Path, method: Any) -> None:
    done = _consensus(tmp_path, "semantic@all", ["other@b"], method)
    assert (done["first"][2:, :11] == 0).all() and (done["first"][2:, 13:] == 2).all()


def test_metres_and_centimetres_have_a_mean_in_the_unit_of_the_outcome(tmp_path: Path) -> None:
    done = _consensus(tmp_path, "depth@mean", ["depth@a", "depth_cm@b"], "mean")
    assert done["first"] == pytest.approx(np.full((*scenes.SIZE, 1), 4.0))  # of 2 m and 600 cm
    assert done["body"]["agreement"]["depth@mean"]["columns"] == ["depth@a", "depth_cm@b", "depth@mean"]


@pytest.mark.parametrize(
    ("out", "of", "message"),
    [
        ("semantic@all", ["semantic@a", "foreign@d"], r"foreign@d says.*\[road, forest, sea\].*\[land, forest, road\]"),
        ("depth@mean", ["depth@a", "depth_px@c"], "depth_px@c says something else.*unit of depth_px@c: px.*: m"),
    ],
)
def test_sources_that_say_something_else_have_no_consensus(
    tmp_path: Path, out: str, of: list[str], message: str
) -> None:
    with pytest.raises(RecipeError, match=message):
        _consensus(tmp_path, out, of, "copy")
