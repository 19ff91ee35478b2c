"""Where units run: in this process, or on Ray actors (*slots*) that host any worker.

A slot keeps the workers it has built (weights load once a process) and takes small groups of units. The engine owns
retries, so Ray's own are off. This is the only module of the engine that knows Ray, and it never starts a cluster:
the command hands in `connect`.
"""

from __future__ import annotations

import math
import os
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from pipeline.errors import StorageError
from pipeline.storage import Storage
from pipeline.units import Record, Resources, Unit, Worker, execute


@dataclass
class Outcome:
    """What came back for one unit: its record, or what went wrong."""

    unit: Unit
    record: Record | None = None
    error: str = ""
    trace: str = ""
    infrastructure: bool = False
    hopeless: bool = False
    """True when trying again cannot help: a full disk, a read-only root."""


@dataclass
class Job:
    """A group of units on its way."""

    slot: Slot
    units: list[Unit]
    note: str = ""
    handle: Any = None
    started: float = 0.0


class Slot(Protocol):
    """A place that runs one group of units at a time."""

    resources: Resources
    loaded: set[str]
    """Names of the workers this slot has built for the current step."""

    def start(self, job: Job, attempts: list[int], workers: dict[str, Worker]) -> None: ...
    def close(self) -> None: ...


class Executor(Protocol):
    """Makes slots and waits for them."""

    def slots(self, resources: Resources) -> int:
        """How many slots of this size fit."""
        ...

    def open(self, resources: Resources) -> Slot: ...
    def wait(self, jobs: list[Job], seconds: float) -> list[tuple[Job, list[Outcome]]]: ...
    def close(self) -> None: ...


class Host:
    """Runs groups of units with workers that are built once. Lives in a slot's process.

    A worker's name is `{step folder}:{name}`; workers of another step are dropped when a new step's units arrive.
    """

    def __init__(self, storage_url: str, workers: Callable[[str], Worker]):
        self.storage = Storage(storage_url)
        self._find = workers
        self._built: dict[str, Worker] = {}

    def run(self, units: list[Unit], attempts: list[int]) -> list[Outcome]:
        return [self._one(unit, attempt) for unit, attempt in zip(units, attempts, strict=True)]

    def _one(self, unit: Unit, attempt: int) -> Outcome:
        try:
            worker = self._built.get(unit.worker)
            if worker is None:
                step = unit.worker.split(":")[0] + ":"
                self._built = {n: w for n, w in self._built.items() if n.startswith(step)}
                worker = self._find(unit.worker)
                worker.setup()
                self._built[unit.worker] = worker
            return Outcome(unit, execute(self.storage, worker, unit, attempt))
        except Exception as error:  # a worker may raise anything; it becomes a counted failure with its trace kept
            store = isinstance(error, StorageError)
            hopeless = store and not getattr(error, "transient", True)
            return Outcome(unit, None, f"{type(error).__name__}: {error}", traceback.format_exc(), store, hopeless)


@dataclass
class Inline:
    """Runs everything in the driver's process, one group at a time: for tests and `memory://` roots."""

    storage: Storage

    def slots(self, resources: Resources) -> int:
        return 1

    def open(self, resources: Resources) -> Slot:
        return _InlineSlot(self.storage, resources)

    def wait(self, jobs: list[Job], seconds: float) -> list[tuple[Job, list[Outcome]]]:
        return [(job, job.handle) for job in jobs]

    def close(self) -> None:
        pass


class _InlineSlot:
    def __init__(self, storage: Storage, resources: Resources):
        self.resources, self.loaded = resources, set[str]()
        self._workers: dict[str, Worker] = {}
        self._host = Host(str(storage), self._workers.__getitem__)

    def start(self, job: Job, attempts: list[int], workers: dict[str, Worker]) -> None:
        self._workers.update(workers)
        job.handle = self._host.run(job.units, attempts)

    def close(self) -> None:
        pass


class RayExecutor:
    """Slots are Ray actors. `connect` starts or joins the cluster when the first slot is wanted."""

    def __init__(self, storage: Storage, connect: Callable[[], None]):
        self.storage, self._connect = storage, connect
        self._capacity: dict[str, float] | None = None

    def slots(self, resources: Resources) -> int:
        if self._capacity is None:
            self._connect()  # before ray is imported: it sets how ray authenticates
            import ray

            self._capacity = ray.cluster_resources()
        limits = [self._capacity.get("CPU", 1) / resources.cpus if resources.cpus else math.inf]
        if resources.gpus:
            limits.append(self._capacity.get("GPU", 0) / resources.gpus)
        if resources.memory_mb:
            limits.append(self._capacity.get("memory", 0) / (resources.memory_mb * 2**20))
        return max(1, int(min(limits)))

    def open(self, resources: Resources) -> Slot:
        return _RaySlot(self.storage, resources)

    def wait(self, jobs: list[Job], seconds: float) -> list[tuple[Job, list[Outcome]]]:
        import ray

        refs = {job.handle: job for job in jobs}
        ready, _ = ray.wait(list(refs), num_returns=1, timeout=seconds)
        more, _ = ray.wait(list(refs), num_returns=len(refs), timeout=0) if ready else ([], [])
        return [(refs[ref], self._collect(ref, refs[ref])) for ref in dict.fromkeys([*ready, *more])]

    def _collect(self, ref: Any, job: Job) -> list[Outcome]:
        import ray

        try:
            return ray.get(ref)
        except ray.exceptions.RayError as error:
            reason = f"the worker process is gone ({type(error).__name__}): {str(error).strip().splitlines()[0][:300]}"
            return [Outcome(u, None, reason, "", infrastructure=True) for u in job.units]

    def close(self) -> None:
        self._capacity = None


class _RaySlot:
    def __init__(self, storage: Storage, resources: Resources):
        import ray

        self.resources, self.loaded = resources, set[str]()
        self._sent: dict[str, Any] = {}
        options = {
            "num_cpus": resources.cpus,
            "num_gpus": resources.gpus,
            "memory": resources.memory_mb * 2**20 or None,
            "max_restarts": 0,
            "max_task_retries": 0,
            "runtime_env": {"env_vars": _threads(resources)},
        }
        self._actor = ray.remote(_Actor).options(**options).remote(str(storage))

    def start(self, job: Job, attempts: list[int], workers: dict[str, Worker]) -> None:
        import ray

        wanted = {u.worker for u in job.units}
        for name in wanted - set(self._sent):
            self._sent[name] = ray.put(workers[name])
        refs = {name: [self._sent[name]] for name in wanted}  # in a list, so that only a slot that lacks it fetches it
        job.handle = self._actor.run.remote(refs, job.units, attempts)

    def close(self) -> None:
        import ray

        ray.kill(self._actor)


class _Actor:
    """The process behind a slot."""

    def __init__(self, storage_url: str):
        self._refs: dict[str, list[Any]] = {}
        self._host = Host(storage_url, self._worker)

    def run(self, refs: dict[str, list[Any]], units: list[Unit], attempts: list[int]) -> list[Outcome]:
        self._refs.update(refs)
        return self._host.run(units, attempts)

    def _worker(self, name: str) -> Worker:
        import ray

        return ray.get(self._refs[name][0])


def _threads(resources: Resources) -> dict[str, str]:
    """One thread per CPU asked for: processes are how work spreads, and two pools on one core slow both down."""
    threads = str(max(1, int(resources.cpus)))
    env = {"OMP_NUM_THREADS": threads, "OPENBLAS_NUM_THREADS": threads, "MKL_NUM_THREADS": threads}
    return env | {k: v for k, v in os.environ.items() if k.startswith("HYPERLOOM_FAULT")}
