"""The work of one step: its units as they come from the stage, what is ready, what waits for what, what came back.

Units are taken from the stage as they are needed. Those that are taken and not done are *open*, and there are never
more than a window of them, however many the step has; of what is done only packed records stay. The stage gives units
partition by partition, each after those it needs, and a ready unit with a lower place goes first: so partitions are
finished one after the other, and what one expert makes for another never piles up.

Steps that run side by side may give the same unit. It is done once: where it is in flight for one step, the others wait
for it (`elsewhere`); so it is with a unit that another driver has in hand (pipeline.running.unit_claims). The stage's
own code, which gives the units, runs in the step's thread (`draw`); all else belongs to the thread of the pool.
"""

from __future__ import annotations

import heapq
import time
from collections import Counter
from collections.abc import Callable, Container, Iterable, Sequence, Sized
from dataclasses import dataclass
from itertools import groupby, islice
from math import inf

from hyperloom.pipeline.commits.committed import Committed
from hyperloom.pipeline.commits.records import Line, Records, line_of
from hyperloom.pipeline.commits.retry import Attempts, Key
from hyperloom.pipeline.commits.units import Record, Unit, Worker, beats
from hyperloom.pipeline.workers.slots import Backlog, Kind, Seat

WINDOW = 256
DRAWN_MOST = 4096
"""Units that are taken from a stage in one go where most of them are done."""
GROUP_SECONDS = 0.5
GROUP_MOST = 16
UNKNOWN_SECONDS = 1.0
"""What a unit is taken to last before one of its kind has been timed."""
AHEAD_MOST = 1024
"""Units that are secured at once."""
SHARED_SECONDS = 1.0
"""How soon a unit that is in flight for another step is looked at again."""


Secure = Callable[[Key, Callable[[], Iterable[Key]]], bool]
"""Have a unit in hand before it is sent, with those that come next; False while another driver has it."""


@dataclass(slots=True)
class Open:
    """A unit that is not done: its place among all, how many it still waits for, and who waits for it."""

    unit: Unit
    place: int
    needs: int = 0
    unblocks: list[Key] | None = None
    alone: bool = False
    also: list[int] | None = None
    """Further places at which the stage gave the same unit."""


