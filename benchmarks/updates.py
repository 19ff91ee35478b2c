"""What an update of a small student costs on one core, and what each choice makes of it.

    python -m benchmarks.updates [--size 96 128] [--updates 5] [--rounds 8]
    python -m benchmarks.updates --bare espnet --size 384 512 --answers 96 128 --updates 1

A U-Net of 158k parameters (width 6), one of width 8 and an inverted trunk of 160k are taught classes by probabilities
and ids, in batches of 4, flipped and in another light, with an average of weights, by the loop itself from shards on
disk. `ratio` is the CPU time of an update with a choice by that without it, the median of neighbouring rounds, so what
else the machine does falls out; `ms` are milliseconds of CPU time, as they were. `threads` is wall time by wall time.
Prints one JSON line last.

`--bare` compares one trunk alone with a loop as one writes it by hand: the same network and batch, in memory, the
divergence from probabilities, AdamW; no augmentation, no average, no loader.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from benchmarks.train import run
from hyperloom.pipeline import plugins
from hyperloom.pipeline.commits.manifest import Manifest
from hyperloom.pipeline.root.storage import Storage
from hyperloom.stages.table import rows_a_group, write_table
from hyperloom.stages.train.loop import Training
from hyperloom.stages.train.stage import Train
from hyperloom.stages.world import World

CLASSES = [f"c{i}" for i in range(11)]
COLUMNS = ("rgb@camera", "semantic@votes", "soft@teacher")
INVERTED = {"trunk": "inverted", "parameters": "160k"}
STUDENT: dict[str, Any] = {
    "stage": "train",
    "data": "shards",
    "in": ["rgb@camera"],
    "targets": {"semantic": {"soft@teacher": 1.0, "semantic@votes": 0.5}},
    "model": {"trunk": "unet", "parameters": "158k"},
    "batch": 4,
    "augment": ["flip", "colour"],
    "ema": 0.98,
    "updates": 100_000,
}
BARE: dict[str, Any] = {
    "espnet": {"trunk": {"type": "espnet", "classes": 20}, "parameters": "364k"},
    "unet": {"trunk": "unet", "parameters": "158k"},
    "inverted": INVERTED,
}
LOOPS = ("bare", "plain", "with flip, colour and average")
CHOICES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "unet in bf16": ({}, {"precision": "bf16"}),
    "unet of width 8": ({}, {"model": {"trunk": {"type": "unet", "width": 8}}}),
    "inverted trunk": ({}, {"model": INVERTED}),
    "inverted in bf16": ({"model": INVERTED}, {"model": INVERTED, "precision": "bf16"}),
    "without augmentation": ({}, {"augment": []}),
    "without average": ({}, {"ema": 0.0}),
    "ids alone": ({}, {"targets": {"semantic": "semantic@votes"}}),
    "batch 8, by sample": ({}, {"batch": 8}),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", nargs=2, type=int, default=[96, 128])
    parser.add_argument("--updates", type=int, default=5)
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--answers", nargs=2, type=int, help="their size, by default that of the picture")
    parser.add_argument("--bare", choices=sorted(BARE))
    options = parser.parse_args()
    from hyperloom import stages  # noqa: F401  registers the plug-ins

    with tempfile.TemporaryDirectory() as folder:
        storage = Storage(folder)
        known, manifest = shards(storage, options.size, options.answers or options.size, 16 if options.bare else 64)
        bench = Bench(storage, known, manifest, options.updates, options.rounds)
        if options.bare:
            figures = bench.beside(options.bare)
            print(json.dumps({"benchmark": "updates", "load": round(os.getloadavg()[0], 1), **figures}))
            return
        ratios = {name: bench.ratio(*pair, by=2 if "by sample" in name else 1) for name, pair in CHOICES.items()}
        ms = {"unet": bench.milliseconds({}), "inverted": bench.milliseconds({"model": INVERTED})}
        threads = bench.ratio({}, {"threads": 2}, clock=time.perf_counter)
    load = round(os.getloadavg()[0], 1)
    print(json.dumps({"benchmark": "updates", "load": load, "ms": ms, "ratio": ratios, "threads": threads}))


class Bench:
    """Updates of students that differ in a choice, over the same shards."""

    def __init__(self, storage: Storage, known: dict[str, Any], manifest: Manifest, updates: int, rounds: int):
        self.storage, self.known, self.manifest = storage, known, manifest
        self.updates, self.rounds = updates, rounds

    def ratio(
        self,
        one: dict[str, Any],
        other: dict[str, Any],
        by: int = 1,
        clock: Callable[[], float] = time.process_time,
    ) -> float:
        """What an update of `other` takes of one of `one`, divided `by`; the first round warms up."""
        timers = [self._timer(fields, clock) for fields in (one, other)]
        seconds = [[timer() for timer in timers] for _ in range(self.rounds + 1)][1:]
        return round(statistics.median(b / a for a, b in seconds) / by, 3)

    def beside(self, name: str) -> dict[str, Any]:
        """A trunk's update as recipes train it, and plain, by a loop that is written by hand."""
        soft = {"model": BARE[name], "targets": {"semantic": "soft@teacher"}}
        plain = self._timer({**soft, "augment": [], "ema": 0.0}, time.process_time)
        timers = [self._bare(BARE[name]), plain, self._timer(soft, time.process_time)]
        rounds = [[timer() for timer in timers] for _ in range(self.rounds + 1)][1:]
        each = [1000 * min(seconds) / self.updates for seconds in zip(*rounds, strict=True)]
        ratios = [statistics.median(row[i] / row[0] for row in rounds) for i in (1, 2)]
        return {
            "trunk": name,
            "ms": dict(zip(LOOPS, (round(ms, 1) for ms in each), strict=True)),
            "ratio to bare": [round(ratio, 3) for ratio in ratios],
        }

    def _bare(self, model: dict[str, Any]) -> Callable[[], float]:
        """Seconds that some updates of a loop take that is written by hand; in evaluation mode networks are what torch
        makes of them, and none of these behaves otherwise in training."""
        stage = Train.model_validate({**STUDENT, "model": model, "targets": {"semantic": "soft@teacher"}})
        training = Training(stage.job(run(self.storage, self.known, self.manifest, stage)), World())
        network, batch = training.model.eval(), next(iter(training.batches))
        optimizer = torch.optim.AdamW(network.parameters(), lr=1e-4, fused=True)
        target = batch["soft@teacher"].float().permute(0, 3, 1, 2).contiguous()
        target = target / target.sum(1, keepdim=True)

        def timed() -> float:
            torch.set_num_threads(1)
            began = time.process_time()
            for _ in range(self.updates):
                optimizer.zero_grad()
                says = network({"rgb@camera": batch["rgb@camera"]}).predictions["semantic"].log_softmax(1)
                loss = torch.nn.functional.kl_div(says, target, reduction="none").sum(1).mean()
                loss.backward()
                optimizer.step()
            return time.process_time() - began

        return timed

    def milliseconds(self, fields: dict[str, Any]) -> float:
        timer = self._timer(fields, time.process_time)
        return round(1000 * min(timer() for _ in range(self.rounds)) / self.updates, 1)

    def _timer(self, fields: dict[str, Any], clock: Callable[[], float]) -> Callable[[], float]:
        """Seconds that some updates take, each time it is called."""
        stage = Train.model_validate({**STUDENT, **fields})
        training = Training(stage.job(run(self.storage, self.known, self.manifest, stage)), World())
        batches, threads = iter(training.batches), stage.threads

        def timed() -> float:
            torch.set_num_threads(threads)
            began = clock()
            for _ in range(self.updates):
                training.step(next(batches))
            return clock() - began

        return timed


