"""Where units run: in this process, or on Ray actors (*slots*) that host any worker.

A slot keeps the workers it has built (weights load once a process) and takes small groups of units. The engine owns
retries, so Ray's own are off. This is the only module of the engine that knows Ray, and it never starts a cluster:
the command hands in `connect`.
"""

from __future__ import annotations

import os
import traceback
from collections.abc import Callable, Mapping
from concurrent.futures import Executor as Threads
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from hyperloom.pipeline.errors import StepFailed, StorageError
from hyperloom.pipeline.leaving import Leaving
from hyperloom.pipeline.startup import FailedStarts, failed_to_start
from hyperloom.pipeline.storage import Storage
from hyperloom.pipeline.units import Output, Record, Resources, Stopped, Unit, Worker, commit, work

if TYPE_CHECKING:
    from hyperloom.pipeline.pulse import Watch
    from hyperloom.pipeline.room import Place, Room


AT_HAND = 2
"""Groups a slot has when units are short: the one that is worked on, and the next or the one that is committed."""


@dataclass
class Outcome:
    """What came back for one unit: its record, or what went wrong."""

    unit: Unit
    record: Record | None = None
    error: str = ""
    trace: str = ""
    infrastructure: bool = False
    hopeless: bool = False
    """True when trying again cannot help: a full disk, a read-only root, processes that cannot start."""
    stopped: bool = False
    """True when the worker ended because it was asked to: nothing is counted against the unit."""
    final: bool = False
    """True when the worker says that another attempt would end in the same way."""


@dataclass(eq=False)
class Job:
    """A group of units on its way."""

    units: list[Unit]
    watch: Watch
    note: str = ""
    quick: bool = False
    """Will it be over so soon that the next group may wait behind it?"""
    handle: Any = None
    started: float = 0.0


class Slot(Protocol):
    """A place that runs groups of units one after the other."""

    def start(self, job: Job, attempts: list[int], scope: str, workers: Mapping[str, Worker]) -> None:
        """Run a group. `scope` is the step's folder: workers that were built for another one are of no use."""

    def close(self) -> None: ...


class Executor(Protocol):
    """Makes slots and waits for them."""

    def open(self, resources: Resources) -> Slot | None:
        """A new slot of this size; None where there is no room beside those that are open."""

    def wait(self, jobs: list[Job], seconds: float) -> dict[int, list[Outcome]]:
        """What came back within `seconds`, by `id` of the job; at least one where there is any."""
        ...

    def close(self) -> None: ...

    def gpus(self) -> float:
        """How many GPUs there are for slots. Starts or joins the cluster."""
        ...


class Host:
    """Runs groups of units with workers that are built once. Lives in a slot's process.

    Where two groups are given at once, one is worked on while the other is committed: waiting for the disk or the
    store costs no time. All that workers do happens in one thread, `hand`; libraries rely on that.
    """

    def __init__(
        self,
        storage_url: str,
        workers: Callable[[str], Worker],
        hand: Threads | None = None,
        leaving: Leaving | None = None,
    ):
        self.storage = Storage(storage_url)
        self._find, self._hand, self._leaving = workers, hand, leaving
        self._scope = ""
        self._built: dict[str, Worker] = {}

    def run(self, scope: str, units: list[Unit], attempts: list[int]) -> list[Outcome]:
        """Outcomes of the units, in order. Workers of another scope are dropped."""
        return [self._one(scope, unit, attempt) for unit, attempt in zip(units, attempts, strict=True)]

    def _work(self, scope: str, unit: Unit, attempt: int) -> Output | Record:
        if scope != self._scope:
            self._scope, self._built = scope, {}
        worker = self._built.get(unit.worker)
        if worker is None:
            worker = self._find(unit.worker)
            worker.setup()
            self._built[unit.worker] = worker
        return work(self.storage, worker, unit, attempt, self._leaving)

    def _one(self, scope: str, unit: Unit, attempt: int) -> Outcome:
        try:
            if self._hand is None:
                done = self._work(scope, unit, attempt)
            else:
                done = self._hand.submit(self._work, scope, unit, attempt).result()
            return Outcome(unit, done if isinstance(done, Record) else commit(done))
        except Stopped as end:
            return Outcome(unit, None, str(end), stopped=True, final=not end.again)
        except StepFailed as error:
            return Outcome(unit, None, str(error), traceback.format_exc(), final=True)
        except Exception as error:  # a worker may raise anything; it becomes a counted failure with its trace kept
            away = isinstance(error, StorageError | ConnectionError | TimeoutError)  # a store, a service: not the work
            hopeless = isinstance(error, StorageError) and not error.transient
            return Outcome(unit, None, f"{type(error).__name__}: {error}", traceback.format_exc(), away, hopeless)


class Inline:
    """Runs everything in the driver's process, one group at a time: for tests and `memory://` roots."""

    def __init__(self, storage: Storage):
        self.storage = storage
        self._open = False

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

    def gpus(self) -> float:
        return 0.0


