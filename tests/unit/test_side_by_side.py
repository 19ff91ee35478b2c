"""Steps that do not read each other run side by side, on slots of their own, and nothing else changes."""

from __future__ import annotations

import io
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from hyperloom.pipeline import cli
from hyperloom.pipeline.commits import heartbeat
from hyperloom.pipeline.commits.units import Output, Resources, Stopped, Unit
from hyperloom.pipeline.config import StepName, placement
from hyperloom.pipeline.errors import Cancelled, Ended, HungUp, Interrupted
from hyperloom.pipeline.host.ending import Ending
from hyperloom.pipeline.output.progress import Progress
from hyperloom.pipeline.recipes import recipe
from hyperloom.pipeline.root import claims, events
from hyperloom.pipeline.root.storage import Storage
from hyperloom.pipeline.running import cancelling, pool, runner, turns
from hyperloom.pipeline.running import work as working
from hyperloom.pipeline.stage import Stage, StepRun
from tests.unit.threaded import Threaded

MEETING = threading.Barrier(3)
TOLD = threading.Event()
BEGUN = threading.Event()
CALLS: list[str] = []
CLOCK: Any = None
"""By which units sleep, in place of the real one."""
BODY: dict[str, Callable[[StepRun], None]] = {}


@dataclass
class Clock:
    """Stands still but for those who sleep by it."""

    now: float = 1000.0

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


@dataclass
class Does:
    """What its unit says: `meet` waits for two others, `hold` beats until it is told to end."""

    resources: Resources = field(default_factory=Resources)
    beats: bool = False

    def setup(self) -> None:
        pass

    def run(self, unit: Unit, out: Output) -> None:
        CALLS.append(unit.id)
        what = unit.payload["does"]
        if what == "meet":
            MEETING.wait(20)
        if what == "fail":
            _until(lambda: any(call.startswith("b-") for call in CALLS))
            raise ValueError("as it should")
        if what == "hold" and not out.storage.exists("calm"):
            BEGUN.set()
            while not TOLD.wait(0.01):
                out.beat()
            raise Stopped("as asked")
        (CLOCK or time).sleep(unit.payload.get("seconds", 0))
        out.write("txt", f"{unit.id} {what}".encode())
        out.rows = 1


def _until(met: Callable[[], bool]) -> None:
    end = time.monotonic() + 20
    while not met() and time.monotonic() < end:
        time.sleep(0.005)


class Doing(Stage):
    """`count` units that all do one thing."""

    salt: str
    does: str = placement("write")
    count: int = 1
    seconds: float = placement(0.0)
    space: str = placement("")
    data: tuple[StepName, ...] = ()

    def run(self, step: StepRun) -> dict[str, Any]:
        if step.name in BODY:
            BODY[step.name](step)
        name = "" if self.space else f"{step.name}-"
        payload = {"does": self.does, "seconds": self.seconds}
        units = [Unit(self.space or step.folder, f"{name}u{i:03d}", "w", payload) for i in range(self.count)]
        with step.ending.telling(TOLD.set):
            step.records = step.run_units(units, {"w": Does(beats=self.does == "hold")})
        return {}


class Many:
    """A recipe of steps `name: fields of Doing`, on `cpus` slots of this process."""

    def __init__(self, tmp_path: Path, **steps: str):
        lines = [f'  {n}: {{stage: "{__name__}:Doing", salt: {n}, {fields}}}' for n, fields in steps.items()]
        self.storage = Storage(str(tmp_path / "root"))
        self.text = "\n".join(["name: many", f"root: {self.storage}", "modalities: {}", "steps:", *lines])
        self.out = io.StringIO()

    def run(self, **options: Any) -> runner.RunResult:
        loaded = recipe.parse(self.text, "many.yaml")
        return runner.run(loaded, progress=Progress(self.out), track=False, wait=0, **options)

    def told(self) -> list[tuple[str, str]]:
        """Kind and step of the events of the last run, of steps that began and ended."""
        run = self.storage.names("events")[-1]
        kinds = ("step_started", "step_finished")
        return [(e["kind"][5:], e["step"]) for e in events.read(self.storage, run) if e["kind"] in kinds]

    def data(self) -> dict[str, bytes]:
        keep = (p for p in self.storage.walk("") if "/data/" in p or "/units/" in p or p.endswith("manifest.json"))
        return {p: self.storage.read(p) for p in keep}


