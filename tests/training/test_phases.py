"""Phases: what each teaches, hides and lets rest; borders that no interruption moves; what the curve says of them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from hyperloom.pipeline.errors import RecipeError
from hyperloom.pipeline.fingerprint import payload
from hyperloom.pipeline.host.faults import FaultInjected
from hyperloom.stages.network import parts
from hyperloom.stages.shard.stage import Shard
from hyperloom.stages.train import checkpoint, loop
from hyperloom.stages.train.curve import Curve
from hyperloom.stages.train.job import Job
from hyperloom.stages.train.notice import Preempted
from hyperloom.stages.train.stage import Train
from hyperloom.stages.world import World
from tests.training import ranks
from tests.training.ledger import Ledger, seen
from tests.unit import inline, scenes

PHASES: list[dict[str, Any]] = [
    {"name": "look", "updates": 3, "targets": [], "extras": "turns", "mask": "none"},
    {"name": "heads", "updates": 2, "targets": "semantic", "freeze": "trunk", "extras": [], "balancer": "uncertainty"},
    {"updates": 4, "restart": True, "losses": {"depth": "l1"}, "extras": []},
]
FIELDS: dict[str, Any] = {
    "updates": None,
    "phases": PHASES,
    "extras": {"turns": {"type": "rotation", "of": "rgb@camera"}},
    "ema": 0.6,
    "checkpoint_every": 3,
}


def made(data: Any, name: str, **fields: Any) -> Job:
    return scenes.job(data, name, **{**FIELDS, **fields})


def files(job: Job) -> tuple[bytes, Any]:
    return scenes.trained(job.storage, job.folder)


def state(job: Job) -> dict[str, Any]:
    found = checkpoint.load(job.storage, job.folder)
    assert found is not None
    return found


def named(job: Job, found: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Weights by the names of parts."""
    return {part: found[own].clone() for own, part in parts.named(found, job.architecture.columns).items()}


def weights(job: Job) -> dict[str, torch.Tensor]:
    return named(job, state(job)["model"])


def until(job: Job, update: int) -> dict[str, torch.Tensor]:
    with pytest.raises(Preempted):
        loop.fit(job, request=ranks.At(update))
    return weights(job)


@pytest.fixture(scope="module")
def calm(data: Any) -> Job:
    job = made(data, "calm")
    loop.fit(job)
    return job


def test_an_interruption_anywhere_ends_in_the_same_bytes(data: Any, calm: Job) -> None:
    for update in range(1, 9):
        rough = made(data, f"rough-{update}")
        until(rough, update)
        loop.fit(rough)
        assert files(rough) == files(calm), update


