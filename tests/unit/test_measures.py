"""The measure of every type of modality, against counts by hand, and merged from parts."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hyperloom.pipeline.root.storage import Storage
from hyperloom.stages.evaluate.slices import Slice, members
from hyperloom.stages.evaluate.stage import Evaluate
from hyperloom.stages.measure.boxes import FITS
from hyperloom.stages.measure.cost import milliseconds
from hyperloom.stages.measure.measure import directions
from hyperloom.stages.measure.scores import decided, measures, score
from hyperloom.stages.measure.sums import merged
from hyperloom.stages.modality import overlap
from hyperloom.stages.results import Judged
from hyperloom.stages.shard.stage import Shard
from tests.unit import inline

KNOWN: dict[str, Any] = inline.modalities(
    rgb={"type": "image", "size": [4, 4]},
    clip={"type": "clip", "frames": 2},
    species={"type": "category", "classes": ["cat", "dog", "owl"]},
    grade={"type": "ordinal", "levels": 5},
    labels={"type": "multilabel", "classes": ["wet", "dark", "fast"]},
    pose={"type": "vector", "length": 3},
    count={"type": "scalar"},
    boxes={"type": "boxes", "classes": ["car", "man"], "most": 4},
    points={"type": "keypoints", "points": ["left", "right"]},
    text={"type": "text", "length": 8},
    pos={"type": "tags", "tags": ["NOUN", "VERB"], "length": 4},
    meaning={"type": "embedding", "length": 2},
    sound={"type": "audio", "rate": 8, "seconds": 1},
    track={"type": "series", "steps": 3, "channels": 2},
    links={"type": "graph", "nodes": 4, "edges": 3},
)


def figures(name: str, truth: Any, told: Any, answered: Any = None) -> dict[str, float]:
    """Of two samples, scored together; scoring them apart and merging must give the same."""
    modality = KNOWN[name]
    truth, told = (np.stack([modality.fit(v) for v in values]) for values in (truth, told))
    every = np.ones(len(truth), bool)
    answered = every if answered is None else np.array(answered)
    whole = score(modality, truth, told, every, answered)
    parts = [score(modality, *(v[i : i + 1] for v in (truth, told, every, answered))) for i in range(len(truth))]
    assert measures(modality, merged(parts)) == pytest.approx(measures(modality, whole))
    return measures(modality, whole)


def test_every_type_has_a_measure_with_a_direction() -> None:
    assert [n for n, m in KNOWN.items() if m.metric not in directions(m)] == []


def test_categories_and_levels() -> None:
    found = figures("species", ["cat", "dog"], ["cat", "owl"])
    assert found == pytest.approx({"accuracy": 0.5, "f1": 0.5, "coverage": 1})
    found = figures("species", ["cat", "dog"], ["cat", "dog"], [True, False])
    assert found["accuracy"] == 0.5 and found["coverage"] == 0.5  # silence is no right answer
    assert figures("grade", [0, 4], [2, 3])["mae"] == 1.5


def test_labels_count_each_class_that_occurs() -> None:
    truth, told = [[1, 0, 0], [1, 1, 0]], [[1, 1, 0], [0, 1, 0]]
    assert figures("labels", truth, told)["f1"] == pytest.approx((2 / 3 + 2 / 3) / 2)
    unknown = figures("labels", [[1, 255, 0], [1, 1, 0]], told)
    assert unknown["f1"] == pytest.approx((2 / 3 + 1) / 2)  # told wet where nobody knows is no mistake


def test_numbers_leave_out_padding() -> None:
    assert figures("pose", [[1, 2, 3], [0, 0, 0]], [[1, 2, 6], [0, 3, 0]])["mae"] == 1
    assert figures("count", [5, 6], [6, 4])["mae"] == pytest.approx(1.5)
    track = figures("track", [[[1, 1], [2, 2]], [[0, 0]]], [[[1, 2], [2, 3], [9, 9]], [[1, 1]]])
    assert track["mae"] == pytest.approx(4 / 6) and track["coverage"] == 1
    assert figures("sound", np.zeros((2, 8)), np.full((2, 8), 0.25))["mae"] == 0.25
    assert figures("clip", np.zeros((2, 2, 4, 4, 3), np.uint8), np.full((2, 2, 4, 4, 3), 3, np.uint8))["mae"] == 3


def test_points_near_enough() -> None:
    truth = [{"left": [0.5, 0.5], "right": [0.1, 0.1]}, {"left": [0.5, 0.5]}]
    told = [{"left": [0.52, 0.5], "right": [0.3, 0.1]}, {"left": [0.5, 0.53], "right": [0, 0]}]
    assert figures("points", truth, told)["pck"] == pytest.approx(2 / 3)


def test_texts_tags_embeddings_and_pairs() -> None:
    assert figures("text", ["abcd", "xy"], ["abxd", "zz"])["accuracy"] == pytest.approx(3 / 6)
    longer = figures("text", ["ab", "xy"], ["abab", "xy"])
    assert (longer["accuracy"], longer["exact"], longer["cer"]) == (1, 0.5, 0.5)  # accuracy looks at the true bytes
    assert figures("pos", [["NOUN", "VERB"], ["VERB"]], [["NOUN", "NOUN"], ["VERB"]])["accuracy"] == pytest.approx(
        2 / 3
    )
    assert figures("meaning", [[1, 0], [0, 1]], [[2, 0], [1, 0]])["cosine"] == pytest.approx(0.5)
    pairs = figures("links", [[[0, 1], [1, 2]], [[2, 3]]], [[[0, 1]], [[2, 3], [0, 3]]])
    assert pairs["f1"] == pytest.approx(2 * 2 / (2 * 2 + 1 + 1))


def _average_precision(truth: list[Any], told: list[Any], class_: int, fit: float) -> float:
    """By the book: all boxes of all samples sorted by score, each matched with the best free true box; the mean over
    101 recalls of the best precision from there on."""
    boxes = sorted(((b[5], i, b[:4]) for i, t in enumerate(told) for b in t if b[4] == class_), key=lambda b: -b[0])
    free = {(i, j): b[:4] for i, t in enumerate(truth) for j, b in enumerate(t) if b[4] == class_}
    count, hits, curve = len(free), 0, []
    for n, (_, i, box) in enumerate(boxes, 1):
        best = max((k for k in free if k[0] == i), key=lambda k: _iou(box, free[k]), default=None)
        if best is not None and _iou(box, free[best]) >= fit:
            del free[best]
            hits += 1
        curve.append((hits / count, hits / n))
    precisions = [max((p for r, p in curve if r >= at), default=0) for at in np.linspace(0, 1, 101)]
    return float(np.mean(precisions))


def _iou(a: Any, b: Any) -> float:
    w, h = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    inside = max(w, 0) * max(h, 0)
    return inside / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - inside)


def test_average_precision_of_boxes_is_that_of_the_book() -> None:
    draw = np.random.default_rng(0)
    truth, told = [], []
    for _ in range(12):
        corners = draw.uniform(0, 0.5, (3, 2))
        true = np.concatenate([corners, corners + draw.uniform(0.2, 0.4, (3, 2)), draw.integers(0, 2, (3, 1))], 1)
        said = true.copy()
        said[:, :4] = np.clip(said[:, :4] + draw.normal(0, 0.02, (3, 4)), 0, 1)
        said = np.concatenate([said, [[0.1, 0.1, 0.2, 0.2, 1]]])  # nothing is there
        scores = draw.permutation(4)[:, None] * 0.2 + draw.uniform(0, 0.2, (4, 1))
        truth.append(true)
        told.append(np.concatenate([said, scores], 1))
    found = figures("boxes", truth, [np.float32(t) for t in told])
    expected = [np.mean([_average_precision(truth, told, c, fit) for c in (0, 1)]) for fit in FITS]
    assert found["map50"] == pytest.approx(expected[0])
    assert found["map"] == pytest.approx(np.mean(expected))
    assert 0.1 < found["map"] < found["map50"] < 1


def test_overlaps_of_exactly_a_half_are_a_half_in_any_picture() -> None:
    """Boxes of whole pixels often overlap by exactly .5 or .8; float32 shares of 640 x 427 say a little less."""
    draw = np.random.default_rng(1)
    truth, told, scores = [], [], draw.permutation(120).reshape(40, 3, 1) / 128
    for i in range(40):
        sides, at = draw.integers(4, 60, (3, 2)), draw.integers(0, 360, (3, 2))
        kinds, cut = draw.integers(0, 2, (3, 1)), draw.choice([0.5, 0.6, 0.8, 1], (3, 1)) * sides[:, :1]
        truth.append(np.concatenate([at, at + sides, kinds], 1))
        guess = [at, at[:, :1] + np.rint(cut), at[:, 1:] + sides[:, 1:], kinds, scores[i]]
        told.append(np.concatenate(guess, 1))
    shares = np.array([1 / 640, 1 / 427, 1 / 640, 1 / 427])
    found = figures("boxes", *([np.c_[v[:, :4] * shares, v[:, 4:]] for v in side] for side in (truth, told)))
    for same, fit in (("map50", FITS[:1]), ("map", FITS)):
        expected = np.mean([_average_precision(truth, told, c, f) for c in (0, 1) for f in fit])
        assert found[same] == pytest.approx(expected, abs=1e-9)


def test_boxes_that_were_counted_when_halves_were_less_are_counted_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The report had another identity; its units, which count overlaps, were those of before."""
    storage, known = Storage(str(tmp_path)), {"boxes": KNOWN["boxes"]}
    true, half = [1 / 640, 1 / 427, 25 / 640, 13 / 427, 0, 1], [1 / 640, 1 / 427, 13 / 640, 13 / 427, 0, 0.9]
    values = {f"boxes@{who}": known["boxes"].fit(np.float32([box])) for who, box in (("truth", true), ("net", half))}
    frames = inline.ingested(storage, known, {"a": [values], "b": [values]})
    sharding = Shard(stage="shard", data="frames", split={"pin": {"test": ["b"]}})
    shards = inline.finish(inline.step(sharding, storage, known, "shards", frames=frames))

    def map50(draws: int) -> float:
        stage = Evaluate(stage="evaluate", data="shards", pictures=0, intervals={"over": "frames", "draws": draws})
        made = inline.finish(inline.step(stage, storage, known, "report", shards=shards))
        return float(Judged.from_manifest(made).figures["net"]["boxes.map50"])

    with monkeypatch.context() as before:
        before.setattr(overlap, "rounding", lambda *_: 0.0)
        before.setattr("hyperloom.stages.evaluate.stage._overlaps", lambda _: {})
        assert map50(100) == 0
    assert map50(101) == 1, "half of a box of 24 x 12 pixels"


