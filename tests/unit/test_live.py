"""The live view of a run on a terminal, plain lines where nothing can be redrawn, tables as wide as the terminal."""

from __future__ import annotations

import io
import re
import time
from typing import Any

import pytest

from hyperloom.pipeline.output.live import LiveStep
from hyperloom.pipeline.output.progress import Progress
from hyperloom.pipeline.output.tables import table

PLAIN = ("NO_COLOR", "CI")


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True

    @property
    def text(self) -> str:
        """All that was written, without what moves the cursor and colours."""
        return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", self.getvalue())


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    for name in PLAIN:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "140")
    monkeypatch.setenv("LINES", "30")
    return Terminal()


def follow(progress: Progress, end: bool = True) -> None:
    """Two steps side by side, of which one ends with a failure on the way."""
    start = {"kind": "run_started", "name": "small", "params": {"root": "r"}, "total": 3}
    counts = {"kind": "progress", "step": "depth", "total": 9}
    progress.event(start)
    for name in ("depth", "teacher"):
        progress.event({"kind": "step_started", "step": name, "stage": "label", "why": ["it has not run yet"]})
    progress.event({**counts, "done": 3, "reused": 2, "failed": 0, "workers": 4})
    progress.event({"kind": "metric", "step": "teacher", "at": 40, "values": {"loss": 0.5}})
    progress.event({"kind": "failure", "step": "depth", "unit": "u", "error": "no memory", "attempt": 1,
                    "infrastructure": True})  # fmt: skip
    progress.event({**counts, "done": 5, "reused": 2, "failed": 1, "workers": 4})
    if end:
        for name in ("depth", "teacher"):
            done = {"status": "done", "seconds": 2, "quarantined": 0, "rows": 9}
            progress.event({"kind": "step_finished", "step": name, **done})
        progress.event({"kind": "run_finished", "step": "", "status": "finished", "seconds": 3})


def test_steps_that_run_are_drawn_side_by_side(terminal: Terminal) -> None:
    progress = Progress(terminal)
    follow(progress, end=False)
    last = terminal.text.rpartition("small: ")[2]
    assert re.search(r"depth +\[1/3\] .*5/9 units \(2 reused\), 1 failed .*4 workers", last), last
    assert re.search(r"teacher +\[2/3\] +40 updates, loss 0.5", last), last
    assert "0 of 3 steps done, 2 at work, 1 wait" in last
    assert "no memory" in last, "the last warning stays in sight"
    progress.event({"kind": "run_finished", "step": "", "status": "failed", "seconds": 3})
    assert terminal.getvalue().endswith("\x1b[?25h") or "\x1b[?25h" in terminal.getvalue(), "the cursor is back"


def test_what_was_said_stays_above_what_is_redrawn(terminal: Terminal) -> None:
    follow(Progress(terminal))
    said = [line.strip() for line in terminal.text.splitlines()]
    assert any(line.startswith("[1/3] depth") and "done in 2.0 s, 9 rows" in line for line in said)
    assert not said[-1].startswith("small:"), "nothing that is redrawn is left at the end"


