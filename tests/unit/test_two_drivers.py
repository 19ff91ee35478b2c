"""Two drivers on one root: what both need is done once, by whoever has it; dead and sleeping ones are replaced."""

from __future__ import annotations

import io
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from hyperloom.pipeline import cli
from hyperloom.pipeline.commits.units import Output, Resources, Unit
from hyperloom.pipeline.config import StepName, placement
from hyperloom.pipeline.errors import ClaimError
from hyperloom.pipeline.host import process
from hyperloom.pipeline.inspection import status
from hyperloom.pipeline.output.progress import Progress
from hyperloom.pipeline.recipes import recipe
from hyperloom.pipeline.root import claims as claiming
from hyperloom.pipeline.root.claims import Claims
from hyperloom.pipeline.root.storage import Storage
from hyperloom.pipeline.running import execution, runner, unit_claims
from hyperloom.pipeline.stage import Stage, StepRun
from tests.unit.threaded import Threaded

CALLS: list[tuple[str, str]] = []
"""Of every unit that is worked on: the driver, the unit."""
GATE = threading.Event()
ENTERED = threading.Event()


@dataclass
class Labeller:
    driver: str
    seconds: float = 0.0
    resources: Resources = field(default_factory=Resources)

    def setup(self) -> None:
        pass

    def run(self, unit: Unit, out: Output) -> None:
        CALLS.append((self.driver, f"{unit.space}/{unit.id}"))
        ENTERED.set()
        if unit.payload.get("gate"):
            GATE.wait(20)
        time.sleep(self.seconds)
        out.write("txt", unit.id.encode())
        out.rows = 1


class Labelling(Stage):
    """Units of several experts, each in a space of its own that other recipes share."""

    experts: tuple[str, ...]
    count: int = 40
    gate: bool = placement(False)
    driver: str = placement("")
    seconds: float = placement(0.002)
    data: tuple[StepName, ...] = ()

    def run(self, step: StepRun) -> dict[str, Any]:
        payload = {"gate": self.gate}
        units = [Unit(f"expert/{e}", f"u{i:03d}", "w", payload) for i in range(self.count) for e in self.experts]
        step.records = step.run_units(units, {"w": Labeller(self.driver, self.seconds)})
        return {"rows": len(step.records)}


@contextmanager
def drivers(count: int) -> Iterator[ThreadPoolExecutor]:
    """Threads for so many drivers, which no gate holds at the end."""
    with ThreadPoolExecutor(count) as threads:
        try:
            yield threads
        finally:
            GATE.set()


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr("hyperloom.pipeline.workers.executor.Inline", lambda storage: Threaded(storage, cpus=2))
    for module in (claiming, execution):
        monkeypatch.setattr(module, "LOOK", 0.02)
    monkeypatch.setattr(unit_claims, "LOOK_SECONDS", 0.02)
    monkeypatch.setattr(unit_claims, "LOOK_SHARE", 1)
    monkeypatch.setattr(unit_claims, "AHEAD_SECONDS", 0.05)
    GATE.clear()
    ENTERED.clear()
    CALLS.clear()
    yield
    GATE.set()


def drive(root: Path, name: str, steps: str, **options: Any) -> runner.RunResult:
    """One driver, in this thread. In `steps` NAME is its name."""
    text = f"name: {name}\nroot: {root}\nmodalities: {{}}\nsteps:\n" + steps.replace("NAME", name)
    text = text.replace("Labelling", f'"{__name__}:Labelling"')
    options = {"progress": Progress(io.StringIO()), "track": False, "wait": 20} | options
    return runner.run(recipe.parse(text, f"{name}.yaml"), **options)


def test_units_that_two_recipes_share_are_done_once(tmp_path: Path) -> None:
    """Each needs an expert that the other needs too; both drivers do some of its units, none twice."""
    first = "  label: {stage: Labelling, experts: [depth, shared], driver: NAME}\n"
    second = "  label: {stage: Labelling, experts: [shared, edges], driver: NAME}\n"
    with drivers(2) as threads:
        both = [threads.submit(drive, tmp_path, *one) for one in (("one", first), ("two", second))]
        assert [b.result().states for b in both] == [{"label": "done"}] * 2
    counts = Counter(unit for _, unit in CALLS)
    assert len(counts) == 3 * 40 and set(counts.values()) == {1}
    storage = Storage(str(tmp_path))
    assert len(storage.names("claims/spaces/expert/shared")) <= 2, "few files, however many units"
    assert claiming.cards(storage) == []


def test_a_step_that_two_recipes_have_is_done_once_and_the_other_goes_on_with_it(tmp_path: Path) -> None:
    steps = "  a: {stage: Labelling, experts: [x], gate: true, driver: NAME}\n"
    said = io.StringIO()
    with drivers(2) as threads:
        one = threads.submit(drive, tmp_path, "one", steps)
        assert ENTERED.wait(10)
        more = steps + "  b: {stage: Labelling, experts: [y], data: [a], driver: NAME}\n"
        two = threads.submit(drive, tmp_path, "two", more, progress=Progress(said))
        while "waiting for it" not in said.getvalue():
            time.sleep(0.01)
        notes = "\n".join(status.notes(Storage(str(tmp_path))))
        assert "recipe 'one': tests.unit.test_two_drivers.Labelling/" in notes and "recipe 'two'" in notes
        GATE.set()
        assert one.result().states == {"a": "done"} and two.result().states == {"a": "fresh", "b": "done"}
    assert Counter(driver for driver, _ in CALLS) == {"one": 40, "two": 40}
    assert "step 'a' is in hand of process" in said.getvalue()


