"""What nobody knows: loss, measure, statistics, consensus and pictures leave out the same pixels."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from hyperloom.pipeline.root.storage import Storage
from hyperloom.stages.consensus.mean import Mean
from hyperloom.stages.consensus.median import Median
from hyperloom.stages.evaluate import verdict
from hyperloom.stages.evaluate.subject import Subject
from hyperloom.stages.measure.scores import measures, score
from hyperloom.stages.network.model import build_model
from hyperloom.stages.release import gate
from hyperloom.stages.results import Judged, Lineage
from hyperloom.stages.shard.statistics import ColumnCounter, merged
from hyperloom.stages.train import loop
from hyperloom.stages.train.criterion import Criterion
from hyperloom.stages.train.stopping import Best, EarlyStop
from hyperloom.stages.world import World
from tests.unit import inline, scenes

NAN = math.nan
SIZE = [2, 3]
KNOWN: dict[str, Any] = inline.modalities(
    normals={"type": "dense", "size": SIZE, "channels": 3, "direction": True},
    coarse={"type": "dense", "size": SIZE, "channels": 3, "direction": True, "range": [-1, 1], "storage": "uint8"},
    holed={"type": "dense", "size": SIZE, "channels": 3, "direction": True, "unknown": 0},
    flow={"type": "dense", "size": SIZE, "channels": 2, "unit": "px", "unknown": 0},
    depth={"type": "dense", "size": SIZE, "unit": "m", "range": [0, 80], "unknown": 0},
    far={"type": "dense", "size": SIZE, "unit": "m", "range": [0, 80], "unknown": "outside"},
    steps={"type": "dense", "size": SIZE, "range": [0, 80], "unknown": 0, "storage": "uint16"},
    soft={"type": "soft", "size": SIZE, "classes": ["a", "b"]},
    semantic={"type": "segmentation", "size": SIZE, "classes": ["a", "b"]},
    points={"type": "keypoints", "points": ["left", "right"]},
    track={"type": "series", "steps": 3, "channels": 2},
    meaning={"type": "embedding", "length": 2},
    boxes={"type": "boxes", "classes": ["car"], "most": 2},
    grade={"type": "ordinal", "levels": 3},
    species={"type": "category", "classes": ["a", "b"]},
)


def figures(name: str, truth: Any, told: Any, answered: bool = True) -> dict[str, float]:
    modality, every = KNOWN[name], np.ones(1, bool)
    return measures(modality, score(modality, np.asarray(truth)[None], np.asarray(told)[None], every, every & answered))


def pixels(*values: Any) -> np.ndarray:
    """Six pixels: the given ones, one after the other, again and again."""
    return np.array([values[i % len(values)] for i in range(6)], np.float32).reshape(*SIZE, -1)


@pytest.mark.parametrize("name", ["normals", "coarse", "holed"])
def test_normals_of_length_zero_are_unknown_to_all(name: str) -> None:
    modality = KNOWN[name]
    truth = modality.fit(pixels((0, 0, 2), (0, 0, 0)))
    modality.check(truth)
    assert truth[0, 0].tolist() == [0, 0, 1] and not truth[0, 1, 2] > 0
    perfect = figures(name, truth, pixels((0, 0, 1)))
    assert perfect["angle"] == pytest.approx(0, abs=1e-6) and perfect["coverage"] == 1
    tally = ColumnCounter(modality)
    tally.add(*modality.unpack(modality.encode([truth])))
    assert merged(modality, [tally.figures()])["mean"] == pytest.approx([0, 0, 1], abs=1e-6)
    shown = modality.picture(truth)
    assert shown[0, 0].any() and not shown[0, 1].any()


def test_an_unknown_number_is_one_of_the_pixel_not_of_a_channel() -> None:
    flow = KNOWN["flow"].fit(pixels((0, 3), (2, 0), (0, 0), (1, NAN)))
    assert flow.reshape(6, 2)[:2].tolist() == [[0, 3], [2, 0]] and np.isnan(flow.reshape(6, 2)[2:4]).all()
    assert KNOWN["holed"].fit(pixels((0, 0, 1))).tolist() == pixels((0, 0, 1)).tolist()
    told = pixels((0, 4), (2, 0), (9, 9), (9, 9))
    found = figures("flow", flow, told)
    assert found["mae"] == pytest.approx(2 * 1 / (4 * 2)) and found["coverage"] == 1
    tally = ColumnCounter(KNOWN["flow"])
    tally.add(*KNOWN["flow"].unpack(KNOWN["flow"].encode([flow])))
    assert merged(KNOWN["flow"], [tally.figures()])["mean"] == [1, 1.5]
    assert not KNOWN["flow"].picture(flow).reshape(6, 3)[2:4].any()
    assert figures("flow", flow, pixels((0, NAN), (2, 0)))["coverage"] == 0.5  # half an answer is none


def test_numbers_outside_the_range_are_no_truth() -> None:
    raw = pixels(5, 500, 0)
    assert KNOWN["depth"].fit(raw)[0, :, 0].tolist() == pytest.approx([5, 80, NAN], nan_ok=True)
    assert KNOWN["far"].fit(raw)[0, :, 0].tolist() == pytest.approx([5, NAN, 0], nan_ok=True)
    for name in ("depth", "far", "steps"):
        found = figures(name, pixels(5, 500, NAN), pixels(6))
        assert found["mae"] == 1 and found["coverage"] == 1, name
    with pytest.raises(ValueError, match="outside of which range"):
        inline.modalities(x={"type": "dense", "size": SIZE, "unknown": "outside"})


def test_resizing_mixes_no_unknown_direction_with_a_known_one() -> None:
    small = inline.modalities(n={"type": "dense", "size": [2, 2], "channels": 3, "direction": True})["n"]
    raw = np.zeros((4, 4, 3), np.float32)
    raw[:, :2] = (1, 0, 0)
    assert small.fit(raw)[:, 0].tolist() == [[1, 0, 0]] * 2 and not small.fit(raw)[:, 1].any()


def test_soft_labels_hidden_points_short_series_and_no_boxes() -> None:
    soft = pixels((1, 0), (0, 0))
    assert figures("soft", soft, pixels((0.8, 0.2)))["mae"] == pytest.approx(0.2)
    assert figures("soft", pixels((1, 0)), pixels((1, 0), (0, 0)))["coverage"] == 0.5
    assert not KNOWN["soft"].picture(soft)[0, 1].any()
    tally = ColumnCounter(KNOWN["soft"])
    tally.add(*KNOWN["soft"].unpack(KNOWN["soft"].encode([soft])))
    assert merged(KNOWN["soft"], [tally.figures()])["mean"] == pytest.approx([1, 0], abs=1e-3)

    hidden = KNOWN["points"].fit({"left": [0.02, 0.02]})
    assert figures("points", hidden, KNOWN["points"].fit({"right": [0.5, 0.5]}))["pck"] == 0  # not seen is not (0, 0)
    assert figures("points", hidden, KNOWN["points"].fit({"left": [0.02, 0.02], "right": [1, 1]}))["pck"] == 1
    assert figures("points", KNOWN["points"].fit({}), hidden) == {}

    track = KNOWN["track"].fit([[1, 1]])
    assert figures("track", track, [[2, 2], [9, 9], [9, 9]])["mae"] == 1
    assert figures("track", KNOWN["track"].fit([[1, 1], [2, 2]]), [[2, 2], [9, NAN], [9, 9]])["coverage"] == 0.5
    assert figures("meaning", [0.0, 0.0], [1.0, 0.0]) == {} and figures("meaning", [1.0, 0.0], [0.0, 0.0]) == {}

    none = KNOWN["boxes"].fit([])
    assert figures("boxes", none, none) == {"coverage": 1}  # that there is nothing is known


@pytest.mark.parametrize("name", ["semantic", "species", "grade"])
def test_ids_beyond_the_classes_are_wrong_answers_of_no_class(name: str) -> None:
    modality = KNOWN[name]
    silent, shape = int(modality.missing), modality.shape
    truth = np.zeros(shape, int)
    right = figures(name, truth, truth)
    assert right["accuracy"] == right["coverage"] == 1
    for told in (len(modality.counted), len(modality.counted) + 1, 7, -7, 254):
        found = figures(name, truth, np.full(shape, told))
        assert found["accuracy"] == 0 and found["coverage"] == 1 and found[modality.metric] in (0, 2), told
    assert figures(name, truth, np.full(shape, silent)) == {}
    assert figures(name, np.full(shape, 9), truth) == {}


def test_consensus_asks_those_who_say_something(tmp_path: Path) -> None:
    one, two = pixels((0, 3), (NAN, 1)), pixels((2, 5), (4, 4), (NAN, NAN))
    batch = {"flow@a": one[None], "flow@b": two[None], "flow@a?": np.ones(1, bool), "flow@b?": np.ones(1, bool)}
    for kind, name in ((Mean, "mean"), (Median, "median")):
        method = kind(type=name).over(("flow@a", "flow@b"), "flow@consensus", KNOWN)
        (made,) = method.build(KNOWN, Storage(str(tmp_path)))(batch)["flow@consensus"]
        expected = [[1, 4], [4, 4], [0, 3], [2, 5], [2, 3.5], [NAN, NAN]]
        assert made.reshape(6, 2).tolist() == [pytest.approx(e, nan_ok=True) for e in expected]
    agree = method.measures(batch, {"flow@consensus": made[None]}, KNOWN)
    assert agree["mae:flow@a|flow@b"] == pytest.approx([2.25])


def test_the_loss_leaves_out_what_the_measure_leaves_out(tmp_path: Path) -> None:
    """A wild truth where nobody knows anything moves no loss, whatever is unknown about it."""
    storage, _, made = scenes.shards(tmp_path)
    run = scenes.step(storage, made)
    job = run.stage.job(run)
    depth = job.modalities["depth"].model_copy(update={"range": (0.0, 80.0)})
    job = replace(job, modalities={**job.modalities, "depth": depth})
    batch = next(iter(loop.Training(job, World()).batches))

    def losses(column: str, wild: float) -> list[float]:
        torch.manual_seed(0)
        values = batch[column].clone()
        values[:, ::2] = wild
        criterion = Criterion(job, build_model(job.architecture, job.parameters))
        visible = torch.ones(len(values), 2, dtype=torch.bool)
        return criterion({**batch, column: values}, visible, World()).values.tolist()

    assert losses("depth@laser", 1e4) == losses("depth@laser", NAN) == losses("depth@laser", -50)
    assert losses("semantic@truth", 3) == losses("semantic@truth", 255)
    assert losses("depth@laser", 20) != losses("depth@laser", NAN)


def test_a_figure_that_is_no_number_wins_nothing() -> None:
    who = [Subject("a", "expert", ("depth@a",)), Subject("b", "expert", ("depth@b",))]
    told = {"a": {"depth.mae": NAN, "depth.coverage": 1.0}, "b": {"depth.mae": 3.0, "depth.coverage": 1.0}}
    assert verdict.best(who, told, "expert", "depth", KNOWN["depth"]) == "b"
    wild = {"known": 1, "answered": 1, "absolute": 1e200, "squared": math.inf, "values": 1, "relatives": 0}
    assert set(measures(KNOWN["depth"], wild)) == {"mae", "coverage"}
    best, stop = Best(), EarlyStop(metric="depth.mae", patience=1, every=1)
    for value in (NAN, -math.inf):
        best.offer(stop, False, 1, {"val.depth.mae": value}, dict)
    assert best.value is None
    report = Judged(split="test", samples=4, truth={}, lineage=Lineage("", {}, ""), figures=told)
    decision = gate.judge(gate.parse("depth.mae", "<= 5"), "a", report, None)
    assert not decision.passed and "no number" in decision.reason
