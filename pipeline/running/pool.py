"""The pool: takes the units of all running steps to their commits, over whatever fails on the way.

It finds what is committed already, starts a unit as soon as the units it needs are done (no barriers), sends small
units in groups, and gives idle slots to the worker that limits. Steps share the slots: each gets one where there are
enough, what is left goes to the earliest of the recipe, and none waits without end. What is in flight is bounded by the
slots, and what is known of units that are not done by a window over all steps (see pipeline.running.work), so memory
does not grow with the data. Failures follow `retry.Budget`; a unit that fails for good leaves
`{space}/failures/{id}.json`, and its step fails once the others are done.

Units that another driver has in hand are left to it, and come as it commits them (pipeline.running.unit_claims).

One thread owns the pool and calls `turn` again and again: only it opens slots, sends, collects, and speaks to Ray.
Steps call `run` and `reserve` from threads of their own and wait there.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from hyperloom.pipeline.commits.committed import Committed
from hyperloom.pipeline.commits.heartbeat import Watch
from hyperloom.pipeline.commits.packs import Packer
from hyperloom.pipeline.commits.retry import Attempts, Budget, Key
from hyperloom.pipeline.commits.units import Record, Resources, Unit, Worker, beats
from hyperloom.pipeline.errors import Ended
from hyperloom.pipeline.planning.spending import Spending
from hyperloom.pipeline.root.claims import Claims
from hyperloom.pipeline.root.events import Events
from hyperloom.pipeline.root.storage import Storage
from hyperloom.pipeline.running import turns
from hyperloom.pipeline.running.ledger import Ledger
from hyperloom.pipeline.running.unit_claims import UnitClaims
from hyperloom.pipeline.running.work import GROUP_MOST, WINDOW, Work
from hyperloom.pipeline.workers.executor import AT_HAND, Executor, Job, Outcome, lost
from hyperloom.pipeline.workers.reservation import Reservation, Reservations
from hyperloom.pipeline.workers.slots import Seat, Seats

STOPPED_PAUSE = 5.0
"""Seconds before a unit that ended because it was asked to is tried again: by then its machine may be gone."""
HUNG_SECONDS = 0.2
"""How often slots are looked at for units that hang."""


@dataclass
class Pool:
    """Slots that live from step to step, and the loop that feeds them."""

    storage: Storage
    executor: Executor
    events: Events
    check: Callable[[], None] = lambda: None
    """Called in every turn of the loop; raises when another driver has replaced this one."""
    budget: Budget = field(default_factory=Budget)
    claims: Claims | None = None
    """None where nobody else can be on this root."""
    spending: Spending = field(default_factory=Spending)
    unit_seconds: float = 3600.0
    """A unit that takes longer is taken for hung, unless it beats (pipeline.commits.heartbeat): its slot is closed,
    and it counts as an infrastructure failure."""
    waiting: int = 0
    """How many threads wait in `run` or `reserve`."""

    def __post_init__(self) -> None:
        self.ledger = Ledger(self.storage, self.events, self.budget)
        self._seats = Seats(self.executor)
        self._works: list[Work] = []
        self._flying: dict[Key, Work] = {}
        self._chosen: list[tuple[Work, Seat, Job]] = []
        self._reservations = Reservations(self.executor, self._seats)
        self._owner = threading.get_ident()
        self._news = threading.Condition(threading.RLock())
        self._bell = threading.Event()
        self._unit_claims = UnitClaims(self.claims, self._works_now, self._news, self.ring)
        self._stopped = False
        self._looked = 0.0
        self._abroad = 0

    # -- for steps, from any thread ----------------------------------------------------------------------------------
    def run(
        self, step: str, folder: str, units: Iterable[Unit], workers: dict[str, Worker], rank: int = 0
    ) -> Sequence[Record]:
        """Records of all units, in their order. Raises StepFailed, naming the units that failed for good.

        A unit comes after those it needs; `units` is gone through once, in this thread, as slots become free. `rank` is
        the step's place in the recipe.
        """
        attempts = Attempts(self.storage, f"{folder}/attempts")
        attempts.load()
        packer = Packer(self.storage)
        work = Work(step, folder, units, workers, Committed(self.storage, packer), attempts, rank)
        with self._news:
            self._works = sorted([*self._works, work], key=lambda w: w.rank)
            self.ledger.progress(work, self._seats.serving(work.scope), force=True)
        try:
            while not (work.hopeless or work.over):
                self._until(lambda: work.ended or work.hopeless or work.over or work.room(self._window()))
                if work.ended:
                    raise Ended
                if (count := work.room(self._window())) and not work.hopeless:
                    drawn = work.draw(count)
                    with self._news:
                        work.enter(drawn)
                        self._bell.set()
        finally:
            self._leave(work)
        packer.end()
        return self.ledger.finish(work)

    @contextmanager
    def reserve(self, resources: Resources, count: int, step: str = "") -> Iterator[int]:
        """Inside the block there is room on the cluster for `count` processes of this size which no slot takes, or for
        as many as it can hold; it gives their number. Ray is up, also for a count of 0. The `step` pays for it."""
        reservation = Reservation(resources, count, step=step)
        with self._news:
            self._reservations.all.append(reservation)
            self._bell.set()
        try:
            self._until(lambda: reservation.granted or reservation.error)
            if reservation.error:
                raise reservation.error
            yield len(reservation.places)
        finally:
            with self._news:
                self._reservations.end(reservation)
                self._bell.set()

    @contextmanager
    def abroad(self) -> Iterator[None]:
        """Inside the block a step waits for another driver, and wants nothing from here."""
        with self._news:
            self._abroad += 1
        try:
            yield
        finally:
            with self._news:
                self._abroad -= 1

    def gpus(self) -> float:
        """How many GPUs there are for slots; a cluster is started or joined."""
        if not self.executor.clustered:
            return self.executor.gpus()
        with self.reserve(Resources(), 0), self._news:
            return self.executor.gpus()

    def _until(self, ready: Callable[[], object]) -> None:
        """Wait, or where this is the owner's thread, work until something is so."""
        if threading.get_ident() == self._owner:
            while not ready():
                self.turn()
            return
        with self._news:
            self.waiting += 1
            try:
                self._news.wait_for(lambda: self._stopped or ready())
                if self._stopped:
                    raise Ended
            finally:
                self.waiting -= 1

    def _window(self) -> int:
        """How many units of one step may be open."""
        return max(2 * GROUP_MOST, max(WINDOW, 4 * GROUP_MOST * len(self._seats.all)) // max(1, len(self._works)))

    def _leave(self, work: Work) -> None:
        """A step's units are done, or given up: slots that still work on them are of no use."""
        with self._news:
            self._works.remove(work)
            self._seats.forget_workers(work.scope)
            for seat in list(self._seats.all):
                if seat.jobs and all(job.scope == work.scope for job in seat.jobs):
                    self._seats.close(seat)
            self._flying = {key: by for key, by in self._flying.items() if by is not work}
            self._unit_claims.drop([*work.unfinished(), *work.failed])
            self._bell.set()

    # -- for the owner's thread --------------------------------------------------------------------------------------
    def turn(self, seconds: float = 0.5, send: bool = True) -> None:
        """Send what can be sent, and settle what comes back within about `seconds`. Without `send` nothing begins, and
        steps that have no unit that beats at work get Ended."""
        self.check()
        with self._news:
            for work in self._works:
                work.wake()
            if send and not self.spending.over:
                self._dispatch()
                self._launch()
            else:
                self._dismiss()
            self._unit_claims.tend(self._flying)
            foreign = (self._abroad or self._works) and all(w.foreign for w in self._works)
            self._seats.rest(bool(foreign) and not self._reservations.all)
            jobs = self._seats.jobs()
            pause = min([seconds, *(w.until_wake() for w in self._works)])
        if jobs:
            came = self.executor.wait(jobs, seconds)
        elif self._bell.wait(pause):
            self._bell.clear()
        with self._news:
            if jobs:
                self._collect(came)
            self.spending.passes(self._seats.busy(), self._reservations.all)
            for work in self._works:
                self.ledger.progress(work, self._seats.serving(work.scope))
            self._news.notify_all()

    def _dismiss(self) -> None:
        awaited = {job.scope for job in self._seats.jobs() if job.watch.beats}
        for work in self._works:
            work.ended = work.scope not in awaited
        self._reservations.refuse(Ended())
        self._news.notify_all()

    @property
    def beating(self) -> bool:
        """Is there a unit at work that beats?"""
        return any(job.watch.beats for job in self._seats.jobs())

    def _works_now(self) -> list[Work]:
        return self._works

    def ring(self) -> None:
        """End the present pause of `turn`."""
        self._bell.set()

    def stop(self) -> None:
        """Nothing may go on: threads that wait here get Ended, slots end."""
        with self._news:
            self._stopped = True
            self._news.notify_all()
        self.close()

    def close(self) -> None:
        """End all slots: their CPUs are free afterwards."""
        with self._news:
            self._seats.close_all()
            self.executor.close()
            self._unit_claims.close()

    # -- sending -----------------------------------------------------------------------------------------------------
    def _dispatch(self) -> None:
        kept = self._reservations.take()
        self._news.notify_all()
        if kept:
            return  # what becomes free is for a stage's own processes
        while backlog := turns.backlog(self._works):
            seat = self._seats.free(backlog, {kind for work in self._works for kind in work.alive()})
            if seat is None:
                break
            self._send(seat, turns.whose(self._works, seat.kind))
        if self._seats.starving(backlog):
            return  # the next slot that becomes idle is for those that have none
        for seat in self._seats.all:
            if 0 < len(seat.jobs) < AT_HAND and seat.jobs[0].quick and seat.kind in backlog:
                work = turns.whose(self._works, seat.kind)
                if work is not None and work.quick(seat.kind):
                    self._send(seat, work)

    def _send(self, seat: Seat, work: Work | None) -> None:
        group = self._unit_claims.group(work, seat, self._seats.of(seat.kind), self._flying) if work else []
        group = self.spending.affordable(group, work.attempts) if work else []
        if work is None or not group:
            return
        numbers = [work.attempts.of(u.key).attempt for u in group]
        name = group[0].worker
        watch = Watch(self.storage, [u.key for u in group], self.unit_seconds * len(group), beats(work.workers[name]))
        live = frozenset(w.scope for w in self._works)
        job = Job(group, numbers, work.scope, live, watch, quick=work.short(name))
        work.served = time.monotonic()
        work.flying += 1
        self._flying.update((u.key, work) for u in group)
        seat.loaded.update((work.scope, u.worker) for u in group)
        seat.jobs.append(job)
        self._chosen.append((work, seat, job))

    def _launch(self) -> None:
        """Start what was chosen in this turn, once it is noted: one note a step."""
        chosen, self._chosen = self._chosen, []
        for work in dict.fromkeys(work for work, _, _ in chosen):
            jobs = [job for of, _, job in chosen if of is work]
            note = work.attempts.begin([job.units for job in jobs])
            for job in jobs:
                job.note = note
        for work, seat, job in chosen:
            seat.slot.start(job, work.workers)

    # -- collecting --------------------------------------------------------------------------------------------------
    def _collect(self, came: dict[int, list[Outcome]]) -> None:
        for seat, job in [(s, j) for s in self._seats.all for j in s.jobs if id(j) in came]:
            if job in seat.jobs:  # not lost with the one before
                seat.jobs.remove(job)
                self._settle(seat, job, came[id(job)])
        if (now := time.monotonic()) - self._looked < HUNG_SECONDS:
            return
        self._looked = now
        for seat in [s for s in self._seats.all if s.jobs]:
            if hung := seat.jobs[0].watch.hung():
                job = seat.jobs.popleft()
                self._settle(seat, job, lost([job], hung))

    def _settle(self, seat: Seat, job: Job, outcomes: list[Outcome]) -> None:
        gone = [job]
        if died := all(o.infrastructure and not o.trace for o in outcomes):
            job.watch.clear()
            gone += self._bury(seat)
        elif any(o.stopped for o in outcomes):  # its machine may be about to leave
            gone += self._bury(seat)
        elif (work := self._work(job)) is not None:
            work.timed(job.units[0].worker, sum(o.seconds for o in outcomes) / len(outcomes))
        if seat.jobs:
            seat.jobs[0].watch.restart()
        for each in gone:
            if (work := self._work(each)) is not None:
                work.deaths += died and each is job
                self._account(work, each, outcomes if each is job else lost([each], outcomes[0].error))

    def _work(self, job: Job) -> Work | None:
        """Whose job it is; None when that step is over."""
        return next((w for w in self._works if w.scope == job.scope), None)

    def _bury(self, seat: Seat) -> list[Job]:
        """Close a slot whose process is gone or hangs. All that it was given was lost with it."""
        self._seats.close(seat)
        jobs = list(seat.jobs)
        seat.jobs.clear()
        return jobs

    def _account(self, work: Work, job: Job, outcomes: list[Outcome]) -> None:
        work.attempts.end(job.note)
        work.flying -= 1
        for outcome in outcomes:
            self._flying.pop(outcome.unit.key, None)
            if outcome.record is not None:
                resources = work.workers[outcome.unit.worker].resources
                self.spending.unit(work.step, outcome.record, outcome.seconds, resources)
                work.done(outcome.record)
                self._unit_claims.done(outcome.unit.key)
                work.attempts.forget(outcome.unit.key)
                for other in self._works:
                    if other is not work:
                        other.elsewhere(outcome.record)
            elif outcome.stopped and outcome.final:
                work.give_up(outcome.unit, outcome.error)
            elif outcome.stopped:
                work.again(outcome.unit, STOPPED_PAUSE)
            else:
                self.ledger.failed(work, outcome)
