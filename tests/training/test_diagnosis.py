"""What a training says of itself: does it fit what it is taught, and does that carry over?"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import nn

from hyperloom.stages.train import loop
from hyperloom.stages.train.dead import Filters
from hyperloom.stages.train.diagnosis import DIES, TRIAL, sentences
from hyperloom.stages.train.fitted import Fitted
from hyperloom.stages.train.job import Member
from hyperloom.stages.train.outcome import outcome
from hyperloom.stages.world import World
from tests.unit import scenes


def _trained(data: Any, **fields: Any) -> tuple[Any, dict[str, float], list[str]]:
    job = (step := scenes.step(data[0], data[2], **fields)).stage.job(step)
    loop.fit(job)
    final = job.storage.read_json(f"{job.folder}/trained.json")["final"]
    return job, final, sentences(final, job.architecture.tasks, job.modalities, TRIAL, job.balancer)


def test_one_that_was_hardly_taught_does_not_fit(data: Any) -> None:
    _, final, words = _trained(data, updates=1, mask="none")
    assert {"fit.semantic.miou", "fit.depth.mae", "val.semantic.miou", "fit.semantic.iou.road"} <= set(final)
    assert f"semantic does not fit its own samples (miou {final['fit.semantic.miou']:.3g}" in " ".join(words)
    assert any(w.startswith("depth does not fit") and "train longer, wider, or fewer tasks" in w for w in words)
    never = [c for c in scenes.CLASSES if final[f"fit.semantic.iou.{c}"] == 0]
    assert never and f"never predicts {', '.join(never)} correctly" in " ".join(words)


def test_a_soft_teacher_is_compared_as_classes(data: Any) -> None:
    """The soft answers are the truth softened, but for a corner in which the truth is unknown."""
    job, hard, _ = _trained(data, targets={"semantic": "semantic@truth"}, updates=6)
    soft = replace(job, fitted={"semantic": "soft@teacher"}, folder="train/soft")
    loop.fit(soft)
    figure = soft.storage.read_json("train/soft/trained.json")["final"]["fit.semantic.miou"]
    assert figure == pytest.approx(hard["fit.semantic.miou"], abs=0.03) and figure != hard["fit.semantic.miou"]
    alone = scenes.step(data[0], data[2], targets={"semantic": {"semantic@noisy": 0.3, "soft@teacher": 1.0}})
    assert alone.stage.job(alone).fitted == {"semantic": "soft@teacher"}, "what teaches most"


def test_one_that_fits_and_does_not_carry_over(data: Any) -> None:
    job, _, _ = _trained(data, updates=1)
    tasks = job.architecture.tasks
    spread = tasks[1].scale.std[0]
    figures = {"fit.semantic.miou": 0.93, "val.semantic.miou": 0.52, "fit.depth.mae": 0.1 * spread}
    figures["val.depth.mae"] = 0.2 * spread
    words = sentences(figures, tasks, job.modalities, TRIAL)
    assert len(words) == 1 and "semantic fits its samples" in words[0]
    assert "does not carry over (0.52 on val): more unlabelled data, or augmentation" in words[0]
    assert not sentences({**figures, "val.semantic.miou": 0.9}, tasks, job.modalities, TRIAL)
    assert not sentences({}, tasks, job.modalities, TRIAL)
    assert not sentences({"fit.semantic.miou": 0.1}, tasks, job.modalities, TRIAL - 1)  # a trial says nothing


@pytest.mark.parametrize(
    "balancer, first, second",
    [
        ("static", "`weights: {semantic: 2}` weighs it more, and `balancer: leading` lets it", "`weights: {depth: 2}`"),
        ("leading", "a smaller `share` of `balancer: leading` (now 0.1)", "a larger `share` of `balancer: leading`"),
        ("uncertainty", "`balancer: leading` lets it set the pace", "put it first, under `balancer: leading`"),
    ],
)
def test_a_task_that_lost_beside_another_is_named_with_what_mends_it(
    data: Any, balancer: str, first: str, second: str
) -> None:
    job, _, _ = _trained(data, updates=1, balancer=balancer)
    tasks = job.architecture.tasks
    spread = tasks[1].scale.std[0]

    def lost_by(semantic: float, depth: float) -> list[str]:
        figures = {"fit.semantic.miou": semantic, "fit.depth.mae": depth * spread}
        words = sentences(figures, tasks, job.modalities, TRIAL, job.balancer)
        return [w for w in words if "worse than alone" in w]

    (lost,) = lost_by(semantic=0.3, depth=0.1)
    assert lost.startswith("semantic does not fit, depth does") and first in lost
    (lost,) = lost_by(semantic=0.9, depth=0.8)
    assert lost.startswith("depth does not fit, semantic does") and second in lost
    assert not lost_by(semantic=0.9, depth=0.1), "both fit"
    assert not lost_by(semantic=0.3, depth=0.8), "neither does: that is no other task's doing"


class Recorder:
    """What a step says of itself."""

    def __init__(self) -> None:
        self.events: list[dict[str, Any]] = []

    def emit(self, kind: str, step: str = "", **fields: Any) -> None:
        self.events.append({"kind": kind, "step": step, **fields})

    def metric(self, step: str, values: dict[str, float], at: int = 0) -> None:
        self.emit("metric", step, values=values)


@pytest.mark.parametrize(
    "figures, expected",
    [
        ({"fit.semantic.miou": 0.3}, "does not fit its own samples (miou 0.3"),
        ({"fit.semantic.miou": 0.9, "val.semantic.miou": 0.5}, "does not carry over (0.5 on val)"),
        ({"fit.semantic.miou": 0.9, "fit.semantic.iou.road": 0.0}, "never predicts road correctly"),
    ],
)
def test_each_sentence_is_in_the_log_in_a_table_for_mlflow_and_in_the_result_of_which_the_report_reads(
    data: Any, figures: dict[str, float], expected: str
) -> None:
    step = scenes.step(data[0], data[2], updates=TRIAL)
    job, recorder = step.stage.job(step), Recorder()
    done = Fitted({"parameters": 10, "updates": TRIAL, "final": figures}, ())
    result = outcome(step.stage, replace(step, events=recorder), job, [Member(0, "train/teacher")], [done])
    (sentence,) = [text for text in result.remarks if expected in text]
    assert {"kind": "note", "step": step.name, "text": f"{step.name}: {sentence}"} in recorder.events
    (table,) = [event for event in recorder.events if event["kind"] == "table"]
    assert table["name"] == "remarks" and {"remark": sentence} in table["rows"]


def test_filters_that_died_are_counted_and_said(data: Any) -> None:
    """A rate that is far too high kills filters behind a ReLU; a leaky one they survive."""
    job, final, _ = _trained(data, updates=40, mask="none", optimizer={"lr": 1.0})
    assert 0 < final["dead"] <= 1
    many = sentences({"dead": DIES + 0.05}, job.architecture.tasks, job.modalities, TRIAL)
    assert len(many) == 1 and "30% of its filters are dead" in many[0]
    assert not sentences({"dead": DIES}, job.architecture.tasks, job.modalities, TRIAL)
    leaky = {"trunk": {"type": "unet", "width": 2, "activation": "leaky", "dilations": [1, 2]}}
    _, final, _ = _trained(data, updates=40, mask="none", optimizer={"lr": 1.0}, model=leaky)
    assert "dead" not in final


def test_a_filter_that_answered_once_is_alive() -> None:
    network = nn.Sequential(nn.Conv2d(1, 4, 1), nn.ReLU(), nn.Conv2d(4, 2, 1), nn.LeakyReLU())
    with torch.no_grad():
        network[0].weight.fill_(1.0)
        network[0].bias.copy_(torch.tensor([0.0, -0.5, -5.0, -50.0]))
    filters = Filters()
    with filters.watched(network):
        network(torch.zeros(2, 1, 4, 4))
        network(torch.full((1, 1, 4, 4), 1.0))
    network(torch.full((1, 1, 4, 4), 100.0))  # nobody looks any more
    assert filters.figures(World()) == {"dead": 0.5}
    assert Filters().figures(World()) == {}


def test_one_relu_behind_several_layers_is_looked_at_behind_each() -> None:
    """Networks of others share it, behind layers of any width."""

    class Shared(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.narrow, self.wide, self.relu = nn.Conv2d(1, 2, 1), nn.Conv2d(2, 4, 1), nn.ReLU()

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            answer: torch.Tensor = self.relu(self.wide(self.relu(self.narrow(x))))
            return answer

    network = Shared()
    with torch.no_grad():
        for layer, biases in ((network.narrow, [1.0, -1.0]), (network.wide, [1.0, -1.0, -1.0, -1.0])):
            layer.weight.zero_()
            layer.bias.copy_(torch.tensor(biases))
    filters = Filters()
    with filters.watched(network):
        network(torch.zeros(2, 1, 4, 4))
        network(torch.zeros(2, 1, 4, 4))
    assert filters.figures(World()) == {"dead": 4 / 6}
