"""Slots on a Ray cluster: actors that host workers, each pinned to the node whose room it takes.

The engine owns retries, so Ray's own are off. No cluster is started here: the command hands in `connect`, and it is
called when the first slot is wanted. All of it belongs to one thread: Ray ends with the thread that started it.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from hyperloom.pipeline.commits.units import Resources, Unit, Worker
from hyperloom.pipeline.host import project
from hyperloom.pipeline.host.preemption import Preemption, unblock
from hyperloom.pipeline.root.storage import Storage
from hyperloom.pipeline.workers import ray_internals
from hyperloom.pipeline.workers.executor import AT_HAND, Host, Job, Name, Outcome, Slot
from hyperloom.pipeline.workers.startup import FailedStarts, failed_to_start

if TYPE_CHECKING:
    from hyperloom.pipeline.workers.room import Place, Room


class RayExecutor:
    """Slots are Ray actors. `connect` starts or joins the cluster when the first slot is wanted; `say` tells the user
    what a run waits for."""

    clustered = True

    def __init__(self, storage: Storage, connect: Callable[[], None], say: Callable[[str], None] = lambda _: None):
        self.storage, self._connect, self._say = storage, connect, say
        self._failed_starts = FailedStarts()
        self._room: Room | None = None
        self._connected = False

    def open(self, resources: Resources) -> Slot | None:
        place = self.reserve(resources)
        return None if place is None else _RaySlot(self.storage, self.release, place)

    def connect(self) -> None:
        self._ready()

    def _ready(self) -> Room:
        if self._room is None:
            self._connect()  # before ray is imported: it sets how ray authenticates
            self._connected = True
            from hyperloom.pipeline.workers.room import Room

            self._room = Room(self._say)
        return self._room

    def reserve(self, resources: Resources) -> Place | None:
        return self._ready().take(resources)

    def release(self, place: Place) -> None:
        if self._room is not None:
            self._room.give_back(place)

    def abandon(self) -> bool:
        if self._connected:
            import ray

            ray.shutdown()
        return self._connected

    def gpus(self) -> float:
        return self._ready().gpus

    def holds(self, place: Place) -> bool:
        return self._ready().holds(place)

    def capacity(self, resources: Resources, beside: list[Place]) -> int:
        return self._ready().capacity(resources, beside)

    def wait(self, jobs: list[Job], seconds: float) -> dict[int, list[Outcome]]:
        import ray

        if self._room is not None:
            self._room.settle()
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
        if self._room is not None:
            self._room.close()
        self._room = None


class _RaySlot:
    def __init__(self, storage: Storage, release: Callable[[Place], None], place: Place):
        import ray

        self._release, self._place = release, place
        self._sent: dict[Name, Any] = {}
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
        self._actor = ray.remote(_Actor).options(**options).remote(str(storage), project.current())

    def start(self, job: Job, workers: Mapping[str, Worker]) -> None:
        import ray

        self._sent = {name: ref for name, ref in self._sent.items() if name[0] in job.live}
        keys = {(job.scope, u.worker) for u in job.units}
        for name in keys - set(self._sent):
            self._sent[name] = ray.put(workers[name[1]])
        refs = {name: [self._sent[name]] for name in keys}  # in a list, so that only a slot that lacks it fetches it
        job.handle = self._actor.run.remote(job.scope, job.live, refs, job.units, job.attempts)

    def close(self) -> None:
        import ray

        self._release(self._place)
        ray.kill(self._actor)


class _Actor:
    """The process behind a slot."""

    def __init__(self, storage_url: str, of: project.Project):
        of.enter()
        self._refs: dict[Name, list[Any]] = {}
        preemption = Preemption(ray_internals.drains)
        preemption.on_sigterm()
        self._host = Host(storage_url, self._worker, ThreadPoolExecutor(1, initializer=unblock), preemption)

    def run(
        self, scope: str, live: frozenset[str], refs: dict[Name, list[Any]], units: list[Unit], attempts: list[int]
    ) -> list[Outcome]:
        self._refs = {name: ref for name, ref in self._refs.items() if name[0] in live} | refs
        return self._host.run(scope, live, units, attempts)

    def _worker(self, name: Name) -> Worker:
        import ray

        return ray.get(self._refs[name][0])


def _threads(resources: Resources) -> dict[str, str]:
    """One thread per CPU asked for: processes are how work spreads, and two pools on one core slow both down."""
    threads = str(max(1, int(resources.cpus)))
    env = {"OMP_NUM_THREADS": threads, "OPENBLAS_NUM_THREADS": threads, "MKL_NUM_THREADS": threads}
    return env | {k: v for k, v in os.environ.items() if k.startswith("HYPERLOOM_FAULT")}
