"""How a network is taught is open: optimizers, schedules, methods of an update and batches from outside the packages,
each resumed to the byte."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from hyperloom.pipeline.fingerprint import payload
from hyperloom.stages.train import checkpoint, loop
from hyperloom.stages.train.job import Job
from hyperloom.stages.train.notice import Preempted
from hyperloom.stages.train.stage import Train
from tests.training import ranks
from tests.unit import scenes

HERE = "tests.training.plugins"


def files(job: Job) -> tuple[bytes, Any]:
    return scenes.trained(job.storage, job.folder)


def curve(job: Job) -> list[dict[str, float]]:
    state = checkpoint.load(job.storage, job.folder)
    assert state is not None
    return [e["values"] for e in state["history"]]


OUTSIDE: dict[str, dict[str, Any]] = {
    "sharpness": {"learner": {"type": f"{HERE}:Sharpness", "radius": 0.5}},
    "teacher": {"learner": {"type": f"{HERE}:MeanTeacher"}, "micro": 2, "balancer": "uncertainty"},
    "lion": {"optimizer": {"type": f"{HERE}:Lion", "lr": 1e-4}},
    "sgd": {"optimizer": {"type": "sgd", "lr": 0.01}, "schedule": "linear"},
    "doubling": {"schedule": {"type": f"{HERE}:Doubling"}, "optimizer": "sgd"},
    "invented": {"batches": {"type": f"{HERE}:Invented"}},
}


@pytest.mark.parametrize("name", OUTSIDE)
def test_a_method_from_outside_resumes_to_the_byte(data: Any, name: str) -> None:
    plain = scenes.job(data, "plain")
    calm, rough = (scenes.job(data, f"{n}-{name}", **OUTSIDE[name]) for n in ("calm", "rough"))
    loop.fit(plain)
    loop.fit(calm)
    assert files(calm)[0] != files(plain)[0], "it must change something"
    for updates in (2, 3):
        with pytest.raises(Preempted):
            loop.fit(rough, request=ranks.At(updates))
    loop.fit(rough)
    assert files(rough) == files(calm)


def test_a_loss_of_the_method_is_in_the_curve_and_weighed_by_the_balancer(data: Any) -> None:
    weights = {"type": "static", "weights": {"consistency": 0.0}}
    job, other = (scenes.job(data, n, learner=f"{HERE}:MeanTeacher") for n in ("with", "other"))
    silent = scenes.job(data, "silent", learner=f"{HERE}:MeanTeacher", balancer=weights)
    plain = scenes.job(data, "plain-again")
    for one in (job, other, silent, plain):
        loop.fit(one)
    assert all(v["loss.consistency"] > 0 for v in curve(job) if "loss" in v)
    assert files(job) == files(other) and files(job)[0] != files(plain)[0]
    assert files(silent)[0] == files(plain)[0]
    with pytest.raises(ValueError, match="consistency"):
        Train.model_validate({**scenes.TRAIN, "balancer": weights})


@pytest.mark.timeout(500)
def test_two_workers_take_the_same_way_with_methods_of_their_own(data: Any, tmp_path: Path) -> None:
    fields = {"teacher": OUTSIDE["teacher"], "invented": OUTSIDE["invented"]}
    alone = {n: scenes.job(data, f"one-{n}", **f) for n, f in fields.items()}
    pair = {n: scenes.job(data, f"two-{n}", **f) for n, f in fields.items()}
    for job in alone.values():
        loop.fit(job)
    cut = replace(pair["invented"], folder="train/two-cut")
    assert ranks.train([*((j, 0) for j in pair.values()), (cut, 4), (cut, 0)], 2, tmp_path)[:2] == ["done", "done"]
    assert files(cut) == files(pair["invented"])
    for name, job in alone.items():
        for mine, theirs in zip(curve(job), curve(pair[name]), strict=True):
            assert mine == pytest.approx(theirs, rel=2e-3, abs=2e-3)


def test_an_optimizer_without_a_type_is_adamw_and_keeps_its_identity() -> None:
    def identity(**fields: Any) -> Any:
        return payload(Train.model_validate({**scenes.TRAIN, **fields}), str)

    short = {"lr": 0.001, "warmup": 0.1, "clip": None}
    assert identity(optimizer=short)["optimizer"] == short
    assert identity(optimizer={"type": "adamw", **short}) == identity(optimizer=short)
    default = {"optimizer": "adamw", "schedule": "cosine", "learner": "gradient", "batches": "epochs"}
    assert identity(**default) == identity()
    assert identity(optimizer={"type": "sgd"})["optimizer"] == {"type": "sgd", "revision": 1}
    with pytest.raises(ValueError, match="momentum"):
        identity(optimizer={"momentum": 0.9})
    with pytest.raises(ValueError, match="known: adamw, sgd"):
        identity(optimizer="adam")
    with pytest.raises(ValueError, match="rising"):
        identity(schedule={"type": "step", "at": [0.7, 0.3]})


def test_schedules_follow_the_warm_up_and_end_at_the_floor() -> None:
    def rates(schedule: Any) -> list[float]:
        stage = Train.model_validate({**scenes.TRAIN, "schedule": schedule, "optimizer": {"warmup": 0.1, "floor": 0.2}})
        return [stage.schedule.rate(u, 100, stage.optimizer) for u in range(101)]

    for schedule in ("cosine", "linear", "constant", "step", {"type": "linear", "hold": 0.5}):
        assert rates(schedule)[:11] == pytest.approx([(u + 1) / 11 for u in range(10)] + [1.0])
    assert rates("linear")[55] == pytest.approx(0.6) and rates("linear")[100] == pytest.approx(0.2)
    assert set(rates("constant")[10:]) == {1.0}
    assert (rates("step")[54], rates("step")[56], rates("step")[100]) == (1.0, 0.2, 0.2)
    assert rates({"type": "linear", "hold": 0.5})[55] == 1.0