class _InlineSlot:
    def __init__(self, inline: Inline):
        self._inline = inline
        self._workers: dict[str, Worker] = {}
        self._host = Host(str(inline.storage), self._workers.__getitem__)

    def start(self, job: Job, attempts: list[int], scope: str, workers: Mapping[str, Worker]) -> None:
        self._workers.update(workers)
        job.handle = self._host.run(scope, job.units, attempts)

    def close(self) -> None:
        self._inline.closed()


class RayExecutor:
    """Slots are Ray actors. `connect` starts or joins the cluster when the first slot is wanted; `say` tells the user
    what a run waits for."""

    def __init__(self, storage: Storage, connect: Callable[[], None], say: Callable[[str], None] = lambda _: None):
        self.storage, self._connect, self._say = storage, connect, say
        self._failed_starts = FailedStarts()
        self._room: Room | None = None

    def open(self, resources: Resources) -> Slot | None:
        room = self._connected()
        place = room.take(resources)
        return None if place is None else _RaySlot(self.storage, room, place)

    def gpus(self) -> float:
        return self._connected().gpus

    def _connected(self) -> Room:
        if self._room is None:
            self._connect()  # before ray is imported: it sets how ray authenticates
            from hyperloom.pipeline.room import Room

            self._room = Room(self._say)
        return self._room

    def wait(self, jobs: list[Job], seconds: float) -> dict[int, list[Outcome]]:
        import ray

        refs = {job.handle: job for job in jobs}
        ready, _ = ray.wait(list(refs), num_returns=1, timeout=seconds)
        more, _ = ray.wait(list(refs), num_returns=len(refs), timeout=0) if ready else ([], [])
        return {id(refs[ref]): self._collect(ref, refs[ref]) for ref in dict.fromkeys([*ready, *more])}

    def _collect(self, ref: Any, job: Job) -> list[Outcome]:
        import ray

        try:
            return ray.get(ref)
        except ray.exceptions.RayError as error:
            hopeless = False
            reason = f"the worker process is gone ({type(error).__name__}): {str(error).strip().splitlines()[0][:300]}"
            if failed_to_start(error):
                reason, hopeless = self._failed_starts.add(str(error))
            return [Outcome(u, None, reason, "", infrastructure=True, hopeless=hopeless) for u in job.units]

    def close(self) -> None:
        self._room = None


class _RaySlot:
    def __init__(self, storage: Storage, room: Room, place: Place):
        import ray

        self._room, self._place = room, place
        self._scope = ""
        self._sent: dict[str, Any] = {}
        resources = place.resources
        options = {
            "num_cpus": resources.cpus,
            "num_gpus": resources.gpus,
            "memory": resources.memory_mb * 2**20 or None,
            "max_concurrency": AT_HAND,
            "max_restarts": 0,
            "max_task_retries": 0,
            "runtime_env": {"env_vars": _threads(resources)},
            "scheduling_strategy": place.strategy(),
        }
        self._actor = ray.remote(_Actor).options(**options).remote(str(storage))

    def start(self, job: Job, attempts: list[int], scope: str, workers: Mapping[str, Worker]) -> None:
        import ray

        if scope != self._scope:
            self._scope, self._sent = scope, {}
        wanted = {u.worker for u in job.units}
        for name in wanted - set(self._sent):
            self._sent[name] = ray.put(workers[name])
        refs = {name: [self._sent[name]] for name in wanted}  # in a list, so that only a slot that lacks it fetches it
        job.handle = self._actor.run.remote(scope, refs, job.units, attempts)

    def close(self) -> None:
        import ray

        self._room.give_back(self._place)
        ray.kill(self._actor)


class _Actor:
    """The process behind a slot."""

    def __init__(self, storage_url: str):
        self._refs: dict[str, list[Any]] = {}
        leaving = Leaving(_drains)
        leaving.on_sigterm()
        self._host = Host(storage_url, self._worker, ThreadPoolExecutor(1), leaving)

    def run(self, scope: str, refs: dict[str, list[Any]], units: list[Unit], attempts: list[int]) -> list[Outcome]:
        self._refs.update(refs)
        return self._host.run(scope, units, attempts)

    def _worker(self, name: str) -> Worker:
        import ray

        return ray.get(self._refs[name][0])


def _drains() -> bool:
    """Has Ray been told to drain the node of this process?"""
    import ray
    from ray._private.state import state

    return ray.get_runtime_context().get_node_id() in state.get_draining_nodes()


def _threads(resources: Resources) -> dict[str, str]:
    """One thread per CPU asked for: processes are how work spreads, and two pools on one core slow both down."""
    threads = str(max(1, int(resources.cpus)))
    env = {"OMP_NUM_THREADS": threads, "OPENBLAS_NUM_THREADS": threads, "MKL_NUM_THREADS": threads}
    return env | {k: v for k, v in os.environ.items() if k.startswith("HYPERLOOM_FAULT")}
