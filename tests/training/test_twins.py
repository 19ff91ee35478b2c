"""Each measure beside an independent twin: scikit-learn, pycocotools, or NumPy by hand.

Sizes, unknown pixels, absent classes, answers that are no class, silence, and how the samples are cut are drawn.
"""

from __future__ import annotations

import contextlib
import io
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hyperloom.stages.measure.calibration import confidence
from hyperloom.stages.measure.scores import measures, score
from hyperloom.stages.measure.sums import merged
from tests.unit import inline

SIZE = (5, 7)
KNOWN: dict[str, Any] = inline.modalities(
    rgb={"type": "image", "size": list(SIZE)},
    semantic={"type": "segmentation", "classes": ["a", "b", "c", "d"]},
    species={"type": "category", "classes": 4},
    grade={"type": "ordinal", "levels": 4},
    labels={"type": "multilabel", "classes": 3},
    depth={"type": "dense", "unknown": 0, "storage": "float32"},
    flow={"type": "dense", "channels": 2, "unit": "px", "unknown": 0, "storage": "float32"},
    normals={"type": "dense", "channels": 3, "direction": True, "storage": "float32"},
    meaning={"type": "embedding", "length": 4},
    points={"type": "keypoints", "points": 3},
    boxes={"type": "boxes", "classes": ["car", "man"], "most": 6},
)
QUICK = settings(max_examples=40, deadline=None)
SEEDS, COUNTS = st.integers(0, 10**6), st.integers(1, 6)


def figures(
    name: str, truth: np.ndarray, told: np.ndarray, known: np.ndarray, answered: np.ndarray
) -> dict[str, float]:
    """Of all samples at once; the same figures come of them one by one, in any order."""
    modality = KNOWN[name]
    whole = measures(modality, score(modality, truth, told, known, answered))
    parts = [score(modality, *(v[i : i + 1] for v in (truth, told, known, answered))) for i in range(len(truth))]
    single = measures(modality, merged(parts))
    assert single == measures(modality, merged(parts[::-1])) and single == pytest.approx(whole)
    return single