@pytest.fixture(autouse=True)
def slots(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Threaded]]:
    """Three slots in this process, in place of one."""
    made: list[Threaded] = []

    def three(storage: Storage) -> Threaded:
        made.append(Threaded(storage, cpus=3))
        return made[-1]

    monkeypatch.setattr("hyperloom.pipeline.workers.executor.Inline", three)
    monkeypatch.setattr(heartbeat, "BEAT_SECONDS", 0.02)
    MEETING.reset()
    TOLD.clear()
    BEGUN.clear()
    CALLS.clear()
    BODY.clear()
    yield made
    TOLD.set()


def test_steps_that_do_not_read_each_other_run_side_by_side(tmp_path: Path) -> None:
    """Each waits for the other two; one after the other they would never end."""
    many = Many(tmp_path, **dict.fromkeys("abc", "does: meet"), d="data: [a, b, c]")
    assert many.run().states == dict.fromkeys("abcd", "done")
    told = many.told()
    assert {told.index(("started", n)) for n in "abc"} == {0, 1, 2}
    assert told[-2:] == [("started", "d"), ("finished", "d")]


def test_a_step_starts_when_what_it_reads_is_done_whatever_else_runs(tmp_path: Path) -> None:
    many = Many(tmp_path, a="does: write", b="does: meet", c="does: meet", d="does: meet, data: [a]")
    assert many.run().ok
    told = many.told()
    assert told.index(("started", "d")) < min(told.index(("finished", n)) for n in "bc")


def test_a_step_that_fails_stops_only_those_that_read_it(tmp_path: Path) -> None:
    many = Many(tmp_path, z="does: fail", a="data: [z]", b="does: write, count: 3", c="data: [b]")
    outcome = many.run()
    assert outcome.states == {"z": "failed", "a": "blocked", "b": "done", "c": "done"}
    assert list(outcome.states) == ["z", "a", "b", "c"] and outcome.error is not None
    assert many.told().index(("started", "b")) < many.told().index(("finished", "z"))


def test_side_by_side_and_one_after_the_other_give_the_same_bytes(tmp_path: Path) -> None:
    steps = dict.fromkeys("abc", "count: 40") | {"d": "data: [a, b], count: 5"}
    both = Many(tmp_path / "both", **steps)
    both.run()
    single = Many(tmp_path / "single", **steps)
    for name in "abcd":
        single.run(only=[name])
    assert both.data() == single.data() and len(both.data()) == 2 * 125 + 4


def test_a_unit_that_two_steps_need_is_done_once(tmp_path: Path) -> None:
    many = Many(tmp_path, **dict.fromkeys("abc", "space: s/1, seconds: 0.01, count: 30"))
    assert many.run().ok and sorted(CALLS) == [f"u{i:03d}" for i in range(30)]


def test_steps_that_differ_in_their_names_alone_are_done_once(tmp_path: Path) -> None:
    many = Many(tmp_path, a="count: 3, space: s/1", b="count: 3, space: s/1")
    many.text = many.text.replace("salt: b", "salt: a")
    assert many.run().states == {"a": "done", "b": "fresh"}
    told = many.told()
    assert told == [("started", "a"), ("finished", "a")]


def test_a_step_gets_slots_while_an_earlier_one_has_work_for_all(tmp_path: Path) -> None:
    Many(tmp_path, a="seconds: 0.02, count: 60", b="seconds: 0.02, count: 5").run()
    assert CALLS.index("b-u004") < CALLS.index("a-u059")


