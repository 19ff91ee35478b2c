"""Objectives in training: confidence, reconstruction of what was hidden, contrast, features, heads' own losses."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from hyperloom.pipeline import plugins
from hyperloom.pipeline.errors import RecipeError
from hyperloom.stages.network.model import build_model
from hyperloom.stages.network.pooled_heads import level_probabilities
from hyperloom.stages.network.visible import Visible
from hyperloom.stages.objective.centres import painted
from hyperloom.stages.train import loop
from hyperloom.stages.train.criterion import Criterion
from hyperloom.stages.train.job import Confidence
from hyperloom.stages.train.stage import Train
from hyperloom.stages.world import World
from tests.training import ranks
from tests.unit import scenes


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return scenes.shards(tmp_path_factory.mktemp("root"))


def _job(data: Any, **fields: Any) -> Any:
    return scenes.step(data[0], data[2], **fields).stage.job(scenes.step(data[0], data[2], **fields))


def _batch(job: Any) -> dict[str, torch.Tensor]:
    return next(iter(loop.Training(job, World(), lambda at, values: None).batches))


def _loss(job: Any, batch: dict[str, torch.Tensor], visible: Any = None) -> list[float]:
    torch.manual_seed(0)
    criterion = Criterion(job, build_model(job.architecture, job.parameters))
    every = torch.ones(len(batch["rgb@camera"]), len(job.architecture.inputs), dtype=torch.bool)
    return criterion(batch, every if visible is None else visible, World()).values.tolist()


def test_confidence_weighs_each_pixel(data: Any) -> None:
    one = {"targets": {"semantic": "semantic@truth"}}
    plain = _job(data, **one)
    scored = _job(data, **one, confidence={"semantic@truth": "depth@laser"})
    spread = _job(data, **one, confidence={"semantic@truth": {"column": "depth@laser", "falls": 0.5}})
    batch = _batch(scored)
    batch["depth@laser?"][:] = True
    even = {**batch, "depth@laser": torch.full_like(batch["depth@laser"], 0.3)}
    assert _loss(scored, even) == pytest.approx(_loss(plain, batch), rel=1e-5)  # a weight for all alike changes nothing
    left = torch.zeros_like(batch["depth@laser"])
    left[:, :, :12] = 1
    unknown = batch["semantic@truth"].clone()
    unknown[:, :, 12:] = 255
    half = _loss(plain, {**batch, "semantic@truth": unknown})
    assert _loss(scored, {**batch, "depth@laser": left}) == pytest.approx(half, rel=1e-5)
    assert _loss(spread, {**batch, "depth@laser": (1 - left) * 1e3}) == pytest.approx(half, rel=1e-5)
    gone = {**batch, "depth@laser?": torch.zeros_like(batch["depth@laser?"])}
    assert _loss(scored, gone) == [0.0]


def test_only_what_was_hidden_may_count(data: Any) -> None:
    fields = {"targets": {"semantic": "semantic@noisy"}, "mask": "patch"}
    every, some = _job(data, **fields), _job(data, **fields, count="hidden")
    batch = _batch(every)
    batch["semantic@noisy?"][:] = True
    squares = torch.zeros(4, 2, 3, dtype=torch.bool)
    squares[:, :, 0] = True  # the left third shows
    seen = Visible(torch.ones(4, 2, dtype=torch.bool), (torch.ones(4, 2, 3, dtype=torch.bool), squares))
    unknown = batch["semantic@noisy"].clone()
    unknown[:, :, :8] = 255
    target = {**batch, "semantic@noisy": unknown}
    whole = _loss(every, batch, seen)
    assert _loss(some, batch, seen) != pytest.approx(whole, rel=1e-3)
    # As if the visible third had no labels; it stays an input, so only the loss may change.
    torch.manual_seed(0)
    criterion = Criterion(every, build_model(every.architecture, None))
    raw = criterion.model(batch, seen).predictions
    sums, counts = criterion._sums(target, raw, torch.ones(4, dtype=torch.bool), seen, World())
    assert _loss(some, batch, seen)[0] == pytest.approx(float(sums[0].detach()) / float(counts[0]), rel=1e-5)
    assert _loss(some, batch) == [0.0]  # nothing was hidden


CONTRAST: dict[str, Any] = {
    "extras": {"pairs": {"type": "contrastive", "between": ["rgb@camera", "semantic@noisy"]}},
    "balancer": "pcgrad", "model": {"trunk": {"type": "vit", "width": 4, "patch": 8, "depth": 1}},
}  # fmt: skip


def test_looks_at_one_sample_learn_to_agree(data: Any) -> None:
    fields = {**CONTRAST, "balancer": "static", "batch": 12, "mask": "none", "optimizer": {"lr": 0.01, "clip": 10.0}}
    job, curve = _job(data, **fields, updates=60), []
    loop.fit(job, log=lambda at, values: curve.append(values))
    told = [v["loss.pairs"] for v in curve if "loss.pairs" in v]
    assert sum(told[-8:]) < 0.8 * sum(told[:8])


def test_two_workers_contrast_all_samples_as_one_does(data: Any, tmp_path: Path) -> None:
    """Tasks, the contrast over all workers' samples and the gradients' surgery: the same curve, cut in any way."""
    job = _job(data, **CONTRAST, updates=3, log_every=1)
    alone, shared = (replace(job, folder=f"train/{name}") for name in ("alone", "shared"))
    loop.fit(alone)
    assert ranks.train([(shared, 0)], 2, tmp_path) == ["done"]
    one, two = (j.storage.read_json(f"{j.folder}/trained.json")["final"] for j in (alone, shared))
    assert "loss.pairs" in one
    for name, value in one.items():
        assert two[name] == pytest.approx(value, rel=1e-3), name


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"confidence": {"semantic@nobody": "depth@laser"}}, "no target"),
        ({"extras": {"semantic": {"type": "contrastive", "between": "rgb@camera"}}}, "name of a task"),
        ({"extras": {"x": {"type": "contrastive", "between": ["rgb@thermal"]}}}, "contrast between rgb@thermal"),
        ({"extras": {"x": {"type": "rotation", "of": "rgb@thermal"}}}, "rotation of rgb@thermal"),
        ({"extras": {"x": {"type": "jigsaw", "of": "rgb@camera", "grid": 2, "permutations": 25}}}, "have 24 orders"),
    ],
)
def test_what_makes_no_sense_is_refused(fields: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Train.model_validate({**scenes.TRAIN, **fields})


def test_a_confidence_of_several_channels_is_refused(data: Any) -> None:
    with pytest.raises(RecipeError, match="several channels"):
        _job(data, targets={"semantic": "semantic@truth"}, confidence={"semantic@truth": "soft@teacher"})


def test_losses_of_whole_samples() -> None:
    build = {
        name: plugins.parse("objective", name).build(None) for name in ("bce", "cumulative", "keypoints", "features")
    }
    loss, labelled = build["bce"](torch.zeros(1, 3), torch.tensor([[0, 1, 255]], dtype=torch.uint8))
    assert labelled.tolist() == [[True, True, False]] and loss[0, 0] == pytest.approx(math.log(2))
    above = torch.tensor([[3.0, 0.0, -3.0]])
    assert level_probabilities(above).sum() == pytest.approx(1)
    told = [float(build["cumulative"](above, torch.tensor([level]))[0]) for level in range(4)]
    assert told[1] == pytest.approx(told[2]) and told[1] < told[0] == pytest.approx(told[3])
    assert not build["cumulative"](above, torch.tensor([-1]))[1].any()
    points = torch.tensor([[[0.5, 0.0], [0.5, 0.0], [1.0, 0.0]]])  # one visible in the middle, one not
    right, wrong = points.clone(), points.clone()
    right[:, 2] = torch.tensor([9.0, -9.0])
    wrong[:, :2] = 0.9
    wrong[:, 2] = torch.tensor([9.0, -9.0])
    assert float(build["keypoints"](right, points)[0].sum()) < 0.01
    off = build["keypoints"](wrong, points)[0][0]
    assert off[0] > 1 and off[1] < 0.01  # where an unseen point is does not matter
    seen = torch.randn(2, 5, generator=torch.Generator().manual_seed(0))
    assert float(build["features"](seen * 3 + 2, seen)[0].max()) < 1e-4
    assert float(build["features"](-seen, seen)[0].min()) > 1


def test_boxes_are_taught_to_the_cells_of_their_centres() -> None:
    nothing = [math.nan] * 6
    boxes = torch.tensor([[[0.0, 0.0, 0.5, 0.5, 1.0, 1.0], nothing]])
    truth, sides, centre = painted(boxes, 2, 4, 4)
    assert centre.nonzero().tolist() == [[0, 1, 1]] and truth[0, 1, 1, 1] == 1 and truth.sum() == 1
    assert sides[0, :, 1, 1].tolist() == pytest.approx([0.375, 0.375, 0.125, 0.125])


def test_nothing_is_taught_in_a_crowd() -> None:
    """Neither an object nor that there is none, but for objects that are counted one by one within it."""
    crowd, within = [0.5, 0.0, 1.0, 1.0, 0.0, 0.0], [0.7, 0.7, 0.8, 0.8, 1.0, 1.0]
    loss, taught = plugins.parse("objective", "boxes").build(None)(
        torch.zeros(1, 6, 4, 4), torch.tensor([[crowd, within]])
    )
    assert taught[0].int().tolist() == [[1, 1, 0, 0]] * 3 + [[1, 1, 0, 1]]
    truth, _, centre = painted(torch.tensor([[crowd, within]]), 2, 4, 4)
    assert truth.sum() == centre.sum() == 1 and loss.shape == taught.shape


def test_a_spread_that_is_taken_for_a_score_is_said(data: Any) -> None:
    known = ["spread@teacher", "Depth_std@a", "score@consensus", "certainty@teacher"]
    assert [Confidence(column=c).doubtful for c in known] == [True, True, False, False]
    assert not Confidence(column="spread@teacher", falls=0.1).doubtful