@pytest.mark.parametrize("fault", ["train.checkpoint", "train.step"])
def test_a_fault_on_the_border_ends_in_the_same_bytes(
    data: Any, calm: Job, fault: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The checkpoint after update 3 lies on the border; the step dies when it is made anew and the next phase began."""
    rough = made(data, f"fault-{fault}")
    until(rough, 2)
    monkeypatch.setenv("HYPERLOOM_FAULT", f"{fault}=raise")
    for turn in range(3):
        monkeypatch.setenv("HYPERLOOM_FAULT_ONCE", str(tmp_path / f"once{turn}"))
        with pytest.raises(FaultInjected):
            loop.fit(rough)
    monkeypatch.delenv("HYPERLOOM_FAULT")
    loop.fit(rough)
    assert files(rough) == files(calm)


def test_each_phase_teaches_what_it_says(data: Any, calm: Job) -> None:
    history = state(calm)["history"]
    losses = {e["at"]: {k for k in e["values"] if k.startswith("loss.")} for e in history if "loss" in e["values"]}
    assert [losses[u] for u in (1, 3)] == [{"loss.turns"}] * 2
    assert [losses[u] for u in (4, 5)] == [{"loss.semantic"}] * 2
    assert losses[6] == losses[9] == {"loss.semantic", "loss.depth"}
    assert [(e["at"], e["values"]["phase"]) for e in history if "phase" in e["values"]] == [(0, 1), (3, 2), (5, 3)]
    job = made(data, "parts")
    began = named(job, loop.Training(job, World()).model.state_dict())
    first, second, last = until(job, 3), until(job, 2), weights(calm)
    for part, value in last.items():
        trunk, down = part.startswith("trunk."), not part.startswith(("trunk.grow", "trunk.merge", "heads."))
        assert torch.equal(first[part], began[part]) is not down, "turns look at the bottom of the network"
        assert torch.equal(second[part], first[part]) is (trunk or part.startswith("heads.depth")), part
        assert not torch.equal(value, second[part]), part


def test_the_rate_follows_the_whole_or_starts_again(data: Any) -> None:
    def rates(**fields: Any) -> list[float]:
        job = made(data, f"rates-{len(fields)}", optimizer={"warmup": 0}, **fields)
        loop.fit(job)
        return [e["values"]["lr"] for e in state(job)["history"] if "lr" in e["values"]]

    again, whole = rates(), rates(phases=[{**p, "restart": False} for p in PHASES])
    schedule = Train.model_validate(scenes.TRAIN).schedule
    optimizer = Train.model_validate({**scenes.TRAIN, "optimizer": {"warmup": 0}}).optimizer
    expected = [schedule.rate(u, 5, optimizer) for u in range(1, 6)] + [
        schedule.rate(u, 4, optimizer) for u in range(1, 5)
    ]
    assert [r / optimizer.lr for r in again] == pytest.approx(expected, rel=1e-4)
    assert [r / optimizer.lr for r in whole] == pytest.approx(
        [schedule.rate(u, 9, optimizer) for u in range(1, 10)], rel=1e-4
    )


def test_phases_that_say_nothing_train_to_the_bytes_of_none(data: Any) -> None:
    plain = {"extras": {}, "updates": 8}
    none, two = (
        made(data, "none", phases=[], **plain),
        made(data, "two", phases=[{"share": 0.25}, {"share": 0.75}], **plain),
    )
    for job in (none, two):
        loop.fit(job)
    assert files(none)[0] == files(two)[0]


def test_shares_of_the_data_change_at_the_border(tmp_path: Path) -> None:
    """In the first phase each batch is half of either set, in the second three quarters are of the second."""
    storage, frames, shards = scenes.shards(tmp_path / "root")
    few: dict[str, Any] = {"stage": "shard", "data": "frames", "split": {"pin": {"test": ["g0", "g1", "g2"]}}}
    more = inline.finish(inline.step(Shard.model_validate(few), storage, scenes.KNOWN, "more", frames=frames))

    def job(name: str) -> Job:
        config = {**scenes.TRAIN, "data": ["shards", "more"], "updates": 8, "checkpoint_every": 2}
        config["sampler"] = {"type": "shares", "shares": [2, 2]}
        other = {"type": "shares", "shares": [1, 3]}
        config["phases"] = [{"updates": 3}, {"updates": 3, "sampler": other}, {"updates": 2}]
        config["updates"] = None
        step = inline.step(Train.model_validate(config), storage, scenes.KNOWN, "t", shards=shards, more=more)
        ledger = Ledger(type="ledger", folder=str(tmp_path / name))
        return replace(step.stage.job(step), folder=name, augment=(ledger,))

    calm, rough = job("calm"), job("rough")
    loop.fit(calm)
    for update in (3, 1, 2, 1):
        until(rough, update)
    loop.fit(rough)
    assert files(calm) == files(rough)
    updates, samples = seen(tmp_path / "rough", 4)
    assert (updates, samples) == (8, seen(tmp_path / "calm", 4)[1])
    sets = state(calm)["batches"]
    assert [sets[k]["shares"] for k in ("0", "1")] == [[0.5, 0.5], [0.25, 0.75]]
    assert [sets[k]["epoch"] * sets[k]["rows"] + sets[k]["position"] for k in ("0", "1")] == [20, 12]


@pytest.mark.timeout(500)
def test_two_workers_sharded_or_not_take_the_same_way(data: Any, calm: Job, tmp_path: Path) -> None:
    taught = {"phases": [{"updates": 3, "targets": "depth", "extras": []}, *PHASES[1:]]}
    alone = made(data, "taught", **taught)
    loop.fit(alone)
    pair = made(data, "pair"), made(data, "sharded", **taught, parallel="fsdp")
    cut = replace(pair[0], folder="train/pair-cut")
    assert ranks.train([*((j, 0) for j in pair), (cut, 4), (cut, 0)], 2, tmp_path)[:2] == ["done", "done"]
    assert files(cut) == files(pair[0])
    for job, other in zip(pair, (calm, alone), strict=True):
        for mine, theirs in zip(state(job)["history"], state(other)["history"], strict=True):
            assert mine["values"] == pytest.approx(theirs["values"], rel=5e-3, abs=5e-3)
        expected = weights(other)
        for part, value in weights(job).items():
            assert torch.allclose(value, expected[part], atol=5e-3), part


def test_the_start_of_each_phase_is_said_once(data: Any) -> None:
    storage, job = data[0], made(data, "said")
    for update in (4, 0):
        curve = Curve(storage, "run-of-phases", "teacher")
        if update:
            with pytest.raises(Preempted):
                loop.fit(job, log=curve, request=ranks.At(update))
        else:
            loop.fit(replace(job, folder="train/said-again"), log=curve)
        curve.events.close()
    said = sorted(Curve(storage, "run-of-phases", "teacher").noted)
    assert said == [
        "teacher: phase 1 of 3 (look): updates 1 to 3",
        "teacher: phase 2 of 3 (heads): updates 4 to 5",
        "teacher: phase 3 of 3: updates 6 to 9",
    ]


def test_no_phases_move_no_identity() -> None:
    assert payload(Train.model_validate({**scenes.TRAIN, "phases": []}), str) == payload(
        Train.model_validate(scenes.TRAIN), str
    )


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"phases": [{"share": 0.5}, {"updates": 3}]}, "all their updates or all their shares"),
        ({"phases": [{"share": 0.5}, {"share": 0.2}], "updates": 10}, "add up to 0.7"),
        ({"phases": [{"name": "a"}]}, "either updates or a share"),
        ({"phases": [{"updates": 3}], "updates": 3}, "or updates of phases"),
        ({"phases": [{"updates": 3, "targets": "flow"}]}, r"phase 1: 'flow' is no target"),
        ({"phases": [{"updates": 3, "targets": []}], "extras": {}}, "nothing teaches"),
        ({"phases": [{"updates": 3, "extras": ["tiles"]}]}, "'tiles' is none of the extras, turns"),
        ({"phases": [{"updates": 3, "freeze": "heads.dpth"}]}, "did you mean 'heads.depth'"),
        ({"phases": [{"updates": 3, "sampler": "temperature"}]}, "one data set alone"),
        ({"phases": [{"updates": 3, "mask": {"type": "modality", "visible": "depth@x"}}]}, "inputs are"),
        ({"phases": [{"updates": 3, "lr": 1}]}, "lr"),
    ],
)
def test_phases_that_make_no_sense_are_refused(fields: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Train.model_validate({**scenes.TRAIN, **FIELDS, **fields})


def test_a_phase_without_an_update_is_refused(data: Any) -> None:
    with pytest.raises(RecipeError, match="phase 1 has no update of the 8"):
        made(data, "short", phases=[{"share": 0.01}, {"share": 0.99}], updates=8)
