"""Trained networks on a device, beside hand-written loops: parts `ensemble` and `train` of `benchmarks.gpu`.

`ensemble`: a model asked along eight subsets of its inputs, batches of 32 from memory to memory; the loop encodes once
and sends all members through in one batch. `train`: images a second of `stages.train.loop` from batches on the host to
the step of the optimizer, masks, weights of losses and clipping included; the loop has the same network and losses,
autocast, compile where the recipe says so, pinned batches, fused AdamW. MFU is the arithmetic of the network (forward
and backward, torch's count) over the chip's dense peak of that precision. Neither loop is deterministic, but for the
network called exact.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch.nn.functional import cross_entropy, l1_loss
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.train import job as job_of
from hyperloom.pipeline.commits.manifest import Manifest
from hyperloom.pipeline.root.storage import Storage
from hyperloom.stages.network.model import build_model
from hyperloom.stages.network.predictor import Predictor
from hyperloom.stages.train.job import Job
from hyperloom.stages.train.loop import Training
from hyperloom.stages.world import World

PEAK = {"bf16": 989e12, "fp32": 494e12}
"""Operations a second of an H100 or H200, dense: bfloat16, TF32."""
VIT_S = {"trunk": {"type": "vit", "width": 48, "depth": 12}}
VIT_B = {"trunk": {"type": "vit", "width": 96, "depth": 12}}
VIT_B_64 = {"trunk": {"type": "vit", "width": 96, "depth": 12, "head": 64}}
HALF = {"type": "patch", "keep": 0.5}
NETWORKS: dict[str, dict[str, Any]] = {
    "unet-158k": {"model": {"parameters": "159k"}, "batch": 16},
    "unet-4m": {"model": {"parameters": "4.46M"}, "batch": 64, "precision": "bf16"},
    "unet-4m-exact": {"model": {"parameters": "4.46M"}, "batch": 64, "precision": "bf16", "deterministic": True},
    "vit-22m": {"model": VIT_S, "batch": 64, "precision": "bf16", "mask": "none"},
    "vit-102m": {"model": VIT_B, "batch": 64, "precision": "bf16", "mask": "none"},
    "vit-102m-half": {"model": VIT_B, "batch": 64, "precision": "bf16", "mask": HALF},
    "unet-71m": {"model": {"parameters": "71M"}, "batch": 32, "precision": "bf16", "compile": True},
    "vit-102m-wide-heads": {"model": VIT_B_64, "batch": 64, "precision": "bf16", "mask": "none", "compile": True},
}
TINY: dict[str, dict[str, Any]] = {
    "unet-158k": {"model": {"parameters": "10k"}, "batch": 2},
    "vit-102m": {"model": {"trunk": {"type": "vit", "width": 4, "depth": 1}}, "batch": 2, "mask": "none"},
    "vit-102m-half": {"model": {"trunk": {"type": "vit", "width": 4, "depth": 1}}, "batch": 2, "mask": HALF},
}
Data = tuple[Storage, dict[str, Any], Manifest]
Batch = dict[str, torch.Tensor]


def network(data: Data, fields: dict[str, Any], device: torch.device, updates: int) -> dict[str, float]:
    """Images a second of the loop with its loader, of the loop with batches that lie in memory, of the hand-written
    loop; and operations a second of that."""
    job = job_of(*data, **{"deterministic": False, **fields})
    training = Training(job, World(), device=device)
    batches = iter(training.batches)
    ready = [_pinned(next(batches), device) for _ in range(3)]

    step = partial(_update, training)
    before = _rate(step, lambda: _cycle(ready), updates, job.batch, device)
    loaded = _rate(step, lambda: batches, updates, job.batch, device)
    loop = (before + _rate(step, lambda: _cycle(ready), updates, job.batch, device)) / 2  # a clock may have moved
    del training, step
    bare = Bare(job, device)
    hand = _rate(bare.step, lambda: _cycle(ready), updates, job.batch, device)
    share = bare.operations(ready[0]) * hand / PEAK[job.precision]
    return {"loop": loop, "loaded": loaded, "bare": hand, "bare_mfu": share}


def _update(training: Training, columns: Batch) -> None:
    training.step(columns)


class Bare:
    """The hand-written loop: two losses, one sum, AdamW."""

    def __init__(self, job: Job, device: torch.device):
        self.device, self.half = device, job.precision == "bf16"
        torch.backends.cudnn.benchmark = True
        torch.use_deterministic_algorithms(False)
        self.model = build_model(job.architecture, job.parameters).to(device)
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=1e-3, fused=True)
        depth = self.model.architecture.tasks[1].scale
        self.mean, self.std = depth.mean[0], depth.std[0]
        self.loss: Callable[[Batch], torch.Tensor] = torch.compile(self._loss) if job.rhythm.compile else self._loss
        self.visible = _shown(job, device)

    def step(self, columns: Batch) -> None:
        self.loss({k: v.to(self.device, non_blocking=True) for k, v in columns.items()}).backward()
        self.optimizer.step()
        self.optimizer.zero_grad()

    def _loss(self, batch: Batch) -> torch.Tensor:
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.half):
            predicted = self.model(batch, self.visible).predictions
        depth = (batch["depth@blur"].permute(0, 3, 1, 2).float() - self.mean) / self.std
        classes = cross_entropy(predicted["classes"].float(), batch["classes@quantised"].long())
        return classes + l1_loss(predicted["depth"].float(), depth)

    def operations(self, columns: Batch) -> float:
        """Of one image, forward and backward."""
        batch = {k: v.to(self.device) for k, v in columns.items()}
        with FlopCounterMode(display=False) as count:
            self._loss(batch).backward()
        self.optimizer.zero_grad()
        return count.get_total_flops() / len(columns["classes@quantised"])


def _shown(job: Job, device: torch.device) -> Any:
    """What one drawing of the mask shows; None where that is all."""
    if job.mask.type == "none":
        return None
    return job.mask.draw(job.architecture, job.batch, torch.Generator().manual_seed(0)).to(device)


def _pinned(columns: Batch, device: torch.device) -> Batch:
    return {k: v.clone().pin_memory() if device.type == "cuda" else v.clone() for k, v in columns.items()}


def _cycle(ready: list[Batch]) -> Iterator[Batch]:
    while True:
        yield from ready


def _rate(
    step: Callable[[Batch], None], batches: Callable[[], Iterator[Batch]], updates: int, batch: int,
    device: torch.device,
) -> float:  # fmt: skip
    """Images a second; the first updates warm up and compile."""
    source = batches()
    for count in (max(1, updates // 4), updates):
        _wait(device)
        began = time.perf_counter()
        for _ in range(count):
            step(next(source))
        _wait(device)
    return updates * batch / (time.perf_counter() - began)


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()


def ensemble(data: Data, device: torch.device, calls: int, parameters: str, members: int = 8) -> dict[str, float]:
    """Samples a second of a predictor and of the hand-written loop."""
    storage, known, shards = data
    job = job_of(storage, known, shards, model={"parameters": parameters}, batch=32 if calls > 2 else 2)
    torch.manual_seed(0)
    model = build_model(job.architecture, job.parameters).eval()
    shown = torch.rand(members, len(job.architecture.columns), generator=torch.Generator().manual_seed(0)) < 0.6
    shown[:, 0] |= ~shown.any(1)
    batches = iter(job.batches.open(replace(job, batch=job.batch), job.columns, World()))
    arrays = [{k: v.clone().numpy() for k, v in next(batches).items()} for _ in range(2)]
    predictor = Predictor(model, shown.tolist())
    predictor.to(device)
    ours = _asked(lambda batch: predictor(batch).whole(), arrays, calls, device)
    hand = _asked(Members(model.to(device), shown, device), arrays, calls, device)
    return {"ours": ours, "bare": hand}


class Members:
    """The hand-written loop: inputs encoded once, all members in one batch, the mean and the spread on the device."""

    def __init__(self, model: Any, shown: torch.Tensor, device: torch.device):
        self.model, self.shown, self.device = model, shown.to(device), device

    @torch.inference_mode()
    def __call__(self, arrays: dict[str, Any]) -> dict[str, Any]:
        columns = {k: torch.from_numpy(v).to(self.device, non_blocking=True) for k, v in arrays.items()}
        planes, (members, inputs) = self.model.encode(columns), self.shown.shape
        count = len(planes[0])
        seen = self.shown[:, None].expand(members, count, inputs).reshape(-1, inputs)
        raw = self.model([p.repeat(members, *[1] * (p.ndim - 1)) for p in planes], seen).predictions
        answers = self.model.finish(raw)
        by_task = {t: v.view(members, count, *v.shape[1:]) for t, v in answers.items()}
        return {t: (v.mean(0).cpu().numpy(), v.std(0).cpu().numpy()) for t, v in by_task.items()}


def _asked(call: Callable[[Any], Any], arrays: list[Any], calls: int, device: torch.device) -> float:
    """Samples a second; one that is slow is not asked as often."""
    call(arrays[0])
    began, count = time.perf_counter(), 0
    while count < calls and time.perf_counter() - began < 6:
        call(arrays[count % len(arrays)])
        count += 1
    _wait(device)
    return count * len(next(iter(arrays[0].values()))) / (time.perf_counter() - began)
