"""Hints: a student learns from its teacher's answers and maps to the very view that it sees itself."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from hyperloom.pipeline import plugins
from hyperloom.pipeline.commits.manifest import Manifest
from hyperloom.pipeline.errors import RecipeError
from hyperloom.stages.distill.stage import Distill
from hyperloom.stages.network.model import build_model, load_model
from hyperloom.stages.train import fitted, loop
from hyperloom.stages.train.clipping import Clipping
from hyperloom.stages.train.criterion import Criterion
from hyperloom.stages.train.guide import Guide
from hyperloom.stages.train.job import Job
from hyperloom.stages.train.notice import Preempted
from hyperloom.stages.train.preparation import Preparation
from hyperloom.stages.world import World
from tests.training import ranks
from tests.unit import inline, scenes

STUDENT: dict[str, Any] = {
    "in": "rgb@camera",
    "targets": {"semantic": "soft@teacher", "depth": "depth@laser"},
    "model": {"trunk": {"type": "inverted", "width": 2}},
    "mask": "none",
    "teacher": "teacher",
    "stage": "distill",
}
HINTS: dict[str, Any] = {
    "answers": {"type": "answers", "temperature": 2},
    "attention": {"type": "attention", "at": [2, 4]},
    "inside": {"type": "features", "at": [4, 8]},
}


@pytest.fixture(scope="module")
def teacher(data: Any) -> Manifest:
    """A network that reads noisy labels beside the picture."""
    run = scenes.step(data[0], data[2], updates=12, optimizer={"lr": 0.02})
    loop.fit(job := run.stage.job(run))
    done = fitted.load(job.storage, job.folder)
    assert done is not None
    body = {"columns_in": ["rgb@camera", "semantic@noisy"], "tasks": ["semantic", "depth"]}
    return Manifest("train", run.fingerprint, {}, (), done.files, body)


def made(data: Any, taught_by: Manifest, name: str, **fields: Any) -> Job:
    config = Distill.model_validate({**scenes.TRAIN, **STUDENT, **fields})
    run = inline.step(config, data[0], scenes.KNOWN, "student", shards=data[2], teacher=taught_by)
    return replace(run.stage.job(run), folder=f"distill/{name}")  # type: ignore[attr-defined]


def _values(job: Job, alike: bool = False) -> dict[str, float]:
    torch.manual_seed(0)
    model = build_model(job.architecture, job.parameters)
    if alike:
        assert job.guide is not None
        model.load_state_dict(load_model(job.storage, job.guide.origin.weights.rpartition("/")[0]).state_dict())
    criterion = Criterion(job, model)
    batch = next(iter(job.batches.open(job, job.columns, World())))
    ready = Preparation(job, criterion, World(), Clipping(World()))(0, batch)
    with torch.no_grad():
        losses = criterion(ready.columns, ready.visible, World()).values
    return dict(zip(criterion.names, losses.tolist(), strict=True))


def test_attention_and_features_by_hand() -> None:
    student, teacher = torch.randn(2, 2, 3, 4), torch.randn(2, 3, 3, 4)
    maps = []
    for one in (student, teacher):
        q = (one.numpy() ** 2).sum(1).reshape(2, -1)
        maps.append(q / np.linalg.norm(q, axis=1, keepdims=True))
    expected = ((maps[0] - maps[1]) ** 2).sum(1) / 2
    attention: Any = plugins.parse("extra", "attention")
    assert attention.apart(torch.nn.Identity(), 2, student, teacher).tolist() == pytest.approx(expected.tolist())
    features: Any = plugins.parse("extra", {"type": "features", "at": 2})
    project = torch.nn.Conv2d(2, 3, 1)
    filters, bias = project.weight.detach().numpy()[:, :, 0, 0], project.bias.detach().numpy()  # type: ignore[union-attr]
    projected = np.einsum("kc,nchw->nkhw", filters, student.numpy()) + bias[:, None, None]
    t = teacher.numpy()
    wanted = (t - t.mean(1, keepdims=True)) / np.sqrt(t.var(1, keepdims=True) + 1e-6)
    told = features.apart(torch.nn.ModuleDict({"2": project}), 2, student, teacher)
    assert told.tolist() == pytest.approx(((projected - wanted) ** 2).mean((1, 2, 3)).tolist(), rel=1e-4)


@pytest.mark.parametrize("augment", [[], ["flip", "crop", "colour"], ["cutmix"]])
def test_a_student_like_its_teacher_has_nothing_to_learn_of_any_view(
    data: Any, teacher: Manifest, augment: list[str]
) -> None:
    """The same network with the same inputs agrees with its teacher whatever is done to the picture."""
    alike = {"in": ["rgb@camera", "semantic@noisy"], "model": {"trunk": {"type": "unet", "width": 2}}}
    hints = {k: HINTS[k] for k in ("answers", "attention")}
    same = _values(made(data, teacher, "same", **alike, extras=hints, augment=augment), alike=True)
    fresh = _values(made(data, teacher, "fresh", **alike, extras=hints, augment=augment))
    for name in hints:
        assert same[name] == pytest.approx(0, abs=1e-5) and fresh[name] > 0.01, name


def test_all_hints_teach_resume_and_stay_out_of_the_student(data: Any, teacher: Manifest) -> None:
    fields: dict[str, Any] = {"extras": HINTS, "augment": ["flip", "cutmix"], "ema": 0.5, "optimizer": {"lr": 0.02}}
    alone = made(data, teacher, "alone", **fields)
    curve: list[dict[str, float]] = []
    loop.fit(alone, log=lambda at, values: curve.append(values))
    losses = [{k: v for k, v in c.items() if k.startswith("loss.")} for c in curve if "loss" in c]
    assert {f"loss.{name}" for name in HINTS} < set(losses[0])
    assert all(np.isfinite(v) and v > 0 for entry in losses for v in entry.values())
    assert sum(e["loss.inside"] for e in losses[-3:]) < sum(e["loss.inside"] for e in losses[:3])
    rough = made(data, teacher, "rough", **fields)
    with pytest.raises(Preempted):
        loop.fit(rough, request=ranks.At(4))
    loop.fit(rough)
    weights = [scenes.weights(job.storage, job.folder) for job in (alone, rough)]
    assert weights[0] == weights[1]
    assert load_model(alone.storage, alone.folder).architecture.columns == ("rgb@camera",)
    parts = made(data, teacher, "parts", extras=HINTS)
    small = replace(parts, folder="distill/small", rhythm=replace(parts.rhythm, micro=2))
    loop.fit(parts), loop.fit(small)
    ends = [job.storage.read_json(f"{job.folder}/trained.json")["final"]["loss"] for job in (parts, small)]
    assert ends[0] == pytest.approx(ends[1], rel=1e-3)


def test_two_workers_learn_of_teacher_and_mean_teacher_as_one(data: Any, teacher: Manifest, tmp_path: Path) -> None:
    learner = {"type": "mean-teacher", "decay": 0.9, "weight": 3.0, "rise": 0.0}
    fields: dict[str, Any] = {
        "extras": HINTS,
        "learner": learner,
        "augment": ["flip", {"type": "cutmix"}],
        "updates": 3,
        "ema": 0.0,
    }
    alone, pair = made(data, teacher, "one", **fields), made(data, teacher, "two", **fields)
    loop.fit(alone)
    assert ranks.train([(pair, 0)], 2, tmp_path) == ["done"]
    ends = [job.storage.read_json(f"{job.folder}/trained.json")["final"] for job in (alone, pair)]
    assert ends[0] == pytest.approx(ends[1], rel=1e-3, abs=1e-4)


def test_what_cannot_be_hinted_is_refused(data: Any, teacher: Manifest) -> None:
    def refused(**fields: Any) -> str:
        with pytest.raises((RecipeError, ValueError)) as caught:
            made(data, teacher, "x", **fields)
        return str(caught.value)

    attention = {"a": {"type": "attention", "at": [3]}}
    assert "3 is no stride of the student's trunk inverted: its maps are at 1, 2, 4, 8, 16" in refused(extras=attention)
    deep = {"a": {"type": "attention", "at": 16}}
    assert "16 is no stride of the teacher's trunk unet: its maps are at 1, 2, 4, 8" in refused(extras=deep)
    assert "attention asks a teacher in each update" in refused(teacher=None, extras={"a": "attention"})
    assert "sematic is no task" in refused(extras={"a": {"type": "answers", "of": "sematic"}})
    assert "mixup has no sum of two values of semantic@noisy" in refused(extras=HINTS, augment=["mixup"])
    run = scenes.step(data[0], data[2], extras={"a": "attention"})
    with pytest.raises(RecipeError, match="Next: stage: distill with teacher"):
        run.stage.job(run)


def test_a_phase_may_do_without_its_teacher(data: Any, teacher: Manifest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Hints that a phase leaves out cost nothing: the teacher is not asked there."""
    calls: list[int] = []
    ask = Guide.__call__
    monkeypatch.setattr(Guide, "__call__", lambda self, *given: calls.append(1) or ask(self, *given))
    phases = [{"name": "hinted", "share": 0.5}, {"name": "alone", "share": 0.5, "extras": []}]
    job = made(data, teacher, "phases", extras={"attention": HINTS["attention"]}, phases=phases)
    curve: list[dict[str, float]] = []
    loop.fit(job, log=lambda at, values: curve.append(values))
    hinted = ["loss.attention" in c for c in curve if "loss" in c]
    assert hinted == [True] * 4 + [False] * 4 and len(calls) == 4


def test_a_teacher_whose_inputs_are_not_at_hand_is_refused(data: Any, teacher: Manifest) -> None:
    other = replace(teacher, body={**teacher.body, "columns_in": ["rgb@camera", "hsv@rgb"]})
    with pytest.raises(RecipeError, match=r"teacher is asked in each update and reads hsv@rgb: 'shards' has no column"):
        made(data, other, "x", extras=HINTS)
