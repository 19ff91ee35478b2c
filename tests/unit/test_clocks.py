"""Clocks that jump by hours, forwards and back: events keep their order, runs theirs, and nobody is taken for alive."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from hyperloom.pipeline.inspection import logs
from hyperloom.pipeline.root import events
from hyperloom.pipeline.root.events import Events
from hyperloom.pipeline.root.storage import Storage
from hyperloom.pipeline.tracking.tracker import Position
from hyperloom.stages.label.services.replay import Replay

HOURS = 3600.0
NOW = time.time


@pytest.fixture
def jump(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Set the clock so many hours off."""
    return lambda hours: monkeypatch.setattr(time, "time", lambda: NOW() + hours * HOURS)


def test_events_keep_the_order_in_which_they_were_written(tmp_path: Path, jump: Callable[[float], None]) -> None:
    storage = Storage(str(tmp_path))
    for at, hours in enumerate((0, 5, -5, 12, -12, 0)):
        jump(hours)
        with Events(storage, "run", "driver") as written:
            written.metric("a", {"loss": 1.0}, at)
    read = list(events.read(storage, "run"))
    assert [e["at"] for e in read] == [0, 1, 2, 3, 4, 5] != sorted(range(6), key=lambda n: read[n]["t"])


def test_the_log_of_a_run_is_silent_and_out_of_order_for_no_clock(
    tmp_path: Path, jump: Callable[[float], None]
) -> None:
    """Lines in the order in which they were written, and how far a step is goes on being said."""
    storage = Storage(str(tmp_path))
    with Events(storage, "run", "driver") as driver:
        driver.emit("step_started", "a", stage="label", why="it has not run yet", fingerprint="f", params={})
        for at, hours in enumerate((0, 5, -5, 12)):
            jump(hours)
            driver.emit("progress", "a", done=at, total=4, reused=0, failed=0)
        jump(-12)
        driver.emit("step_finished", "a", status="done", seconds=1.0)
    said = [line.split("  ", 2)[-1].strip() for line in logs.lines(storage, "run")]
    assert [next((n for n in "0123" if f"{n}/4" in line), "") for line in said[1:-1]] == ["0", "1", "2", "3"], said
    assert "done after 1.0 s" in said[-1]


def test_the_last_run_is_the_one_that_began_last(tmp_path: Path, jump: Callable[[float], None]) -> None:
    storage, runs = Storage(str(tmp_path)), list[str]()
    for hours in (0, 9, 0, -9, -9):
        jump(hours)
        runs.append(events.new_run(storage))
        Events(storage, runs[-1], "driver").emit("run_started")
    assert runs == sorted(runs) == storage.names("events") and len(set(runs)) == 5


@pytest.mark.parametrize("hours", [9, -9])
def test_a_tracker_whose_clock_was_wrong_owns_nothing_for_long(
    tmp_path: Path, jump: Callable[[float], None], hours: float
) -> None:
    storage = Storage(str(tmp_path))
    Events(storage, "run", "driver").emit("run_started")
    jump(hours)
    events.positions(storage, "run").append(0, Position("sqlite:///x", owner="tracker").text())
    assert events.pending(storage) == []
    jump(0)
    assert events.pending(storage) == ["run"]


@pytest.mark.parametrize("hours", [9, -9])
def test_a_question_that_was_claimed_by_a_wrong_clock_is_asked(
    tmp_path: Path, jump: Callable[[float], None], hours: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    from hyperloom.pipeline.host import process

    replay, key = Replay(Storage(str(tmp_path)), "expert", 60.0), Replay.key("what is it?")
    jump(hours)
    with monkeypatch.context() as patch:
        patch.setattr(process, "host", lambda: "elsewhere")
        assert replay.claim(key)
    assert not replay.claim(key), "a claim of now is believed"
    jump(0)
    assert replay.claim(key)
