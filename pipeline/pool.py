"""The pool: takes a step's units to their commits, over whatever fails on the way.

It finds what is committed already, starts a unit as soon as the units it needs are done (no barriers), sends small
units in groups, prefers slots that have built the worker, and gives idle slots to the worker with most waiting units.
In-flight work is one group a slot, so memory in the workers does not grow with the data. Failures follow
`retry.Budget`; a unit that fails for good leaves `{space}/failures/{id}.json`, and the step fails once the others are
done.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace

from pipeline.errors import StepFailed, StorageError
from pipeline.events import Events
from pipeline.executor import Executor, Job, Outcome, Slot
from pipeline.retry import Attempts, Budget, Key
from pipeline.storage import Storage
from pipeline.units import Record, Resources, Unit, Worker, load_record, record_path

GROUP_SECONDS = 0.5
GROUP_MOST = 16


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
    """A unit that takes longer is taken for hung: its slot is closed, and it counts as an infrastructure failure."""
    _slots: list[Slot] = field(default_factory=list)

    def run(self, step: str, folder: str, units: Iterable[Unit], workers: dict[str, Worker]) -> list[Record]:
        """Records of all units, in their order. Raises StepFailed, naming the units that failed for good."""
        named = {f"{folder}:{name}": worker for name, worker in workers.items()}
        work = _Work(step, [replace(u, worker=f"{folder}:{u.worker}") for u in units], named)
        work.found(find_done(self.storage, work.units))
        attempts = Attempts(self.storage, f"{folder}/attempts")
        attempts.load()
        self._progress(work, force=True)
        failed_before = {
            (s, n.removesuffix(".json"))
            for s in {u.space for u in work.units}
            for n in self.storage.names(f"{s}/failures")
        }
        for slot in self._slots:
            slot.loaded.clear()
        jobs: list[Job] = []
        try:
            while work.open and not work.hopeless:
                self.check()
                jobs += self._dispatch(work, jobs, attempts)
                self._collect(work, jobs, attempts)
                self._progress(work)
        except BaseException:
            self.close()  # nothing may go on writing once the driver has stopped
            raise
        for key in failed_before & set(work.records):
            self.storage.delete(_failure_path(*key))
        return self._finish(work, attempts)

    def close(self) -> None:
        """End all slots: their CPUs are free afterwards."""
        for slot in self._slots:
            slot.close()
        self._slots.clear()
        self.executor.close()

    # -- sending ---------------------------------------------------------------------------------------------------
    def _dispatch(self, work: _Work, jobs: list[Job], attempts: Attempts) -> list[Job]:
        started = []
        busy = {id(j.slot) for j in jobs}
        work.wake()
        for resources in work.wanted():
            while (slot := self._idle(resources, busy, work)) is not None:
                group = work.take(slot, sum(s.resources == resources for s in self._slots))
                if not group:
                    break
                job = Job(slot, group, attempts.begin(group), None, time.monotonic())
                numbers = [attempts.of(u.key).attempt for u in group]
                slot.loaded.update(u.worker for u in group)
                slot.start(job, numbers, work.workers)
                busy.add(id(slot))
                started.append(job)
        return started

    def _idle(self, resources: Resources, busy: set[int], work: _Work) -> Slot | None:
        """An idle slot of this size; a new one where it fits, in place of idle ones that nobody has work for."""
        idle = [s for s in self._slots if id(s) not in busy]
        fitting = [s for s in idle if s.resources == resources]
        if fitting:
            return max(fitting, key=lambda s: len(s.loaded & work.waiting_workers()))
        share = 1 / self.executor.slots(resources)
        wanted = work.wanted()
        while sum(1 / self.executor.slots(s.resources) for s in self._slots) + share > 1 + 1e-9:
            spare = next((s for s in idle if s.resources not in wanted), None)
            if spare is None:
                return None
            spare.close()
            idle.remove(spare)
            self._slots.remove(spare)
        if sum(s.resources == resources for s in self._slots) >= work.count(resources):
            return None
        slot = self.executor.open(resources)
        self._slots.append(slot)
        return slot

    # -- collecting ------------------------------------------------------------------------------------------------
    def _collect(self, work: _Work, jobs: list[Job], attempts: Attempts) -> None:
        if not jobs:
            time.sleep(min(0.2, work.until_wake()))
            return
        for job, outcomes in self.executor.wait(jobs, 0.5):
            jobs.remove(job)
            self._settle(work, job, outcomes, attempts)
        for job in [j for j in jobs if time.monotonic() - j.started > self.unit_seconds * len(j.units)]:
            jobs.remove(job)
            hung = f"no answer within {self.unit_seconds:.0f} s"
            self._settle(
                work, job, [Outcome(u, None, hung, "", infrastructure=True) for u in job.units], attempts, died=True
            )

    def _settle(self, work: _Work, job: Job, outcomes: list[Outcome], attempts: Attempts, died: bool = False) -> None:
        attempts.end(job.note)
        work.timed(job, time.monotonic() - job.started)
        if died or all(o.infrastructure and not o.trace for o in outcomes):
            job.slot.close()
            self._slots.remove(job.slot)
            work.deaths += 1
        for outcome in outcomes:
            if outcome.record is not None:
                work.done(outcome.record)
            else:
                self._failed(work, outcome, attempts)

    def _failed(self, work: _Work, outcome: Outcome, attempts: Attempts) -> None:
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
        if outcome.infrastructure:
            tally.infrastructure += 1
            spent = tally.infrastructure >= self.budget.infrastructure
        else:
            tally.task += 1
            spent = tally.task >= self.budget.task
        if not spent:
            work.again(unit, self.budget.pause(work.deaths if outcome.infrastructure else 0))
            return
        failure = {"unit": f"{unit.space}/{unit.id}", "step": work.step, "error": outcome.error, "trace": outcome.trace}
        self.storage.write_json(_failure_path(*unit.key), failure)
        work.give_up(unit, outcome.error)

    def _finish(self, work: _Work, attempts: Attempts) -> list[Record]:
        self._progress(work, force=True)
        if work.hopeless:
            self.close()
            raise StorageError(work.hopeless.removeprefix("StorageError: "), transient=False)
        attempts.clear()
        if work.failed:
            shown = "".join(f"\n  {space}/{id_}: {error}" for (space, id_), error in list(work.failed.items())[:5])
            more = f"\n  and {len(work.failed) - 5} more" if len(work.failed) > 5 else ""
            raise StepFailed(
                f"step {work.step!r}: {len(work.failed)} of {len(work.units)} units failed for good:{shown}{more}\n"
                "Next: `hyperloom failed` shows their tracebacks; the same command tries them again"
            )
        return [work.records[u.key] for u in work.units]

    def _progress(self, work: _Work, force: bool = False) -> None:
        now = time.monotonic()
        if force or now - work.told > 1.0:
            work.told = now
            self.events.emit(
                "progress",
                work.step,
                done=len(work.records),
                total=len(work.units),
                reused=work.reused,
                failed=len(work.failed),
            )


class _Work:
    """The units of one step: what is ready, what waits for what, what came back."""

    def __init__(self, step: str, units: list[Unit], workers: dict[str, Worker]):
        self.step, self.units, self.workers = step, units, workers
        self.records: dict[Key, Record] = {}
        self.failed: dict[Key, str] = {}
        self.hopeless = ""
        self.reused = self.deaths = 0
        self.told = 0.0
        self._ready: dict[str, deque[Unit]] = {}
        self._blocked: dict[Key, set[Key]] = {}
        self._unblocks: dict[Key, list[Unit]] = {}
        self._alone: set[Key] = set()
        self._later: list[tuple[float, Unit]] = []
        self._seconds: dict[str, float] = {}
        self.open = 0

    def found(self, done: dict[Key, Record]) -> None:
        """Take what is committed already and sort the rest into ready and blocked."""
        self.records.update(done)
        self.reused = len(done)
        ours = {u.key for u in self.units}
        for unit in self.units:
            if unit.key in done:
                continue
            self.open += 1
            needs = {k for k in unit.after if k in ours and k not in done}
            if needs:
                self._blocked[unit.key] = needs
                for key in needs:
                    self._unblocks.setdefault(key, []).append(unit)
            else:
                self._ready.setdefault(unit.worker, deque()).append(unit)

    def wanted(self) -> list[Resources]:
        """Slot sizes that have units ready, without repeats."""
        return list(dict.fromkeys(self.workers[n].resources for n, q in self._ready.items() if q))

    def waiting_workers(self) -> set[str]:
        return {n for n, q in self._ready.items() if q}

    def count(self, resources: Resources) -> int:
        """Units open for slots of this size: more slots than that are of no use."""
        return sum(1 for u in self.units if u.key not in self.records and self.workers[u.worker].resources == resources)

    def take(self, slot: Slot, slots: int) -> list[Unit]:
        """The next group for a slot: units of one worker, small ones together."""
        names = [n for n, q in self._ready.items() if q and self.workers[n].resources == slot.resources]
        if not names:
            return []
        name = max(names, key=lambda n: (n in slot.loaded, len(self._ready[n])))
        queue = self._ready[name]
        fits = int(GROUP_SECONDS / max(self._seconds[name], 1e-4)) if name in self._seconds else 1
        size = max(1, min(GROUP_MOST, fits, len(queue) // (2 * max(1, slots))))
        group = [queue.popleft()]
        if group[0].key in self._alone:
            return group
        while len(group) < size and queue and queue[0].key not in self._alone:
            group.append(queue.popleft())
        return group

    def timed(self, job: Job, seconds: float) -> None:
        each, name = seconds / len(job.units), job.units[0].worker
        self._seconds[name] = min(each, self._seconds.get(name, each) * 0.5 + each * 0.5)

    def done(self, record: Record) -> None:
        key = (record.space, record.id)
        self.records[key] = record
        self.open -= 1
        self.deaths = 0
        for unit in self._unblocks.pop(key, []):
            needs = self._blocked.get(unit.key)
            if needs is not None:
                needs.discard(key)
                if not needs:
                    del self._blocked[unit.key]
                    self._ready.setdefault(unit.worker, deque()).append(unit)

    def again(self, unit: Unit, pause: float) -> None:
        """Try a unit once more, by itself, after a pause."""
        self._alone.add(unit.key)
        self._later.append((time.monotonic() + pause, unit))

    def wake(self) -> None:
        now = time.monotonic()
        due = [u for at, u in self._later if at <= now]
        self._later = [(at, u) for at, u in self._later if at > now]
        for unit in due:
            self._ready.setdefault(unit.worker, deque()).appendleft(unit)

    def until_wake(self) -> float:
        return max(0.0, min((at for at, _ in self._later), default=0.0) - time.monotonic())

    def give_up(self, unit: Unit, error: str) -> None:
        """A unit failed for good, and with it all that wait for it."""
        self.failed[unit.key] = error
        self.open -= 1
        for waiting in self._unblocks.pop(unit.key, []):
            if self._blocked.pop(waiting.key, None) is not None:
                self.give_up(waiting, f"it needs {unit.space}/{unit.id}, which failed")


def find_done(storage: Storage, units: list[Unit]) -> dict[Key, Record]:
    """Which of these units are committed and whole. One listing per folder; records are read, data is not."""
    listed: dict[str, set[str]] = {space: set(storage.names(f"{space}/units")) for space in {u.space for u in units}}
    there = [u for u in units if f"{u.id}.json" in listed[u.space]]
    if storage.is_local or len(there) < 8:
        records = [load_record(storage, *u.key) for u in there]
    else:
        with ThreadPoolExecutor(16) as threads:
            records = list(threads.map(lambda u: load_record(storage, *u.key), there))
    sizes = {space: storage.sizes(f"{space}/data") for space in {u.space for u in there}}

    def whole(record: Record) -> bool:
        return all(sizes[record.space].get(f.path.rpartition("/")[2]) == f.bytes for f in record.files)

    return {(r.space, r.id): r for r in records if r is not None and whole(r)}


def forget(storage: Storage, record: Record) -> None:
    """Remove a unit's commit, so that the next run does it again."""
    storage.delete(record_path(record.space, record.id))


def _failure_path(space: str, id_: str) -> str:
    return f"{space}/failures/{id_}.json"
