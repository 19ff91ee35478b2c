"""Slots and who gets them: processes of declared size, opened as far as the machines go, moved to where work waits.

A slot of CPUs alone takes the units of any worker of its size and keeps all that it has built. One with a share of a
GPU, or with memory of its own, is for one worker, so that what was declared is what it uses; so is one of a worker that
runs for long and beats, which may do with its process as it likes.

While a kind may still get work it keeps its last slot, so that weights are not loaded over and over; only where kinds
do not fit beside each other do they take turns, and none waits for its turn without end. All steps of a run share the
slots.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from math import inf

from hyperloom.pipeline.commits.units import Resources, Worker, beats
from hyperloom.pipeline.workers.executor import Executor, Job, Slot

FAR_BEHIND = 64
"""Places by which a kind's oldest ready unit lies before another's when it is taken to limit the step."""
SWITCH_SECONDS = 5.0
"""Work that must wait for each slot of a kind before another kind's idle slot makes room: about what a start costs."""
REST_SECONDS = 10.0
"""Where a run only waits for other drivers, its idle slots are closed after so long."""
TURN_SECONDS = 60.0
"""A kind that had work and no slot for so long gets another kind's last one, as soon as that is idle."""


@dataclass(frozen=True)
class Kind:
    """Slots of one size; `worker` is named where they are for that one alone."""

    resources: Resources
    worker: str = ""

    @staticmethod
    def of(name: str, worker: Worker) -> Kind:
        needs = worker.resources
        return Kind(needs, name if needs.gpus or needs.memory_mb or beats(worker) else "")


@dataclass(frozen=True)
class Backlog:
    """Ready work of one kind: seconds of it, the place of its oldest unit, the workers it is for (step's folder,
    name)."""

    seconds: float
    oldest: int
    workers: set[tuple[str, str]]


@dataclass(eq=False)
class Seat:
    """An open slot: the workers it has built (step's folder, name), and the groups it was given, the first of which is
    being done."""

    slot: Slot
    kind: Kind
    loaded: set[tuple[str, str]] = field(default_factory=set)
    jobs: deque[Job] = field(default_factory=deque)


class Seats:
    """The open slots of a run. They live from step to step."""

    def __init__(self, executor: Executor):
        self._executor = executor
        self.all: list[Seat] = []
        self._of: dict[Kind, list[Seat]] = {}
        self._without: dict[Kind, float] = {}
        self._rested = time.monotonic()

    def of(self, kind: Kind) -> list[Seat]:
        return self._of.get(kind, [])

    def busy(self) -> list[Seat]:
        return [seat for seat in self.all if seat.jobs]

    def jobs(self) -> list[Job]:
        return [job for seat in self.all for job in seat.jobs]

    def serving(self, scope: str) -> int:
        """How many slots work on units of a step now."""
        return sum(1 for seat in self.all if any(job.scope == scope for job in seat.jobs))

    def forget_workers(self, scope: str) -> None:
        """A step has ended: what the slots have built for it is of no use any more."""
        for seat in self.all:
            seat.loaded = {(s, n) for s, n in seat.loaded if s != scope}

    def free(self, backlog: dict[Kind, Backlog], alive: set[Kind]) -> Seat | None:
        """An idle slot for one of the kinds that have work, opened if need be: first for kinds that have none, then
        for the one that limits. `alive` may get work later. None when all are busy."""
        seats = {kind: len(self.of(kind)) for kind in backlog}
        self._without = {k: self._without.get(k, time.monotonic()) for k in backlog if not seats[k]}
        starving = False
        for kind in sorted(backlog, key=lambda k: (seats[k] > 0, -backlog[k].seconds / max(1, seats[k]))):
            idle = [s for s in self.of(kind) if not s.jobs]
            if idle:
                return max(idle, key=lambda s: len(s.loaded & backlog[kind].workers))
            if starving and seats[kind]:
                continue  # what becomes free is for those that have none
            opened = self._open(kind, backlog, alive)
            if opened is not None:
                return opened
            starving = starving or not seats[kind]
        return None

    def idle(self) -> Seat | None:
        """A slot that has nothing to do."""
        return next((s for s in self.all if not s.jobs), None)

    def rest(self, so: bool) -> None:
        """Say whether nothing can be done before other drivers get on. After a while idle slots make room for these,
        who may wait for it on the same cluster."""
        if not so:
            self._rested = time.monotonic()
        elif time.monotonic() - self._rested > REST_SECONDS:
            self.close_all([s for s in self.all if not s.jobs])

    def starving(self, backlog: dict[Kind, Backlog]) -> bool:
        """Is there a kind that has work and no slot?"""
        return any(not self.of(kind) for kind in backlog)

    def _open(self, kind: Kind, backlog: dict[Kind, Backlog], alive: set[Kind]) -> Seat | None:
        """A new slot, in place of idle ones where there is no room."""
        while True:
            slot = self._executor.open(kind.resources)
            if slot is not None:
                seat = Seat(slot, kind)
                self.all.append(seat)
                self._of.setdefault(kind, []).append(seat)
                return seat
            spare = self._spare(kind, backlog, alive)
            if spare is None:
                return None
            self.close(spare)

    def _spare(self, kind: Kind, backlog: dict[Kind, Backlog], alive: set[Kind]) -> Seat | None:
        """An idle slot of another kind that makes room: one of a kind that gets no work any more, or has none now; of
        one with work only while it keeps another slot and `kind` has none or is far behind it."""
        mine = len(self.of(kind))
        limits = not mine or backlog[kind].seconds / mine > SWITCH_SECONDS
        long = time.monotonic() - self._without.get(kind, inf) > TURN_SECONDS
        for seat in self.all:
            if seat.jobs or seat.kind == kind:
                continue
            more, other = long or len(self.of(seat.kind)) > 1, backlog.get(seat.kind)
            if other is None:
                if seat.kind not in alive or not mine or (limits and more):
                    return seat
            elif more and limits and (not mine or other.oldest - backlog[kind].oldest > FAR_BEHIND):
                return seat
        return None

    def close(self, seat: Seat) -> None:
        seat.slot.close()
        self.all.remove(seat)
        self._of[seat.kind].remove(seat)

    def close_all(self, seats: Iterable[Seat] | None = None) -> None:
        for seat in list(self.all if seats is None else seats):
            self.close(seat)
