"""What distillation with a teacher at hand costs an update, against a hand-written loop and torchdistill.

    python -m benchmarks.distil [--updates 6] [--rounds 6] [--torchdistill FOLDER]

A 60k student of the picture alone learns from hard classes and from the answers of a 430k teacher, asked in each update
(temperature 2), on 256x256 samples at batch 4, one thread. `loop` is `stages.train.loop` with the extra `answers` and
its loader, from shards on disk; `hand` is the plain loop that one would write, and `torchdistill` the library's
`DistillationBox` with its `KDLoss` (Matsubara 2021), both over the same batches that lie ready in memory. All three
begin with the same weights and have the same loss: `apart` is the largest relative difference of their losses over
the first updates. `ms_per_update` are medians of neighbouring rounds, `vs_hand` and `vs_torchdistill` of their ratios
(above 1: the loop is quicker). Prints one JSON line last.

torchdistill wants a torchvision of the same torch; where only another build of it can be had, install both with
`pip install --no-deps --target FOLDER torchdistill torchvision`: of torchvision it needs Python code alone here.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from itertools import islice
from typing import Any

import torch
from torch import nn
from torch.nn.functional import cross_entropy, kl_div

from benchmarks.samples import modalities
from benchmarks.train import manifest, run
from hyperloom.pipeline.commits.manifest import Manifest
from hyperloom.pipeline.commits.units import File
from hyperloom.pipeline.root.storage import Storage, sha256
from hyperloom.stages.distill.stage import Distill
from hyperloom.stages.network.architecture import MODEL_JSON, MODEL_WEIGHTS
from hyperloom.stages.network.model import MultiTask, build_model, load_model, weights
from hyperloom.stages.train.loop import Training
from hyperloom.stages.world import World

LR, TEMPERATURE, COMPARED = 1e-3, 2.0, 5
RECIPE: dict[str, Any] = {
    "stage": "distill",
    "data": "shards",
    "teacher": "teacher",
    "in": "rgb@camera",
    "targets": {"classes": "classes@quantised"},
    "extras": {"answers": {"type": "answers", "temperature": TEMPERATURE}},
    "model": {"parameters": "60k"},
    "optimizer": {"lr": LR, "weight_decay": 0, "warmup": 0, "clip": None},
    "schedule": "constant",
    "batch": 4,
    "updates": 100_000,
}
Step = Callable[[dict[str, torch.Tensor]], float]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--updates", type=int, default=6)
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--torchdistill", default="", help="folder with the library, see above")
    options = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        storage, known = Storage(folder), modalities()
        shards = manifest(storage, known)
        classes = len(known["classes"].classes)
        recipe = {**RECIPE, "balancer": {"type": "static", "weights": {"classes": 0.5, "answers": 0.5 / classes}}}
        taught = student(storage, known, shards, teacher(storage, known, shards), recipe)
        batches = list(islice(iter(taught().batches), 8))
        steps = {"loop": looped(taught()), "hand": by_hand(taught())}
        library, why = peer(options.torchdistill, taught())
        steps |= {"torchdistill": library} if library else {}
        losses = {name: [step(batches[i]) for i in range(COMPARED)] for name, step in steps.items()}
        loader = iter(taught().batches)
        seconds = timed(steps, batches, loader, options.updates, options.rounds)
    ours = seconds.pop("loop")
    apart = [abs(a - b) / b for name in seconds for a, b in zip(losses["loop"], losses[name], strict=True)]
    result = {
        "benchmark": "distil",
        "load": round(os.getloadavg()[0], 1),
        "ms_per_update": {n: round(1000 * statistics.median(v), 1) for n, v in {"loop": ours, **seconds}.items()},
        **{
            f"vs_{n}": round(statistics.median(t / o for t, o in zip(v, ours, strict=True)), 3)
            for n, v in seconds.items()
        },
        "losses": [round(v, 5) for v in losses["loop"]],
        "apart": float(f"{max(apart):.2g}"),
        "torchdistill": why,
    }
    print(json.dumps(result))


def teacher(storage: Storage, known: dict[str, Any], shards: Manifest) -> Manifest:
    """A network as a train step leaves one: its answers need not be good to be timed."""
    fields = {"model": {"parameters": "430k"}, "teacher": None, "extras": {}}
    step = run(storage, known, shards, Distill.model_validate({**RECIPE, **fields}), "teacher")
    job = step.stage.job(step)  # type: ignore[attr-defined]
    torch.manual_seed(1)
    model = build_model(job.architecture, job.parameters)
    described = json.dumps(model.architecture.to_json(), sort_keys=True).encode()
    files = []
    for name, data in ((MODEL_JSON, described), (MODEL_WEIGHTS, weights(model.state_dict()))):
        storage.write(f"teacher/{name}", data)
        files.append(File(f"teacher/{name}", len(data), sha256(data)))
    body = {"columns_in": ["rgb@camera"], "tasks": ["classes"]}
    return Manifest("train", "a" * 64, {}, (), tuple(files), body)


def student(
    storage: Storage, known: dict[str, Any], shards: Manifest, taught_by: Manifest, recipe: dict[str, Any]
) -> Callable[[], Training]:
    """Makes trainings that all begin with the same weights."""
    step = run(storage, known, shards, Distill.model_validate(recipe), "student")
    step.inputs["teacher"] = taught_by
    job = step.stage.job(step)  # type: ignore[attr-defined]
    return lambda: Training(job, World())


def looped(training: Training) -> Step:
    def step(batch: dict[str, torch.Tensor]) -> float:
        update, _ = training.step(batch)
        training.update += 1
        return float(update.total)

    return step


class Pictures(nn.Module):
    """A network as a function of pictures alone."""

    def __init__(self, model: MultiTask):
        super().__init__()
        self.model = model

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        return self.model({"rgb@camera": pictures}).predictions["classes"]


def networks(training: Training) -> tuple[Pictures, Pictures]:
    """The teacher, at rest, and a student."""
    whole = load_model(training.job.storage, "teacher").requires_grad_(False)
    return Pictures(whole), Pictures(training.model.train())


def by_hand(training: Training) -> Step:
    """The loop of every tutorial."""
    guide, own = networks(training)
    optimizer = torch.optim.AdamW(own.parameters(), lr=LR, betas=(0.9, 0.99), weight_decay=0, fused=True)

    def step(batch: dict[str, torch.Tensor]) -> float:
        pictures, truth = batch["rgb@camera"], batch["classes@quantised"].long()
        with torch.no_grad():
            soft = (guide(pictures) / TEMPERATURE).softmax(1)
        logits = own(pictures)
        hard = cross_entropy(logits, truth)
        softened = kl_div((logits / TEMPERATURE).log_softmax(1), soft, reduction="none").mean() * TEMPERATURE**2
        loss = 0.5 * hard + 0.5 * softened
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        return float(loss.detach())

    return step


def peer(folder: str, training: Training) -> tuple[Step | None, str]:
    """torchdistill's step and version; None and why not where it cannot be had."""
    if folder:
        sys.path.insert(0, folder)
    try:
        return _boxed(training)
    except Exception as error:  # a peer that does not run here is no result
        return None, f"not compared: {type(error).__name__}: {str(error)[:200]}"


