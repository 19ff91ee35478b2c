"""The training loop: plain PyTorch, one function `fit`, no Ray.

Everything random in update u is drawn from (seed, u) and nothing else, batches are a pure function of the seed, and
checkpoints hold model, balancer, optimizer, schedule, average, best weights, loader position and the logged history. So
a training that died anywhere and was started again ends in the same weights, byte for byte, on the same number of
workers; on another number, sharded, compiled or in smaller parts it differs by the rounding of sums. What is logged
twice by a resumed run is left to `log` to ignore: entries carry their update.

Rank 0 writes; the last thing written is `trained.json`, which says that the rest is complete. Not here: which columns,
which files, which machines (`stage.py`, `launch.py`).
"""

from __future__ import annotations

import hashlib
import json
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from hyperloom.pipeline import faults
from hyperloom.stages.network.architecture import MODEL_JSON, MODEL_WEIGHTS
from hyperloom.stages.network.model import MultiTask, build_model, weights
from hyperloom.stages.network.visible import Visible
from hyperloom.stages.shard.cache import DiskCache
from hyperloom.stages.shard.loader import Loader
from hyperloom.stages.train import checkpoint, compute, fitted, optimizer, sharding
from hyperloom.stages.train.failures import NotFinite
from hyperloom.stages.train.job import Job
from hyperloom.stages.train.learner import Learner, Losses
from hyperloom.stages.train.notice import Ask, Preempted
from hyperloom.stages.train.stopping import Best
from hyperloom.stages.train.validation import validate
from hyperloom.stages.train.world import World

Values = dict[str, float]
Tensors = dict[str, torch.Tensor]
Log = Callable[[int, Values], None]


@dataclass(frozen=True)
class Update:
    """What one update was: its losses, the balancer's sum of them, the norm of the gradient, and what was asked for by
    any rank (one number for each `Ask` but the first)."""

    number: int
    losses: Losses
    total: torch.Tensor
    norm: torch.Tensor
    asked: torch.Tensor


def fit(
    job: Job,
    world: World | None = None,
    log: Log = lambda at, values: None,
    asked: Callable[[], Ask] = lambda: Ask.NOTHING,
    device: torch.device | None = None,
) -> None:
    """Train until `trained.json` is written, continuing from the last checkpoint. `log(update, values)` is called on
    rank 0, again for each entry of the history when a run resumes. Every rank of `world` must call this.

    Raises Preempted, after a checkpoint, when `asked()` is not NOTHING on any rank, and NotFinite when a loss or the
    gradient is infinite or no number.
    """
    world = world or World.current()
    torch.set_num_threads(job.rhythm.threads)
    torch.use_deterministic_algorithms(True, warn_only=True)
    torch.utils.deterministic.fill_uninitialized_memory = False
    Training(job, world, log, asked, device).run()


