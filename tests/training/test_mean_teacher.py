"""The mean teacher of a student: what it sees, how it follows, resumed to the byte."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from hyperloom.pipeline.errors import RecipeError
from hyperloom.stages.base import VALID
from hyperloom.stages.train import loop
from hyperloom.stages.train.job import Job
from hyperloom.stages.train.learners import PLAIN
from hyperloom.stages.train.notice import Preempted
from hyperloom.stages.world import World
from tests.training import ranks
from tests.unit import scenes


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return scenes.shards(tmp_path_factory.mktemp("root"))


def made(data: Any, name: str, **fields: Any) -> Job:
    fields = {"learner": {"type": "mean-teacher", "decay": 0.9, "weight": 3.0, "rise": 0.5}, **fields}
    run = scenes.step(data[0], data[2], **{"augment": ["flip", "colour", "cutmix"], **fields})
    return replace(run.stage.job(run), folder=f"train/{name}")


def test_the_teacher_sees_the_same_view_in_its_own_light(data: Any) -> None:
    training = loop.Training(made(data, "seen"), World())
    batch = training.prepare(0, next(iter(training.batches)))
    plain = training.prepare(0, next(iter(training.batches)))  # same update, same chance, other samples
    assert not torch.equal(plain.columns["rgb@camera"], batch.columns["rgb@camera"])
    lit, own = batch.columns["rgb@camera"].float(), batch.columns["rgb@camera" + PLAIN].float()
    assert 3 < float((lit - own).abs().mean()) < 60
    same = torch.stack([torch.corrcoef(torch.stack([a.flatten(), b.flatten()]))[0, 1] for a, b in zip(lit, own)])
    assert bool((same > 0.7).all()), "mirrored and pasted alike"
    assert torch.equal(batch.columns["semantic@noisy"], batch.columns["semantic@noisy" + PLAIN])
    assert torch.equal(batch.columns["rgb@camera" + VALID], batch.columns["rgb@camera" + PLAIN + VALID])


def test_its_loss_and_its_weights_by_hand(data: Any) -> None:
    """With nothing hidden and no augmentation both see the same; the teacher is the mean of the weights so far."""
    job = made(data, "hand", augment=[], mask="none", optimizer={"lr": 0.01}, updates=4, balancer="static")
    training = loop.Training(job, World())
    teacher: Any = training.learner
    average = {k: v.clone() for k, v in training.model.state_dict().items()}
    for number, batch in zip(range(3), training.batches, strict=False):
        ready = training.prepare(number, batch)
        with torch.no_grad():
            one, other = (m(ready.columns, ready.visible.inputs).predictions for m in (training.model, teacher.teacher))
        classes = (one["semantic"].softmax(1) - other["semantic"].softmax(1)).square().mean()
        numbers = (one["depth"] - other["depth"]).square().mean()
        risen = 2.718281828 ** (-5 * (1 - min(1.0, number / 2)) ** 2)
        update, _ = training.step(batch)
        training.update += 1
        told = float(update.losses.values[-1])
        assert told == pytest.approx(float((classes + numbers) / 2) * 3 * risen, rel=1e-3, abs=1e-7)
        decay = min(0.9, 1 - 1 / (number + 2))
        for name, value in training.model.state_dict().items():
            average[name] = average[name] * decay + value * (1 - decay)
    for name, value in teacher.teacher.state_dict().items():
        assert torch.allclose(value, average[name], atol=1e-5), name
    assert told > 0


def test_the_teacher_sees_nothing_that_its_student_never_sees(data: Any) -> None:
    """Before the first update both are one network, so they differ by nothing, and by filters that nobody trained where
    the teacher saw more."""
    mask = {"type": "modality", "keep": 1, "hidden": "semantic"}
    job = made(data, "never", augment=[], mask=mask, optimizer={"lr": 0.01}, updates=4, balancer="static")
    training = loop.Training(job, World())
    update, _ = training.step(next(iter(training.batches)))
    assert abs(float(update.losses.values[-1])) < 1e-9


def test_it_resumes_to_the_byte_and_in_parts(data: Any) -> None:
    calm, rough = made(data, "calm"), made(data, "rough")
    loop.fit(calm)
    for updates in (2, 5):
        with pytest.raises(Preempted):
            loop.fit(rough, request=ranks.At(updates))
    loop.fit(rough)
    assert scenes.trained(rough.storage, rough.folder)[0] == scenes.trained(calm.storage, calm.folder)[0]
    whole, parts = made(data, "whole", updates=3), made(data, "parts", updates=3, micro=2)
    loop.fit(whole)
    loop.fit(parts)
    ends = [scenes.trained(j.storage, j.folder)[1]["final"]["loss"] for j in (whole, parts)]
    assert ends[1] == pytest.approx(ends[0], rel=1e-3)


def test_mistakes_are_said(data: Any) -> None:
    with pytest.raises(RecipeError, match="mean-teacher: of: sematic is no task; they are semantic, depth"):
        made(data, "x", learner={"type": "mean-teacher", "of": "sematic"})
    with pytest.raises(ValueError, match="'mean-teacher' holds a whole network; use ddp"):
        made(data, "x", parallel="fsdp")