def test_probabilities_become_answers() -> None:
    assert decided(KNOWN["species"], np.array([[0.1, 0.7, 0.2]])).tolist() == [1]
    assert decided(KNOWN["pos"], np.eye(2)[[[0, 1, 1, 0]]]).tolist() == [[0, 1, 1, 0]]
    assert decided(KNOWN["labels"], np.array([[0.1, 0.7, 0.5]])).tolist() == [[0, 1, 0]]
    assert decided(KNOWN["pose"], np.array([[0.1, 0.7, 0.5]])).tolist() == [[0.1, 0.7, 0.5]]


def test_what_else_a_machine_does_is_no_part_of_what_a_network_takes() -> None:
    pauses = iter([0.0, 0.02, 0.02, 0.0, 0.02, 0.02])
    assert milliseconds(lambda: time.sleep(next(pauses)), repeats=5) < 15


def test_samples_without_a_value_are_none_of_a_class_called_unknown(tmp_path: Any) -> None:
    kind = inline.modalities(sex={"type": "category", "classes": ["female", "male", "unknown"]})
    other = inline.modalities(sex={"type": "category", "classes": ["female", "male"]})
    for known, nothing in ((kind, "no value"), (other, "unknown")):
        storage = Storage(str(tmp_path / nothing))
        last = known["sex"].classes[-1]
        made = inline.ingested(storage, known, {"g": [{"sex@t": known["sex"].fit(last)}, {"sex@t": None}]})
        parts = members([Slice(column="sex@t")], storage, [made.records[0].file.path], known)
        assert parts == {f"sex@t={last}": {"g/000"}, f"sex@t={nothing}": {"g/001"}}
    stage = Evaluate.model_validate({"stage": "evaluate", "data": "shards", "truth": {}, "slices": ["sex@t", "group"]})
    assert "no value" in stage.revised_for(kind) and "no value" not in stage.revised_for(other)


