"""Objectives of regions, of rare classes and of thin things: cases by hand, soft answers, parts, and two workers."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hyperloom.pipeline import plugins
from hyperloom.pipeline.errors import PluginError, RecipeError
from hyperloom.stages.train import loop
from hyperloom.stages.world import World
from tests.training import ranks
from tests.unit import scenes

UNKNOWN = 255


def _value(objective: Any, prediction: Any, target: Any, counts: Any = None, weight: Any = None) -> float:
    """The mean loss over the labelled sites."""
    loss = plugins.parse("objective", objective).loss(counts)
    labelled, total = loss(prediction, target, World())
    amount = labelled.sum() if weight is None else torch.where(labelled, weight, 0.0).sum()
    return float(total(labelled, weight) / amount)


def _logits(probabilities: list[list[float]]) -> torch.Tensor:
    """One sample of one row: for each pixel the probability of each class."""
    return torch.tensor(probabilities).T[None, :, None].clamp(min=1e-9).log()


ROW = _logits([[0.8, 0.2], [0.6, 0.4], [0.3, 0.7], [0.5, 0.5]])
IDS = torch.tensor([[[0, 0, 1, UNKNOWN]]], dtype=torch.uint8)


def test_overlaps_by_hand() -> None:
    """Class 0: shared 1.4, answered 1.7, true 2; class 1: shared .7, answered 1.3, true 1."""
    dice = 1 - (2 * 1.4 / 3.7 + 2 * 0.7 / 2.3) / 2
    jaccard = 1 - (1.4 / 2.3 + 0.7 / 1.6) / 2
    found = 1 - (1.4 / (1.4 + 0.3 * 0.3 + 0.7 * 0.6) + 0.7 / (0.7 + 0.3 * 0.6 + 0.7 * 0.3)) / 2
    assert _value("dice", ROW, IDS) == pytest.approx(dice, rel=1e-5)
    assert _value("jaccard", ROW, IDS) == pytest.approx(jaccard, rel=1e-5)
    assert _value("tversky", ROW, IDS) == pytest.approx(found, rel=1e-5)
    one = IDS.clone()
    one[IDS == 1] = UNKNOWN  # a class that does not occur says nothing
    assert _value("dice", ROW, one) == pytest.approx(1 - 2 * 1.4 / 3.4, rel=1e-5)


def test_lovasz_by_hand() -> None:
    """Class 0, errors .4 (in), .3 (out), .2 (in): Jaccard losses 1/2, 2/3, 1. Class 1: .4 (out), .3 (in), .2 (out)."""
    first = 0.4 * 0.5 + 0.3 * (2 / 3 - 0.5) + 0.2 * (1 - 2 / 3)
    second = 0.4 * 0.5 + 0.3 * (1 - 0.5)
    assert _value("lovasz", ROW, IDS) == pytest.approx((first + second) / 2, rel=1e-5)


@given(st.integers(0, 10_000))
@settings(max_examples=25, deadline=None)
def test_lovasz_of_sure_answers_is_the_jaccard_loss(seed: int) -> None:
    random = torch.Generator().manual_seed(seed)
    truth = torch.randint(0, 4, (1, 6, 5), generator=random)
    answer = torch.where(torch.rand(1, 6, 5, generator=random) < 0.6, truth, 3 - truth)
    target = torch.where(torch.rand(1, 6, 5, generator=random) < 0.2, UNKNOWN, truth).byte()
    sure = torch.nn.functional.one_hot(answer, 4).movedim(3, 1) * 60.0
    known = target != UNKNOWN
    losses = []
    for c in target[known].unique().tolist():
        inside, said = (target == c) & known, (answer == c) & known
        losses.append(1 - float((inside & said).sum() / (inside | said).sum()))
    for objective in ("lovasz", "jaccard"):
        assert _value(objective, sure, target) == pytest.approx(sum(losses) / len(losses), abs=1e-5)


def test_rare_classes_by_hand() -> None:
    cross = [-math.log(0.8), -math.log(0.6), -math.log(0.7)]
    focal = (0.2**2 * cross[0] + 0.4**2 * cross[1] + 0.3**2 * cross[2]) / 3
    assert _value({"type": "focal", "gamma": 2}, ROW, IDS) == pytest.approx(focal, rel=1e-5)
    assert _value({"type": "focal", "gamma": 0}, ROW, IDS) == pytest.approx(sum(cross) / 3, rel=1e-5)
    shifted = [(0.8 * 0.9, 0.2 * 0.1), (0.6 * 0.9, 0.4 * 0.1), (0.7 * 0.1, 0.3 * 0.9)]
    adjusted = sum(-math.log(right / (right + wrong)) for right, wrong in shifted) / 3
    assert _value("logit-adjusted", ROW, IDS, (90, 10)) == pytest.approx(adjusted, rel=1e-5)
    weights = [(0.9**0.5, 0.9**-0.5), (0.1**0.5, 0.1**-0.5)]
    mean = sum(w for w, _ in weights)
    soft = torch.tensor([[0.5, 0.5], [1.0, 0.0]]).T[None, :, None]
    same = _logits([[0.9, 0.1], [0.9, 0.1]])
    divergence = 0.5 * math.log(0.5 / 0.9) + 0.5 * math.log(0.5 / 0.1), -math.log(0.9)
    heavy, light = (weights[0][1] + weights[1][1]) / 2 / mean, weights[0][1] / mean
    expected = (heavy * divergence[0] + light * divergence[1]) / 2
    assert _value({"type": "kl", "balance": 0.5}, same, soft, (0.9, 0.1)) == pytest.approx(expected, rel=1e-4)
    with pytest.raises(PluginError, match="how often each class occurs"):
        _value({"type": "kl", "balance": 0.5}, same, soft)


def test_a_boundary_weighs_its_pixels() -> None:
    ids = torch.tensor([[[0, 0, 0, 1, 1, UNKNOWN, 1]]], dtype=torch.uint8)
    row = _logits([[0.5, 0.5]] * 7)
    for width, near in ((1, 2), (2, 4)):
        objective = {"type": "boundary", "of": "cross-entropy", "width": width, "weight": 5}
        assert _value(objective, row, ids) == pytest.approx(math.log(2) * (6 + 4 * near) / 6, rel=1e-5)
    soft = torch.nn.functional.one_hot(torch.where(ids == UNKNOWN, 0, ids.long()), 2).movedim(3, 1).float()
    soft[:, :, :, 5] = 0
    objective = {"type": "boundary", "of": "kl", "width": 1, "weight": 5}
    assert _value(objective, row, soft) == pytest.approx(math.log(2) * (6 + 4 * 2) / 6, rel=1e-4)
    with pytest.raises(ValueError, match="no loss a pixel"):
        plugins.parse("objective", {"type": "boundary", "of": "dice"})


@pytest.mark.parametrize("objective", ["dice", "jaccard", "tversky", {"type": "dice", "over": "sample"}])
def test_an_answer_like_a_soft_teacher_is_best(objective: Any) -> None:
    """Also where the teacher is unsure, which p t instead of what both share would punish."""
    teacher = torch.tensor([[0.7, 0.3], [0.4, 0.6], [0.2, 0.8]]).T[None, :, None]
    best = _value(objective, teacher.log(), teacher)
    assert best == pytest.approx(0, abs=1e-6)
    for surer in (2.0, 0.5):
        assert _value(objective, teacher.log() * surer, teacher) > best + 0.01


def test_several_are_added_and_confidence_weighs_all() -> None:
    both = _value({"type": "sum", "of": ["cross-entropy", "dice"], "weights": [1, 2]}, ROW, IDS)
    assert both == pytest.approx(_value("cross-entropy", ROW, IDS) + 2 * _value("dice", ROW, IDS), rel=1e-6)
    weight = torch.tensor([[[1.0, 0.0, 1.0, 1.0]]])
    without = IDS.clone()
    without[0, 0, 1] = UNKNOWN
    for objective in ("dice", "lovasz", "focal", {"type": "sum", "of": ["cross-entropy", "lovasz"]}):
        assert _value(objective, ROW, IDS, weight=weight) == pytest.approx(_value(objective, ROW, without), rel=1e-5)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return scenes.shards(tmp_path_factory.mktemp("root"))


FIELDS: dict[str, Any] = {
    "targets": {"semantic": "semantic@truth"},
    "losses": {"semantic": ["cross-entropy", {"type": "dice"}, "lovasz"]},
    "confidence": {"semantic@truth": {"column": "depth@laser", "falls": 0.5}},
}


def _job(data: Any, **fields: Any) -> Any:
    return scenes.step(data[0], data[2], **fields).stage.job(scenes.step(data[0], data[2], **fields))


def test_two_workers_see_the_regions_of_the_whole_batch(data: Any, tmp_path: Path) -> None:
    job = _job(data, **FIELDS, updates=3, log_every=1)
    alone, shared = (replace(job, folder=f"train/{name}") for name in ("regions-alone", "regions-shared"))
    loop.fit(alone)
    assert ranks.train([(shared, 0)], 2, tmp_path) == ["done"]
    one, two = (j.storage.read_json(f"{j.folder}/trained.json")["final"] for j in (alone, shared))
    for name, value in one.items():
        assert two[name] == pytest.approx(value, rel=1e-4), name


def test_regions_of_the_batch_cannot_be_taken_in_parts(data: Any) -> None:
    with pytest.raises(RecipeError, match=r"micro: an objective over the whole batch.*over: sample"):
        _job(data, **FIELDS, micro=1)
    _job(data, **{**FIELDS, "losses": {"semantic": {"type": "dice", "over": "sample"}}}, micro=1)
