"""Consensus that knows how far to trust: confidence, reliability estimated without truth, filters, and the report."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import pytest
from pydantic import ValidationError

from hyperloom.pipeline import plugins
from hyperloom.pipeline.errors import RecipeError
from hyperloom.pipeline.fingerprint import payload
from hyperloom.pipeline.root.events import read
from hyperloom.pipeline.root.storage import Storage
from hyperloom.stages.consensus.stage import ConsensusStage
from hyperloom.stages.label.algorithms.majority import vote
from tests.unit.inline import column, finish, ingested, modalities, step

SIZE = (16, 16)
KNOWN = modalities(
    rgb={"type": "image", "size": list(SIZE)},
    semantic={"type": "segmentation", "classes": ["a", "b", "c"]},
    soft={"type": "soft", "of": "semantic"},
    depth={"type": "dense", "storage": "float32"},
    score={"type": "dense", "storage": "float32"},
    quality={"type": "dense", "storage": "float32", "unknown": -1},
    hollow={"type": "dense", "storage": "float32", "unknown": 0},
    normals={"type": "dense", "storage": "float32", "channels": 3, "direction": True},
)


@pytest.fixture
def storage(tmp_path: Any) -> Storage:
    return Storage(str(tmp_path))


def consensus(storage: Storage, samples: list[dict[str, Any]], rows: int = 4, **fields: Any) -> Any:
    stage = ConsensusStage(stage="consensus", data="labels", **fields)
    return step(stage, storage, KNOWN, labels=ingested(storage, KNOWN, {"g": samples}, rows))


def _labels(count: int = 8) -> list[dict[str, Any]]:
    """Truth, one good source, two bad ones, and one that says b where it is c."""
    draw, made = np.random.default_rng(0), []
    for i in range(count):
        truth = draw.integers(0, 3, SIZE).astype(np.uint8)
        sample: dict[str, Any] = {"semantic@truth": truth}
        for name, right in (("good", 0.95), ("bad", 0.5), ("worse", 0.4)):
            wrong = draw.random(SIZE) > right
            sample[f"semantic@{name}"] = np.where(wrong, draw.integers(0, 3, SIZE), truth).astype(np.uint8)
        sample["semantic@swap"] = np.where(truth == 2, 1, truth).astype(np.uint8)
        sample["semantic@good"][0, 0] = 255
        if i % 4 == 3:
            sample["semantic@bad"] = None
        made.append(sample)
    return made


def _right(values: dict[str, Any], samples: list[dict[str, Any]]) -> float:
    return float(np.mean([v == s["semantic@truth"] for v, s in zip(values.values(), samples, strict=True)]))


def test_dawid_skene_finds_whom_to_trust_without_truth(storage: Storage) -> None:
    samples = _labels()
    method = {"type": "dawid-skene", "agreement": "score@ds", "soft": "soft@ds"}
    made = finish(consensus(storage, samples, out="semantic@ds", method=method, truth="semantic@truth"))
    voted = finish(consensus(storage, samples, out="semantic@vote", method="vote"))
    trusting = _right(column(storage, KNOWN, made, "semantic@ds"), samples)
    assert trusting > _right(column(storage, KNOWN, voted, "semantic@vote"), samples) + 0.03
    assert trusting > 0.96  # better than the best source, since the swap tells a and (b or c) apart

    found = made.body["reliability"]["semantic@ds"]
    actual = {
        c: np.mean([np.mean((s[c] == s["semantic@truth"])[s[c] != 255]) for s in samples if s[c] is not None])
        for c in found
    }
    assert list(found) == ["semantic@bad", "semantic@good", "semantic@swap", "semantic@worse"]
    assert all(found[c] == pytest.approx(actual[c], abs=0.04) for c in found)

    score, soft = (column(storage, KNOWN, made, c)["g/000"] for c in ("score@ds", "soft@ds"))
    assert score is not None and soft is not None
    assert np.allclose(soft.max(-1), score[..., 0], atol=1 / 255)
    right = column(storage, KNOWN, made, "semantic@ds")["g/000"] == samples[0]["semantic@truth"]
    assert score[..., 0][right].mean() > score[..., 0][~right].mean()


def test_estimates_do_not_depend_on_partitions_and_belong_to_the_identity(storage: Storage) -> None:
    samples = _labels()
    bodies = [
        finish(consensus(storage, samples, rows, out="semantic@ds", method="dawid-skene")).body for rows in (2, 8)
    ]
    estimates = [b["columns"]["semantic@ds"]["about"]["expert"]["estimates"] for b in bodies]
    assert estimates[0] == estimates[1] and len(estimates[0]["tables"]) == 4
    more = finish(consensus(storage, _labels(9), out="semantic@ds", method="dawid-skene")).body
    assert more["columns"]["semantic@ds"]["fingerprint"] != bodies[0]["columns"]["semantic@ds"]["fingerprint"]


def test_one_number_a_source_is_enough_where_mistakes_are_even(storage: Storage) -> None:
    samples = [{k: v for k, v in s.items() if "swap" not in k} for s in _labels()]
    method = {"type": "dawid-skene", "confusions": False}
    made = finish(consensus(storage, samples, out="semantic@ds", method=method))
    voted = finish(consensus(storage, samples, out="semantic@vote", method="vote"))
    better = _right(column(storage, KNOWN, made, "semantic@ds"), samples)
    assert better > _right(column(storage, KNOWN, voted, "semantic@vote"), samples) + 0.05


def test_inverse_variance_weighs_numbers_by_errors_found_from_differences(storage: Storage) -> None:
    draw, samples = np.random.default_rng(0), []
    for _ in range(6):
        truth = draw.uniform(5, 10, (*SIZE, 1)).astype(np.float32)
        noise = {"fine": 0.1, "rough": 1.0, "wild": 3.0}
        samples.append(
            {f"depth@{n}": (truth + draw.normal(0, s, truth.shape)).astype(np.float32) for n, s in noise.items()}
            | {"depth@truth": truth}
        )
    made = finish(
        consensus(storage, samples, out="depth@iv", method={"type": "inverse-variance", "spread": "score@iv"})
    )
    mean = finish(consensus(storage, samples, out="depth@mean", method="mean"))
    sigma = {c: 1 / v for c, v in made.body["reliability"]["depth@iv"].items()}
    assert sigma["depth@rough"] == pytest.approx(1, rel=0.1) and sigma["depth@wild"] == pytest.approx(3, rel=0.1)

    def error(made: Any, name: str) -> float:
        values = column(storage, KNOWN, made, name).values()
        return float(np.mean([np.abs(v - s["depth@truth"]) for v, s in zip(values, samples, strict=True)]))

    assert error(made, "depth@iv") < 0.15 < 0.5 < error(mean, "depth@mean")
    spread = column(storage, KNOWN, made, "score@iv")["g/000"]
    assert spread is not None and 0.05 < spread.mean() < 0.2
    with pytest.raises(RecipeError, match="needs three sources or more, there are depth@fine, depth@rough"):
        choice = {"out": "depth@iv", "of": ["depth@fine", "depth@rough"], "method": "inverse-variance"}
        finish(consensus(storage, samples, **choice))


def test_confidence_of_each_pixel_splits_or_scales_a_vote(storage: Storage) -> None:
    one, two, three = (np.full(SIZE, k, np.uint8) for k in range(3))
    soft = np.zeros((*SIZE, 3), np.float32)
    soft[..., 0], soft[..., 2] = 0.4, 0.6
    low, high = np.full((*SIZE, 1), 0.1, np.float32), np.full((*SIZE, 1), 0.9, np.float32)
    samples = [{"semantic@x": one, "semantic@y": two, "semantic@z": three, "score@y": low, "soft@x": soft}]
    samples += [{**samples[0], "score@y": high}, {**samples[0], "score@y": None, "soft@x": None}]
    method = {"type": "vote", "confidence": {"y": "score@y", "semantic@x": "soft@x"}, "agreement": "score@vote"}
    made = finish(consensus(storage, samples, out="semantic@vote", method=method))
    found = [int(v[0, 0]) for v in column(storage, KNOWN, made, "semantic@vote").values() if v is not None]
    assert found == [2, 2, 0]  # .6 + 1 for c; the same; all alike, and x comes first
    shares = [float(v[0, 0, 0]) for v in column(storage, KNOWN, made, "score@vote").values() if v is not None]
    assert shares == pytest.approx([1.6 / 2.1, 1.6 / 2.9, 1 / 3], abs=1e-4)
    assert made.body["agreement"]["semantic@vote"]["columns"][:-1] == ["semantic@x", "semantic@y", "semantic@z"]


def test_confidence_weighs_a_mean_and_its_spread_is_told(storage: Storage) -> None:
    full = np.ones((*SIZE, 1), np.float32)
    samples = [{"depth@x": full, "depth@y": 4 * full, "score@y": 0.5 * full}]
    method = {"type": "mean", "confidence": {"y": "score@y"}, "spread": "score@mean"}
    made = finish(consensus(storage, samples, out="depth@mean", method=method))
    value, spread = (column(storage, KNOWN, made, c)["g/000"] for c in ("depth@mean", "score@mean"))
    assert value is not None and spread is not None
    assert np.allclose(value, 2) and np.allclose(spread, np.sqrt(2), atol=1e-3)


@pytest.mark.parametrize("smooth", [0.0, 1.0])
def test_where_confidence_is_unknown_a_source_counts_fully(storage: Storage, smooth: float) -> None:
    two, sure = np.full(SIZE, 2, np.uint8), np.full((*SIZE, 1), 0.9, np.float32)
    sure[1, 2] = np.nan
    soft = np.zeros((*SIZE, 3), np.float32)
    soft[..., 2], soft[0, 1] = 1, 0  # probabilities that sum to nothing say nothing
    samples = [{"semantic@x": two, "semantic@y": two, "quality@x": sure, "soft@y": soft}]
    samples += [{**samples[0], "semantic@y": np.full(SIZE, 255, np.uint8)}]
    method = {
        "type": "vote", "confidence": {"x": "quality@x", "y": "soft@y"}, "smooth": smooth, "agreement": "score@vote",
    }  # fmt: skip
    made = finish(consensus(storage, samples, out="semantic@vote", method=method))
    for value in column(storage, KNOWN, made, "semantic@vote").values():
        assert value is not None and (value == 2).all()
    for share in column(storage, KNOWN, made, "score@vote").values():
        assert share is not None and np.allclose(share, 1)

    full = np.ones((*SIZE, 1), np.float32)
    means = [{"depth@x": full, "depth@y": 4 * full, "quality@x": sure}]
    made = finish(consensus(storage, means, out="depth@m", method={"type": "mean", "confidence": {"x": "quality@x"}}))
    value = column(storage, KNOWN, made, "depth@m")["g/000"]
    assert value is not None and value[1, 2, 0] == 2.5 and value[0, 0, 0] == pytest.approx(4.9 / 1.9)


def test_a_weight_that_is_no_number_is_no_vote() -> None:
    one, two = np.full((1, 4, 4), 1, np.uint8), np.full((1, 4, 4), 2, np.uint8)
    weight = np.ones((1, 4, 4), np.float32)
    weight[0, 0, 0], weight[0, 3, 3] = np.nan, np.inf
    winner, share = vote([one, two], [weight, 0.5], 3, smooth=0.5)
    assert (winner[0, 1:3, 1:3] == 1).all() and winner[0, 0, 0] == winner[0, 3, 3] == 2 and np.isfinite(share).all()


def test_only_a_vote_or_mean_that_reads_confidence_means_something_new() -> None:
    def revision(**fields: Any) -> int:
        return int(payload(plugins.parse("consensus", fields))["revision"])

    assert revision(type="vote") == 1 and revision(type="vote", smooth=2.0, weights={"x": 2}) == 1
    assert revision(type="vote", confidence={"x": "quality@x"}) == 2
    assert revision(type="mean") == 2
    assert revision(type="mean", confidence={"x": "quality@x"}) == revision(type="mean", spread="score@m") == 3


@pytest.mark.parametrize("level", [1.0, 1000.1, 123456.7])
def test_a_spread_is_as_exact_far_from_zero(storage: Storage, level: float) -> None:
    names, full = ("x", "y", "z"), np.ones((*SIZE, 1), np.float32)
    for apart in (0.0, 0.01):
        sample = {f"depth@{n}": full * np.float32(level + i * apart) for i, n in enumerate(names)}
        right = np.std([float(sample[f"depth@{n}"][0, 0, 0]) for n in names])
        made = finish(consensus(storage, [sample], out="depth@m", method={"type": "mean", "spread": "score@m"}))
        spread = column(storage, KNOWN, made, "score@m")["g/000"]
        assert spread is not None and np.allclose(spread, right, rtol=1e-5, atol=1e-9)


def test_reliability_leaves_out_what_a_source_does_not_know(storage: Storage) -> None:
    draw, samples, silent = np.random.default_rng(0), [], np.zeros(SIZE, bool)
    silent[0, 1] = True
    for _ in range(6):
        truth = draw.uniform(5, 10, (*SIZE, 1)).astype(np.float32)
        sample = {f"hollow@{n}": (truth + draw.normal(0, 0.1, truth.shape)).astype(np.float32) for n in "xyz"}
        for hollow in sample.values():
            hollow[silent] = np.nan
        sample["hollow@z"][0, 0] = np.nan
        normals = draw.normal(0, 0.05, (3, *SIZE, 3)) + np.array([0, 0, 1])
        normals /= np.linalg.norm(normals, axis=-1, keepdims=True)
        normals[2, : SIZE[0] // 2] = 0
        samples.append(sample | {f"normals@{n}": v.astype(np.float32) for n, v in zip("xyz", normals, strict=True)})
    method = {"type": "inverse-variance", "spread": "quality@iv"}
    made = finish(consensus(storage, samples, out="hollow@iv", method=method))
    weights = {c: v**2 for c, v in made.body["reliability"]["hollow@iv"].items()}
    value, spread = (column(storage, KNOWN, made, c)["g/000"] for c in ("hollow@iv", "quality@iv"))
    assert value is not None and spread is not None
    two = sum(weights[f"hollow@{n}"] * samples[0][f"hollow@{n}"][0, 0, 0] for n in "xy")
    alone = weights["hollow@x"] + weights["hollow@y"]
    assert value[0, 0, 0] == pytest.approx(two / alone, rel=1e-4)
    assert spread[0, 0, 0] == pytest.approx(alone**-0.5, rel=1e-4)
    assert (np.isnan(value[..., 0]) == silent).all() and (np.isnan(spread[..., 0]) == silent).all()

    made = finish(consensus(storage, samples, out="normals@iv", method="inverse-variance"))
    trust = made.body["reliability"]["normals@iv"].values()
    assert max(trust) < 1.5 * min(trust)  # silence at half of the pixels is no error
    value = column(storage, KNOWN, made, "normals@iv")["g/000"]
    assert value is not None and np.allclose(np.linalg.norm(value, axis=-1), 1, atol=1e-3)


def test_a_median_of_probabilities_is_a_distribution(storage: Storage) -> None:
    cases = [
        ([(0.6, 0.4, 0), (0, 0.6, 0.4), (0.4, 0, 0.6)], (1 / 3, 1 / 3, 1 / 3)),
        ([(1, 0, 0), (0, 1, 0), (0, 0, 1)], (1 / 3, 1 / 3, 1 / 3)),  # medians of nothing: the mean
        ([(0.8, 0.2, 0), (0.7, 0.1, 0.2), (0, 0, 0)], (0.75, 0.15, 0.1)),  # who says nothing is not asked
        ([(0, 0, 0), (0, 0, 0), (0, 0, 0)], (0, 0, 0)),
    ]
    for sources, expected in cases:
        sample = {f"soft@{n}": np.full((*SIZE, 3), p, np.float32) for n, p in zip("xyz", sources, strict=True)}
        made = finish(consensus(storage, [sample], out="soft@m", method="median"))
        value = column(storage, KNOWN, made, "soft@m")["g/000"]
        assert value is not None and np.allclose(value, expected, atol=1e-3)


def test_samples_nobody_agrees_on_become_null_and_keep_their_score(storage: Storage) -> None:
    samples = _labels(2)
    samples[1] |= {c: np.full(SIZE, i % 3, np.uint8) for i, c in enumerate(sorted(samples[1])) if "truth" not in c}
    method = {"type": "vote", "least": 0.55, "agreement": "score@vote"}
    made = finish(consensus(storage, samples, out="semantic@vote", method=method))
    values, scores = (column(storage, KNOWN, made, c) for c in ("semantic@vote", "score@vote"))
    assert values["g/000"] is not None and values["g/001"] is None and scores["g/001"] is not None
    assert made.quarantined == 0


def test_the_report_says_how_right_everyone_is_where_a_truth_is_named(storage: Storage) -> None:
    samples = _labels()
    todo = consensus(storage, samples, out="semantic@vote", method="vote", truth="semantic@truth")
    made = finish(todo)
    report = made.body["agreement"]["semantic@vote"]
    at = report["columns"].index("semantic@truth")
    quality = dict(zip(report["columns"], report["equal"][at], strict=True))
    expected = np.mean(
        [np.mean((s["semantic@good"] == s["semantic@truth"])[s["semantic@good"] != 255]) for s in samples]
    )
    assert quality["semantic@good"] == pytest.approx(expected, abs=1e-5)
    assert quality["semantic@worse"] < quality["semantic@vote"]
    without = finish(consensus(storage, samples, out="semantic@vote", method="vote"))
    same = [column(storage, KNOWN, m, "semantic@vote") for m in (made, without)]
    assert all((same[0][k] == same[1][k]).all() for k in same[0])  # the truth decides nothing
    todo.events.flush()
    told = list(read(storage, "test"))
    (picture,) = [e["path"] for e in told if e["kind"] == "artifact"][:1]
    drawn = cv2.imdecode(np.frombuffer(storage.read(picture), np.uint8), cv2.IMREAD_COLOR)
    assert drawn.shape[1] > 6 * 64
    with pytest.raises(ValidationError, match="'depth@truth' is no column of the modality of 'semantic@vote'"):
        consensus(storage, samples, out="semantic@vote", method="vote", truth="depth@truth")
    with pytest.raises(ValidationError, match="estimates are made from the data"):
        consensus(storage, samples, out="semantic@x", method={"type": "dawid-skene", "estimates": {"prior": [1]}})


@pytest.mark.parametrize("unit", [1e-9, 1.0, 1e6])
def test_whom_to_trust_does_not_depend_on_the_unit(storage: Storage, unit: float) -> None:
    """Currents in amperes: below a variance of 1e-12 all sources counted alike."""
    draw, known = np.random.default_rng(0), modalities(current={"type": "scalar"})
    truth = draw.normal(size=400)
    read = {n: truth + draw.normal(0, s, 400) for n, s in (("fine", 0.1), ("rough", 0.5), ("wild", 1.0))}
    samples = [{f"current@{n}": np.float32([v[i] * unit]) for n, v in read.items()} for i in range(400)]
    stage = ConsensusStage(stage="consensus", data="labels", out="current@iv", method="inverse-variance")
    labels = ingested(storage, known, {"g": samples}, rows=400)
    made = finish(step(stage, storage, known, labels=labels))
    errors = {c: 1 / v / unit for c, v in made.body["reliability"]["current@iv"].items()}
    assert errors["current@rough"] == pytest.approx(0.5, rel=0.1) and errors["current@wild"] == pytest.approx(
        1, rel=0.1
    )
    values = np.array(list(column(storage, known, made, "current@iv").values()), np.float64)[:, 0] / unit
    assert np.abs(values - truth).mean() < 0.15
