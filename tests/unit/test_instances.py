"""Instances: masks of their own, packed and stored; moved with their picture; as maps that a network learns; judged."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from hyperloom.stages.measure.instances import InstanceMeasure
from hyperloom.stages.measure.sums import merged
from hyperloom.stages.modality.runs import MaskRuns
from hyperloom.stages.network.instance_maps import InstanceMaps
from tests.unit.inline import modalities

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
        ([{"mask": np.zeros((2, 3, 4)), "class": "dog"}], r"mask of \(H, W\)"),
        ([{"mask": square(0, 0), "class": "dog"}] * 7, "at most 6 instances, got 7; a larger `most`"),
        (np.zeros((3, 3)), "expected a list of"),
    ],
)
def test_what_is_no_instance_is_said(rows: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        THINGS.fit(rows)


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