def test_no_step_waits_without_end_for_the_only_slot(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hyperloom.pipeline.workers.executor.Inline", lambda storage: Threaded(storage, cpus=1))
    clock = Clock()
    monkeypatch.setattr(f"{__name__}.CLOCK", clock)
    for module in (turns, working, pool):
        monkeypatch.setattr(module, "time", clock)
    Many(tmp_path, a="seconds: 1, count: 200", b="seconds: 1, count: 2").run()
    starved = turns.STARVED_SECONDS
    late = CALLS.index("b-u000")  # which may come before `a` asks at all
    assert (not late or starved <= late) and CALLS.index("b-u001") < 3 * starved, "a unit takes a second"


def test_room_is_kept_for_a_stages_own_processes_and_the_rest_is_for_others(
    tmp_path: Path, slots: list[Threaded]
) -> None:
    seen: list[int] = []

    def train(step: StepRun) -> None:
        step.cluster()
        assert slots[-1].connected is threading.main_thread(), "Ray ends with the thread that started it"
        with step.reserve(Resources(), 2) as number:
            before = len(CALLS)
            seen.append(number)
            for _ in range(20):
                time.sleep(0.01)
                seen.append(len(slots[-1].slots) + number)
            assert len(CALLS) > before, "the other step goes on beside it"
        with step.reserve(Resources(), 99) as number:
            seen.append(number)

    BODY["train"] = train
    many = Many(tmp_path, label="seconds: 0.02, count: 60", train="does: write")
    assert many.run().ok, many.out.getvalue()
    assert seen[0] == 2 and max(seen) == 3 and seen[-1] == 3
    assert slots[-1].reserved == []


def test_two_reservations_wait_for_each_other(tmp_path: Path) -> None:
    at_once: list[int] = []

    def train(step: StepRun) -> None:
        with step.reserve(Resources(), 2):
            at_once.append(1)
            time.sleep(0.05)
            assert sum(at_once) == 1
            at_once.append(-1)

    BODY.update(a=train, b=train)
    assert Many(tmp_path, a="count: 5", b="count: 5").run().ok


def test_a_closed_terminal_ends_a_run_however_often_it_is_said() -> None:
    """A shell sends SIGHUP to its jobs, and the kernel to those in front."""
    before, strays, ending = signal.getsignal(signal.SIGHUP), [], Ending()
    signal.signal(signal.SIGHUP, lambda number, _: strays.append(number))
    try:
        with ending.on_signals():
            for _ in range(2):
                os.kill(os.getpid(), signal.SIGHUP)
            assert ending.wait(5) and not strays
        os.kill(os.getpid(), signal.SIGHUP)
        assert strays == [signal.SIGHUP], "afterwards it means what it meant before"
    finally:
        signal.signal(signal.SIGHUP, before)
    assert isinstance(ending.error(), HungUp) and ending.error().exit_code == 143


@pytest.mark.parametrize(
    ("number", "raised", "status"),
    [
        (signal.SIGTERM, Ended, "interrupted"),
        (signal.SIGINT, Interrupted, "interrupted"),
        (0, Cancelled, "cancelled"),
    ],
)
def test_a_run_of_two_steps_can_be_ended_and_goes_on(
    tmp_path: Path, number: int, raised: type[Ended], status: str, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    """By a signal, or by a command from anywhere; what beats puts its work away first."""
    monkeypatch.setattr(cancelling, "LOOK_SECONDS", 0.05)
    path = tmp_path / "many.yaml"
    many = Many(tmp_path, a="does: hold", b="does: hold", c="data: [a, b]")
    many.storage.write("x", b"")

    def end() -> None:
        BEGUN.wait(20)
        time.sleep(0.1)
        if number:
            os.kill(os.getpid(), number)
        else:
            codes.append(cli.main(["cancel", str(path)]))

    path.write_text(many.text)
    codes: list[int] = []
    ender = threading.Thread(target=end)
    ender.start()
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(Ended) as error:
        many.run()
    ender.join(20)
    assert error.type is raised and codes == ([] if number else [0])
    assert TOLD.is_set()
    assert signal.getsignal(signal.SIGTERM) == before
    assert claims.cards(many.storage) == []
    run = many.storage.names("events")[-1]
    assert [e["status"] for e in events.read(many.storage, run) if e["kind"] == "run_finished"] == [status]
    TOLD.set()
    many.storage.write("calm", b"")
    assert many.run().states == dict.fromkeys("abc", "done")
    with events.Events(many.storage, "20000101", "driver") as killed:
        killed.emit("run_started", name="many")
    capsys.readouterr()
    assert cli.main(["cancel", str(path), "--wait", "0"]) == 0, "a driver that was killed is not waited for"
    assert "no run of many is under way" in capsys.readouterr().out
    assert cli.main(["logs", str(path), "--run", run, "--follow"]) == 0
    log = capsys.readouterr().out.splitlines()
    assert "run of many, root" in log[0] and f"run {status} after" in log[-1]


def test_what_a_step_raises_as_it_is_stopped_is_no_failure(tmp_path: Path) -> None:
    many = Many(tmp_path, a="does: write")

    def cut_off(step: StepRun) -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        assert step.ending.wait(5)
        raise RuntimeError("cut off")

    BODY["a"] = cut_off
    with pytest.raises(Ended):
        many.run()
    ends = [e["status"] for e in events.read(many.storage, many.storage.names("events")[-1]) if "seconds" in e]
    assert ends[0] == "interrupted" and "stopped after" in many.out.getvalue() and "FAILED" not in many.out.getvalue()


def test_a_second_signal_ends_a_run_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    many = Many(tmp_path, a="does: hold")
    BODY["a"] = lambda step: monkeypatch.setattr(TOLD, "set", lambda: None)  # heeds nothing

    def end() -> None:
        BEGUN.wait(20)
        for _ in range(2):
            time.sleep(0.2)
            os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=end).start()
    began = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        many.run()
    assert time.monotonic() - began < 60, "nobody waits for a checkpoint"
    monkeypatch.undo()
    TOLD.set()
