"""An executor whose slots are threads of this process: units run side by side without Ray."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor
from concurrent.futures import wait as wait_for

from hyperloom.pipeline.commits.units import Resources, Worker
from hyperloom.pipeline.root.storage import Storage
from hyperloom.pipeline.workers.executor import Host, Job, Outcome


class Threaded:
    """Has `cpus` CPUs. `opened` lists the slots in the order in which they came."""

    clustered = True

    def __init__(self, storage: Storage, cpus: float = 2):
        self.storage, self.cpus = storage, cpus
        self.slots: list[ThreadSlot] = []
        self.opened: list[ThreadSlot] = []
        self.reserved: list[Resources] = []

    def open(self, resources: Resources) -> ThreadSlot | None:
        if sum(r.cpus for r in [*(s.resources for s in self.slots), *self.reserved, resources]) > self.cpus:
            return None
        self.slots.append(ThreadSlot(self, resources))
        self.opened.append(self.slots[-1])
        return self.slots[-1]

    def wait(self, jobs: list[Job], seconds: float) -> dict[int, list[Outcome]]:
        done, _ = wait_for([j.handle for j in jobs], seconds, FIRST_COMPLETED)
        return {id(j): j.handle.result() for j in jobs if j.handle in done}

    def connect(self) -> None:
        self.connected = threading.current_thread()

    def reserve(self, resources: Resources) -> Resources | None:
        taken = [s.resources for s in self.slots] + self.reserved + [resources]
        if sum(r.cpus for r in taken) > self.cpus:
            return None
        self.reserved.append(resources)
        return resources

    def release(self, place: Resources) -> None:
        self.reserved.remove(place)

    def holds(self, place: Resources) -> bool:
        return True

    def capacity(self, resources: Resources, beside: list[Resources]) -> int:
        return int((self.cpus - sum(r.cpus for r in beside)) / resources.cpus)

    def abandon(self) -> bool:
        return False

    def close(self) -> None:
        pass

    def gpus(self) -> float:
        return 0.0


class ThreadSlot:
    def __init__(self, cluster: Threaded, resources: Resources):
        self.cluster, self.resources = cluster, resources
        self._workers: dict[tuple[str, str], Worker] = {}
        self._host = Host(str(cluster.storage), self._workers.__getitem__)
        self._thread = ThreadPoolExecutor(1)

    def start(self, job: Job, workers: Mapping[str, Worker]) -> None:
        self._workers.update(((job.scope, name), worker) for name, worker in workers.items())
        job.handle = self._thread.submit(self._host.run, job.scope, job.live, job.units, job.attempts)

    def close(self) -> None:
        """The thread ends when its unit does: a thread cannot be killed."""
        self.cluster.slots.remove(self)
        self._thread.shutdown(wait=False)
