"""Updates of small networks are recorded on a GPU: when, and that the weights stay what they were."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from hyperloom.stages.objective.base import Objective, Sum
from hyperloom.stages.train import descent, graphed, loop
from hyperloom.stages.train.criterion import Criterion
from hyperloom.stages.train.graphed import Recorded, recordable
from hyperloom.stages.train.loop import Training
from hyperloom.stages.train.notice import Ask, Preempted
from hyperloom.stages.world import World
from tests.unit import scenes

GPU = pytest.mark.skipif(not torch.cuda.is_available(), reason="updates are recorded on a GPU, and torch sees none")
COLOUR = {"type": "colour", "saturation": 0.2, "gamma": 0.2, "blur": 1.0}
TRAININGS: dict[str, dict[str, Any]] = {
    "masks": {"augment": ["flip", COLOUR], "ema": 0.9, "optimizer": {"clip": 1.0}},
    "weighted": {
        "balancer": "uncertainty",
        "losses": {"semantic": [{"type": "cross-entropy", "balance": 0.5}, "dice"]},
    },
    "bf16": {"precision": "bf16", "model": {"trunk": {"type": "inverted", "width": 2}}},
    "published": {
        "in": ["rgb@camera"],
        "mask": "none",
        "targets": {"semantic": "soft@teacher"},
        "model": {"trunk": {"type": "espnet", "classes": [*scenes.CLASSES, *[None] * 17]}, "parameters": "364k"},
        "losses": {"soft@teacher": [{"type": "kl", "balance": 0.5}, {"type": "dice"}]},
    },
    "tokens": {
        "in": ["rgb@camera"],
        "mask": "none",
        "model": {"trunk": {"type": "vit", "width": 2, "depth": 1, "patch": 8}},
    },
}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return scenes.shards(tmp_path_factory.mktemp("graphed"))


@GPU
@pytest.mark.parametrize("name", TRAININGS)
def test_recorded_updates_leave_the_same_weights(data: Any, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    fields = {"deterministic": True, "updates": 12, **TRAININGS[name]}
    asked, recorded = scenes.job(data, f"asked-{name}", **fields), scenes.job(data, f"recorded-{name}", **fields)
    replays, replay = list[int](), Recorded.replay
    monkeypatch.setattr(Recorded, "replay", lambda self, batch: (replays.append(batch.number), replay(self, batch))[1])
    loop.fit(recorded)
    assert replays == list(range(graphed.SEEN, 12))
    with monkeypatch.context() as patch:
        patch.setattr(descent, "recordable", lambda setup: False)
        loop.fit(asked)
    assert replays == list(range(graphed.SEEN, 12))
    assert scenes.trained(data[0], recorded.folder) == scenes.trained(data[0], asked.folder)


@GPU
def test_updates_that_ask_the_device_run_as_usual(data: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    forward, now = Criterion.forward, torch.cuda.current_stream()

    def asking(self: Criterion, *args: Any) -> Any:
        losses = forward(self, *args)
        assert losses.values.sum().item() >= 0
        return losses

    plain, rough = (scenes.job(data, n, deterministic=True, updates=8) for n in ("plain", "asking"))
    loop.fit(plain)
    monkeypatch.setattr(Criterion, "forward", asking)
    loop.fit(rough)
    assert scenes.trained(data[0], rough.folder) == scenes.trained(data[0], plain.folder)
    assert torch.cuda.current_stream() == now


@GPU
def test_a_recorded_training_that_was_stopped_ends_as_one_that_was_not(data: Any) -> None:
    whole, rough = (scenes.job(data, n, deterministic=True, updates=12) for n in ("whole", "rough"))
    loop.fit(whole)
    for after in (5, 9, None):
        asks = iter([Ask.NOTHING] * (after or 0))
        try:
            loop.fit(rough, request=lambda asks=asks, after=after: next(asks, Ask.STOP if after else Ask.NOTHING))
        except Preempted:
            assert after
    assert scenes.trained(data[0], rough.folder) == scenes.trained(data[0], whole.folder)


class Mine(torch.nn.Linear):
    """A layer of a recipe's own: nobody knows what it decides in Python."""


class Own(Objective):
    """An objective of a recipe's own."""


def taught_by(training: Training, objective: Objective) -> None:
    job = training.setup.job
    training.setup.job = replace(job, targets=(replace(job.targets[0], objective=objective), *job.targets[1:]))


def test_what_is_recorded_is_code_that_is_known(data: Any) -> None:
    def recorded(change: Any = lambda training: None, **fields: Any) -> bool:
        training = Training(scenes.job(data, "known", **fields), World(), device=torch.device("cpu"))
        change(training)
        training.prepare.drawer.close()
        return recordable(replace(training.setup, device=torch.device("cuda")))

    assert all(recorded(**fields) for fields in TRAININGS.values())
    assert not recorded(lambda training: training.model.add_module("mine", Mine(1, 1)))
    cross = scenes.job(data, "known").targets[0].objective
    assert not recorded(lambda training: taught_by(training, Own()))
    assert not recorded(lambda training: taught_by(training, Sum.model_construct(of=(cross, Own()))))
    assert not recorded(extras={"views": {"type": "contrastive", "between": ["rgb@camera"]}})
    assert not recorded(updates=None, phases=[{"updates": 4}, {"updates": 4}])
    assert not recorded(balancer="pcgrad")
    assert not recorded(lambda training: setattr(training.setup, "world", World(0, 2)))
    cpu = Training(scenes.job(data, "cpu"), World(), device=torch.device("cpu"))
    assert not recordable(cpu.setup)
    cpu.prepare.drawer.close()
