"""Trainings without any target, by objectives of their own; and targets that stay in their own units."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from hyperloom.pipeline.commits.manifest import Manifest
from hyperloom.stages.distill.stage import Distill
from hyperloom.stages.network.model import load_model
from hyperloom.stages.network.visible import present
from hyperloom.stages.train import checkpoint, fitted, loop
from hyperloom.stages.train.criterion import Criterion
from hyperloom.stages.train.job import Job
from hyperloom.stages.train.notice import Preempted
from hyperloom.stages.train.stage import Train
from hyperloom.stages.world import World
from tests.training import ranks
from tests.unit import inline, scenes

ALONE: dict[str, Any] = {
    "targets": {},
    "extras": {
        "turns": {"type": "rotation", "of": "rgb@camera"},
        "views": {"type": "contrastive", "between": "rgb@camera", "project": 8},
    },
    "balancer": "uncertainty",
    "ema": 0.5,
    "validate_every": 4,
}


def made(data: Any, name: str, *others: Manifest, **fields: Any) -> Job:
    config = Train.model_validate({**scenes.TRAIN, **fields})
    inputs = {"shards": data[2], **({"looker": others[0]} if others else {})}
    run = inline.step(config, data[0], scenes.KNOWN, "student", **inputs)
    return replace(run.stage.job(run), folder=f"train/{name}")


def files(job: Job) -> tuple[bytes, Any]:
    return scenes.trained(job.storage, job.folder)


def test_objectives_of_their_own_train_a_network_that_others_start_from(data: Any) -> None:
    calm, rough = made(data, "calm", **ALONE), made(data, "rough", **ALONE)
    curve: list[dict[str, float]] = []
    loop.fit(calm, log=lambda at, values: curve.append(values))
    assert {k for v in curve for k in v if k.startswith(("loss.", "val."))} == {"loss.turns", "loss.views"}
    for update in (2, 3):
        with pytest.raises(Preempted):
            loop.fit(rough, request=ranks.At(update))
    loop.fit(rough)
    assert files(rough) == files(calm)
    model = load_model(data[0], calm.folder)
    assert model.architecture.tasks == ()
    batch = next(iter(loop.Training(calm, World()).batches))
    with torch.no_grad():
        features = model(batch, present(model.architecture, batch)).features
    assert features.pooled.isfinite().all() and len(features.pooled) == 4
    done = fitted.load(data[0], calm.folder)
    assert done is not None
    looker = Manifest("train", "e" * 64, {}, (), done.files, {"columns_in": list(model.architecture.columns)})
    later = made(data, "later", looker, model={"trunk": {"type": "unet", "width": 2}, "start": "looker"})
    state = loop.Training(later, World()).model.trunk.state_dict()
    assert all(torch.equal(state[name], value) for name, value in model.trunk.state_dict().items())


@pytest.mark.timeout(500)
def test_two_workers_train_without_targets_as_one_does(data: Any, tmp_path: Path) -> None:
    alone, pair = made(data, "alone", **ALONE), made(data, "pair", **ALONE)
    loop.fit(alone)
    assert ranks.train([(pair, 0)], 2, tmp_path) == ["done"]
    one, two = (checkpoint.load(j.storage, j.folder) for j in (alone, pair))
    assert one is not None and two is not None
    for mine, theirs in zip(two["history"], one["history"], strict=True):
        assert mine["values"] == pytest.approx(theirs["values"], rel=5e-3, abs=5e-3)
    for name, value in two["model"].items():
        assert torch.allclose(value, one["model"][name], atol=5e-3), name


def test_something_must_teach() -> None:
    with pytest.raises(ValueError, match="Give targets, or extras"):
        Train.model_validate({**scenes.TRAIN, "targets": {}})
    with pytest.raises(ValueError, match="learns from its teacher's columns"):
        Distill.model_validate({**scenes.TRAIN, **ALONE, "stage": "distill", "teacher": "teacher"})


def test_a_target_may_stay_in_its_units(data: Any) -> None:
    """An L1 loss is then in metres, the head says metres, and what is stored says so too."""
    fields: dict[str, Any] = {"targets": {"depth": "depth@laser"}, "losses": {"depth": "l1"}, "mask": "none"}
    job, scaled = made(data, "raw", **fields, raw="depth", updates=4), made(data, "scaled", **fields)
    training = loop.Training(job, World())
    batch = next(iter(training.batches))
    torch.manual_seed(0)
    criterion = Criterion(job, training.model.eval())
    visible = torch.ones_like(present(job.architecture, batch))
    with torch.no_grad():
        told = training.model(batch, present(job.architecture, batch)).predictions["depth"]
        loss = float(criterion(batch, visible, World()).values[0])
    there = batch["depth@laser?"]
    metres = batch["depth@laser"][there].float().permute(0, 3, 1, 2)
    assert loss == pytest.approx(float((told[there] - metres).abs().mean()), rel=1e-3) and loss > 5
    assert job.architecture.tasks[0].scale.mean == () != scaled.architecture.tasks[0].scale.mean
    loop.fit(job)
    model = load_model(data[0], job.folder)
    with torch.no_grad():
        raw = model(batch, visible).predictions
        assert torch.equal(model.predict(batch, visible)["depth"], raw["depth"].permute(0, 2, 3, 1))


def test_only_what_has_a_scale_can_stay_raw(data: Any) -> None:
    with pytest.raises(ValueError, match="raw: flow is no task"):
        Train.model_validate({**scenes.TRAIN, "raw": "flow"})
    with pytest.raises(Exception, match="'semantic' has no scale to leave out"):
        made(data, "classes", raw=["semantic"])
