"""One worker or two, replicated or sharded, whole batches or parts of them: the same training."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load

from hyperloom.stages import sharding
from hyperloom.stages.train import checkpoint, fitted, loop
from hyperloom.stages.train.job import Job
from hyperloom.stages.train.notice import Ask, Preempted
from tests.training import ranks
from tests.training.ledger import Ledger, seen
from tests.unit import scenes

pytestmark = pytest.mark.timeout(500)  # three imports of torch at once, on a machine that may be busy
FULL: dict[str, Any] = {"ema": 0.8, "balancer": "uncertainty", "validate_every": 4, "batch": 5, "updates": 10}
"""Everything that a state can hold; a batch that two workers cannot halve; rows that no batch divides."""

EXTRAS: dict[str, Any] = {
    "extras": {
        "turns": {"type": "rotation", "of": "rgb@camera"},
        "tiles": {"type": "jigsaw", "of": "semantic@noisy", "grid": 2, "gap": 1, "permutations": 6},
        "views": {"type": "contrastive", "between": "rgb@camera", "project": 8},
    }
}
"""Objectives that draw at random, have parameters of their own and, in one case, look at all workers' samples."""


def made(data: Any, name: str, **fields: Any) -> Job:
    """A job whose files go to a folder of its own."""
    storage, _, shards = data
    run = scenes.step(storage, shards, **{**FULL, **fields})
    return replace(run.stage.job(run), folder=f"train/{name}")


def curve(job: Job) -> list[dict[str, float]]:
    """What was measured at each update."""
    state = checkpoint.load(job.storage, job.folder)
    assert state is not None
    return [e["values"] for e in state["history"]]


def same(one: Job, other: Job) -> None:
    """Two trainings took the same way, up to the rounding of sums."""
    assert fitted.load(one.storage, one.folder) and fitted.load(other.storage, other.folder)
    for mine, theirs in zip(curve(one), curve(other), strict=True):
        assert mine == pytest.approx(theirs, rel=2e-3, abs=2e-3)
    mine, theirs = (load(scenes.weights(j.storage, j.folder)) for j in (one, other))
    assert mine.keys() == theirs.keys()
    apart = torch.cat([(mine[k] - theirs[k]).abs().flatten() for k in mine])
    assert float(apart.mean()) < 1e-4  # Adam turns the rounding of a gradient near 0 into a step: no bound for each


def leave(job: Job, update: int) -> None:
    """Train in this process until a notice comes in `update`."""
    with pytest.raises(Preempted):
        loop.fit(job, request=ranks.At(update))
    state = checkpoint.load(job.storage, job.folder)
    assert state is not None and state["update"] == update  # not a multiple of checkpoint_every


@pytest.fixture(scope="module")
def alone(data: Any) -> Job:
    job = made(data, "alone")
    loop.fit(job)
    return job


@pytest.fixture(scope="module")
def pairs(data: Any, alone: Job, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Job]:
    """Trainings by two ranks; two of them began alone, and two end alone."""
    folder = tmp_path_factory.mktemp("pairs")
    options: dict[str, dict[str, Any]] = {
        "replicated": {},
        "sharded": {"parallel": "fsdp"},
        "parts": {"micro": 1},
        "sharded-parts": {"parallel": "fsdp", "micro": 2},
        "leaves": {},
        "sharded-leaves": {"parallel": "fsdp"},
        "joins": {},
        "sharded-joins": {"parallel": "fsdp"},
        "extras": EXTRAS,
        "sharded-extras-leaves": {"parallel": "fsdp", **EXTRAS},
    }
    jobs = {name: made(data, name, **fields) for name, fields in options.items()}
    for name, job in jobs.items():
        if "joins" in name:
            job = jobs[name] = replace(job, augment=(Ledger(type="ledger", folder=str(folder / name)),))
            leave(replace(job, rhythm=replace(job.rhythm, sharded=False)), 4)
    ends = ranks.train([(j, 4 if "leaves" in n else 0) for n, j in jobs.items()], 2, folder)
    assert [e.split()[0] for e in ends] == ["Preempted" if "leaves" in n else "done" for n in jobs]
    for name, job in jobs.items():
        if "leaves" in name:
            loop.fit(replace(job, rhythm=replace(job.rhythm, sharded=False)))
    return jobs


