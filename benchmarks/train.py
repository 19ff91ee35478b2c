"""What the training loop costs beyond the network's own arithmetic, and what Ray Train takes to start.

    python -m benchmarks.train [--updates 8] [--rounds 8] [--no-ray]

Updates a second on one thread, masked multi-task training of a 159k U-Net on 256x256 samples: `loop` is
`stages.train.loop` with its loader, masks, objectives, balancer and schedule, from shards on disk; `bare` is a
hand-written loop over the same network and batches that lie ready in memory, with fixed losses. `vs_bare_loop` is the
median ratio of neighbouring rounds; target: >= 0.95. `vs_bare_loop_cpu` is that of CPU seconds, which other work on the
machine changes less.

A private cluster being up, one worker on a slot and two under Ray Train: `startup_s` is from calling the stage to the
first update, by the number of workers; `weak_scaling` is the samples a second of two workers against twice those of
one, at the same batch a worker (both want a core, and more is not to be had on two).

`gpu` is null without one; else images a second at batch 16, the share of the time that the GPU waits for data (target:
< 0.02), and what bf16 and torch.compile gain. Prints one JSON line last.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
from typing import Any

import numpy as np
import torch
from torch.nn.functional import cross_entropy, l1_loss

from benchmarks.loader import write
from benchmarks.samples import COLUMNS, modalities, samples, source
from hyperloom.pipeline.commits.manifest import Manifest
from hyperloom.pipeline.root import events as event_log
from hyperloom.pipeline.root.events import Events
from hyperloom.pipeline.root.storage import Storage, sha256
from hyperloom.pipeline.stage import StepRun
from hyperloom.stages.network.model import build_model
from hyperloom.stages.train.job import Job
from hyperloom.stages.train.loop import Training
from hyperloom.stages.train.stage import Train
from hyperloom.stages.world import World

RECIPE: dict[str, Any] = {
    "stage": "train",
    "data": "shards",
    "in": ["rgb@camera", "edges@sobel"],
    "targets": {"classes": "classes@quantised", "depth": "depth@blur"},
    "model": {"parameters": "159k"},
    "mask": {"type": "modality"},
    "batch": 4,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--updates", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--no-ray", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        storage, known = Storage(folder), modalities()
        shards = manifest(storage, known)
        training = Training(job(storage, known, shards), World())
        speeds, cpu = against_bare(training, options.updates, options.rounds)
        gpu = on_gpu(storage, known, shards) if torch.cuda.is_available() else None
        runs = {} if options.no_ray else {n: on_ray(storage, known, shards, n) for n in (1, 2)}
    result = {
        "benchmark": "train",
        "source": source(),
        "parameters": training.model.parameter_count,
        "load": round(os.getloadavg()[0], 1),
        "updates_per_s": {name: round(statistics.median(values), 3) for name, values in speeds.items()},
        "vs_bare_loop": round(statistics.median(x / y for x, y in zip(*speeds.values(), strict=True)), 3),
        "vs_bare_loop_cpu": cpu,
        "startup_s": {str(n): startup for n, (startup, _) in runs.items()} or None,
        "samples_per_s": {str(n): speed for n, (_, speed) in runs.items()} or None,
        "weak_scaling": round(runs[2][1] / (2 * runs[1][1]), 3) if runs else None,
        "gpu": gpu,
    }
    print(json.dumps(result))


def job(storage: Storage, known: dict[str, Any], shards: Manifest, **fields: Any) -> Job:
    stage = Train.model_validate({**RECIPE, "updates": 100_000, **fields})
    return stage.job(run(storage, known, shards, stage))


def against_bare(training: Training, updates: int, rounds: int) -> tuple[dict[str, list[float]], float]:
    """Updates a second, round by round, and the median ratio of CPU seconds; the first round warms up."""
    plain, batches = Bare(training), iter(training.batches)
    ready = [{k: v.to(training.device) for k, v in next(batches).items()} for _ in range(2)]
    found: dict[str, list[float]] = {"loop": [], "bare": []}
    ratios = []
    for round_ in range(rounds + 1):
        began, cpu = time.perf_counter(), [time.process_time()]
        for _ in range(updates):
            training.step(next(batches))[0].norm.item()
        middle = time.perf_counter()
        cpu.append(time.process_time())
        for i in range(updates):
            plain.step(ready[i % len(ready)])
        if round_:
            ratios.append((time.process_time() - cpu[1]) / (cpu[1] - cpu[0]))
            found["loop"].append(updates / (middle - began))
            found["bare"].append(updates / (time.perf_counter() - middle))
    return found, round(statistics.median(ratios), 3)


class Bare:
    """The hand-written loop: two losses, one sum, AdamW."""

    def __init__(self, training: Training):
        job = training.job
        self.model = build_model(job.architecture, job.parameters).to(training.device)
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=1e-3, fused=True)
        depth = self.model.architecture.tasks[1].scale
        self.mean, self.std = depth.mean[0], depth.std[0]

    def step(self, batch: dict[str, torch.Tensor]) -> None:
        told = self.model(batch).predictions
        depth = (batch["depth@blur"].permute(0, 3, 1, 2).float() - self.mean) / self.std
        loss = cross_entropy(told["classes"], batch["classes@quantised"].long()) + l1_loss(told["depth"], depth)
        loss.backward()
        self.optimizer.step()
        self.optimizer.zero_grad()


def manifest(storage: Storage, known: dict[str, Any], count: int = 32) -> Manifest:
    """`count` samples in shards, with round figures for statistics."""
    taken = list(samples(count))
    listed = write(storage, known, {c: np.stack([s[c] for s in taken]) for c in COLUMNS}, "lz4")
    numbers = {"rgb@camera": ([128.0] * 3, [60.0] * 3), "depth@blur": ([30.0], [20.0]), "edges@sobel": ([0.1], [0.2])}
    statistics_: dict[str, Any] = {c: {"missing": 0.0, "mean": m, "std": s} for c, (m, s) in numbers.items()}
    schema = dict.fromkeys([*numbers, "classes@quantised"], "")
    body = {"schema": schema, "shards": listed, "splits": {"train": {"rows": count}}}
    classes = {"missing": 0.0, "classes": dict.fromkeys(known["classes"].classes, 1)}
    return Manifest("shard", "0" * 64, {}, body={**body, "statistics": {**statistics_, "classes@quantised": classes}})


def run(storage: Storage, known: dict[str, Any], shards: Manifest, stage: Train, name: str = "model") -> StepRun:
    """A step as the engine would hand it to the stage."""
    scratch = tempfile.mkdtemp
    events = Events(storage, "benchmark", "driver")
    inputs = {"shards": shards}
    none: Any = None
    return StepRun(name, stage, sha256(name.encode()), known, storage, inputs, events, none, lambda: None, scratch)


def on_ray(storage: Storage, known: dict[str, Any], shards: Manifest, workers: int) -> tuple[float, float]:
    """Seconds from calling the stage until the first update is logged, Ray being up; and samples a second after it."""
    from hyperloom.clusters.connect import connect, disconnect
    from hyperloom.clusters.spec import Cluster
    from hyperloom.pipeline.running.pool import Pool
    from hyperloom.pipeline.workers.rayslots import RayExecutor

    cluster = Cluster(cpus=workers)
    connect(cluster)
    fields = {"updates": 40, "workers": workers, "batch": 4 * workers, "log_every": 1, "gpu": False}
    stage = Train.model_validate({**RECIPE, **fields})
    began = time.time()
    name = f"workers{workers}"  # what one curve has told is not told again by another of the same step
    step = run(storage, known, shards, stage, name)
    pool = Pool(storage, RayExecutor(storage, lambda: connect(cluster)), step.events)
    step.run_units = lambda units, kinds: pool.run(name, step.folder, units, kinds)
    step.reserve, step.gpus = pool.reserve, pool.gpus
    stage.run(step)
    pool.close()
    disconnect()
    told = [e for e in event_log.read(storage, "benchmark") if e["kind"] == "metric" and e["step"] == name]
    speeds = [e["values"]["samples_per_second"] for e in told if "samples_per_second" in e["values"]]
    return round(min(e["t"] for e in told) / 1000 - began, 1), round(statistics.median(speeds[5:]), 2)


def on_gpu(storage: Storage, known: dict[str, Any], shards: Manifest) -> dict[str, float]:
    """Images a second as a recipe would have them, and by how much each option is faster."""
    plain = [_images(job(storage, known, shards, batch=16), loaded) for loaded in (True, False)]
    half = _images(job(storage, known, shards, batch=16, precision="bf16"), False)
    both = _images(job(storage, known, shards, batch=16, precision="bf16", compile=True), False)
    return {
        "images_per_s": round(plain[0], 1),
        "wait_share": round(max(0.0, 1 - plain[0] / plain[1]), 4),
        "bf16_gain": round(half / plain[1], 3),
        "bf16_compile_gain": round(both / half, 3),
    }


def _images(job_: Job, loaded: bool, updates: int = 60) -> float:
    """Images a second with the loader, or from one batch that lies on the GPU."""
    training = Training(job_, World())
    batches = iter(training.batches)
    ready = {k: v.to(training.device) for k, v in next(batches).items()}
    for round_ in range(2):  # the first warms up and compiles
        torch.cuda.synchronize()
        began = time.perf_counter()
        for _ in range(updates if round_ else 20):
            training.step(next(batches) if loaded else ready)
        torch.cuda.synchronize()
    return updates * job_.batch / (time.perf_counter() - began)


if __name__ == "__main__":
    main()
