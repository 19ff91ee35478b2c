"""Many slots and many units: what the driver asks of the store does not grow with them, and nothing is lost."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from hyperloom.pipeline.events import Events
from hyperloom.pipeline.executor import Host, Inline, Job, Outcome
from hyperloom.pipeline.pool import Pool
from hyperloom.pipeline.storage import Storage
from hyperloom.pipeline.units import Output, Resources, Unit, Worker


class Small:
    """Writes its unit's id."""

    resources = Resources()

    def setup(self) -> None:
        pass

    def run(self, unit: Unit, out: Output) -> None:
        out.write("txt", unit.id.encode())
        out.rows = 1


class Crowd(Inline):
    """`size` slots in this process; of what they have at hand one group after the other comes back."""

    def __init__(self, storage: Storage, size: int):
        super().__init__(storage)
        self.size = size
        self.workers: dict[tuple[str, str], Worker] = {}
        self.host = Host(str(storage), self.workers.__getitem__)
        self.noted: list[int] = []

    def open(self, resources: Resources) -> Any:
        self.size -= 1
        return self if self.size >= 0 else None

    def start(self, job: Job, workers: Mapping[str, Worker]) -> None:
        self.workers.update({(job.scope, name): worker for name, worker in workers.items()})

    def wait(self, jobs: list[Job], seconds: float) -> dict[int, list[Outcome]]:
        self.noted.append(len(self.storage.names(f"{jobs[0].scope}/attempts")))
        job = jobs[0]
        return {id(job): self.host.run(job.scope, job.live, job.units, job.attempts)}


@pytest.fixture
def storage(tmp_path: Path) -> Storage:
    return Storage(str(tmp_path))


def test_all_that_starts_in_one_turn_is_one_note_until_the_last_of_it_is_back(storage: Storage) -> None:
    crowd = Crowd(storage, 20)
    pool = Pool(storage, crowd, Events(storage, "run", "driver"))
    records = pool.run("step", "step/1", [Unit("s", f"u{i:03d}", "w") for i in range(20)], {"w": Small()})
    assert len(records) == 20
    assert crowd.noted == [1] * 20
    assert storage.names("step/1/attempts") == []
