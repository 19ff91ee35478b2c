"""Many slots and many units: what the driver asks of the store does not grow with them, and nothing is lost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from hyperloom.pipeline.commits import packs
from hyperloom.pipeline.commits.records import Records
from hyperloom.pipeline.commits.units import File, Output, Record, Resources, Unit, Worker
from hyperloom.pipeline.inspection import verify
from hyperloom.pipeline.root.events import Events
from hyperloom.pipeline.root.storage import Storage
from hyperloom.pipeline.running import ledger
from hyperloom.pipeline.running.pool import Pool
from hyperloom.pipeline.workers.executor import Host, Inline, Job, Outcome


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


# -- packs: copies of records ----------------------------------------------------------------------------------------


class Counting(Small):
    """Says how often it was asked; what it writes differs each time."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def run(self, unit: Unit, out: Output) -> None:
        self.asked.append(unit.id)
        out.write("txt", f"{unit.id} {len(self.asked)}".encode())


@pytest.fixture
def packed(storage: Storage, monkeypatch: pytest.MonkeyPatch) -> list[Record]:
    """A step of 40 units with packs of 8, the last of 4 being left alone; its records."""
    monkeypatch.setattr(packs, "MOST", 8)
    monkeypatch.setattr(packs, "LEAST", 5)
    first = list(run(storage, Counting(), 44))
    assert len(storage.names("s/1/packs")) == 5
    return first


def run(storage: Storage, worker: Worker, count: int = 44) -> Sequence[Record]:
    pool = Pool(storage, Inline(storage), Events(storage, "run", "driver"))
    return pool.run("step", "step/1", [Unit("s/1", f"u{i:03d}", "w") for i in range(count)], {"w": worker})


def test_a_rerun_reads_packs_and_only_the_records_that_lie_in_none(
    storage: Storage, packed: list[Record], monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[str] = []
    whole = Storage.read
    monkeypatch.setattr(Storage, "read", lambda self, path: read.append(path) or whole(self, path))
    assert list(run(storage, Counting())) == packed
    assert len([p for p in read if p.startswith("s/1/units/")]) == 4
    assert len([p for p in read if p.startswith("s/1/packs/")]) == 5


def test_a_torn_pack_costs_reading_and_nothing_else(storage: Storage, packed: list[Record]) -> None:
    path = f"s/1/packs/{storage.names('s/1/packs')[0]}"
    storage.write(path, storage.read(path)[:-20])
    assert [p.path for p in verify.verify(storage).problems] == [path]
    worker = Counting()
    assert list(run(storage, worker)) == packed and worker.asked == []


def test_what_a_pack_says_of_a_unit_without_record_or_data_is_not_believed(
    storage: Storage, packed: list[Record]
) -> None:
    storage.delete("s/1/units/u003.json")
    storage.delete(packed[20].file.path)
    worker = Counting()
    again = list(run(storage, worker))
    assert worker.asked == ["u003", "u020"]
    assert again[3] != packed[3] and again[20] != packed[20]
    assert list(run(storage, Counting())) == again


def test_a_unit_that_was_taken_back_has_the_record_of_its_second_time(storage: Storage, packed: list[Record]) -> None:
    ledger.forget(storage, packed[3:5])
    worker = Counting()
    again = list(run(storage, worker))
    assert worker.asked == ["u003", "u004"]
    assert again[3] != packed[3] and again[5:] == packed[5:]
    assert list(run(storage, Counting())) == again


def test_all_files_of_many_records_are_looked_for_without_a_record_made() -> None:
    records = Records([Record("a/1", "u", 3, (File("a/1/data/u-0123456789ab.x.y", 7, "0123456789abcdef"),), 1)])
    records.append(Record("b/1", "v", 2, (File("b/1/own/name", 5, "ff"), File("top", 1, "ff"))))
    assert list(records.places()) == [
        ("a/1/data", "u-0123456789ab.x.y", 7),
        ("b/1/own", "name", 5),
        ("", "top", 1),
    ]
    assert records.counts() == {"a/1": (1, 3, 1, 7), "b/1": (1, 2, 0, 6)}
    assert [r.id for r in records.with_quarantine()] == ["u"]
