"""Where units run: *slots*, which host any worker, in this process or (pipeline.workers.rayslots) on a Ray cluster.

A slot keeps the workers it has built (weights load once a process) and takes small groups of units. This module says
what an executor offers, and knows no Ray.
"""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable, Mapping
from concurrent.futures import Executor as Threads
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol

from hyperloom.pipeline.commits.units import Output, Record, Resources, Stopped, Unit, Worker, commit, work
from hyperloom.pipeline.errors import RecipeError, SourceError, StepFailed, StorageError
from hyperloom.pipeline.host.preemption import Preemption
from hyperloom.pipeline.root.storage import Storage
from hyperloom.pipeline.secrets import blot

if TYPE_CHECKING:
    from hyperloom.pipeline.commits.heartbeat import Watch


Name = tuple[str, str]
"""A worker's: the folder of its step, its name there."""

AT_HAND = 2
"""Groups a slot has when units are short: the one that is worked on, and the next or the one that is committed."""


REPEATABLE = (
    SourceError, ArithmeticError, AssertionError, AttributeError, LookupError, NameError, TypeError, ValueError,
)  # fmt: skip
"""What says nothing of machines, memory or services: it follows from code and data."""


@dataclass
class Outcome:
    """What came back for one unit: its record, or what went wrong."""

    unit: Unit
    record: Record | None = None
    error: str = ""
    trace: str = ""
    infrastructure: bool = False
    hopeless: bool = False
    """True when trying again cannot help, nor can another unit: a full disk, a read-only root, processes that cannot
    start, a mistake of the recipe."""
    stopped: bool = False
    """True when the worker ended because it was asked to: nothing is counted against the unit."""
    final: bool = False
    """True when the worker says that another attempt would end in the same way."""
    repeatable: bool = False
    """True for what follows from the work alone, so that the same words at the next attempt mean the same at all."""
    seconds: float = 0.0
    """What it took in the slot, without what it waited for before and after."""

    def __post_init__(self) -> None:
        self.error, self.trace = blot(self.error), blot(self.trace)


@dataclass(eq=False)
class Job:
    """A group of units on its way. `scope` is the folder of its step, whose workers have their names there; `live` are
    the scopes of all steps that run, whose workers a slot keeps."""

    units: list[Unit]
    attempts: list[int]
    scope: str
    live: frozenset[str]
    watch: Watch
    note: str = ""
    quick: bool = False
    """Will it be over so soon that the next group may wait behind it?"""
    handle: Any = None


def lost(jobs: list[Job], reason: str) -> list[Outcome]:
    """What is said of units whose process is gone or hangs."""
    return [Outcome(unit, None, reason, "", infrastructure=True) for job in jobs for unit in job.units]


class Slot(Protocol):
    """A place that runs groups of units one after the other."""

    def start(self, job: Job, workers: Mapping[str, Worker]) -> None:
        """Run a group, by the workers of its scope."""

    def close(self) -> None: ...


class Executor(Protocol):
    """Makes slots and waits for them."""

    def open(self, resources: Resources) -> Slot | None:
        """A new slot of this size; None where there is no room beside those that are open."""

    def connect(self) -> None:
        """Start or join the cluster, unless that is done. Raises StepFailed where there is none."""

    def reserve(self, resources: Resources) -> Any:
        """Room that no slot may take, for `release`; None where there is none now."""

    def release(self, place: Any) -> None: ...

    def abandon(self) -> bool:
        """Break off what steps do on the cluster by themselves. False where there is no cluster."""
        ...

    clustered: bool
    """Is there a cluster, which `connect` starts or joins?"""

    def gpus(self) -> float:
        """How many GPUs there are for slots, once connected."""
        ...

    def holds(self, place: Any) -> bool:
        """Is the room still there? Where its node is gone it counts as released."""
        ...

    def capacity(self, resources: Resources, beside: list[Any]) -> int:
        """How many of this size the cluster could hold if there were nothing else but the room `beside`."""
        ...

    def wait(self, jobs: list[Job], seconds: float) -> dict[int, list[Outcome]]:
        """What came back within `seconds`, by `id` of the job; at least one where there is any."""
        ...

    def close(self) -> None: ...