def drawn(seed: int, count: int) -> tuple[np.random.Generator, np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    return random, random.random(count) < 0.8, random.random(count) < 0.8


@QUICK
@given(SEEDS, COUNTS, st.sampled_from(["semantic", "species", "grade"]), st.integers(1, 4))
def test_classes(seed: int, count: int, name: str, occur: int) -> None:
    from sklearn.metrics import accuracy_score, f1_score, jaccard_score

    random, known, answered = drawn(seed, count)
    silent = int(KNOWN[name].missing)
    shape = (count, *KNOWN[name].shape)
    truth = random.choice([*range(occur), silent], shape)
    told = random.choice([*range(4), silent, 6, -3], shape)
    found = figures(name, truth, told, known, answered)
    rows = np.broadcast_to(known.reshape(-1, *[1] * (truth.ndim - 1)), shape) & (truth != silent)
    gave = np.broadcast_to(answered.reshape(-1, *[1] * (truth.ndim - 1)), shape) & (told != silent)
    if not (rows & gave).any():
        assert found == {}
        return
    expected, classed = truth[rows], np.where(gave & (told >= 0) & (told < 4), told, 4)[rows]
    there = sorted(set(expected.tolist()))
    assert found["accuracy"] == pytest.approx(accuracy_score(expected, classed))
    assert found["coverage"] == pytest.approx(gave[rows].mean())
    twin = jaccard_score if name == "semantic" else f1_score
    figure = "miou" if name == "semantic" else "f1"
    assert found[figure] == pytest.approx(twin(expected, classed, labels=there, average="macro", zero_division=0))
    if name == "grade":
        off = np.where(classed < 4, np.abs(classed - expected), np.maximum(expected, 3 - expected))
        assert found["mae"] == pytest.approx(off[gave[rows]].mean())


@QUICK
@given(SEEDS, COUNTS)
def test_labels(seed: int, count: int) -> None:
    from sklearn.metrics import f1_score

    random, known, answered = drawn(seed, count)
    truth = random.choice([0, 1, 255], (count, 3)).astype(np.uint8)
    told = random.choice([0, 1], (count, 3)).astype(np.uint8)
    found = figures("labels", truth, told, known, answered)
    each = []
    for column in range(3):
        rows = known & (truth[:, column] != 255)
        expected, yes = truth[rows, column], (told[:, column] & answered)[rows]
        each += [f1_score(expected, yes, zero_division=0)] if expected.any() else []
    assert found.get("f1") == (pytest.approx(np.mean(each)) if each and "f1" in found else None)


@QUICK
@given(SEEDS, COUNTS, st.sampled_from(["depth", "flow"]))
def test_numbers(seed: int, count: int, name: str) -> None:
    from sklearn.metrics import mean_absolute_error, mean_absolute_percentage_error, root_mean_squared_error

    random, known, answered = drawn(seed, count)
    shape = (count, *KNOWN[name].shape)
    truth, told = (random.normal(0, 5, shape).astype(np.float32) for _ in range(2))
    for values in (truth, told):
        values[random.random(shape) < 0.2] = np.nan  # in one channel or in several
    found = figures(name, truth, told, known, answered)
    rows = known[:, None, None] & np.isfinite(truth).all(-1)
    both = rows & answered[:, None, None] & np.isfinite(told).all(-1)
    if not both.any():
        assert found == {}
        return
    expected, given_ = truth[both].ravel().astype(np.float64), told[both].ravel().astype(np.float64)
    assert found["mae"] == pytest.approx(mean_absolute_error(expected, given_))
    assert found["rmse"] == pytest.approx(root_mean_squared_error(expected, given_))
    assert found["absrel"] == pytest.approx(mean_absolute_percentage_error(expected, given_))
    assert found["coverage"] == pytest.approx(both.sum() / rows.sum())


@QUICK
@given(SEEDS, COUNTS)
def test_directions_and_embeddings(seed: int, count: int) -> None:
    from sklearn.metrics.pairwise import paired_cosine_distances

    random, known, answered = drawn(seed, count)
    for name in ("normals", "meaning"):
        shape = (count, *KNOWN[name].shape)
        truth, told = (random.normal(0, 1, shape).astype(np.float32) for _ in range(2))
        for values in (truth, told):
            values[random.random(shape[:-1]) < 0.2] = 0
        found = figures(name, truth, told, known, answered)
        column = (-1, *[1] * (truth.ndim - 2))
        both = (known & answered).reshape(column) & truth.any(-1) & told.any(-1)
        if not both.any():
            assert found == {}
            continue
        cosine = 1 - paired_cosine_distances(truth[both].astype(np.float64), told[both].astype(np.float64))
        expected = np.degrees(np.arccos(cosine.clip(-1, 1))).mean() if name == "normals" else cosine.mean()
        assert found[KNOWN[name].metric] == pytest.approx(expected, abs=1e-6)
        assert found["coverage"] == pytest.approx(both.sum() / (known.reshape(column) & truth.any(-1)).sum())


@QUICK
@given(SEEDS, COUNTS)
def test_points(seed: int, count: int) -> None:
    random, known, answered = drawn(seed, count)
    truth, told = (random.random((count, 3, 3)) * 0.1 for _ in range(2))
    for values in (truth, told):
        values[..., 2] = random.random((count, 3)) < 0.7
        values[values[..., 2] == 0] = 0
    found = figures("points", truth, told, known, answered)
    hits = total = 0
    for i in np.flatnonzero(known):
        for (x, y, seen), (u, v, gave) in zip(truth[i], told[i], strict=True):
            total += seen
            hits += bool(seen and gave and answered[i] and np.hypot(x - u, y - v) <= 0.05)
    assert found.get("pck") == (pytest.approx(hits / total) if total and (known & answered).any() and found else None)


@QUICK
@given(SEEDS, COUNTS)
def test_calibration(seed: int, count: int) -> None:
    random = np.random.default_rng(seed)
    soft = random.dirichlet(np.ones(4), (count, *SIZE)).astype(np.float32)
    truth = random.choice([0, 1, 2, 3, 255], (count, *SIZE)).astype(np.uint8)
    every = np.ones(count, bool)
    sums = score(KNOWN["semantic"], truth, soft.argmax(-1), every, every)
    found = measures(KNOWN["semantic"], sums | confidence(KNOWN["semantic"], truth, soft, every))
    rows = truth != 255
    if rows.any():
        sure, right = soft[rows].max(-1), soft[rows].argmax(-1) == truth[rows]
        bins = np.minimum((sure * 15).astype(int), 14)
        twin = sum(
            abs(sure[bins == b].mean() - right[bins == b].mean()) * (bins == b).mean() for b in set(bins.tolist())
        )
        assert found["ece"] == pytest.approx(twin, abs=2e-3)  # ours counts in steps of 1/65535


@settings(max_examples=12, deadline=None)
@given(SEEDS, st.integers(2, 8))
def test_boxes(seed: int, count: int) -> None:
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    random = np.random.default_rng(seed)
    truth, told = (np.full((count, 6, 6), np.nan, np.float32) for _ in range(2))
    truths, answers, scores = [], [], random.permutation(count * 6) / (count * 6) * 0.98 + 0.01
    for i in range(count):
        for j in range(random.integers(1, 4)):
            x, y = j * 0.3, random.random() * 0.6
            kind, noise = random.integers(0, 2), random.uniform(0, 0.08, 2)
            truth[i, j] = (x, y, x + 0.25, y + 0.25, kind, 1)
            told[i, j] = (x + noise[0], y + noise[1], x + 0.25, y + 0.25, kind, scores[6 * i + j])
        told[i, 5] = (0.9, 0.9, 1, 1, 0, scores[6 * i + 5])
        for boxes, rows in ((truth, truths), (told, answers)):
            for x0, y0, x1, y1, kind, sure in (1000 * boxes[i, ~np.isnan(boxes[i, :, 0])]).tolist():
                corners = {"bbox": [x0, y0, x1 - x0, y1 - y0], "area": (x1 - x0) * (y1 - y0)}
                row = {"image_id": i + 1, "category_id": int(kind // 1000) + 1, "iscrowd": 0, "id": len(rows) + 1}
                rows.append({**row, **corners, "score": sure / 1000})
    every = np.ones(count, bool)
    found = measures(KNOWN["boxes"], score(KNOWN["boxes"], truth, told, every, every))
    with contextlib.redirect_stdout(io.StringIO()):
        dataset = COCO()
        images = [{"id": i + 1, "width": 1000, "height": 1000} for i in range(count)]
        dataset.dataset = {"images": images, "annotations": truths, "categories": [{"id": 1}, {"id": 2}]}
        dataset.createIndex()
        twin = COCOeval(dataset, dataset.loadRes(answers), "bbox")
        twin.evaluate()
        twin.accumulate()
        twin.summarize()
    assert found["map50"] == pytest.approx(twin.stats[1], abs=0.03)  # theirs looks at 101 recalls, ours at 50 scores
    assert found["map"] == pytest.approx(twin.stats[0], abs=0.05)