class Training:
    """One process's part of a training, from the last checkpoint on."""

    def __init__(
        self,
        job: Job,
        world: World,
        log: Log = lambda at, values: None,
        asked: Callable[[], Ask] = lambda: Ask.NOTHING,
        device: torch.device | None = None,
    ):
        self.job, self.world, self.log = job, world, log if world.rank == 0 else lambda at, values: None
        self.asked, self.device = asked, device or _device()
        torch.manual_seed(_seed(job.seed, "weights"))
        model = build_model(job.architecture, job.parameters)
        self.learner = Learner(job, model).to(self.device)
        self.average = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(job.ema)) if job.ema else None
        if job.rhythm.sharded:
            for one in (model, *([self.average.module] if self.average is not None else [])):
                sharding.shard(one, world.size, self.device)
        compiled = job.rhythm.compile and compute.why_not_compile(self.device) is None
        self.learner.network = compute.runner(model, job.precision, compiled, self.device)
        tasks = model.architecture.tasks
        kinds = [*(t.regression for t in tasks), *(False for _ in job.extras)]
        self.balancer = job.balancer.build(self.learner.names, kinds).to(self.device)
        self.parameters = [*model.parameters(), *self.learner.extras.parameters(), *self.balancer.parameters()]
        self.optimizer = optimizer.adamw(job, model, [self.learner.extras, self.balancer])
        self.schedule = torch.optim.lr_scheduler.LambdaLR(self.optimizer, lambda u: optimizer.rate(job, u))
        self.loader = self._loader("train", shuffle=True)
        self.parts = self._parts()
        self.update = self.timed = 0
        self.busy = 0.0
        self.best = Best()
        self.unheeded: list[Update] = []
        self.history: list[dict[str, Any]] = []

    @property
    def model(self) -> MultiTask:
        """The network being trained."""
        return self.learner.model

    @property
    def kept(self) -> MultiTask:
        """The network that is validated and stored: the average where there is one."""
        return self.average.module if self.average is not None else self.model

    @property
    def done(self) -> bool:
        """Were all updates made, or has early stopping ended them?"""
        stop = self.job.stop
        return self.update >= self.job.updates or (stop is not None and self.best.exhausted(stop, self.update))

    def run(self) -> None:
        """Updates until the last, then the files."""
        self._resume()
        rhythm, batches = self.job.rhythm, self.batches()
        every = self.job.stop.every if self.job.stop else rhythm.validate
        while not self.done:
            began = time.perf_counter()
            made = self.step(next(batches))
            self.update += 1
            self.busy += time.perf_counter() - began
            faults.point("train.step")
            if self.job.judged and (self.update == self.job.updates or self.update % every == 0):
                self._validate()
            save = self.done or self.update % rhythm.checkpoint == 0
            ask = self._heed(made, now=save or self.device.type == "cpu")
            if self.done or self.update % rhythm.log == 0:
                self._note(self._figures(made), {"samples_per_second": self._speed()})
            if save or ask:
                self._save()
            if ask and not self.done:
                raise Preempted(self.update, ask)
        self._finish()

    def _validate(self) -> None:
        batches = self._loader("val", shuffle=False)
        figures = validate(self.job, self.kept, batches, self.world, self.device)
        sharding.free(self.kept)
        self._note(figures, {})
        if self.job.stop:
            self.best.offer(self.job.stop, self.update, figures, lambda: sharding.whole(self.kept.state_dict()))

    def _heed(self, made: Update, now: bool) -> Ask:
        """Look at how `made` went, and at what has been asked for. On a GPU that waits for the update, so it is done
        one update late, except where its outcome would be stored. Raises NotFinite."""
        self.unheeded.append(made)
        ask = Ask.NOTHING
        while self.unheeded and (now or len(self.unheeded) > 1):
            one = self.unheeded.pop(0)
            if not math.isfinite(one.norm.item()):
                self._refuse(one)
            move, stop = one.asked.tolist()
            ask = max(ask, Ask.STOP if stop else Ask.MOVE if move else Ask.NOTHING)
        return ask

    def _refuse(self, made: Update) -> None:
        mine = [t for t, v in zip(self.learner.names, made.losses.values) if not math.isfinite(v)]
        wrong = dict.fromkeys(n for names in self.world.gather(mine) for n in names)
        columns = [t.column for t in self.job.targets if t.task in wrong]
        what = f"the loss of {', '.join(wrong)}" if wrong else "the gradient"
        look = f"look for wild values in {', '.join(columns)}" if columns else "set optimizer: {clip: 1.0}"
        raise NotFinite(
            f"{what} became infinite or no number at update {made.number}. Nothing after the last checkpoint was "
            f"stored. Next: lower the learning rate (optimizer: {{lr: {self.job.optimizer.lr / 4:g}}}), {look}"
            f"{', or train in precision: fp32' if self.job.precision != 'fp32' else ''}"
        )

    def _speed(self) -> float:
        """Samples a second over all workers since the last call, validation and checkpoints left out."""
        speed = (self.update - self.timed) * self.job.batch / self.busy
        self.timed, self.busy = self.update, 0.0
        return speed

    # -- one update ------------------------------------------------------------------------------------------------
    def step(self, batch: Tensors) -> Update:
        """One update from this rank's part of a global batch."""
        job, world = self.job, self.world
        part = world.slice(job.batch)
        generator = torch.Generator().manual_seed(_seed(job.seed, "mask", self.update))
        visible = job.mask.draw(self.model.architecture, job.batch, generator)[part].to(self.device)
        tensors = {k: v.to(self.device, non_blocking=True) for k, v in batch.items()}
        for augment in job.augment:
            tensors = augment.apply(tensors, self.loader.modalities, job.batch, part, generator)
        drawn = self.learner.draw(job.batch, torch.Generator().manual_seed(_seed(job.seed, "extras", self.update)))
        tensors |= {name: values[part].to(self.device) for name, values in drawn.items()}
        self.model.train()
        losses, total = self._backward(tensors, visible)
        self.balancer.settle(self.parameters, world)
        ask = self.asked()
        told = world.sum(torch.tensor([float(ask == a) for a in (Ask.MOVE, Ask.STOP)], device=self.device))
        norm = sharding.clip(self.parameters, job.optimizer.clip)
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.schedule.step()
        if self.average is not None:
            self.average.update_parameters(self.model)
        return Update(self.update + 1, losses, total, norm, told)

    def _backward(self, tensors: Tensors, visible: Visible) -> tuple[Losses, torch.Tensor]:
        """Gradients from this rank's share, in parts that fit memory. Gradients add up over parts and are averaged over
        ranks, and the losses are shares of a mean, so each is scaled by the number of ranks."""
        pieces = [{k: v[part] for k, v in tensors.items()} for part in self.parts] if len(self.parts) > 1 else [tensors]
        counts = self.learner.count(pieces, [visible[p] for p in self.parts], self.world) if len(pieces) > 1 else None
        torch.manual_seed(_seed(self.job.seed, "update", self.update, self.world.rank))
        found, totals = [], []
        for part, piece in zip(self.parts, pieces, strict=True):
            losses = self.learner(piece, visible[part], self.world, counts)
            totals.append(self.balancer.backward(losses.values * self.world.size, losses.present, self.parameters))
            found.append(losses.values.detach())
        return Losses(torch.stack(found).sum(0), losses.present), torch.stack(totals).sum(0)

    def _parts(self) -> list[slice]:
        """How this rank's share of a batch is cut; every rank makes the same number of parts, none of them empty."""
        size, micro = self.world.size, self.job.rhythm.micro or self.job.batch
        least, most = self.job.batch // size, -(-self.job.batch // size)
        count, mine = min(-(-most // micro), least), self.world.slice(self.job.batch)
        share = mine.stop - mine.start
        return [slice(share * i // count, share * (i + 1) // count) for i in range(count)]

    def _figures(self, made: Update) -> Values:
        """What the curve shows: the loss of each task that had labels, their balanced sum, the learning rate."""
        losses = made.losses
        shares = torch.cat([losses.values, made.total.view(1) / self.world.size])
        values = self.world.sum(shares).tolist()
        names = self.learner.names
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
            disk=DiskCache(job.rhythm.disk_cache, job.rhythm.disk_cache_gb * 1e9) if job.rhythm.disk_cache else None,
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
            "extras": self.learner.extras.state_dict(),
            "balancer": self.balancer.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "schedule": self.schedule.state_dict(),
            "average": None if self.average is None else self.average.state_dict(),
            "best": vars(self.best),
            "loader": self.loader.state_dict(),
            "history": self.history,
        }
        if self.job.rhythm.sharded:
            state = sharding.whole(state)
        if self.world.rank == 0:
            checkpoint.save(self.job.storage, self.job.folder, self.update, state)
        self.world.barrier()
        faults.point("train.checkpoint")

    def _resume(self) -> None:
        state = checkpoint.load(self.job.storage, self.job.folder)
        self.world.barrier()
        if state is None:
            return
        sharding.load(self.model, state["model"])
        self.learner.extras.load_state_dict(state["extras"])
        self.balancer.load_state_dict(state["balancer"])
        sharding.load_optimizer(self.optimizer, state["optimizer"])
        self.schedule.load_state_dict(state["schedule"])
        if self.average is not None:
            sharding.load(self.average, state["average"])
        self.loader.load_state_dict(state["loader"])
        self.best = Best(**state["best"])
        self.update, self.timed, self.history = state["update"], state["update"], state["history"]
        for entry in self.history:
            self.log(entry["at"], entry["values"])

    def _finish(self) -> None:
        state = self.best.weights or sharding.whole(self.kept.state_dict())
        if self.world.rank == 0:
            model = self.model
            made = {MODEL_JSON: _json(model.architecture.to_json()), MODEL_WEIGHTS: weights(state)}
            kept = self.best.update or self.update
            last: Values = {}
            for entry in self.history:
                last.update(entry["values"] if entry["at"] <= kept else {})
            about: dict[str, Any] = {"parameters": model.parameter_count, "updates": self.update, "final": last}
            about |= {"kept": kept} if self.job.stop else {}
            fitted.save(self.job.storage, self.job.folder, about, made)
        self.world.barrier()


def _device() -> torch.device:
    return torch.device("cuda", torch.cuda.current_device()) if torch.cuda.is_available() else torch.device("cpu")


def _seed(*parts: Any) -> int:
    """A 63-bit seed that depends on all of `parts`."""
    return int.from_bytes(hashlib.sha256(repr(parts).encode()).digest()[:8], "big") >> 1


def _json(value: Any) -> bytes:
    return json.dumps(value, sort_keys=True, indent=1).encode()