def _made_whole(number: int) -> None:
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.tensor import Shard, distribute_tensor

    torch.distributed.init_process_group("gloo")
    mesh = init_device_mesh("cpu", (3,))
    tensors = [torch.randn(5, 3), torch.randn(1), torch.arange(7), torch.randn(2, 2, 2), torch.randn(40)]
    for tensor in tensors:
        torch.distributed.broadcast(tensor, 0)
    parts = [distribute_tensor(tensor, mesh, [Shard(0)]) for tensor in tensors]
    sharding.BUCKET = 100
    made = sharding.whole({"a": parts[:2], "b": {"c": parts[2], "d": 1}, "e": [parts[3], 2, parts[4], tensors[0]]})
    expected = {"a": tensors[:2], "b": {"c": tensors[2], "d": 1}, "e": [tensors[3], 2, tensors[4], tensors[0]]}
    torch.testing.assert_close(made, expected, rtol=0, atol=0)
    torch.distributed.destroy_process_group()


def test_parts_of_any_shape_are_made_whole() -> None:
    """Rows that three workers cannot share evenly, or of which one has none; types and sizes in several gatherings."""
    ranks.start(_made_whole, size=3)


@pytest.mark.parametrize(
    "name",
    ["replicated", "sharded", "parts", "sharded-parts", "leaves", "sharded-leaves", "joins", "sharded-joins"],
)
def test_two_workers_train_as_one(alone: Job, pairs: dict[str, Job], name: str) -> None:
    same(pairs[name], alone)


def test_two_workers_learn_extras_as_one(data: Any, pairs: dict[str, Job]) -> None:
    job = made(data, "extras-alone", **EXTRAS)
    leave(job, 4)
    loop.fit(job)
    whole = made(data, "extras-undisturbed", **EXTRAS)
    loop.fit(whole)
    weights = [scenes.weights(j.storage, j.folder) for j in (job, whole)]
    assert weights[0] == weights[1]
    assert not any("extras" in name for name in load(weights[0]))  # what extras learned for themselves is not kept
    assert {"loss.turns", "loss.tiles", "loss.views"} <= set().union(*curve(whole))
    for name in ("extras", "sharded-extras-leaves"):
        same(whole, pairs[name])


def test_another_number_of_workers_sees_every_sample_as_often(data: Any, pairs: dict[str, Job], tmp_path: Path) -> None:
    calm = replace(made(data, "calm"), augment=(Ledger(type="ledger", folder=str(tmp_path)),))
    loop.fit(calm)
    updates, counts = seen(tmp_path, calm.batch)
    assert (updates, sum(counts.values())) == (10, 50)
    (ledger,) = pairs["joins"].augment
    assert seen(Path(ledger.folder), calm.batch) == (updates, counts)


@pytest.mark.parametrize("micro", [1, 2, 4])
def test_parts_of_a_batch_add_up(data: Any, alone: Job, micro: int) -> None:
    job = made(data, f"micro{micro}", micro=micro)
    loop.fit(job)
    same(job, alone)


def test_a_killed_training_sees_every_sample_as_often(data: Any, tmp_path: Path) -> None:
    calm, rough = (
        replace(made(data, f"count-{n}", ema=0.0), augment=(Ledger(type="ledger", folder=str(tmp_path / n)),))
        for n in ("calm", "rough")
    )
    loop.fit(calm)
    for update in (2, 5, 8):  # checkpoints are at 3, 6 and 9: each of these loses two updates

        def log(at: int, values: dict[str, float], update: int = update) -> None:
            if at >= update and "loss" in values:
                raise ConnectionError("as if this worker were gone")

        with pytest.raises(ConnectionError):
            loop.fit(rough, log=log)
    loop.fit(rough)
    assert seen(tmp_path / "rough", 5) == seen(tmp_path / "calm", 5)
    assert scenes.trained(rough.storage, rough.folder) == scenes.trained(calm.storage, calm.folder)


def test_a_notice_to_stop_is_told_apart(data: Any) -> None:
    job = made(data, "stop")
    with pytest.raises(Preempted) as end:
        loop.fit(job, request=lambda: Ask.STOP)
    assert (end.value.update, end.value.ask) == (1, Ask.STOP)
