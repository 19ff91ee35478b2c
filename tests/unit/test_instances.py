"""Instances: masks of their own, packed and stored; moved with their picture; as maps that a network learns; judged."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from hyperloom.pipeline import plugins
from hyperloom.pipeline.errors import RecipeError
from hyperloom.pipeline.root.storage import Storage
from hyperloom.stages.consensus.stage import ConsensusStage
from hyperloom.stages.measure.instances import InstanceMeasure
from hyperloom.stages.measure.sums import merged
from hyperloom.stages.modality.runs import MaskRuns
from hyperloom.stages.network.instance_maps import InstanceMaps
from hyperloom.stages.shard.stage import Shard
from tests.unit.inline import column, finish, ingested, modalities, step

SIZE = (24, 32)
THINGS: Any = modalities(
    rgb={"type": "image", "size": list(SIZE)},
    things={"type": "instances", "classes": ["left hand", "right hand", "dog"], "most": 6},
)["things"]


def square(top: int, left: int, side: int = 6) -> np.ndarray:
    mask = np.zeros(SIZE, bool)
    mask[top : top + side, left : left + side] = True
    return mask


def value(*squares: tuple[int, int, str], **more: Any) -> np.ndarray:
    return THINGS.fit([{"mask": square(y, x), "class": kind, **more} for y, x, kind in squares])


THINGS_OF_A_CROWD = [{"mask": square(2, 3), "class": "dog", "crowd": True}]


def test_ids_scores_and_overlapping_masks_survive_a_column() -> None:
    ids = [900100184613, 7, 8]
    masks = [square(2, 3), square(4, 5), square(10, 20)]
    rows = [{"mask": m, "class": 2, "id": i, "score": 0.25, "crowd": i == 7} for m, i in zip(masks, ids, strict=True)]
    one = THINGS.fit(rows)
    array = THINGS.encode([one, None, THINGS.fit([])])
    back, valid = THINGS.decode(array[0:3])
    assert valid.tolist() == [True, False, True] and (back[0] == one).all() and not back[1:].any()
    seen = THINGS.unpacked_value(back[0])
    assert seen.ids.tolist() == ids and seen.crowd.tolist() == [False, True, False] and (seen.scores == 0.25).all()
    assert all((a == b).all() for a, b in zip(seen.masks, masks, strict=True))
    (first, *_), *_ = array.to_pylist()
    assert first["class"] == "dog" and first["x0"] == pytest.approx(3 / 32) and len(first["mask"]) == 4 * 13
    assert THINGS.fit([{**rows[0], "mask": MaskRuns.of(masks[0])}]).tobytes() == THINGS.fit(rows[:1]).tobytes()


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ([{"mask": square(0, 0), "class": "cat"}], "the class one of left hand"),
        ([{"mask": square(0, 0), "class": 3}], "class ids below 3, got 3"),
        ([{"class": "dog"}], "it lacks or has another 'mask'"),
        ([{"class": 0.7, "mask": np.ones((8, 12))}], "or an id, got 0.7"),
        ([{"mask": np.zeros((2, 3, 4)), "class": "dog"}], r"mask of \(H, W\)"),
        ([{"mask": square(0, 0), "class": "dog"}] * 7, "at most 6 instances, got 7; a larger `most`"),
        (np.zeros((3, 3)), "expected a list of"),
    ],
)
def test_what_is_no_instance_is_said(rows: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        THINGS.fit(rows)


def test_who_sees_nothing_agrees_with_nobody() -> None:
    """A picture in which one expert, or each, sees no thing has an agreement, or none."""
    some, none = value((2, 3, "dog")), value()
    agree = THINGS.things_agree(np.stack([some, some, none, none]), np.stack([some, none, some, none]))
    assert agree[:3].tolist() == [1, 0, 0] and np.isnan(agree[3])


def test_a_column_of_masks_of_another_size_is_named() -> None:
    other = THINGS.model_copy(update={"size": (10, 10)})
    with pytest.raises(ValueError, match="instance 1: its mask has 768 pixels, not 10x10"):
        other.unpack(THINGS.encode([value((0, 0, "dog"))]))


def test_a_mirror_a_window_and_a_turn_take_the_masks_along() -> None:
    one = value((2, 3, "left hand"), (10, 20, "dog"))
    two = torch.from_numpy(np.stack([one, one]))
    mirrored = THINGS.mirrored(two.clone())
    assert (THINGS.mirrored(mirrored.clone()) == two).all()
    seen = THINGS.unpacked_value(mirrored[0].numpy())
    assert (seen.masks[0] == square(2, 3)[:, ::-1]).all() and seen.classes.tolist() == [1, 2], "sides are exchanged"
    assert seen.boxes[0].tolist() == pytest.approx([23 / 32, 2 / 24, 29 / 32, 8 / 24])
    whole, half = THINGS.windowed(two.clone(), torch.tensor([[0.0, 0, 1], [0.5, 0.5, 0.5]]))
    assert (whole == two[0]).all() and THINGS.words(half.numpy()) == "1 dog", "what is out of sight is no instance"
    THINGS.check(half.numpy())
    same, turned = THINGS.turned(two.clone(), torch.tensor([0.0, np.pi]), SIZE[0] / SIZE[1])
    assert (same == two[0]).all()
    assert (THINGS.unpacked_value(turned.numpy()).masks[1] == square(10, 20)[::-1, ::-1]).all()


def test_maps_of_things_that_are_apart_give_them_again() -> None:
    """Two of a class that touch, and one of another: what a network is taught is what comes back from it."""
    one = value((2, 3, "dog"), (2, 9, "dog"), (14, 20, "left hand"))
    maps = InstanceMaps(THINGS)(torch.from_numpy(one)[None])
    assert maps.shape == (1, 7, *SIZE)
    back = THINGS.unpacked_value(THINGS.answer(maps.permute(0, 2, 3, 1).numpy())[0])
    before = THINGS.unpacked_value(one)
    order = [int(np.argmax([(m == b).mean() for b in back.masks])) for m in before.masks]
    assert sorted(order) == [0, 1, 2] and (back.masks[order] == before.masks).all()
    assert back.classes[order].tolist() == before.classes.tolist() and (back.scores == 1).all()


def test_a_crowd_teaches_nothing() -> None:
    crowd = THINGS.fit([{"mask": square(2, 3), "class": 2, "crowd": True}])
    maps = InstanceMaps(THINGS)(torch.from_numpy(crowd)[None])[0].numpy()
    assert (maps[:4].sum(0) == ~square(2, 3)).all() and not maps[4:].any()


def test_precision_of_masks_is_pycocotools(tmp_path: Any) -> None:
    tool = pytest.importorskip("pycocotools.cocoeval")
    coco = pytest.importorskip("pycocotools.coco")
    coder = pytest.importorskip("pycocotools.mask")
    random = np.random.default_rng(3)
    truth, guess, annotations, results = [], [], [], []
    for picture in range(12):
        rows: tuple[list[dict[str, Any]], list[dict[str, Any]]] = ([], [])
        for _ in range(int(random.integers(1, 6))):
            y, x = int(random.integers(0, 16)), int(random.integers(0, 24))
            kind, crowd = int(random.integers(3)), bool(random.random() < 0.2)
            rows[0].append({"mask": square(y, x, 8), "class": kind, "crowd": crowd})
            for _ in range(int(random.integers(3))):
                dy, dx = random.integers(0, 3, 2)
                other = kind if random.random() < 0.8 else int(random.integers(3))
                rows[1].append({"mask": square(y + dy, x + dx, 7), "class": other, "score": float(random.random())})
        truth.append(THINGS.fit(rows[0]))
        guess.append(THINGS.fit(rows[1][:6]))
        for true, target in ((True, truth[-1]), (False, guess[-1])):
            one = THINGS.unpacked_value(target)
            for i in range(len(one)):
                runs = coder.encode(np.asfortranarray(one.masks[i].astype(np.uint8)))
                row = {"image_id": picture, "category_id": int(one.classes[i]), "segmentation": runs}
                if true:
                    more = {"id": len(annotations) + 1, "iscrowd": int(one.crowd[i]), "area": int(one.masks[i].sum())}
                    annotations.append({**row, **more, "bbox": coder.toBbox(runs).tolist()})
                else:
                    results.append({**row, "score": float(one.scores[i])})
    loaded = coco.COCO()
    loaded.dataset = {
        "images": [{"id": i, "height": 24, "width": 32} for i in range(12)],
        "annotations": annotations, "categories": [{"id": i} for i in range(3)],
    }  # fmt: skip
    loaded.createIndex()
    judge = tool.COCOeval(loaded, loaded.loadRes(results), "segm")
    judge.evaluate()
    judge.accumulate()
    judge.summarize()
    measure = InstanceMeasure()
    parts = [
        measure.statistics(
            THINGS, *(np.stack(v[i : i + 5]) for v in (truth, guess)), np.ones(len(truth[i : i + 5]), bool)
        )
        for i in (0, 5, 10)
    ]
    ours = measure.measured(THINGS, merged(parts))
    assert 0.05 < judge.stats[0] < 0.95, "the case says something"
    assert ours["map"] == pytest.approx(judge.stats[0], abs=1e-9) and ours["map50"] == pytest.approx(
        judge.stats[1], abs=1e-9
    )


def test_a_picture_shows_each_and_is_clear_elsewhere() -> None:
    shown = THINGS.overlay(value((2, 3, "dog"), (14, 20, "left hand")))
    assert shown.shape == (*SIZE, 4) and ((shown[..., 3] > 0) == square(2, 3) | square(14, 20)).all()
    assert (shown[5, 6, :3] != shown[17, 23, :3]).any() and (shown[2, 3, :3] == 255).all()


@pytest.mark.parametrize("expected", [False, True])
def test_a_crowd_is_no_thing_in_statistics_as_of_boxes(tmp_path: Any, expected: bool) -> None:
    """Nobody has counted it. It is drawn all the same, and so are its colour and name."""
    crowd = THINGS.fit(THINGS_OF_A_CROWD)
    both = THINGS.fit([{"mask": square(9, 3), "class": "right hand"}, *THINGS_OF_A_CROWD])
    storage, kinds = Storage(str(tmp_path)), {"things": THINGS}
    samples = ingested(storage, kinds, {"g": [{"things@a": v} for v in (crowd, both)]})
    expect = {"expect": {"things@a": {"share": {"dog": [0, 0]}}}} if expected else {}
    made = finish(step(Shard(stage="shard", data="frames", **expect), storage, kinds, frames=samples))
    assert made.body["statistics"]["things@a"]["classes"] == {"left hand": 0, "right hand": 1, "dog": 0}
    assert THINGS.pictured(crowd).tolist() == [2] and THINGS.pictured(both).tolist() == [1, 2]


# -- consensus ---------------------------------------------------------------------------------------------------------
def agreed(storage: Storage, columns: dict[str, Any], kinds: dict[str, Any], **method: Any) -> tuple[np.ndarray, Any]:
    name = next(iter(columns)).partition("@")[0]
    fields = {"out": f"{name}@all", "method": {"type": "match", **method}}
    stage = ConsensusStage(stage="consensus", data="labels", **fields)
    labels = ingested(storage, kinds, {"g": [columns]})
    made = finish(step(stage, storage, kinds, labels=labels))
    (out,) = column(storage, kinds, made, f"{name}@all").values()
    return out, made.body["agreement"][f"{name}@all"]


def test_instances_of_three_are_matched_by_their_masks(tmp_path: Any) -> None:
    """A dog that all see, a hand that two see, of which one calls it the other hand, and one that one alone sees."""
    a = value((2, 3, "dog"), (14, 20, "left hand"), score=0.9)
    b = value((2, 4, "dog"), (14, 20, "left hand"), score=0.6)
    c = value((3, 3, "dog"), (14, 21, "right hand"), (0, 24, "dog"), score=0.3)
    columns = {"things@a": a, "things@b": b, "things@c": c}
    out, report = agreed(Storage(str(tmp_path)), columns, {"things": THINGS}, weights={"c": 0.5})
    seen = THINGS.unpacked_value(out)
    assert seen.classes.tolist() == [2, 0], "the surest first, one that a fifth of the weight sees is left out"
    assert seen.scores.tolist() == pytest.approx([(0.9 + 0.6 + 0.15) / 2.5] * 2)
    shares = square(2, 3) * 1.0 + square(2, 4) + 0.5 * square(3, 3)
    assert (seen.masks[0] == (shares >= 1.25)).all()
    assert report["f1"][0][1] == 1 and report["f1"][0][2] == pytest.approx(2 / 5)


def test_boxes_of_several_become_their_mean(tmp_path: Any) -> None:
    kinds = modalities(objects={"type": "boxes", "classes": ["car", "dog"], "most": 4})
    fit = kinds["objects"].fit
    columns = {
        "objects@a": fit([[0.1, 0.1, 0.5, 0.5, 0, 1.0], [0.7, 0.7, 0.9, 0.9, 1, 0.5]]),
        "objects@b": fit([[0.2, 0.1, 0.6, 0.5, 0, 1.0]]),
    }
    out, _ = agreed(Storage(str(tmp_path)), columns, kinds, share=0.6)
    assert out[0].tolist() == pytest.approx([0.15, 0.1, 0.55, 0.5, 0, 1.0]) and np.isnan(out[1:]).all()
    both, _ = agreed(Storage(str(tmp_path / "2")), columns, kinds)
    assert both[1].tolist() == pytest.approx([0.7, 0.7, 0.9, 0.9, 1, 0.25]), "what one of two sees has half its score"


# -- networks ----------------------------------------------------------------------------------------------------------
def decoded(raw: tuple[np.ndarray, ...], **fields: Any) -> Any:
    decoder = plugins.parse("decoder", {"type": "instances", **fields})
    decoder.ready(THINGS, "things@net")
    whole = decoder.tile(raw, "nchw", SIZE)
    decoder, _ = decoder.tried(whole, None, THINGS)
    return THINGS.unpacked_value(decoder.finish(whole, THINGS))


CORNERS = np.array([[3, 2, 9, 8], [4, 2, 9, 8], [20, 14, 26, 20]], np.float32)
SCORES = np.array([[0, 0, 0.9], [0, 0, 0.6], [0.8, 0, 0]], np.float32)
TRUE = [square(2, 3), square(14, 20)]


def test_masks_of_boxes_and_masks_of_the_frame() -> None:
    parts = np.full((3, 1, 7, 7), 6.0, np.float32)
    frames = np.stack([square(2, 3), square(2, 4), square(14, 20)]).astype(np.float32)
    for raw, fields in (
        ((CORNERS, SCORES, parts), {"cut": "box"}),
        ((CORNERS, SCORES, frames), {}),
        ((CORNERS, SCORES.max(1), SCORES.argmax(1), frames), {"labels": "l"}),
        ((CORNERS, SCORES.max(1), SCORES.argmax(1) + 1, frames), {"labels": "l", "background": 0}),
        (
            (
                CORNERS[[0, 0, *range(3)]],
                np.array([0.99, 0.99, *SCORES.max(1)]),
                np.array([-1, 1, 3, 3, 0]),
                frames[[0, 0, *range(3)]],
            ),
            {"labels": "l", "background": 1},
        ),  # padding, nothing, and ids around it
    ):
        seen = decoded(raw, boxes="b", scores="s", masks="m", **fields)  # type: ignore[arg-type]
        assert seen.classes.tolist() == [2, 0] and seen.scores.tolist() == pytest.approx([0.9, 0.8])
        assert (seen.masks == TRUE).all()


def test_queries_without_boxes() -> None:
    scores = np.concatenate([SCORES, 1 - SCORES.sum(1, keepdims=True)], 1)[[0, 2]]
    logits = np.where(np.stack(TRUE), 5.0, -5.0).astype(np.float32)
    seen = decoded((scores, logits), scores="c", masks="m", background=3)
    assert seen.classes.tolist() == [2, 0] and (seen.masks == TRUE).all()


@pytest.mark.parametrize("turned", [False, True])
def test_rows_that_weigh_prototypes(turned: bool) -> None:
    prototypes = np.where(np.stack(TRUE), 4.0, -4.0).astype(np.float32)
    rows = np.concatenate([CORNERS, SCORES, np.array([[1, 0], [1, 0], [0, 1]])], 1).astype(np.float32)
    seen = decoded((rows.T if turned else rows, prototypes), prototypes="p")
    assert seen.classes.tolist() == [2, 0] and (seen.masks == TRUE).all()
    with pytest.raises(RecipeError, match="has no rows of 7 numbers and 2 more"):
        decoded((rows[:, 1:], prototypes), prototypes="p")


def test_a_decoder_of_instances_needs_masks() -> None:
    with pytest.raises(ValueError, match="give masks"):
        plugins.parse("decoder", {"type": "instances", "boxes": "b", "scores": "s"})


def test_a_pipeline_of_transformers_gives_instances() -> None:
    from hyperloom.stages.label.hub.answers import from_pipeline

    answer = [
        {"label": "cat", "score": 0.9, "mask": square(0, 0)},
        {"label": "Dog", "score": 0.7, "mask": square(2, 3).astype(np.uint8) * 255},
        {"label": "dog", "score": 0.1, "mask": square(9, 9)},
    ]
    value_ = THINGS.fit(from_pipeline(answer, THINGS, None, {"cat": "left hand"}, 0.5, []))
    assert THINGS.words(value_) == "1 left hand, 1 dog"
    value_ = THINGS.fit(from_pipeline(answer, THINGS, None, {"cat": "left hand"}, None, []))
    assert THINGS.words(value_) == "1 left hand, 2 dog"
    crowd = [{"mask": square(2, 3), "class": "dog", "crowd": True}, {"mask": square(2, 9), "class": "dog"}]
    assert THINGS.words(THINGS.fit(crowd)) == "1 dog, a crowd of dog", "in which nobody has counted"