def _boxed(training: Training) -> tuple[Step, str]:
    for name in ("nms", "qnms"):  # declared, so that torchvision's Python code can be imported without its library
        torch.library.define(f"torchvision::{name}", "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    import torchdistill  # type: ignore[import-not-found]
    from torchdistill.core.distillation import DistillationBox  # type: ignore[import-not-found]

    kd: dict[str, Any] = {
        f"{who}_module_{what}": v for who in ("student", "teacher") for what, v in (("path", "."), ("io", "output"))
    }
    kd |= {"temperature": TEMPERATURE, "alpha": 0.5, "reduction": "mean"}
    terms = {"kd": {"criterion": {"key": "KDLoss", "kwargs": kd}, "weight": 1.0}}
    adamw = {"key": "AdamW", "kwargs": {"lr": LR, "betas": (0.9, 0.99), "weight_decay": 0}}
    config = {
        "num_epochs": 1,
        "train_data_loader": {},
        "val_data_loader": {},
        "teacher": {"forward_proc": "forward_batch_only", "sequential": [], "requires_grad": False},
        "student": {"forward_proc": "forward_batch_only", "sequential": [], "requires_grad": True},
        "criterion": {"key": "WeightedSumLoss", "kwargs": {"sub_terms": terms}},
        "optimizer": adamw,
    }
    guide, own = networks(training)
    box = DistillationBox(guide, own, {}, config, torch.device("cpu"), None, False, 1.0)

    def step(batch: dict[str, torch.Tensor]) -> float:
        loss = box.forward_process(batch["rgb@camera"], targets=batch["classes@quantised"].long(), supp_dict=None)
        box.post_forward_process(loss=loss)
        return float(loss.detach())

    return step, torchdistill.__version__


def timed(steps: dict[str, Step], batches: list[Any], loader: Any, updates: int, rounds: int) -> dict[str, list[float]]:
    """Seconds an update, round by round; the first round warms up."""
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    for round_ in range(rounds + 1):
        for name, step in steps.items():
            began = time.perf_counter()
            for i in range(updates):
                step(next(loader) if name == "loop" else batches[i % len(batches)])
            if round_:
                seconds[name].append((time.perf_counter() - began) / updates)
    return seconds


if __name__ == "__main__":
    main()
