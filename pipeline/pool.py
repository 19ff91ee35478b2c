"""The pool: takes a step's units to their commits, over whatever fails on the way.

It finds what is committed already, starts a unit as soon as the units it needs are done (no barriers), sends small
units in groups, and gives idle slots to the worker that limits. What is in flight is bounded by the slots, and what is
known of units that are not done by a window (see pipeline.work), so memory does not grow with the data. Failures follow
`retry.Budget`; a unit that fails for good leaves `{space}/failures/{id}.json`, and the step fails once the others are
done.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from hyperloom.pipeline.committed import Committed
from hyperloom.pipeline.ending import GRACE_SECONDS, Ending
from hyperloom.pipeline.errors import Ended, HyperloomError, StepFailed, StorageError
from hyperloom.pipeline.events import Events
from hyperloom.pipeline.executor import AT_HAND, Executor, Job, Outcome
from hyperloom.pipeline.pulse import Watch
from hyperloom.pipeline.retry import Attempts, Budget
from hyperloom.pipeline.slots import Seat, Seats
from hyperloom.pipeline.storage import Storage
from hyperloom.pipeline.units import Record, Unit, Worker, beats, load_record, record_path
from hyperloom.pipeline.work import GROUP_MOST, WINDOW, Work

STOPPED_PAUSE = 5.0
"""Seconds before a unit that ended because it was asked to is tried again: by then its machine may be gone."""


@dataclass
class Pool:
    """Slots that live from step to step, and the loop that feeds them."""

    storage: Storage
    executor: Executor
    events: Events
    check: Callable[[], None] = lambda: None
    """Called in every turn of the loop; raises when the lease is lost."""
    budget: Budget = field(default_factory=Budget)
    unit_seconds: float = 3600.0
    """A unit that takes longer is taken for hung, unless it beats (pipeline.pulse): its slot is closed, and it counts
    as an infrastructure failure."""
    ending: Ending = field(default_factory=Ending)

    def __post_init__(self) -> None:
        self._seats = Seats(self.executor)

    def run(self, step: str, folder: str, units: Iterable[Unit], workers: dict[str, Worker]) -> Sequence[Record]:
        """Records of all units, in their order. Raises StepFailed, naming the units that failed for good.

        A unit comes after those it needs; `units` is gone through once, as slots become free.
        """
        work = Work(step, units, workers, Committed(self.storage))
        attempts = Attempts(self.storage, f"{folder}/attempts")
        attempts.load()
        self._progress(work, force=True)
        self._seats.forget_workers()
        try:
            while not work.hopeless:
                self.check()
                if self.ending.begun:
                    self._end(work, attempts)
                work.wake()
                work.pull(max(WINDOW, 4 * GROUP_MOST * len(self._seats.all)), self.check)
                if work.over:
                    break
                self._dispatch(folder, work, attempts)
                self._collect(work, attempts)
                self._progress(work)
        except BaseException:
            self.close()  # nothing may go on writing once the driver has stopped
            raise
        return self._finish(work, attempts)

    def _end(self, work: Work, attempts: Attempts) -> None:
        """Wait for units that beat, which have been told to end, and raise Ended."""
        deadline = time.monotonic() + GRACE_SECONDS
        while any(j.watch.beats for j in self._seats.jobs()) and time.monotonic() < deadline:
            self.check()
            self._collect(work, attempts)
        raise Ended()

    def close(self) -> None:
        """End all slots: their CPUs are free afterwards."""
        self._seats.close_all()
        self.executor.close()

    # -- sending ---------------------------------------------------------------------------------------------------
    def _dispatch(self, folder: str, work: Work, attempts: Attempts) -> None:
        while backlog := work.backlog():
            seat = self._seats.free(backlog, work.alive())
            if seat is None:
                break
            self._send(seat, folder, work, attempts)
        if self._seats.starving(backlog):
            return  # the next slot that becomes idle is for those that have none
        for seat in self._seats.all:
            if 0 < len(seat.jobs) < AT_HAND and seat.jobs[0].quick and work.quick(seat.kind):
                self._send(seat, folder, work, attempts)

    def _send(self, seat: Seat, folder: str, work: Work, attempts: Attempts) -> None:
        group = work.take(seat, self._seats.of(seat.kind))
        if not group:
            return
        numbers = [attempts.of(u.key).attempt for u in group]
        worker = group[0].worker
        limit = self.unit_seconds * len(group)
        watch = Watch(self.storage, [u.key for u in group], limit, beats(work.workers[worker]))
        job = Job(group, watch, attempts.begin(group), work.short(worker), None, time.monotonic())
        seat.loaded.update(u.worker for u in group)
        seat.jobs.append(job)
        seat.slot.start(job, numbers, folder, work.workers)

    # -- collecting ------------------------------------------------------------------------------------------------
    def _collect(self, work: Work, attempts: Attempts) -> None:
        jobs = self._seats.jobs()
        if not jobs:
            time.sleep(min(0.2, work.until_wake()))
            return
        came = self.executor.wait(jobs, 0.5)
        for seat in list(self._seats.all):
            for job in [j for j in seat.jobs if id(j) in came]:
                if job in seat.jobs:  # not lost with the one before
                    seat.jobs.remove(job)
                    self._settle(work, seat, job, came[id(job)], attempts)
            if seat.jobs and (hung := seat.jobs[0].watch.hung()):
                job = seat.jobs.popleft()
                lost = [Outcome(u, None, hung, "", infrastructure=True) for u in job.units]
                self._settle(work, seat, job, lost, attempts)

    def _settle(self, work: Work, seat: Seat, job: Job, outcomes: list[Outcome], attempts: Attempts) -> None:
        attempts.end(job.note)
        now = time.monotonic()
        if all(o.infrastructure and not o.trace for o in outcomes):
            work.deaths += 1
            job.watch.clear()
            outcomes = outcomes + self._bury(seat, outcomes[0].error, attempts)
        elif any(o.stopped for o in outcomes):  # its machine may be about to leave
            outcomes = outcomes + self._bury(seat, outcomes[0].error, attempts)
        else:
            work.timed(job.units, now - job.started)
        if seat.jobs:
            seat.jobs[0].started = now
            seat.jobs[0].watch.restart()
        for outcome in outcomes:
            if outcome.record is not None:
                work.done(outcome.record)
                attempts.forget(outcome.unit.key)
            elif outcome.stopped:
                self._stopped(work, outcome)
            else:
                self._failed(work, outcome, attempts)

    def _bury(self, seat: Seat, reason: str, attempts: Attempts) -> list[Outcome]:
        """Close a slot whose process is gone or hangs. All that it was given was lost with it."""
        self._seats.close(seat)
        lost = [Outcome(unit, None, reason, "", infrastructure=True) for job in seat.jobs for unit in job.units]
        for job in seat.jobs:
            attempts.end(job.note)
        seat.jobs.clear()
        return lost

    def _stopped(self, work: Work, outcome: Outcome) -> None:
        if outcome.final:
            work.give_up(outcome.unit, outcome.error)
        else:
            work.again(outcome.unit, STOPPED_PAUSE)

    def _failed(self, work: Work, outcome: Outcome, attempts: Attempts) -> None:
        unit, tally = outcome.unit, attempts.of(outcome.unit.key)
        self.events.emit(
            "failure",
            work.step,
            unit=f"{unit.space}/{unit.id}",
            error=outcome.error,
            attempt=tally.attempt,
            infrastructure=outcome.infrastructure,
        )
        if outcome.hopeless:
            work.hopeless = outcome.error
            return
        budget = getattr(work.workers[unit.worker], "budget", self.budget)
        if outcome.infrastructure:
            tally.infrastructure += 1
            spent = tally.infrastructure >= budget.infrastructure
        else:
            tally.task += 1
            spent = outcome.final or tally.task >= budget.task
        attempts.keep(unit.key, tally)
        if not spent:
            work.again(unit, budget.pause(work.deaths if outcome.infrastructure else 0))
            return
        failure = {"unit": f"{unit.space}/{unit.id}", "step": work.step, "error": outcome.error, "trace": outcome.trace}
        self.storage.write_json(_failure_path(*unit.key), failure)
        work.give_up(unit, outcome.error)

    def _finish(self, work: Work, attempts: Attempts) -> Sequence[Record]:
        self._progress(work, force=True)
        if work.hopeless:
            self.close()
            raise _hopeless(work)
        attempts.clear()
        self._forgive(work)
        if work.failed:
            shown = "".join(f"\n  {space}/{id_}: {error}" for (space, id_), error in list(work.failed.items())[:5])
            more = f"\n  and {len(work.failed) - 5} more" if len(work.failed) > 5 else ""
            raise StepFailed(
                f"step {work.step!r}: {len(work.failed)} of {work.total} units failed for good:{shown}{more}\n"
                "Next: `hyperloom failed` shows their tracebacks; the same command tries them again",
                missing=f"{len(work.failed)} of {work.total} units",
            )
        return work.records

    def _forgive(self, work: Work) -> None:
        """Remove what an earlier run left about units that failed then and are done now."""
        for space in work.spaces:
            for name in self.storage.names(f"{space}/failures"):
                key = space, name.removesuffix(".json")
                if key not in work.failed and load_record(self.storage, *key) is not None:
                    self.storage.delete(_failure_path(*key))

    def _progress(self, work: Work, force: bool = False) -> None:
        now = time.monotonic()
        if force or now - work.told > 1.0:
            work.told = now
            self.events.emit(
                "progress",
                work.step,
                done=work.records.filled,
                total=work.total,
                reused=work.reused,
                failed=len(work.failed),
            )


def forget(storage: Storage, record: Record) -> None:
    """Remove a unit's commit, so that the next run does it again."""
    storage.delete(record_path(record.space, record.id))


def _hopeless(work: Work) -> HyperloomError:
    """Why no unit of a step can be done, whatever its budget."""
    if work.hopeless.startswith("StorageError: "):
        return StorageError(work.hopeless.removeprefix("StorageError: "), transient=False)
    return StepFailed(f"step {work.step!r}: {work.hopeless}", missing=f"{work.total - work.records.filled} units")


def _failure_path(space: str, id_: str) -> str:
    return f"{space}/failures/{id_}.json"
