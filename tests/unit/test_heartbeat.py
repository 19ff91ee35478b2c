"""Units that run for long: one that beats is never taken for hung, one that falls silent is, and each can be ended."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest

from hyperloom.pipeline.commits import heartbeat
from hyperloom.pipeline.commits.units import Output, Resources, Stopped, Unit
from hyperloom.pipeline.host.ending import Ending
from hyperloom.pipeline.root.events import Events
from hyperloom.pipeline.root.storage import Storage
from hyperloom.pipeline.running.pool import Pool
from tests.unit.threaded import Threaded

ENDING = threading.Event()


@dataclass
class Long:
    """Beats `many` times, then is silent for `silent` seconds at its first attempt."""

    many: int = 0
    silent: float = 0.0
    beats: bool = True
    until_told: bool = False
    resources: Resources = field(default_factory=Resources)

    def setup(self) -> None:
        pass

    def run(self, unit: Unit, out: Output) -> None:
        for _ in range(self.many):
            out.beat()
            time.sleep(0.02)
        if out.attempt == 1:
            time.sleep(self.silent)
        while self.until_told:
            out.beat()
            if ENDING.wait(0.02):
                raise Stopped("as asked")
        out.write("txt", unit.id.encode())
        out.rows = 1


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(heartbeat, "BEAT_SECONDS", 0.02)
    monkeypatch.setattr(heartbeat, "LOOK_SECONDS", 0.02)
    monkeypatch.setattr(heartbeat, "SILENCE_SECONDS", 0.4)
    monkeypatch.setattr("hyperloom.pipeline.running.pool.STOPPED_PAUSE", 0.05)
    monkeypatch.setattr("hyperloom.pipeline.running.pool.HUNG_SECONDS", 0.02)
    ENDING.clear()


@pytest.fixture
def storage(tmp_path: Any) -> Storage:
    return Storage(str(tmp_path))


def run(storage: Storage, worker: Long, limit: float, count: int = 1) -> list[dict]:
    """Do `count` units; the failures on the way."""
    told: list[dict] = []
    events = Events(storage, "test", "driver", (told.append,))
    pool = Pool(storage, Threaded(storage), events, unit_seconds=limit)
    records = pool.run("step", "step/1", [Unit("s", f"u{i}", "w") for i in range(count)], {"w": worker})
    assert [r.id for r in records] == [f"u{i}" for i in range(count)]
    return [e for e in told if e["kind"] == "failure"]


@pytest.mark.parametrize("promised", [True, False])
def test_a_unit_that_beats_may_run_longer_than_others(storage: Storage, promised: bool) -> None:
    assert run(storage, Long(many=20, beats=promised), limit=0.2) == []
    assert storage.names("s/beats") == []


def test_a_unit_that_never_beats_has_its_time_and_no_more(storage: Storage) -> None:
    (failure,) = run(storage, Long(silent=1.5), limit=0.2)
    assert failure["infrastructure"] and "no answer within 0 s" in failure["error"]


def test_a_unit_that_stops_to_beat_is_taken_for_hung(storage: Storage) -> None:
    (failure,) = run(storage, Long(many=5, silent=2), limit=30)
    assert failure["infrastructure"] and "no sign of life for 0 s" in failure["error"]


def test_units_that_beat_go_alone_and_nothing_waits_behind_them(storage: Storage) -> None:
    events = Events(storage, "test", "driver")
    executor = Threaded(storage)
    pool = Pool(storage, executor, events)
    groups: list[int] = []
    open_ = executor.open

    def opened(resources: Resources) -> Any:
        slot = open_(resources)
        if slot is not None:
            start: Callable[..., None] = slot.start
            slot.start = lambda job, workers: (groups.append(len(job.units)), start(job, workers))[-1]
        return slot

    executor.open = opened  # type: ignore[method-assign]
    units = [Unit("s", f"u{i:02d}", "w") for i in range(40)]
    pool.run("step", "step/1", units, {"w": Long()})
    assert set(groups) == {1} and len(groups) == 40
    pool.run("step", "step/2", [Unit("t", u.id, "w") for u in units], {"w": Long(beats=False)})
    assert max(groups[40:]) > 1, "units as short as these go together when their worker does not beat"


def test_a_unit_that_was_stopped_goes_on_elsewhere_and_nothing_counts_against_it(storage: Storage) -> None:
    threading.Timer(0.2, ENDING.set).start()
    threading.Timer(0.4, ENDING.clear).start()

    @dataclass
    class Once(Long):
        def run(self, unit: Unit, out: Output) -> None:
            self.until_told = not storage.exists("stopped")
            try:
                super().run(unit, out)
            except Stopped:
                storage.write("stopped", b"")
                raise
            assert out.attempt == 1

    assert run(storage, Once(), limit=30) == []


def test_who_registers_when_the_end_has_begun_is_told_at_once(storage: Storage) -> None:
    ending, told = Ending(), threading.Event()
    ending.begin()
    with ending.telling(told.set):
        assert told.wait(5)


def test_beats_cost_little(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(heartbeat, "BEAT_SECONDS", 5.0)
    out = Output(Storage(str(tmp_path)), Unit("s", "u", "w"))
    monkeypatch.setattr(out.storage, "write", lambda *_, **__: writes.append(1))
    writes: list[int] = []
    for _ in range(1000):
        out.beat()
    assert len(writes) == 1