@pytest.mark.parametrize(
    ("numbers", "parts"),
    [
        ([0] * 8 + [1, 2], {"2 of 4": [0] * 8, "4 of 4": [1, 2]}),
        ([0] * 3 + [1, 2, 3, 4, 5, 6, 7], {"1 of 4": [0] * 3, "2 of 4": [1, 2], "3 of 4": [3, 4], "4 of 4": [5, 6, 7]}),
        ([1, 2] + [9] * 8, {"1 of 4": [1, 2], "3 of 4": [9] * 8}),
        ([5] * 4, {"3 of 4": [5] * 4}),
        ([3, 1, 2, 4, 8, 7, 6, 5], {"1 of 4": [1, 2], "2 of 4": [3, 4], "3 of 4": [5, 6], "4 of 4": [7, 8]}),
        ([1, 2, 3, 4, 5], {"1 of 4": [1], "2 of 4": [2], "3 of 4": [3], "4 of 4": [4, 5]}),
    ],
)
def test_bins_lay_what_is_nothing_for_most_apart_from_what_is_more(
    numbers: list[float], parts: dict[str, list[float]], tmp_path: Any
) -> None:
    """Of rain that is mostly 0 all was in the last of four bins, or the 0 in the second with what is a little more."""
    known, storage = inline.modalities(rain={"type": "scalar"}), Storage(str(tmp_path))
    samples = [{"rain@gauge": known["rain"].fit([number])} for number in numbers]
    made = inline.ingested(storage, known, {"g": samples}, len(samples))
    each = members([Slice(column="rain@gauge", bins=4)], storage, [made.records[0].file.path], known)
    assert {name: sorted(numbers[int(key[-3:])] for key in keys) for name, keys in each.items()} == {
        f"rain@gauge={name}": values for name, values in parts.items()
    }
    stage = Evaluate.model_validate({"stage": "evaluate", "data": "shards", "slices": [{"column": "rain@gauge"}]})
    edged = stage.model_copy(update={"slices": (Slice(column="rain@gauge", edges=(1.0,)),)})
    assert "ties" in stage.revised_for(known) and "ties" not in edged.revised_for(known)
