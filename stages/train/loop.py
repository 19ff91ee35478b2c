"""The training loop: plain PyTorch, one function `fit`, no Ray.

Everything random in update u is drawn from (seed, u) and nothing else, batches are a pure function of the seed, and
checkpoints hold model, balancer, optimizer, schedule, average, best weights, loader position and the logged history. So
a training that died anywhere and was started again ends in the same weights, byte for byte, on the same number of
workers; on another number, sharded, compiled or in smaller parts it differs by the rounding of sums. What is logged
twice by a resumed run is left to `log` to ignore: entries carry their update.

Rank 0 writes; the last thing written is `trained.json`, which says that the rest is complete.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch

from hyperloom.pipeline.host import faults
from hyperloom.stages import sharding
from hyperloom.stages.network.architecture import MODEL_JSON, MODEL_WEIGHTS
from hyperloom.stages.network.compiling import how
from hyperloom.stages.network.model import MultiTask, build_model, weights
from hyperloom.stages.network.subnormal import as_zeros
from hyperloom.stages.train import compute, fitted, memory, range_test
from hyperloom.stages.train.averages import Average
from hyperloom.stages.train.clock import Clock, TrainingTime
from hyperloom.stages.train.course import Course
from hyperloom.stages.train.criterion import Criterion
from hyperloom.stages.train.diagnosis import clipped
from hyperloom.stages.train.failures import not_finite
from hyperloom.stages.train.groups import groups
from hyperloom.stages.train.job import Job, seed_of
from hyperloom.stages.train.learners import Setup, Update
from hyperloom.stages.train.length import Length
from hyperloom.stages.train.looks import Looks
from hyperloom.stages.train.notice import Ask, Preempted
from hyperloom.stages.train.starting import take
from hyperloom.stages.train.state import State
from hyperloom.stages.train.stopping import Best
from hyperloom.stages.transfer import sent
from hyperloom.stages.world import World

CurveValues = dict[str, float]
Tensors = dict[str, torch.Tensor]
Log = Callable[[int, CurveValues], None]
LATE = 4
"""Updates that a GPU may have been given before anybody looks at how the first of them went."""


def fit(
    job: Job,
    world: World | None = None,
    log: Log = lambda at, values: None,
    request: Callable[[], Ask] = lambda: Ask.NOTHING,
    device: torch.device | None = None,
    alive: Callable[[], None] = lambda: None,
) -> None:
    """Train until `trained.json` is written, continuing from the last checkpoint. `log(update, values)` is called on
    rank 0, again for each entry of the history when a run resumes; `alive()` with each batch. Every rank calls this.

    Raises Preempted, after a checkpoint, when `request()` is not NOTHING on any rank, and NotFinite when a loss or the
    gradient is infinite or no number.
    """
    training = Training(job, world or World.current(), log, request, device, alive)
    try:
        with memory.held(training.device), as_zeros():
            training.run()
    finally:
        training.prepare.drawer.close()


class Training:
    """One process's part of a training, from the last checkpoint on."""

    def __init__(
        self,
        job: Job,
        world: World,
        log: Log = lambda at, values: None,
        request: Callable[[], Ask] = lambda: Ask.NOTHING,
        device: torch.device | None = None,
        alive: Callable[[], None] = lambda: None,
    ):
        self.clock, self.busy = Clock(), 0.0
        self.job, self.log = job, log if world.rank == 0 else lambda at, values: None
        self.request, self.alive, self.device = request, alive, device or compute.device()
        self.world = world = world.on(self.device)
        self.length = Length(job.updates, job.minutes, job.open_ended, agreed=world.first)
        compute.settle(job.rhythm.threads, job.rhythm.deterministic, self.device)
        torch.manual_seed(seed_of(job.seed, "weights"))
        model = build_model(job.architecture, job.parameters)
        self.say = getattr(log, "once", _silent) if world.rank == 0 else _silent
        if job.start:
            self.taken = take(job.storage, job.start, model)
        self.criterion = Criterion(job, model).to(self.device)
        self.course = Course(job, self.criterion, self.names, world)
        self.looks = Looks(job, model, world, alive)
        self.average = Average(model, job.ema, lambda: self.update) if job.ema else None
        if job.rhythm.sharded:
            for one in (model, *([self.average.module] if self.average is not None else [])):
                sharding.shard(one, world.size, self.device)
        compiled = how(job.rhythm.compile, self.device)
        apart = world.size > 1 or bool(job.extras or job.learner.terms or job.spans)
        self.criterion.network = compute.runner(model, job.precision, compiled if apart else None, self.device)
        if compiled is not None and not apart:
            self.criterion.compile(**compiled)  # the losses with the network
        self.setup = self._setup(model)
        self.learner = job.learner.build(self.setup)
        self._begin(0)
        self.state = State(job, world, self._parts())
        self.update, self.timed, self.rate = 0, 0, self.setup.optimizer.param_groups[0]["lr"]
        self.best = Best()
        self.unheeded: list[tuple[Update, torch.Tensor]] = []
        self.history: list[dict[str, Any]] = []

    def _setup(self, model: MultiTask) -> Setup:
        """What the learner works with."""
        job, beside = self.job, [self.criterion.extras, self.course.balancers]
        optimizer = job.optimizer.known()
        return Setup(
            job=job,
            world=self.world,
            device=self.device,
            model=model,
            criterion=self.criterion,
            balancer=self.course.balancers[0],
            optimizer=optimizer.build(groups(optimizer, model, beside, job.learn_rates)),
        )

    def _begin(self, phase: int) -> None:
        """Make a phase the present one, with its schedule at its start where it has one."""
        self.prepare, self.batches = self.course.enter(phase, self.setup)
        if phase == 0 or self.course.spans[phase].restart:
            self.schedule = self.course.schedule(phase, self.setup.optimizer, self.length)

    def _move_on(self) -> None:
        """Begin the phase of the next update, if that is another than the present one or the first of several."""
        phase = self.course.at(self.update)
        if phase != self.course.now:
            self._begin(phase)
            self.state.parts["schedule"] = self.schedule
            self.stream = self._living(self.batches)
        elif self.update or not self.job.spans:
            return
        self.say(self.course.name(phase))
        self._note({"phase": phase + 1.0}, {})

    def _parts(self) -> dict[str, Any]:
        """What checkpoints hold."""
        parts = {
            "model": self.model,
            "extras": self.criterion.extras,
            "balancers": self.course.balancers,
            "optimizer": self.setup.optimizer,
            "schedule": self.schedule,
            "learner": self.learner,
            "batches": self.course.sources,
            "clipping": self.course.clipping,
        }
        return parts if self.average is None else {**parts, "average": self.average}

    @property
    def names(self) -> list[str]:
        """What has a loss: tasks, extras, and what the learner adds."""
        return [*self.criterion.names, *self.job.learner.terms]

    @property
    def model(self) -> MultiTask:
        """The network being trained."""
        return self.criterion.model

    @property
    def kept(self) -> MultiTask:
        """The network that is validated and stored: the average where there is one."""
        return self.average.module if self.average is not None else self.model

    @property
    def done(self) -> bool:
        """Were all updates made, or has early stopping ended them?"""
        return self.update >= self.length.updates or (self._exhausted and not self.job.open_ended)

    @property
    def _exhausted(self) -> bool:
        """Has validation not improved for as long as early stopping waits?"""
        return self.job.stop is not None and self.best.exhausted(self.job.stop, self.update)

    def run(self) -> None:
        """Updates until the last, then the files."""
        self._resume()
        rhythm, self.stream = self.job.rhythm, self._living(self.batches)
        every, since = self.job.stop.every if self.job.stop else rhythm.validate, time.perf_counter()
        while not self.done:
            self._move_on()
            began = time.perf_counter()
            update, requests = self.step(next(self.stream))
            self.update += 1
            self.busy += time.perf_counter() - began
            faults.point("train.step")
            self.length.spend(time.perf_counter() - since, self.update)
            since = time.perf_counter()
            if self.job.fitted and (self.update == self.length.updates or self.update % every == 0):
                self._validate()
            if self.length.ripe(self.update, self._exhausted):
                until = f"the rate falls until update {self.length.updates}"
                self.say(f"no better since update {self.best.update}: {until}")
            save = self.done or self.update % rhythm.checkpoint == 0
            ask = self._heed(update, requests, now=save or self.device.type == "cpu")
            if self.done or self.update % rhythm.log == 0:
                self._note(self._figures(update), {"samples_per_second": self._speed()})
            if save or ask:
                plain = {"phase": self.course.now, "best": vars(self.best), "history": self.history}
                plain |= {"length": self.length.state(), "clock": self.clock.state(self.world), "rate": self.rate}
                self.state.save(self.update, **plain)
            if ask and not self.done:
                raise Preempted(self.update, ask)
        self._finish()

    def _living(self, batches: Iterable[Tensors]) -> Iterator[Tensors]:
        """`batches`, with a sign of life for each."""
        for batch in batches:
            self.alive()
            yield batch

    def _validate(self) -> None:
        """How well the kept network does on the split `val`, and on a share of what teaches it."""
        figures = self.looks.figures(self.kept)
        sharding.free(self.kept)
        self._note(figures, {})
        if self.job.stop:
            offered = self.update, figures, lambda: sharding.whole(self.kept.state_dict())
            self.best.offer(self.job.stop, self.job.stops_on_higher, *offered)

    def _heed(self, update: Update, requests: torch.Tensor, now: bool) -> Ask:
        """Look at how `update` went, and at the `requests` of that moment. On a GPU that waits for the update, so it
        is done some updates late, except where its outcome would be stored or somebody is known to ask. Raises
        NotFinite."""
        self.unheeded.append((update, requests))
        ask, now = Ask.NOTHING, now or (requests.device.type == "cpu" and bool(requests.any()))
        while self.unheeded and (now or len(self.unheeded) > LATE):
            one, wishes = self.unheeded.pop(0)
            if not math.isfinite(one.norm.item()):
                self._refuse(one)
            move, stop = wishes.tolist()
            ask = max(ask, Ask.STOP if stop else Ask.MOVE if move else Ask.NOTHING)
        return ask

    def _refuse(self, update: Update) -> None:
        mine = [t for t, v in zip(self.names, update.losses.values) if not math.isfinite(v)]
        wrong = dict.fromkeys(n for names in self.world.gather(mine) for n in names)
        raise not_finite(self.job, list(wrong), update.number, self.rate)

    def _speed(self) -> float:
        """Samples a second over all workers since the last call, validation and checkpoints left out."""
        speed = (self.update - self.timed) * self.job.batch / self.busy
        self.timed, self.busy = self.update, 0.0
        return speed

    def step(self, columns: Tensors) -> tuple[Update, torch.Tensor]:
        """One update from this rank's part of a global batch; and what any rank was asked for, one number for each
        `Ask` but the first."""
        batch = self.prepare(self.update, columns)
        if shares := self.course.clipping.share(self.update):
            self.say("; ".join(clipped(shares)))
            self._note(shares, {})
        self.model.train()
        if self.job.rhythm.compile == "graphs":
            torch.compiler.cudagraph_mark_step_begin()  # what the last update gave may be overwritten
        for module in self.course.resting:
            module.eval()
        update = self.learner.update(batch)
        self.schedule.step()
        if self.average is not None:
            self.average.update_parameters(self.model)
        ask = self.request()
        device = self.device if self.world.size > 1 else torch.device("cpu")  # alone nothing is to be moved
        wishes = sent(torch.tensor([float(ask == a) for a in (Ask.MOVE, Ask.STOP)]), device)
        return update, self.world.sum(wishes)

    def _figures(self, update: Update) -> CurveValues:
        """What the curve shows: the loss of each task that had labels, their balanced sum, the learning rate."""
        losses = update.losses
        shares = torch.cat([losses.values, update.total.view(1) / self.world.size])
        values = self.world.sum(shares).tolist()
        each = {f"loss.{n}": v for n, v, p in zip(self.names, values, losses.present.tolist(), strict=False) if p}
        return {"loss": values[-1], **each, "lr": self.schedule.get_last_lr()[0]}

    def _note(self, values: CurveValues, timing: CurveValues) -> None:
        rounded = {k: float(f"{v:.6g}") for k, v in values.items()}
        self.history.append({"at": self.update, "values": rounded})
        getattr(self.log, "expect", _silent)(self.length.expected)
        self.log(self.update, {**rounded, **timing})

    def _resume(self) -> None:
        state = self.state.stored(self.say)
        if state is None:
            self._start()
            return
        if state["phase"]:
            self.prepare, self.batches = self.course.enter(state["phase"], self.setup)
            schedule = self.course.schedule(state["phase"], self.setup.optimizer, self.length)
            self.schedule = self.state.parts["schedule"] = schedule
        self.state.load(state)
        self.length.restore(state["length"])
        self.clock.restore(state["clock"], self.world)
        self.rate, self.best = state["rate"], Best(**state["best"])
        self.update, self.timed, self.history = state["update"], state["update"], state["history"]
        for entry in self.history:
            self.log(entry["at"], entry["values"])

    def _start(self) -> None:
        """Before the first update: what the training starts from, and its rate where nobody gave one."""
        if self.job.held:
            self.say(f"val is made of {self.job.held}")
        if self.job.start:
            self.say(f"starts from {self.job.start.name}: {self.taken}")
        for task, column in self.looks.begin().items() if not self.job.start else ():
            self.say(f"{task} begins with the answers of {column}")
        if self.job.optimizer.lr != "auto":
            return
        parts = {name: part for name, part in self.state.parts.items() if name != "schedule"}
        self.rate = range_test.find(self.setup, self.learner, self.prepare, self._living(self.batches), parts)
        range_test.set_rate(self.setup.optimizer, self.rate)
        self.schedule = self.state.parts["schedule"] = self.course.schedule(0, self.setup.optimizer, self.length)
        self.say(f"a range test of {range_test.UPDATES} updates speaks for lr {self.rate:g}")
        self._note({"rate": self.rate}, {})

    def _finish(self) -> None:
        state = self.best.weights or sharding.whole(self.kept.state_dict())
        if self.world.rank == 0:
            model = self.model
            described = json.dumps(model.architecture.to_json(), sort_keys=True, indent=1).encode()
            files = {MODEL_JSON: described, MODEL_WEIGHTS: weights(state)}
            kept = self.best.update or self.update
            last: CurveValues = {}
            for entry in self.history:
                last.update(entry["values"] if entry["at"] <= kept else {})
            about: dict[str, Any] = {"parameters": model.parameter_count, "updates": self.update, "final": last}
            about |= {"kept": kept} if self.job.stop else {}
            self.state.checkpoints.confirm()  # what another process has finished meanwhile stays as it is
            fitted.save(self.job.storage, self.job.folder, about, files)
        cpu = sum(self.world.gather(self.clock.cpu_seconds))
        getattr(self.log, "ended", _silent)(TrainingTime(self.job.folder, self.clock.seconds, cpu, self.device.type))


def _silent(_: object) -> None:
    """Nobody listens."""