class Host:
    """Runs groups of units with workers that are built once. Lives in a slot's process.

    Where two groups are given at once, one is worked on while the other is committed: waiting for the disk or the
    store costs no time, and a worker may read ahead for the group that waits. All else that workers do happens in one
    thread, `hand`; libraries rely on that.
    """

    def __init__(
        self,
        storage_url: str,
        workers: Callable[[Name], Worker],
        hand: Threads | None = None,
        preemption: Preemption | None = None,
    ):
        self.storage = Storage(storage_url)
        self._find, self._hand, self._preemption = workers, hand, preemption
        self._live: frozenset[str] = frozenset()
        self._built: dict[Name, Worker] = {}
        self._at_hand = 0

    def run(self, scope: str, live: frozenset[str], units: list[Unit], attempts: list[int]) -> list[Outcome]:
        """Outcomes of the units, in order. Workers of scopes that are not `live` are dropped."""
        self._live = live
        outcomes: list[Outcome] = []
        for unit, attempt in zip(units, attempts, strict=True):
            if outcomes and outcomes[-1].hopeless:
                outcomes.append(replace(outcomes[-1], unit=unit, seconds=0.0))
            else:
                outcomes.append(self._timed(scope, unit, attempt))
        return outcomes

    def _timed(self, scope: str, unit: Unit, attempt: int) -> Outcome:
        started = time.monotonic()
        outcome = self._one(scope, unit, attempt)
        outcome.seconds = time.monotonic() - started
        return outcome

    def _work(self, scope: str, unit: Unit, attempt: int) -> Output | Record:
        self._built = {name: w for name, w in self._built.items() if name[0] in self._live or name[0] == scope}
        name = scope, unit.worker
        worker = self._built.get(name)
        if worker is None:
            worker = self._find(name)
            worker.setup()
            self._built[name] = worker
        return work(self.storage, worker, unit, attempt, self._preemption)

    def _tell_ahead(self, scope: str, unit: Unit, attempt: int) -> None:
        """Let the worker begin to read for a unit that waits for its turn."""
        ahead = getattr(self._built.get((scope, unit.worker)), "ahead", None)
        if ahead is not None and self._at_hand and attempt == 1:
            ahead(unit)

    def _one(self, scope: str, unit: Unit, attempt: int) -> Outcome:
        try:
            if self._hand is None:
                done = self._work(scope, unit, attempt)
            else:
                self._tell_ahead(scope, unit, attempt)
                self._at_hand += 1
                try:
                    done = self._hand.submit(self._work, scope, unit, attempt).result()
                finally:
                    self._at_hand -= 1
            return Outcome(unit, done if isinstance(done, Record) else commit(done))
        except Stopped as end:
            return Outcome(unit, None, str(end), stopped=True, final=not end.again)
        except StepFailed as error:
            return Outcome(unit, None, str(error), traceback.format_exc(), final=True)
        except Exception as error:  # a worker may raise anything; it becomes a counted failure with its trace kept
            away = isinstance(error, StorageError | ConnectionError | TimeoutError)  # a store, a service: not the work
            hopeless = isinstance(error, RecipeError) or (isinstance(error, StorageError) and not error.transient)
            repeatable = isinstance(error, REPEATABLE) and not away
            text, trace = f"{type(error).__name__}: {error}", traceback.format_exc()
            return Outcome(unit, None, text, trace, away, hopeless, repeatable=repeatable)


class Inline:
    """Runs everything in the driver's process, one group at a time: for tests and `memory://` roots."""

    clustered = False

    def __init__(self, storage: Storage):
        self.storage = storage
        self._open = False

    def connect(self) -> None:
        raise StepFailed("this stage needs a Ray cluster, and the run was started without one")

    def reserve(self, resources: Resources) -> Any:
        self.connect()

    def release(self, place: Any) -> None:
        pass

    def abandon(self) -> bool:
        return False

    def gpus(self) -> float:
        return 0.0

    def holds(self, place: Any) -> bool:
        return True

    def capacity(self, resources: Resources, beside: list[Any]) -> int:
        return 0

    def open(self, resources: Resources) -> Slot | None:
        if self._open:
            return None
        self._open = True
        return _InlineSlot(self)

    def wait(self, jobs: list[Job], seconds: float) -> dict[int, list[Outcome]]:
        return {id(job): job.handle for job in jobs}

    def closed(self) -> None:
        self._open = False

    def close(self) -> None:
        pass


class _InlineSlot:
    def __init__(self, inline: Inline):
        self._inline = inline
        self._workers: dict[Name, Worker] = {}
        self._host = Host(str(inline.storage), self._workers.__getitem__)

    def start(self, job: Job, workers: Mapping[str, Worker]) -> None:
        self._workers.update(((job.scope, name), worker) for name, worker in workers.items())
        job.handle = self._host.run(job.scope, job.live, job.units, job.attempts)

    def close(self) -> None:
        self._inline.closed()
