"""The training loop: plain PyTorch, one function `fit`, no Ray.

Everything random in update u is drawn from (seed, u) and nothing else, batches are a pure function of the seed, and
checkpoints hold model, balancer, optimizer, schedule, average, loader position and the logged history. So a training
that died anywhere and was started again ends in the same weights, byte for byte, on the same number of workers; on
another number it differs by the rounding of sums. What is logged twice by a resumed run is left to `log` to ignore:
entries carry their update.

Rank 0 writes; the last thing written is `trained.json`, which says that the rest is complete. Not here: which columns,
which files, which machines (`stage.py`, `launch.py`).
"""

from __future__ import annotations

import hashlib
import json
import math
import time
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch.nn.utils import clip_grad_norm_
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from pipeline import faults
from pipeline.storage import sha256
from stages.shard.loader import Loader
from stages.train import checkpoint
from stages.train.architecture import MODEL_JSON, MODEL_WEIGHTS
from stages.train.job import TRAINED, Job
from stages.train.learner import Learner, Losses
from stages.train.model import MultiTask, build_model, weights
from stages.train.validation import validate
from stages.train.world import World

Values = dict[str, float]
Tensors = dict[str, torch.Tensor]
Log = Callable[[int, Values], None]


def fit(job: Job, world: World | None = None, log: Log = lambda at, values: None) -> None:
    """Train until `trained.json` is written, continuing from the last checkpoint. `log(update, values)` is called on
    rank 0, again for each entry of the history when a run resumes. Every rank of `world` must call this."""
    world = world or World.current()
    torch.set_num_threads(job.rhythm.threads)
    torch.use_deterministic_algorithms(True, warn_only=True)
    torch.utils.deterministic.fill_uninitialized_memory = False
    Training(job, world, log).run()