@pytest.mark.parametrize("how", ["NO_COLOR", "CI", "dumb", "pipe"])
def test_elsewhere_there_are_plain_lines(terminal: Terminal, how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    out: Any = io.StringIO() if how == "pipe" else terminal
    if how == "dumb":
        monkeypatch.setenv("TERM", "dumb")
    elif how != "pipe":
        monkeypatch.setenv(how, "1")
    follow(Progress(out))
    assert "\x1b" not in out.getvalue() and "\r" not in out.getvalue()
    assert "[1/3] depth          label: it has not run yet" in out.getvalue()


def test_a_log_says_a_thing_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A unit that takes an hour is said once, and every five minutes that it goes on; what is new is there after ten
    seconds as ever."""
    now, out = [100.0], io.StringIO()
    monkeypatch.setattr("hyperloom.pipeline.output.live.time.monotonic", lambda: now[0])
    progress = Progress(out)
    progress.event({"kind": "run_started", "step": "", "name": "small", "total": 1, "params": {"root": "r"}})
    progress.event({"kind": "step_started", "step": "a", "stage": "label", "why": ["it has not run yet"]})
    event = {"kind": "progress", "step": "a", "total": 2, "reused": 0, "failed": 0, "workers": 1}
    for done, seconds in ((0, 3600), (1, 30)):
        for _ in range(seconds):
            now[0] += 1
            progress.event({**event, "done": done})
    lines = [line for line in out.getvalue().splitlines() if "units" in line]
    first = [line for line in lines if "0/2 units" in line]
    assert [line.rpartition("units")[2] for line in first] == [
        "",
        *(f", still after {5 * n} min" for n in range(1, 12)),
    ]
    assert [line.partition("units")[2] for line in lines[len(first) :]] == [", 2.0/min, 0:00:30 left"], lines


def test_rate_and_time_left_are_of_the_last_while(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr("hyperloom.pipeline.output.live.time.monotonic", lambda: now[0])
    step = LiveStep("[1/1]", "a", began=0.0)
    event = {"total": 4000, "reused": 1000, "failed": 0, "workers": 1}
    step.progress({**event, "done": 1000})
    assert step.rate == 0 and step.left == "", "what was reused says nothing"
    for _ in range(40):
        now[0] += 1
        step.progress({**event, "done": step.done + 10})
    assert step.rate == pytest.approx(10, rel=0.1) and step.left.startswith("0:04:") and step.who == "1 worker"


def test_a_training_is_shown_by_its_updates_whatever_is_said_of_its_unit() -> None:
    step = LiveStep("[1/1]", "student", began=0.0)
    unit = {"done": 0, "total": 1, "reused": 0, "failed": 0, "workers": 1}
    step.progress(unit)
    assert step.text.startswith("0/1 units")
    step.trained({"writer": "train-student", "at": 40, "of": 400, "values": {"loss": 0.5}})
    step.progress(unit)
    assert (step.done, step.total) == (40, 400) and step.text.startswith("40/400 updates, ") and "loss 0.5" in step.text
    step.trained({"writer": "train-student-seed1", "at": 20, "values": {"loss/seed1": 0.4}})
    assert step.units == "60 updates" and step.left == "", "of one of the two nobody knows how long it will take"
    step.trained({"writer": "train-student-seed1", "at": 30, "of": 400, "values": {"loss/seed1": 0.4}})
    step.progress({**unit, "reused": 1})
    assert step.units == "70/800 updates", "a unit that was reused is no update"


def test_a_training_that_goes_on_has_no_rate_before_its_second_word() -> None:
    step = LiveStep("[1/1]", "student", began=time.monotonic() - 10)
    step.trained({"writer": "train-student", "at": 5000, "of": 6000, "values": {"loss": 0.5}})
    assert (step.rate, step.left) == (0.0, "")


ROWS = [{"step": f"s{i}", "why": "because " * 20, "folder": "label/" + "f" * 30, "units": i} for i in range(3)]


def test_a_long_sentence_is_said_once(terminal: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CI", "1")
    progress, licence = Progress(terminal), "its start net.pth names no licence: ask whose it is before you hand it on"
    for fold in ("a", "b"):
        for text in (f"{fold}: {licence}", f"{fold}: {licence}", f"{fold}: 1 worker on cpu began"):
            progress.event({"kind": "note", "step": fold, "text": text})
    lines = terminal.text.splitlines()
    assert lines[0] == f"  a: {licence}" and lines[1] == "  a: 1 worker on cpu began"
    assert lines[2].startswith("  b: as a says: its start net.pth") and len(lines[2]) < len(lines[0])
    assert lines[3:] == ["  b: 1 worker on cpu began"]


def test_a_table_is_as_wide_as_the_terminal() -> None:
    assert max(map(len, table(ROWS, 0).splitlines())) > 180, "elsewhere nothing is cut"
    for width in (120, 80, 50):
        lines = table(ROWS, width).splitlines()
        assert max(map(len, lines[:-1])) <= width and "--json shows all" in lines[-1], lines
        assert "units" in lines[0] and lines[2].rstrip().endswith("0"), "texts are cut before a column goes"
    lines = table(ROWS, 30).splitlines()
    assert max(map(len, lines[:-1])) <= 30 and "without" in lines[-1] and "units" in lines[-1]
    assert table([{"a": 1}], 40) == "a\n-\n1" and table([], 40) == "(empty)"