def shards(storage: Storage, size: list[int], answers: list[int], count: int = 64) -> tuple[dict[str, Any], Manifest]:
    """Modalities, and one shard of noise: what it shows changes no time."""
    known = {
        "rgb": plugins.parse("modality", {"type": "image", "size": size}),
        "semantic": plugins.parse("modality", {"type": "segmentation", "size": answers, "classes": CLASSES}),
        "soft": plugins.parse("modality", {"type": "soft", "size": answers, "classes": CLASSES}),
    }
    random, several = np.random.default_rng(0), len(CLASSES)
    raw = {
        "rgb@camera": list(random.integers(0, 255, (count, *size, 3), dtype=np.uint8)),
        "semantic@votes": list(random.integers(0, several, (count, *answers)).astype(np.uint8)),
        "soft@teacher": list(random.dirichlet(np.ones(several), (count, *answers)).astype(np.float32)),
    }
    columns = {c: known[c.partition("@")[0]].encode(values) for c, values in raw.items()}
    rows = rows_a_group(sum(array.nbytes for array in columns.values()), count)
    data = write_table(columns, [known[c.partition("@")[0]].field(c) for c in COLUMNS], "lz4", rows)
    storage.write("noise.parquet", data)
    file = {"path": "noise.parquet", "split": "train", "rows": count, "row_group": rows, "bytes": len(data)}
    statistics_ = {
        "rgb@camera": {"missing": 0.0, "mean": [128.0] * 3, "std": [60.0] * 3},
        "semantic@votes": {"missing": 0.0, "classes": dict.fromkeys(CLASSES, 1000)},
        "soft@teacher": {"missing": 0.0, "mean": dict.fromkeys(CLASSES, 1 / several)},
    }
    body = {"schema": dict.fromkeys(COLUMNS, ""), "shards": [file], "splits": {"train": {"rows": count}}}
    return known, Manifest("shard", "0" * 64, {}, body={**body, "statistics": statistics_})


if __name__ == "__main__":
    main()