class Training:
    """One process's part of a training, from the last checkpoint on."""

    def __init__(self, job: Job, world: World, log: Log):
        self.job, self.world, self.log = job, world, log if world.rank == 0 else lambda at, values: None
        self.device = (
            torch.device("cuda", torch.cuda.current_device()) if torch.cuda.is_available() else torch.device("cpu")
        )
        torch.manual_seed(_seed(job.seed, "weights"))
        model = build_model(job.architecture, job.parameters)
        self.learner = Learner(job, model).to(self.device)
        tasks = model.architecture.tasks
        self.balancer = job.balancer.build([t.name for t in tasks], [t.regression for t in tasks]).to(self.device)
        self.parameters = [*model.parameters(), *self.balancer.parameters()]
        self.optimizer = _optimizer(job, model, self.balancer)
        self.schedule = torch.optim.lr_scheduler.LambdaLR(self.optimizer, lambda u: rate(job, u))
        self.average = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(job.ema)) if job.ema else None
        self.loader = self._loader("train", shuffle=True)
        self.update = self.timed = 0
        self.busy = 0.0
        self.history: list[dict[str, Any]] = []

    @property
    def model(self) -> MultiTask:
        """The network being trained."""
        return self.learner.model

    @property
    def kept(self) -> MultiTask:
        """The network that is validated and stored: the average where there is one."""
        return self.average.module if self.average is not None else self.model

    def run(self) -> None:
        """Updates until the last, then the files."""
        self._resume()
        rhythm, batches = self.job.rhythm, self.batches()
        while self.update < self.job.updates:
            began = time.perf_counter()
            losses, total = self.step(next(batches))
            self.update += 1
            self.busy += time.perf_counter() - began
            faults.point("train.step")
            last = self.update == self.job.updates
            if last or self.update % rhythm.log == 0:
                self._note(self._figures(losses, total), {"samples_per_second": self._speed()})
            if self.job.judged and (last or self.update % rhythm.validate == 0):
                self._note(
                    validate(self.job, self.kept, self._loader("val", shuffle=False), self.world, self.device), {}
                )
            if last or self.update % rhythm.checkpoint == 0:
                self._save()
        self._finish()

    def _speed(self) -> float:
        """Samples a second over all workers since the last call, validation and checkpoints left out."""
        speed = (self.update - self.timed) * self.job.batch / self.busy
        self.timed, self.busy = self.update, 0.0
        return speed

    # -- one update ------------------------------------------------------------------------------------------------
    def step(self, batch: Tensors) -> tuple[Losses, torch.Tensor]:
        """One update from this rank's part of a global batch: the tasks' losses, and the balancer's sum of them."""
        job, columns = self.job, self.model.architecture.columns
        torch.manual_seed(_seed(job.seed, "update", self.update, self.world.rank))
        part = self.world.slice(job.batch)
        generator = torch.Generator().manual_seed(_seed(job.seed, "mask", self.update))
        visible = job.mask.sample(columns, job.batch, generator)[part]
        tensors = {k: v.to(self.device, non_blocking=True) for k, v in batch.items()}
        for augment in job.augment:
            tensors = augment.apply(tensors, self.loader.modalities, job.batch, part, generator)
        self.model.train()
        losses = self.learner(tensors, visible.to(self.device), self.world)
        scaled = losses.values * self.world.size  # gradients are averaged over ranks, the losses are shares of a mean
        total = self.balancer.backward(scaled, losses.present, self.parameters)
        self.balancer.settle(self.parameters, self.world)
        if job.optimizer.clip:
            clip_grad_norm_(self.parameters, job.optimizer.clip)
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.schedule.step()
        if self.average is not None:
            self.average.update_parameters(self.model)
        return losses, total

    def _figures(self, losses: Losses, total: torch.Tensor) -> Values:
        """What the curve shows: the loss of each task that had labels, their balanced sum, the learning rate."""
        shares = torch.cat([losses.values.detach(), total.view(1) / self.world.size])
        values = self.world.sum(shares).tolist()
        names = [t.name for t in self.model.architecture.tasks]
        each = {f"loss.{n}": v for n, v, p in zip(names, values, losses.present.tolist(), strict=False) if p}
        return {"loss": values[-1], **each, "lr": self.schedule.get_last_lr()[0]}

    def _note(self, values: Values, timing: Values) -> None:
        rounded = {k: float(f"{v:.6g}") for k, v in values.items()}
        self.history.append({"at": self.update, "values": rounded})
        self.log(self.update, {**rounded, **timing})

    # -- data ------------------------------------------------------------------------------------------------------
    def _loader(self, split: str, shuffle: bool) -> Loader:
        job = self.job
        columns = (
            job.columns if shuffle else tuple(dict.fromkeys([*self.model.architecture.columns, *job.judged.values()]))
        )
        return Loader(
            job.storage,
            job.shards,
            job.modalities,
            columns,
            split=split,
            batch=job.batch,
            seed=job.seed,
            world_size=self.world.size,
            rank=self.world.rank,
            shuffle=shuffle,
            drop_last=shuffle,
            cache_mb=job.rhythm.cache_mb,
            native=True,
        )

    def batches(self) -> Iterator[Tensors]:
        """Tensorses without end, epoch after epoch, from where the loader stands."""
        while True:
            yield from self.loader

    # -- state -----------------------------------------------------------------------------------------------------
    def _save(self) -> None:
        state = {
            "update": self.update,
            "model": self.model.state_dict(),
            "balancer": self.balancer.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "schedule": self.schedule.state_dict(),
            "average": None if self.average is None else self.average.state_dict(),
            "loader": self.loader.state_dict(),
            "history": self.history,
        }
        if self.world.rank == 0:
            checkpoint.save(self.job.storage, self.job.folder, self.update, state)
        self.world.barrier()
        faults.point("train.checkpoint")

    def _resume(self) -> None:
        state = checkpoint.load(self.job.storage, self.job.folder)
        self.world.barrier()
        if state is None:
            return
        self.model.load_state_dict(state["model"])
        self.balancer.load_state_dict(state["balancer"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.schedule.load_state_dict(state["schedule"])
        if self.average is not None:
            self.average.load_state_dict(state["average"])
        self.loader.load_state_dict(state["loader"])
        self.update, self.timed, self.history = state["update"], state["update"], state["history"]
        for entry in self.history:
            self.log(entry["at"], entry["values"])

    def _finish(self) -> None:
        if self.world.rank == 0:
            model, storage, folder = self.kept, self.job.storage, self.job.folder
            made = {MODEL_JSON: _json(model.architecture.to_json()), MODEL_WEIGHTS: weights(model)}
            for name, data in made.items():
                storage.write(f"{folder}/{name}", data)
            last: Values = {}
            for entry in self.history:
                last.update(entry["values"])
            about = {"parameters": model.parameter_count, "updates": self.update, "final": last}
            storage.write_json(f"{folder}/{TRAINED}", {**about, "files": {n: sha256(d) for n, d in made.items()}})
        self.world.barrier()


def rate(job: Job, update: int) -> float:
    """An update's learning rate as a share of the highest: linear warm-up, then cosine (Loshchilov & Hutter 2017)."""
    warm = round(job.optimizer.warmup * job.updates)
    if update < warm:
        return (update + 1) / (warm + 1)
    done = (update - warm) / max(1, job.updates - warm)
    return job.optimizer.floor + (1 - job.optimizer.floor) * (1 + math.cos(math.pi * done)) / 2


def _optimizer(job: Job, model: MultiTask, balancer: torch.nn.Module) -> torch.optim.Optimizer:
    """AdamW; only matrices and filters decay, norms, biases and the balancer's parameters do not."""
    decayed = [p for p in model.parameters() if p.ndim > 1]
    free = [p for p in model.parameters() if p.ndim <= 1] + list(balancer.parameters())
    groups = [{"params": decayed, "weight_decay": job.optimizer.weight_decay}, {"params": free, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=job.optimizer.lr, betas=job.optimizer.betas, fused=True)


def _seed(*parts: Any) -> int:
    """A 63-bit seed that depends on all of `parts`."""
    return int.from_bytes(hashlib.sha256(repr(parts).encode()).digest()[:8], "big") >> 1


def _json(value: Any) -> bytes:
    return json.dumps(value, sort_keys=True, indent=1).encode()
