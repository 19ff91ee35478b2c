"""Options of a training: when it ends, in which precision, compiled or not, and what it says when it cannot go on."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load

from hyperloom.pipeline.errors import RecipeError
from hyperloom.pipeline.host.preemption import Preemption
from hyperloom.stages.network import compiling
from hyperloom.stages.network.compiling import why_not_compile
from hyperloom.stages.network.features import Features, Forward
from hyperloom.stages.train import checkpoint, compute, failures, loop, notice
from hyperloom.stages.train.job import Job
from hyperloom.stages.train.notice import Ask, Notice, Preempted
from hyperloom.stages.world import World
from tests.training.ranks import At
from tests.unit import scenes


def trained(job: Job) -> tuple[dict[str, Any], bytes]:
    return job.storage.read_json(f"{job.folder}/trained.json"), scenes.weights(job.storage, job.folder)


def test_early_stopping_keeps_the_best_weights_whenever_it_was_interrupted(data: Any) -> None:
    """With a rate that ruins the model, validation is best early on."""
    stop = {"metric": "depth.mae", "patience": 2, "every": 2}
    fields: dict[str, Any] = {"updates": 24, "stop": stop, "optimizer": {"lr": 0.1, "warmup": 0.5}, "log_every": 50}
    calm, rough = scenes.job(data, "calm", **fields), scenes.job(data, "rough", **fields)
    told: dict[int, float] = {}
    loop.fit(
        calm, log=lambda at, values: told.update({at: values["val.depth.mae"]} if "val.depth.mae" in values else {})
    )
    about, weights = trained(calm)
    best = min(told, key=lambda at: told[at])
    assert about["kept"] == best and about["updates"] == best + 2 * 2 < 24
    assert about["final"]["val.depth.mae"] == told[best]
    short = scenes.job(data, "short", **{**fields, "stop": None, "validate_every": 2})
    with pytest.raises(Preempted):
        loop.fit(short, request=At(best))
    state = checkpoint.load(short.storage, short.folder)
    assert state is not None
    assert all(torch.equal(state["model"][k], v) for k, v in load(weights).items())
    for updates in (2, best - 2, 2):  # ends before, at and after the best moment
        with pytest.raises(Preempted):
            loop.fit(rough, request=At(updates))
    loop.fit(rough)
    assert trained(rough) == (about, weights)


def test_stopping_on_what_nobody_measures_is_refused(data: Any) -> None:
    soft = scenes.job(data, "x", stop={"metric": "semantic.miou"}, targets={"semantic": "soft@teacher"})
    assert soft.judged == {"semantic": "soft@teacher"}  # as the classes that they amount to
    with pytest.raises(RecipeError, match="validation measures semantic.miou"):
        scenes.job(data, "x", stop={"metric": "semantic.accuracy"})
    for metric in ("miou", "semantic.beauty", "flow.mae"):
        with pytest.raises(ValueError, match="no task"):
            scenes.job(data, "x", stop={"metric": metric})


def test_bfloat16_learns_the_same_and_stores_float32(data: Any) -> None:
    fields = {**scenes.LEARN, "updates": 25}
    found: dict[str, list[float]] = {}
    for precision in ("fp32", "bf16"):
        job, curve = scenes.job(data, precision, **fields, precision=precision), []
        loop.fit(job, log=lambda at, values, curve=curve: curve.append(values.get("loss")))  # type: ignore[misc]
        found[precision] = [v for v in curve if v is not None]
        assert {v.dtype for v in load(trained(job)[1]).values()} == {torch.float32}
    assert found["bf16"] != found["fp32"]
    assert found["bf16"] == pytest.approx(found["fp32"], rel=0.1)
    assert found["bf16"][-1] < 0.8 * found["bf16"][0]


def test_a_machine_without_a_compiler_trains_uncompiled(data: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv("CXX", raising=False)
    assert "g++" in (why_not_compile(torch.device("cpu")) or "")
    plain, wanted = scenes.job(data, "plain"), scenes.job(data, "wanted", compile=True)
    loop.fit(plain)
    loop.fit(wanted)
    assert trained(wanted) == trained(plain)


@pytest.mark.skipif(bool(why_not_compile(torch.device("cpu"))), reason="no C++ compiler here")
@pytest.mark.parametrize("how", [True, "graphs"])
def test_a_compiled_network_gives_the_same(how: bool | str) -> None:
    """One convolution: compiling the whole of a U-Net takes a minute and a half here."""
    from torch._dynamo.utils import counters

    class Tiny(torch.nn.Conv2d):
        def forward(self, columns: dict[str, torch.Tensor], visible: torch.Tensor) -> Forward:  # type: ignore[override]
            planes = super().forward(columns["rgb"]).relu() * visible[:, :1, None, None]
            return Forward({"depth": planes}, Features(planes, planes.mean((2, 3)), planes), {})

    model, columns, visible = Tiny(3, 4, 3), {"rgb": torch.rand(2, 3, 8, 8)}, torch.tensor([[True], [False]])
    plain, quick = (
        compute.runner(model, "fp32", c, torch.device("cpu")) for c in (None, compiling.how(how, torch.device("cpu")))
    )
    counters.clear()
    told = quick(columns, visible).predictions["depth"]
    assert torch.allclose(told, plain(columns, visible).predictions["depth"], atol=1e-6)
    told.sum().backward()
    assert model.weight.grad is not None and counters["stats"]["unique_graphs"] == 1


def test_losses_are_compiled_with_the_network_as_one(data: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """As far as torch reads the code: what it makes of it takes minutes here. A network that was compiled by itself
    cannot be read again with its losses."""
    from torch import _dynamo

    monkeypatch.setattr(loop, "how", lambda *_: {"backend": "eager"})
    _dynamo.utils.counters.clear()
    with _dynamo.config.patch(suppress_errors=False):  # torch's own patch: pytest's would leave it deleted
        training = loop.Training(scenes.job(data, "whole", compile=True), World(), device=torch.device("cpu"))
        batches = iter(training.batches)
        for _ in range(2):
            training.step(next(batches))
    assert _dynamo.utils.counters["stats"]["unique_graphs"] == 1 and not _dynamo.utils.counters["graph_break"]
    batches.close()


@pytest.mark.parametrize("clip", [1.0, None])
def test_a_loss_that_is_no_number_ends_the_training_and_names_the_task(data: Any, clip: float | None) -> None:
    job = scenes.job(data, f"wild-{clip}", optimizer={"lr": 1e30, "clip": clip}, checkpoint_every=1, log_every=1)
    with pytest.raises(failures.NotFinite, match=r"(?s)the loss of .*depth.* at update \d.*Next: .*depth@laser"):
        loop.fit(job)
    state = checkpoint.load(job.storage, job.folder)
    assert state is not None and state["update"] >= 1
    assert not job.storage.exists(f"{job.folder}/trained.json")


def test_sigterm_leads_to_a_checkpoint_and_a_way_on(data: Any) -> None:
    calm, rough = scenes.job(data, "calm-term"), scenes.job(data, "rough-term")
    loop.fit(calm)
    before = signal.getsignal(signal.SIGTERM)

    def log(at: int, values: dict[str, float]) -> None:
        if at == 4:
            os.kill(os.getpid(), signal.SIGTERM)

    preemption = Preemption()
    preemption.on_sigterm()
    try:
        with (
            preemption,
            Notice(rough.storage, rough.folder, False, preemption) as asked,
            pytest.raises(Preempted) as end,
        ):
            loop.fit(rough, log=log, request=asked)
    finally:
        signal.signal(signal.SIGTERM, before)
    assert (end.value.update, end.value.ask) == (5, Ask.MOVE)
    state = checkpoint.load(rough.storage, rough.folder)
    assert state is not None and state["update"] == 5
    loop.fit(rough)
    assert trained(rough) == trained(calm)


def test_a_notice_under_the_root_stops_a_training(data: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(notice, "LOOK_SECONDS", 0.01)
    job = scenes.job(data, "noticed", updates=100_000)
    with Notice(job.storage, job.folder, look=True) as asked, pytest.raises(Preempted) as end:
        loop.fit(job, log=lambda at, values: notice.give(job.storage, job.folder) if at == 3 else None, request=asked)
    assert end.value.ask is Ask.STOP
    notice.withdraw(job.storage, job.folder)
    assert not notice.given(job.storage, job.folder)


def test_the_learning_rate_warms_up_and_falls(data: Any) -> None:
    job = scenes.job(data, "rate", updates=100, optimizer={"warmup": 0.1, "floor": 0.05})
    rates = [job.schedule.rate(u, 100, job.optimizer) for u in range(101)]
    assert rates[:11] == sorted(rates[:11]) and rates[10] == 1.0
    assert rates[10:] == sorted(rates[10:], reverse=True) and rates[100] == pytest.approx(0.05)


def test_a_large_model_is_sharded_by_its_layers(data: Any, tmp_path: Path) -> None:
    """In a world of one, without a network: which modules become units of their own."""
    from torch import nn
    from torch.distributed.fsdp import FSDPModule

    from hyperloom.stages import sharding

    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    try:
        layers = nn.Sequential(*(nn.Sequential(nn.Linear(400, 400), nn.ReLU()) for _ in range(3)), nn.Linear(400, 2))
        whole = {k: v.clone() for k, v in layers.state_dict().items()}
        sharding.shard(layers, 1, torch.device("cpu"))
        assert [isinstance(m, FSDPModule) for m in layers] == [True, True, True, False]
        state = sharding.whole(layers.state_dict())
        assert all(torch.equal(state[k], v) for k, v in whole.items())
    finally:
        torch.distributed.destroy_process_group()