def test_who_waits_too_long_for_a_step_says_for_whom(tmp_path: Path) -> None:
    steps = "  a: {stage: Labelling, experts: [x], gate: true}\n"
    with drivers(1) as threads:
        one = threads.submit(drive, tmp_path, "one", steps)
        assert ENTERED.wait(10)
        other = "  b: {stage: Labelling, experts: [y]}\n  c: {stage: Labelling, experts: [z], data: [a]}\n"
        outcome = drive(tmp_path, "two", steps + other, wait=0)
        assert outcome.states == {"a": "failed", "b": "done", "c": "blocked"}, "what it can do is done"
        assert outcome.error is not None and outcome.error.exit_code == ClaimError.exit_code
        assert "recipe 'one'. Next: wait for it" in outcome.problems["a"]
        GATE.set()
        assert one.result().ok
    assert drive(tmp_path, "two", steps + other).states == {"a": "fresh", "b": "fresh", "c": "done"}


def test_units_of_a_driver_that_died_are_taken_over_and_said(tmp_path: Path) -> None:
    storage = Storage(str(tmp_path))
    dead = {**process.this(), "pid": 2**22 + 1, "born": "1", "owner": "dead", "recipe": "one"}
    storage.write_json("claims/owners/dead.json", {**dead, "beat": 3})
    storage.write_json("claims/spaces/expert/x/00000007.json", {**dead, "units": [f"u{i:03d}" for i in range(5)]})
    said = io.StringIO()
    outcome = drive(tmp_path, "two", "  a: {stage: Labelling, experts: [x]}\n", progress=Progress(said))
    assert outcome.ok and len(CALLS) == 40
    assert "of expert/x over from process" in said.getvalue() and "its process is gone" in said.getvalue()


def test_units_of_a_driver_that_went_silent_are_taken_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(claiming, "BEAT", 0.03)
    monkeypatch.setattr(claiming, "EXPIRY", 0.2)
    storage = Storage(str(tmp_path))
    far = {**process.this(), "boot": "another", "host": "far", "owner": "far", "recipe": "one"}
    storage.write_json("claims/owners/far.json", {**far, "beat": 3})
    storage.write_json("claims/spaces/expert/x/00000007.json", {**far, "units": ["u000", "u001", "u039"]})
    outcome = drive(tmp_path, "two", "  a: {stage: Labelling, experts: [x]}\n")
    assert outcome.ok and len(CALLS) == 40
    assert storage.exists("claims/dead/far.json"), "it finds that when it wakes"


def test_what_another_driver_has_in_hand_comes_as_it_commits_it(tmp_path: Path) -> None:
    """The other has the first two units, does one, and gives the other back."""
    from hyperloom.pipeline.commits import units

    storage = Storage(str(tmp_path))
    with Claims(storage, "other") as other, drivers(1) as threads:
        chain = other.chain("spaces/expert/x")
        link = chain.append(0, other.entry(units=["u000", "u001"]))
        assert link
        driver = threads.submit(drive, tmp_path, "two", "  a: {stage: Labelling, experts: [x], driver: NAME}\n")
        while len(CALLS) < 38:
            time.sleep(0.01)
        units.execute(storage, Labeller("other"), Unit("expert/x", "u000", "w"), 1)
        chain.replace(link, other.entry(units=[]))
        assert driver.result().ok
    counts = Counter(unit for _, unit in CALLS)
    assert len(counts) == 40 and set(counts.values()) == {1}
    assert ("other", "expert/x/u000") in CALLS and ("two", "expert/x/u001") in CALLS


def test_a_driver_that_was_replaced_commits_nothing_more(tmp_path: Path) -> None:
    """It slept in a step, others found it dead; it wakes, and ends with a clear line before its manifest."""
    storage = Storage(str(tmp_path))
    with drivers(1) as threads:
        sleeper = threads.submit(drive, tmp_path, "one", "  a: {stage: Labelling, experts: [x], gate: true}\n")
        assert ENTERED.wait(10)
        (card,) = claiming.cards(storage)
        storage.write_json(f"claims/dead/{card['owner']}.json", {"by": process.this(), "why": "a test"})
        GATE.set()
        with pytest.raises(ClaimError, match=r"this driver was replaced: process .* Next: run the same command again"):
            sleeper.result()
    assert not [p for p in storage.walk("") if p.endswith("manifest.json")]
    assert drive(tmp_path, "one", "  a: {stage: Labelling, experts: [x]}\n").ok


def test_repair_and_replay_keep_off_a_driver(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "r.yaml"
    path.write_text(
        f'name: r\nroot: {tmp_path / "root"}\nmodalities: {{}}\nsteps:\n  a: {{stage: "tests.toy:Numbers"}}\n'
    )
    storage = Storage(str(tmp_path / "root"))
    assert runner.run(recipe.load(str(path)), progress=Progress(io.StringIO()), track=False).ok
    with Claims(storage, "driver"):
        for command in (["verify", "--repair"], ["verify", "--gc"], ["failed", "--replay"]):
            assert cli.main([command[0], str(path), *command[1:]]) == ClaimError.exit_code
            assert "in use by process" in capsys.readouterr().err
        assert cli.main(["verify", str(path)]) == 0, "looking is free"
    for command in (["verify", "--repair"], ["verify", "--gc"], ["failed", "--replay"]):
        assert cli.main([command[0], str(path), *command[1:]]) == 0
    assert storage.read_json(f"claims/root/{storage.names('claims/root')[-1]}")["released"]
