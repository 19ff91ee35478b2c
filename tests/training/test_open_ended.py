"""Trainings that find their rate, their end and the best of their inputs by themselves, to the byte wherever they were
interrupted."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hyperloom.stages.distill.export import to_onnx
from hyperloom.stages.network.ensemble import Masks
from hyperloom.stages.network.model import load_model
from hyperloom.stages.train import loop, range_test
from hyperloom.stages.train.job import Job
from hyperloom.stages.train.notice import Ask, Preempted
from tests.unit import scenes


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return scenes.shards(tmp_path_factory.mktemp("root"))


def training(data: Any, tmp_path: Path, **fields: Any) -> Job:
    run = scenes.step(data[0], data[2], **fields)
    return replace(run.stage.job(run), folder=f"train/{tmp_path.name}")


def _stops(after: int) -> Callable[[], Ask]:
    calls = iter(range(10**6))
    return lambda: Ask.STOP if next(calls) + 1 >= after else Ask.NOTHING


def test_a_training_that_found_its_rate_is_the_one_that_was_given_it(
    data: Any, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(range_test, "UPDATES", 12)
    lessons: dict[str, Any] = {"augment": ["colour"], "balancer": "uncertainty", "ema": 0.9}
    auto, given, cut = (tmp_path_factory.mktemp(n) for n in ("auto", "given", "cut"))
    job = training(data, auto, **lessons, optimizer={"lr": "auto"})
    loop.fit(job)
    weights, about = scenes.trained(data[0], job.folder)
    other = training(data, given, **lessons, optimizer={"lr": about["final"]["rate"]})
    loop.fit(other)
    assert scenes.trained(data[0], other.folder)[0] == weights
    broken = training(data, cut, **lessons, optimizer={"lr": "auto"})
    with pytest.raises(Preempted):
        loop.fit(broken, request=_stops(5))
    loop.fit(broken)
    assert scenes.trained(data[0], broken.folder)[0] == weights
    assert scenes.trained(data[0], broken.folder)[1]["final"]["rate"] == about["final"]["rate"]


def test_an_open_ended_training_ends_after_its_best_and_to_the_byte(
    data: Any, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(range_test, "UPDATES", 12)
    fields = {"updates": None, "optimizer": {"lr": 0.03}, "stop": {"patience": 3, "every": 2}, "ema": 0.5}
    fields |= {"targets": {"semantic": "semantic@truth"}, "log_every": 50, "checkpoint_every": 20}
    calm, rough = (training(data, tmp_path_factory.mktemp(n), **fields) for n in ("calm", "rough"))
    said = scenes.Said()
    loop.fit(calm, log=said)
    weights, about = scenes.trained(data[0], calm.folder)
    cooling = next(int(s.rpartition(" ")[2]) for s in said.texts if "the rate falls" in s)
    assert about["updates"] == cooling and about["kept"] <= cooling and any("val is made of" in s for s in said.texts)
    assert "val.semantic.miou" in about["final"]
    for after in (3, 2, 2):
        with pytest.raises(Preempted):
            loop.fit(rough, request=_stops(after))
    loop.fit(rough)
    assert scenes.trained(data[0], rough.folder) == (weights, about)


def test_a_training_begins_with_the_best_input_and_ends_as_an_onnx_file(
    data: Any, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """`semantic@noisy` is wrong at random, `soft@teacher` knows the truth: what is passed on begins with that."""
    fields: dict[str, Any] = {
        "in": ["rgb@camera", "semantic@noisy", "soft@teacher"],
        "targets": {"semantic": "semantic@truth", "depth": "depth@laser"},
        "model": {"trunk": {"type": "unet", "width": 2}, "residual": True},
    }
    calm, rough = (training(data, tmp_path_factory.mktemp(n), **fields) for n in ("calm", "rough"))
    said = scenes.Said()
    loop.fit(calm, log=said)
    assert "semantic begins with the answers of soft@teacher" in said.texts
    with pytest.raises(Preempted):
        loop.fit(rough, request=_stops(4))
    loop.fit(rough)
    assert scenes.trained(data[0], rough.folder) == scenes.trained(data[0], calm.folder)
    model = load_model(data[0], calm.folder)
    exported = to_onnx(model)  # compared with torch
    assert {i["name"] for i in exported.about["inputs"]} == set(fields["in"])
    members = Masks(type="masks", members=4, mask={"type": "modality", "keep": 0.5})
    told = members.predictor(data[0], [calm.folder], fields["in"])
    random = np.random.default_rng(0)
    batch = {k: v for k, v in scenes.scene(random, 0).items() if k in fields["in"]}
    mean = told({k: np.stack([v]) for k, v in batch.items()}).mean["semantic"]
    assert mean.shape[-1] == 3 and np.allclose(mean.sum(-1), 1, atol=1e-3)
