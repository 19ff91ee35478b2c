"""What the training loop costs beyond the network's own arithmetic, and what Ray Train takes to start.

    python -m benchmarks.train [--updates 20] [--rounds 3] [--workers 2] [--no-ray]

Updates a second on one thread, medians of interleaved rounds, masked multi-task training of a 159k U-Net on 256x256
samples: `loop` is `stages.train.loop` with its loader, masks, objectives, balancer and schedule, from shards on disk;
`bare` is a hand-written loop over the same network and batches that lie ready in memory, with fixed losses. `startup_s`
is from calling the stage to its first update on Ray Train, a private cluster being up. Prints one JSON line last;
target: vs_bare_loop >= 0.9.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
from typing import Any

import torch
from torch.nn.functional import cross_entropy, l1_loss

from benchmarks.loader import write
from benchmarks.samples import modalities, source
from pipeline import events as event_log
from pipeline.events import Events
from pipeline.manifest import Manifest
from pipeline.stage import StepRun
from pipeline.storage import Storage
from stages.train.loop import Training
from stages.train.model import build_model
from stages.train.stage import Train
from stages.train.world import World

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
    parser.add_argument("--updates", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--no-ray", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        storage, known = Storage(folder), modalities()
        shards = manifest(storage, known)
        stage = Train.model_validate({**RECIPE, "updates": options.updates * (options.rounds + 1)})
        job = stage.job(run(storage, known, shards, stage))
        training = Training(job, World(), lambda at, values: None)
        plain, ready = Bare(training), [next(training.batches()) for _ in range(2)]
        found: dict[str, list[float]] = {"loop": [], "bare": []}
        batches = training.batches()
        for round_ in range(options.rounds + 1):
            began = time.perf_counter()
            for _ in range(options.updates):
                training.step(next(batches))
            middle = time.perf_counter()
            for i in range(options.updates):
                plain.step(ready[i % len(ready)])
            if round_:  # the first round warms up
                found["loop"].append(options.updates / (middle - began))
                found["bare"].append(options.updates / (time.perf_counter() - middle))
        speeds = {name: round(statistics.median(values), 3) for name, values in found.items()}
        startup = None if options.no_ray else started(storage, known, shards, options.workers)
    result = {
        "benchmark": "train",
        "source": source(),
        "parameters": training.model.parameter_count,
        "load": round(os.getloadavg()[0], 1),
        "updates_per_s": speeds,
        "vs_bare_loop": round(speeds["loop"] / speeds["bare"], 3),
        "workers": options.workers,
        "startup_s": startup,
    }
    print(json.dumps(result))


class Bare:
    """The hand-written loop: two losses, one sum, AdamW."""

    def __init__(self, training: Training):
        job = training.job
        self.model = build_model(job.architecture, job.parameters)
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=1e-3, fused=True)
        depth = self.model.architecture.tasks[1].scale
        self.mean, self.std = depth.mean[0], depth.std[0]

    def step(self, batch: dict[str, torch.Tensor]) -> None:
        told = self.model(batch)
        depth = (batch["depth@blur"].permute(0, 3, 1, 2).float() - self.mean) / self.std
        loss = cross_entropy(told["classes"], batch["classes@quantised"].long()) + l1_loss(told["depth"], depth)
        loss.backward()
        self.optimizer.step()
        self.optimizer.zero_grad()


def manifest(storage: Storage, known: dict[str, Any]) -> Manifest:
    """32 samples in shards, with round figures for statistics."""
    listed = write(storage, known, 32, "zstd")
    numbers = {"rgb@camera": ([128.0] * 3, [60.0] * 3), "depth@blur": ([30.0], [20.0]), "edges@sobel": ([0.1], [0.2])}
    statistics_: dict[str, Any] = {c: {"missing": 0.0, "mean": m, "std": s} for c, (m, s) in numbers.items()}
    schema = dict.fromkeys([*numbers, "classes@quantised"], "")
    body = {"schema": schema, "shards": listed, "splits": {"train": {"rows": 32}}}
    classes = {"missing": 0.0, "classes": dict.fromkeys(known["classes"].classes, 1)}
    return Manifest("shard", "0" * 64, {}, body={**body, "statistics": {**statistics_, "classes@quantised": classes}})


def run(storage: Storage, known: dict[str, Any], shards: Manifest, stage: Train) -> StepRun:
    """A step as the engine would hand it to the stage."""
    scratch = tempfile.mkdtemp
    events = Events(storage, "benchmark", "driver")
    inputs = {"shards": shards}
    none: Any = None
    return StepRun("model", stage, "f" * 64, known, storage, inputs, events, none, lambda: None, scratch)


def started(storage: Storage, known: dict[str, Any], shards: Manifest, workers: int) -> float:
    """Seconds from calling the stage until the first update is logged, Ray being up."""
    from clusters.connect import connect, disconnect
    from clusters.spec import Cluster

    connect(Cluster(cpus=workers))
    stage = Train.model_validate({**RECIPE, "updates": 1, "workers": workers})
    began = time.time()
    stage.run(run(storage, known, shards, stage))
    disconnect()
    told = [e["t"] / 1000 for e in event_log.read(storage, "benchmark") if e["writer"].startswith("train-")]
    return round(min(told) - began, 1)


if __name__ == "__main__":
    main()