class Work:
    """The units of one step on their way to `records`. `reused` counts those that were committed before; `rank` is the
    step's place in the recipe."""

    def __init__(
        self, step: str, scope: str, units: Iterable[Unit], workers: dict[str, Worker], committed: Committed,
        attempts: Attempts, rank: int = 0,
    ):  # fmt: skip
        self.step, self.scope, self.workers, self.rank = step, scope, workers, rank
        self.attempts = attempts
        self.records = Records()
        self.failed: dict[Key, str] = {}
        self.spaces: set[str] = set()
        self.hopeless = ""
        self.ended = False
        self.reused = self.deaths = self.taken = self.flying = 0
        self.shown = 0.0
        self.served = time.monotonic()
        self.kinds = {name: Kind.of(f"{scope}:{name}", worker) for name, worker in workers.items()}
        self._total = len(units) if isinstance(units, Sized) else 0
        self._units = iter(units)
        self._more = True
        self._committed = committed
        self._open: dict[Key, Open] = {}
        self._open_of = Counter[str]()
        self._ready: dict[str, list[tuple[int, Key]]] = {}
        self._later: list[tuple[float, Key]] = []
        self._foreign: set[Key] = set()
        self._seconds: dict[str, float] = {}

    @property
    def total(self) -> int:
        """How many units there are, as far as is known."""
        return max(self._total, self.taken)

    @property
    def over(self) -> bool:
        return not self._open and not self._more

    # -- taking from the stage ---------------------------------------------------------------------------------------
    def room(self, window: int) -> int:
        """How many more units may be open; 0 when the stage has given all."""
        return max(0, window - len(self._open)) if self._more else 0

    def draw(self, count: int) -> list[tuple[Unit, Line | None]]:
        """The next units of the stage, of which up to `count` are not done, with the lines of the records of those that
        are; empty when there are no more."""
        drawn: list[tuple[Unit, Line | None]] = []
        while count > 0 and len(drawn) < DRAWN_MOST and (units := list(islice(self._units, count))):
            lines = self._committed.find(units)
            drawn += zip(units, lines, strict=True)
            count -= sum(line is None for line in lines)
        return drawn

    def enter(self, drawn: Sequence[tuple[Unit, Line | None]]) -> None:
        """Take what was drawn."""
        self._more = bool(drawn)
        for (space, reused), part in groupby(drawn, lambda one: (one[0].space, one[1] is not None)):
            self.spaces.add(space)
            if reused:
                self._reuse(space, [line for _, line in part if line is not None])
            else:
                for unit, _ in part:
                    self._take(unit)

    def _reuse(self, space: str, lines: list[Line]) -> None:
        """The next units were committed before."""
        self.records.put_lines(self.taken, space, lines)
        self.taken += len(lines)
        self.reused += len(lines)

    def _take(self, unit: Unit) -> None:
        place = self.taken
        self.taken += 1
        if (twin := self._open.get(unit.key)) is not None:
            twin.also = [*(twin.also or []), place]
            return
        entry = self._open[unit.key] = Open(unit, place)
        self._open_of[unit.worker] += 1
        lost = next((k for k in unit.after if k in self.failed), None)
        if lost is not None:
            self.give_up(unit, _lost(lost))
            return
        for key in unit.after:
            if (other := self._open.get(key)) is not None:
                entry.needs += 1
                other.unblocks = [*(other.unblocks or []), unit.key]
        if not entry.needs:
            self._put(entry)

    def _put(self, entry: Open) -> None:
        heapq.heappush(self._ready.setdefault(entry.unit.worker, []), (entry.place, entry.unit.key))

    # -- giving to slots ---------------------------------------------------------------------------------------------
    def backlog(self) -> dict[Kind, Backlog]:
        """The ready work of each kind of slot that has any."""
        backlogs: dict[Kind, Backlog] = {}
        for kind in dict.fromkeys(self.kinds[n] for n, queue in self._ready.items() if queue):
            names = self.waiting(kind)
            seconds = sum(len(self._ready[n]) * self._seconds.get(n, UNKNOWN_SECONDS) for n in names)
            oldest = min(self._ready[n][0][0] for n in names)
            backlogs[kind] = Backlog(seconds, oldest, {(self.scope, n) for n in names})
        return backlogs

    def alive(self) -> set[Kind]:
        """Kinds of slot that may still get work."""
        return {kind for name, kind in self.kinds.items() if self._more or self._open_of[name]}

    def waiting(self, kind: Kind) -> set[str]:
        """Names of this kind's workers with ready units."""
        return {n for n, queue in self._ready.items() if queue and self.kinds[n] == kind}

    def quick(self, kind: Kind) -> bool:
        """Are all of this kind's ready units so short that a slot should have its next group at hand?"""
        return all(self.short(n) for n in self.waiting(kind))

    def short(self, name: str) -> bool:
        """Is a unit of this worker known to be over soon?"""
        return not beats(self.workers[name]) and self._seconds.get(name, GROUP_SECONDS) < GROUP_SECONDS

    def take(
        self, seat: Seat, seats: list[Seat], elsewhere: Container[Key] = (), secure: Secure = lambda *_: True,
        seconds: float = 0.0,
    ) -> list[Unit]:  # fmt: skip
        """The next group for a slot: units of one worker, small ones together. `seats` are all slots of this kind. None
        where all that is ready is in flight for another step, or in hand of another driver. Units for about `seconds`
        are secured at once."""
        name = self._choice(seat, seats)
        if name is None:
            return []
        queue = self._ready[name]
        fits = int(GROUP_SECONDS / max(self._seconds[name], 1e-4)) if self.short(name) else 1
        size = max(1, min(GROUP_MOST, fits, len(queue) // (2 * len(seats))))
        group: list[Unit] = []
        reach = self._reach(name, seconds * len(seats), size * len(seats))

        def ahead() -> list[Key]:
            return [key for _, key in heapq.nsmallest(reach, queue)]

        while queue and len(group) < size:
            entry = self._open[queue[0][1]]
            if entry.unit.key in elsewhere:
                self._later.append((time.monotonic() + SHARED_SECONDS, heapq.heappop(queue)[1]))
                continue
            if entry.alone and group:
                break
            if not secure(entry.unit.key, ahead):
                self._foreign.add(heapq.heappop(queue)[1])
                continue
            heapq.heappop(queue)
            group.append(entry.unit)
            if entry.alone:
                break
        return group

    def _reach(self, name: str, seconds: float, least: int) -> int:
        """How many units of a worker are about so many seconds of work."""
        if beats(self.workers[name]):
            return 1
        each = self._seconds.get(name)
        return max(least, min(AHEAD_MOST, int(seconds / max(each, 1e-4)))) if each else least

    def _choice(self, seat: Seat, seats: list[Seat]) -> str | None:
        """Whose unit a slot takes: the oldest of those it has loaded. It loads another worker when that one's oldest
        unit is older and no slot has it loaded, or has been passed over for long; and when it has nothing to do, the
        one that limits: with most seconds of ready work for each slot that has it."""
        waiting = self.waiting(seat.kind)
        if not waiting:
            return None

        def oldest(name: str) -> int:
            return self._ready[name][0][0]

        first = min(waiting, key=oldest)
        mine = min((n for n in waiting if (self.scope, n) in seat.loaded), key=oldest, default=None)
        if mine == first:
            return mine
        loaded = {n: sum((self.scope, n) in s.loaded for s in seats) for n in waiting}
        if mine is None:
            unloaded = [n for n in waiting if not loaded[n]]
            if unloaded:
                return min(unloaded, key=oldest)
            return max(waiting, key=lambda n: len(self._ready[n]) * self._seconds.get(n, UNKNOWN_SECONDS) / loaded[n])
        passed_over = oldest(mine) - oldest(first) > WINDOW // 2
        return first if not loaded[first] or passed_over else mine

    # -- what comes back ---------------------------------------------------------------------------------------------
    def timed(self, name: str, each: float) -> None:
        """Units of this worker took `each` seconds in their slot."""
        self._seconds[name] = min(each, self._seconds.get(name, each) * 0.5 + each * 0.5)

    def done(self, record: Record) -> None:
        entry = self._close((record.space, record.id))
        line = line_of(record)
        for place in (entry.place, *(entry.also or ())):
            self.records.put_line(place, record.space, line)
        if self._committed.packer is not None:
            self._committed.packer.add(record.space, line.text)
        self.deaths = 0
        for key in entry.unblocks or ():
            if (waiting := self._open.get(key)) is not None:
                waiting.needs -= 1
                if not waiting.needs:
                    self._put(waiting)

    def _close(self, key: Key) -> Open:
        entry = self._open.pop(key)
        self._open_of[entry.unit.worker] -= 1
        return entry

    def elsewhere(self, record: Record) -> None:
        """A unit was committed for another step; if this one waits for it too, it is done."""
        self._committed.note(record.space, record.id)
        entry = self._open.get((record.space, record.id))
        if entry is None:
            return
        for queue in self._ready.values():
            if (place := (entry.place, entry.unit.key)) in queue:
                queue.remove(place)
                heapq.heapify(queue)
        self._later = [(at, key) for at, key in self._later if key != entry.unit.key]
        self._foreign.discard(entry.unit.key)
        self.reused += 1
        self.done(record)

    def freed(self, key: Key) -> None:
        """Another driver has a unit in hand no more, and has not done it."""
        if key in self._foreign:
            self._foreign.discard(key)
            self._put(self._open[key])

    def unfinished(self) -> list[Key]:
        """The open units."""
        return list(self._open)

    @property
    def foreign(self) -> bool:
        """Is all that is open in hand of other drivers, or waits for it?"""
        return bool(self._foreign) and not self.flying and not self._later and not any(self._ready.values())

    def again(self, unit: Unit, pause: float) -> None:
        """Try a unit once more, by itself, after a pause."""
        self._open[unit.key].alone = True
        self._later.append((time.monotonic() + pause, unit.key))

    def wake(self) -> None:
        """Units whose pause is over are ready."""
        now = time.monotonic()
        for _, key in [(at, key) for at, key in self._later if at <= now]:
            self._put(self._open[key])
        self._later = [(at, key) for at, key in self._later if at > now]

    def until_wake(self) -> float:
        """Seconds until a unit's pause is over; without end where none pauses."""
        return max(0.0, min((at for at, _ in self._later), default=inf) - time.monotonic())

    def give_up(self, unit: Unit, error: str) -> None:
        """A unit failed for good, and with it all that wait for it."""
        self.failed[unit.key] = error
        for key in self._close(unit.key).unblocks or ():
            if (waiting := self._open.get(key)) is not None:
                self.give_up(waiting.unit, _lost(unit.key))


def _lost(key: Key) -> str:
    return f"it needs {key[0]}/{key[1]}, which failed"
