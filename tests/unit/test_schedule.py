"""Schedules: which slots there are, who decides one, who carries it out, and what becomes of it when somebody dies."""

from __future__ import annotations

import io
import json
import threading
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import islice
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest

import hyperloom.stages  # noqa: F401  registers the plug-ins
from hyperloom.pipeline import cli, plugins
from hyperloom.pipeline.commits.manifest import Manifest
from hyperloom.pipeline.errors import Ended, HyperloomError, IntegrityError, RecipeError, StorageError
from hyperloom.pipeline.host import faults
from hyperloom.pipeline.output.progress import Progress
from hyperloom.pipeline.planning.plan import PlannedStep
from hyperloom.pipeline.recipes import recipe, timetable
from hyperloom.pipeline.recipes.schedule import CronSchedule
from hyperloom.pipeline.root import claims, events
from hyperloom.pipeline.root.storage import Storage
from hyperloom.pipeline.running import runner
from hyperloom.pipeline.scheduling import change, history
from hyperloom.pipeline.scheduling import tick as tick_module
from hyperloom.pipeline.scheduling.journal import Journal
from hyperloom.pipeline.scheduling.tick import Tick, TickResult
from hyperloom.pipeline.scheduling.trigger import NewData, Trigger, TriggerCase, TriggerVerdict
from hyperloom.stages.drift.stage import Drift
from tests.toy import Numbers
from tests.unit.test_house import loaded_by

TOY = """\
name: toy
root: {root}
modalities: {{}}
schedule: {schedule}
steps:
  a: {{stage: "tests.toy:Numbers", file: {file}, {steps}}}
  b: {{stage: "tests.toy:Squares", data: a}}
"""
START = datetime(2026, 3, 1, tzinfo=UTC)
POINTS = ("slot.decided", "slot.claimed", "slot.started", "step.started", "manifest.after", "slot.ran", "slot.ended")


class Night:
    """A toy recipe with a schedule of one slot a day at three, over one root, on a clock that a test sets."""

    def __init__(self, tmp_path: Path, **schedule: Any):
        self.folder, self.file = tmp_path, tmp_path / "raw.bin"
        self.file.write_bytes(b"night 0")
        self.storage = Storage(str(tmp_path / "root"))
        self.schedule = {"cron": "0 3 * * *", **schedule}
        self.steps = ""
        self.journal = Journal(self.storage, "toy")
        change.change(self.journal, "add", START)

    def load(self) -> recipe.RecipeFile:
        text = TOY.format(root=self.storage, file=self.file, steps=self.steps, schedule=json.dumps(self.schedule))
        return recipe.parse(text, "toy.yaml")

    def tick(self, day: int, hours: float = 3.01, only: str = "", **options: Any) -> TickResult:
        loaded = self.load()

        def start(named: runner.NamedRun, steps: list[str] | None) -> runner.RunResult:
            progress = Progress(io.StringIO())
            return runner.run(loaded, None, str(self.storage), steps, 0, progress, track=False, named=named)

        now = START + timedelta(days=day, hours=hours)
        return Tick(loaded, self.storage, now, options.pop("start", start), say=lambda _: None, **options).go(only)

    def arrive(self, text: str) -> None:
        self.file.write_bytes(text.encode())

    def rows(self) -> list[dict[str, Any]]:
        """The slots, the oldest first."""
        return [r for r in reversed(history.rows(self.journal, 100)) if "missed" in r]

    def states(self) -> list[str]:
        return [row["state"] for row in self.rows()]


@pytest.fixture
def night(tmp_path: Path) -> Night:
    return Night(tmp_path)


# -- the timetable -----------------------------------------------------------------------------------------------------
def slots(cron: str | list[str], zone: str, after: str, count: int) -> list[str]:
    schedule = CronSchedule(cron=cron, timezone=zone)
    return [timetable.text(s) for s in islice(timetable.slots(schedule, timetable.instant(after)), count)]


def test_slots_follow_the_clocks_of_the_zone_through_both_changes() -> None:
    spring = slots("30 2 * * *", "Europe/Berlin", "2026-03-28T00:00:00Z", 3)
    assert spring == ["2026-03-28T01:30:00Z", "2026-03-29T01:00:00Z", "2026-03-30T00:30:00Z"], "in the gap: after it"
    autumn = slots("30 2 * * *", "Europe/Berlin", "2026-10-24T12:00:00Z", 2)
    assert autumn == ["2026-10-25T00:30:00Z", "2026-10-26T01:30:00Z"], "of two times the first alone"
    within = slots("30 2 * * *", "Europe/Berlin", "2026-10-25T01:10:00Z", 1)
    assert within == ["2026-10-26T01:30:00Z"], "asked within the repeated hour"
    hourly = slots("0 * * * *", "Europe/Berlin", "2026-10-24T23:30:00Z", 4)
    assert hourly == [f"2026-10-25T{h:02d}:00:00Z" for h in range(4)], "every hour is real time"
    assert slots("0 12 * * *", "Asia/Kolkata", "2026-03-01T00:00:00Z", 1) == ["2026-03-01T06:30:00Z"]


@pytest.mark.parametrize("zone", ["Australia/Lord_Howe", "Europe/Berlin", "Africa/Cairo", "Asia/Kathmandu"])
@pytest.mark.parametrize(
    "cron", ["30 * * * *", "0 * * * *", "50 * * * *", "20,45 * * * *", "*/20 * * * *", "*/15 2 * * *", "* 1,3 * * sun"]
)
def test_no_local_time_is_passed_over_where_clocks_move_by_half_an_hour(zone: str, cron: str) -> None:
    """On Lord Howe the second 1:30 of an autumn night was passed over, and all slots of an hour that began at once."""
    local = ZoneInfo(zone)
    minutes, hours, *_, weekday = cron.split()
    starred = {"*": range(60), "*/20": range(0, 60, 20), "*/15": range(0, 60, 15)}
    every = starred.get(minutes) or [int(m) for m in minutes.split(",")]
    within = range(24) if hours == "*" else [int(h) for h in hours.split(",")]
    year = [datetime(2026, 1, 1, tzinfo=UTC) + timedelta(hours=h / 2) for h in range(2 * 365 * 24)]
    offsets = [t.astimezone(local).utcoffset() for t in year]
    changes = [t for t, before, after in zip(year, offsets, offsets[1:], strict=False) if before != after]
    for moment in changes or year[:1]:
        begin = moment - timedelta(hours=30, minutes=7)
        there = [(t, t.astimezone(local)) for t in (begin + timedelta(minutes=m) for m in range(1, 60 * 60))]
        expected = [
            timetable.text(t) for t, own in there
            if own.minute in every and own.hour in within and (weekday == "*" or own.weekday() == 6)
        ]  # fmt: skip
        assert slots(cron, zone, timetable.text(begin), len(expected)) == expected


def test_several_expressions_give_one_row_of_slots() -> None:
    both = slots(["0 3 * * *", "0 */3 * * *"], "UTC", "2026-03-01T00:00:00Z", 4)
    assert both == [f"2026-03-01T{h:02d}:00:00Z" for h in (3, 6, 9, 12)]


def test_jitter_is_the_same_for_everybody_and_within_its_bound() -> None:
    schedule = CronSchedule(cron="0 * * * *", jitter="10m")
    several = list(islice(timetable.slots(schedule, START), 50))
    late = [timetable.due(schedule, "x", s) - s for s in several]
    assert late == [timetable.due(schedule, "x", s) - s for s in several]
    assert all(timedelta(0) <= one < timedelta(minutes=10) for one in late) and len(set(late)) > 30
    assert timetable.due(schedule, "y", several[0]) != timetable.due(schedule, "x", several[0])


def test_a_slot_is_not_over_because_a_later_one_has_less_jitter() -> None:
    """The shortest time between two slots may come once a year; the earlier one was gone from the journal."""
    schedule = CronSchedule(cron=["0 * * * *", "30 12 25 12 *"], jitter="59m")
    noon, half = (datetime(2026, 12, 25, 12, minute, tzinfo=UTC) for minute in (0, 30))
    before = noon - timedelta(minutes=1)
    later, sooner = (timetable.due(schedule, "r0", slot) for slot in (noon, half))
    assert sooner < later < noon + timedelta(minutes=59)
    assert list(timetable.pending(schedule, "r0", before, sooner)) == []
    assert list(timetable.pending(schedule, "r0", before, later)) == [noon, half]


@pytest.mark.parametrize(
    ("schedule", "line", "says"),
    [
        ('{cron: "a b c d e"}', 4, "its minute is wrong: minute hour day month weekday"),
        ('{cron: "0 3 * *"}', 4, "a cron expression has five fields"),
        ('{cron: "0 3 30 2 *"}', 4, "its day-of-month is wrong"),
        ('{cron: []}', 4, "at least 1 item"),
        ('\n  cron:\n    - "0 3 * * *"\n    - "0 25 * * *"', 7, "its hour is wrong"),
        ('{cron: "0 3 * * *", timezone: Europe/Berlni}', 4, "IANA data base; did you mean 'Europe/Berlin'?"),
        ('{cron: "0 3 * * *", timezone: Mars}', 4, "IANA data base, such as UTC or Europe/Berlin"),
        ('{cron: "0 3 * * *", zone: UTC}', 4, "unknown field 'zone'; did you mean 'timezone'?"),
        ('{cron: "0 3 * * *", on: never}', 4, "no trigger of type 'never'; known: always"),
        ('{cron: "0 3 * * *", interval: soon}', 4, "a time is a number with its unit"),
        ('{cron: "*/10 * * * *", jitter: 10m}', 4, "jitter: must be less than the 0:10:00 between two slots"),
        ('{cron: "0 3 * * *", missed: twice}', 4, "'once' or 'skip'"),
    ],
)  # fmt: skip
def test_a_wrong_schedule_is_refused_with_its_line(schedule: str, line: int, says: str) -> None:
    with pytest.raises(RecipeError) as caught:
        recipe.parse(TOY.format(root="/x", file="y", steps="", schedule=schedule), "toy.yaml")
    (said,) = str(caught.value).splitlines()
    assert said.startswith(f"toy.yaml:{line}: ") and says in said


def test_a_machine_without_time_zones_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("zoneinfo.available_timezones", set)
    schedule = '{cron: "0 3 * * *", timezone: Nowhere/Atall}'
    with pytest.raises(RecipeError, match="no data base of time zones here. Next: pip install tzdata"):
        recipe.parse(TOY.format(root="/x", file="y", steps="", schedule=schedule), "toy.yaml")


# -- slots that run and slots that do not ------------------------------------------------------------------------------
def test_a_slot_runs_once_and_one_without_new_data_does_nothing(night: Night) -> None:
    assert night.tick(0, hours=2).state == "idle"
    first = night.tick(0)
    assert first.state == "done" and "a, b done" in first.text
    assert night.tick(0, hours=4).text == "nothing is due; next slot 2026-03-02T03:00:00Z"
    before = night.storage.names("events")
    assert night.tick(1).text == "slot 2026-03-02T03:00:00Z: no new data: all 2 steps are fresh"
    assert night.storage.names("events") == before, "a slot that does nothing has no run"
    night.arrive("night 2")
    assert night.tick(2).state == "done"
    assert night.states() == ["done", "skipped", "done"]
    runs = [row["run"] for row in night.rows() if row["state"] == "done"]
    assert runs == night.storage.names("events") and runs[0].startswith("20260301-030000-")
    tags = [e["values"] for e in events.read(night.storage, runs[1]) if e["kind"] == "tag"]
    assert {"schedule": "toy", "slot": "2026-03-03T03:00:00Z", "why": "other data in a"} in tags


def test_what_could_not_be_shown_is_shown_with_each_settled_slot(night: Night) -> None:
    """A night without a tracker is caught up with by the next slot, also by one that does nothing else."""
    called: list[int] = []
    for day, hours in ((0, 2.0), (0, 3.1), (0, 3.2), (1, 3.1)):
        night.tick(day, hours, afterwards=lambda day=day: called.append(day))
    assert called == [0, 1], "once for the slot that ran and once for the one without new data"


def test_new_data_is_what_a_run_has_not_seen_to_its_end(night: Night) -> None:
    night.tick(0)
    night.schedule["cron"] = "0 4 * * *"  # the recipe changes; that is no new data
    loaded = night.load()
    text = loaded.text.replace("Squares, data: a", "Squares, data: a")
    assert text and night.tick(1, hours=4.1).state == "skipped"
    night.arrive("night 2")
    assert night.tick(2, hours=4.1, start=_dying).state == "left"
    assert night.tick(2, hours=4.2).state == "done"


def test_missed_slots_are_made_up_for_once_or_not_at_all(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir(), (tmp_path / "b").mkdir()
    once, skip = Night(tmp_path / "a"), Night(tmp_path / "b", missed="skip")
    result = once.tick(3, hours=12)
    assert result.state == "done"
    (row,) = once.rows()
    assert row["slot"] == "2026-03-04T03:00:00Z" and row["missed"] == 3
    assert row["missed_slots"] == [f"2026-03-0{d}T03:00:00Z" for d in (1, 2, 3)]
    assert skip.tick(3, hours=12).text == (
        "slot 2026-03-04T03:00:00Z: missed: nobody was there for 9 h; 3 slots missed before it"
    )
    assert skip.tick(4).state == "done"


def test_runs_keep_their_distance(tmp_path: Path) -> None:
    night = Night(tmp_path, cron="0 * * * *", interval="3h")
    states = []
    for hour in range(1, 8):
        night.arrive(f"hour {hour}")
        states.append(night.tick(0, hours=hour + 0.01).state)
    assert states == ["done", "skipped", "skipped", "done", "skipped", "skipped", "done"]
    assert night.rows()[1]["why"] == "less than 3 h after 2026-03-01T01:00:00Z"


def test_a_paused_schedule_lets_slots_pass_and_a_removed_one_is_over(night: Night) -> None:
    change.change(night.journal, "pause", START, "holidays")
    assert night.tick(1).state == "paused" and night.states() == []
    assert "was paused already" in change.change(night.journal, "pause", START)
    change.change(night.journal, "resume", START + timedelta(days=2))
    assert night.tick(2).state == "done" and night.rows()[0]["missed"] == 0
    change.change(night.journal, "remove", START)
    assert night.tick(3).state == "removed"
    with pytest.raises(HyperloomError, match="there is no schedule 'toy' here"):
        change.change(night.journal, "pause", START)
    change.change(night.journal, "add", START + timedelta(days=4))
    assert night.tick(5, hours=2).state == "skipped", "of the day that it was added again, and nothing before"
    assert [r["state"] for r in reversed(history.rows(night.journal, 9))][:3] == ["add", "pause", "resume"]


def test_a_root_that_is_not_mounted_is_no_new_schedule(night: Night, tmp_path: Path) -> None:
    night.storage = Storage(str(tmp_path / "elsewhere"))
    with pytest.raises(HyperloomError, match="is this the right root, is it mounted"):
        Tick(night.load(), night.storage, START, _dying).go()
    assert not (tmp_path / "elsewhere").exists()


def test_a_clock_that_was_wrong_is_named_and_forgotten_by_resume(night: Night) -> None:
    night.tick(400)
    assert "lies 399 d ahead of this clock" in night.tick(1).text
    change.change(night.journal, "resume", START + timedelta(days=1))
    night.arrive("more")
    assert night.tick(1).state == "done"


# -- several at once, and deaths ---------------------------------------------------------------------------------------
def test_ten_ticks_at_one_moment_start_one_run(night: Night) -> None:
    started, results, errors = [], [], []
    together = threading.Barrier(10)
    loaded = night.load()

    def start(named: runner.NamedRun, steps: list[str] | None) -> runner.RunResult:
        started.append(named.id)
        return runner.run(loaded, None, str(night.storage), steps, 0, Progress(io.StringIO()), False, named=named)

    def look() -> None:
        together.wait()
        try:
            results.append(night.tick(0, start=start).state)
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=look) for _ in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
    assert len(started) == 1 and night.states() == ["done"]
    assert results.count("done") == 1 and set(results) <= {"done", "running", "idle"}
    kinds = [entry.kind for entry in night.journal.entries()]
    assert sorted(kinds) == ["add", "end", "slot", "start"]


@pytest.mark.parametrize("point", POINTS)
def test_a_tick_that_dies_anywhere_is_taken_up_as_the_same_slot(
    night: Night, point: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setenv("HYPERLOOM_FAULT", f"{point}=raise")
        with pytest.raises(BaseException, match=point):
            _crash(night, point)
    result = night.tick(0, hours=3.5)
    (row,) = night.rows()
    assert row["state"] == "done" and result.state == ("idle" if point == "slot.ended" else "done")
    assert night.storage.names("events") == [row["run"]], "one slot, one run"
    assert row["starts"] == (1 if point in ("slot.decided", "slot.claimed", "slot.ended") else 2)
    kinds = [e["kind"] for e in events.read(night.storage, row["run"])]
    assert kinds[-1] == "run_finished"
    assert night.tick(1).state == "skipped"


def _crash(night: Night, point: str) -> None:
    """A tick that ends at the point as if it had been killed there."""

    def start(named: runner.NamedRun, steps: list[str] | None) -> runner.RunResult:
        result = runner.run(
            night.load(), None, str(night.storage), steps, 0, Progress(io.StringIO()), False, named=named
        )
        if not result.ok:
            raise faults.FaultInjected(f"fault point {point}")
        return result

    night.tick(0, start=start)


def test_what_ends_from_outside_costs_no_try_and_what_fails_does(tmp_path: Path) -> None:
    night = Night(tmp_path, tries=2)

    def ended(*_: object) -> runner.RunResult:
        raise Ended

    def away(*_: object) -> runner.RunResult:
        raise StorageError("the store does not answer")

    for _ in range(4):
        with pytest.raises(Ended):
            night.tick(0, start=ended)
    assert night.tick(0, start=_dying).state == "left"
    failed = night.tick(0, start=_dying)
    assert failed.state == "failed" and "b: it broke" in failed.text and failed.exit_code == 1
    assert night.states() == ["failed"] and night.rows()[0]["starts"] == 6
    assert night.tick(1).state == "done", "the next slot takes what the failed one left"
    assert away


def _dying(*_: object) -> runner.RunResult:
    return runner.RunResult("", {"a": "done", "b": "failed"}, {"b": "it broke"})


def test_a_sleeper_cannot_end_what_another_has_taken_over(night: Night) -> None:
    def asleep(named: runner.NamedRun, steps: list[str] | None) -> runner.RunResult:
        standing = night.journal.standing()  # meanwhile another driver takes the slot over
        assert standing is not None and standing.open is not None
        from dataclasses import replace

        night.journal.append(standing, replace(standing, open=replace(standing.open, starts=2)), "start")
        return runner.RunResult("", {"a": "done"}, sources={"a": "nonsense"})

    assert night.tick(0, start=asleep).text == "slot 2026-03-01T03:00:00Z was taken over by another driver meanwhile"
    standing = night.journal.standing()
    assert standing is not None and standing.open is not None and standing.base == {}


class Elsewhere(claims.Claims):
    """Of a process on another kernel."""

    def entry(self, **more: Any) -> bytes:
        return super().entry(boot="another kernel", **more)


@pytest.mark.parametrize("card", ["moves", "stands still", "is torn"])
def test_a_slot_of_another_host_is_left_alone_while_that_one_moves(
    night: Night, card: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a process on another kernel only its beat tells whether it lives."""
    monkeypatch.setattr(claims, "EXPIRY", 0.6)
    monkeypatch.setattr(claims, "BEAT", 0.1)
    monkeypatch.setattr(claims, "LOOK", 0.05)
    monkeypatch.setattr(tick_module, "LOOK", 0.05)
    other = Elsewhere(night.storage, "toy")
    other.__enter__()
    assert other.take("schedules/toy")
    if card != "moves":
        other._stop.set()
        other._thread.join()
    if card == "is torn":
        (name,) = night.storage.names("claims/owners")
        night.storage.write(f"claims/owners/{name}", b"{")
    try:
        result = night.tick(0)
    finally:
        other._stop.set()
    assert result.state == ("running" if card == "moves" else "done"), result.text


# -- other reasons -----------------------------------------------------------------------------------------------------
class Large(Trigger):
    """Runs when the step `a`, which is done first, has more than ten numbers."""

    def judge(self, case: TriggerCase) -> TriggerVerdict:
        step = next(s for s in case.steps if s.name == "a")
        if step.manifest is None:
            return TriggerVerdict(True, "a is looked at first", ("a",))
        return TriggerVerdict(step.manifest.rows > 10, f"a has {step.manifest.rows} rows")


def test_a_trigger_may_ask_for_steps_first_and_hold_the_rest(tmp_path: Path) -> None:
    night = Night(tmp_path, on=f"{__name__}:Large")
    night.steps = "units_: 2"
    assert night.tick(0).text == "slot 2026-03-01T03:00:00Z: held: a has 6 rows"
    assert night.storage.names("tests.toy.Squares") == []
    night.steps = "units_: 4"
    assert night.tick(1).state == "done"
    assert night.rows()[1]["why"] == "a is looked at first" and len(night.storage.names("tests.toy.Squares")) == 1
    tags = [e["values"]["why"] for e in events.read(night.storage, night.rows()[1]["run"]) if e["kind"] == "tag"]
    assert tags == ["a is looked at first", "a has 12 rows"], "the run says why it went on"


class Arrived(NewData):
    """Looks at the step `a` where something is new, and never goes on."""

    def judge(self, case: TriggerCase) -> TriggerVerdict:
        arrived, (step, *_) = super().judge(case), [s for s in case.steps if s.name == "a"]
        if not arrived.due or step.manifest is None:
            return replace(arrived, first=("a",) if arrived.due else ())
        return TriggerVerdict(False, "a is as it was")


def test_a_source_that_is_not_looked_at_first_is_not_new_with_each_slot(tmp_path: Path) -> None:
    """A held slot remembered the sources of the steps that it had run alone: any other was `other data` for ever."""
    night = Night(tmp_path, on=f"{__name__}:Arrived")
    (tmp_path / "other.bin").write_bytes(b"more")
    night.steps = f'units_: 2}}\n  c: {{stage: "tests.toy:Numbers", start: 9, file: {tmp_path}/other.bin'
    assert [night.tick(0).state, night.tick(1).state] == ["held", "skipped"]
    assert [row["why"].partition(" (")[0] for row in night.rows()] == ["the first run", "no new data"]


def test_samples_that_are_too_few_by_the_time_a_slot_starts_wait_for_the_next(tmp_path: Path) -> None:
    """Of 6 that had come 4 were left: they counted as seen, and the next slot asked for 5 beside them."""
    night, grown = Night(tmp_path, on={"type": "new-data", "samples": 5}), iter([6, 4, 8, 8])
    assert night.tick(0).state == "done"
    night.arrive("night 1")
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(Numbers, "growth", lambda *_: next(grown))
        assert night.tick(1).text.endswith("held: 4 new samples in a, 5 are asked for")
        assert night.tick(2).state == "done"


@pytest.mark.parametrize(
    ("body", "due"),
    [
        ({"alarm": True, "compared": True, "first": False}, True),
        ({"alarm": False, "compared": True, "first": False}, False),
        ({"alarm": False, "compared": False, "first": True}, True),
        ({"alarm": False, "compared": False, "first": False}, False),
    ],
)
def test_drift_is_a_reason_after_its_step_has_looked(body: dict[str, Any], due: bool) -> None:
    trigger = plugins.parse("trigger", {"type": "drift", "samples": 5})
    stage = Drift(stage="drift", data="shards", champion="x")
    source = PlannedStep("frames", Numbers(stage="frames"), [], {"facts": 1}, {"facts": 1}, "new", "fresh")
    shards = PlannedStep("shards", Numbers(stage="shards"), ["frames"], {}, {}, "s", "stale")
    drift = PlannedStep("drift", stage, ["shards"], {}, {}, "d", "stale")

    def judge(count: int) -> TriggerVerdict:
        return trigger.judge(TriggerCase([source, shards, drift], {"frames": "old"}, lambda _: count))

    assert judge(4) == TriggerVerdict(False, "4 new samples in frames, 5 are asked for", waits=True)
    assert judge(5).first == ("drift",)
    drift.state, drift.manifest = "fresh", Manifest("drift", "d", {}, body={**body, "reasons": ["so it is"]})
    assert judge(5) == TriggerVerdict(due, "drift: so it is" if body["alarm"] else "so it is")


def test_what_no_drift_step_goes_back_to_is_no_reason_to_look_for_drift() -> None:
    """Of a source that drift steps do not read nobody knew how much it had grown: they looked whatever had arrived."""
    trigger, stage = (
        plugins.parse("trigger", {"type": "drift", "samples": 5}),
        Drift(stage="drift", data="frames", champion="x"),
    )
    frames, table = (
        PlannedStep(n, Numbers(stage=n), [], {"facts": 1}, {}, "new", "stale") for n in ("frames", "table")
    )
    steps = [frames, table, PlannedStep("drift", stage, ["frames"], {}, {}, "d", "stale")]

    def judge(base: dict[str, str], **grown: int) -> TriggerVerdict:
        return trigger.judge(TriggerCase(steps, base, grown.get))

    assert judge({"frames": "old", "table": "old"}, frames=4).why == "4 new samples in frames, 5 are asked for"
    assert judge({"frames": "new"}).why.startswith("no new data (frames, table, drift would run for other reasons")
    assert judge({"frames": "old"}, frames=5).first == ("drift",) and judge({}).why.startswith("the first run")


def test_drift_without_a_step_that_looks_for_it_is_a_mistake() -> None:
    with pytest.raises(RecipeError, match=r"toy\.yaml:4: on: drift needs a step that looks for it"):
        recipe.parse(TOY.format(root="/x", file="y", steps="", schedule='{cron: "0 3 * * *", on: drift}'), "toy.yaml")


def test_a_torn_journal_is_one_line_and_what_repair_takes_away_is_decided_again(night: Night, command: Any) -> None:
    night.tick(0)
    last = sorted(night.storage.names("schedules/toy"))[-1]
    night.storage.write(f"schedules/toy/{last}", night.storage.read(f"schedules/toy/{last}")[:-9])
    with pytest.raises(IntegrityError, match=f"{last} is no entry of a schedule's journal .* verify --repair"):
        night.tick(1)
    assert command("verify", "--repair")[0] == 0
    assert night.tick(0).state == "done" and night.states() == ["done"]
    assert len(night.storage.names("events")) == 1


# -- the commands ------------------------------------------------------------------------------------------------------
@pytest.fixture
def command(night: Night, capsys: pytest.CaptureFixture[str]) -> Iterator[Any]:
    path = night.folder / "toy.yaml"
    path.write_text(night.load().text)

    def run(*words: str) -> tuple[int, str]:
        code = cli.main([*words, str(path)])
        return code, capsys.readouterr().out

    yield run


def test_the_commands_change_and_show_a_schedule(night: Night, command: Any) -> None:
    assert command("schedule", "pause", "--why", "holidays")[1] == "the schedule 'toy' is paused\n"
    assert "the schedule 'toy' is paused" in command("tick")[1]
    code, text = command("schedule", "resume")
    assert code == 0 and text.count(" 03:00:00 UTC ") == 3
    night.tick(4000)
    code, text = command("schedule", "history", "--json")
    assert [row["state"] for row in json.loads(text)] == ["done", "resume", "pause", "add"]
    assert command("schedule", "list")[1].splitlines()[2].split()[:4] == [
        "toy", "active", timetable.text(START + timedelta(days=4000, hours=3)), "done",
    ]  # fmt: skip
    assert "one clock is wrong" in command("tick", "--at", "2026-03-02T03:10:00Z")[1]


def test_two_recipes_of_one_name_share_a_schedule_and_the_second_is_told(
    night: Night, command: Any, capsys: Any
) -> None:
    """What the first had run was settled for the second, whose run never came."""
    first, second = night.folder / "toy.yaml", night.folder / "other.yaml"
    second.write_text(first.read_text())
    assert command("schedule", "remove")[0] == 0 and "is active" in command("schedule", "add")[1]
    assert "was active already\n" in command("schedule", "add")[1]
    assert cli.main(["schedule", "add", str(second)]) == 0
    text = capsys.readouterr().out
    words = f"the schedule was added by {first}. Where that is another recipe than {second}, the two share"
    assert f"was active already: {words}" in text
    moment = ("--at", timetable.text(START + timedelta(hours=1)))
    assert words not in command("tick", "--add", *moment)[1]
    cli.main(["tick", "--add", *moment, str(second)])
    assert f"{second}: {words}" in capsys.readouterr().out
    assert command("schedule", "remove")[0] == 0
    cli.main(["tick", "--add", *moment, str(second)])
    assert words not in capsys.readouterr().out, "nobody's slots are shared any more"


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("tick", "--at", "yesterday"), "'yesterday' is no time such as 2026-03-29T01:00:00Z"),
        (("tick", "--at", "2026-03-02T03:10"), "does not say its offset to UTC. Next: add Z"),
        (("schedule", "next", "--count", "-3"), "'-3' is no whole number from 1"),
        (("schedule", "history", "--count", "few"), "'few' is no whole number from 1"),
        (("run", "--pilot", "0"), "'0' is no whole number from 1"),
    ],
)
def test_an_argument_that_is_no_such_thing_is_refused_in_one_line(
    words: tuple[str, ...], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as end:
        cli.main([*words, "x.yaml"])
    assert end.value.code == 2 and says in capsys.readouterr().err.splitlines()[-1]


def test_a_slot_that_nobody_decided_is_not_called_done(night: Night, command: Any) -> None:
    night.tick(0)
    assert "the slot garbage is not open" in command("tick", "--slot", "garbage")[1]


def test_a_slot_without_new_data_imports_neither_ray_nor_mlflow(night: Night, command: Any) -> None:
    night.tick(0)
    words = ["tick", str(night.folder / "toy.yaml"), "--at", "2026-03-02T03:10:00Z", "--no-mlflow"]
    code = f"from hyperloom.pipeline import cli; assert cli.main({words!r}) == 0"
    assert loaded_by(code) == set()
    assert night.states() == ["done", "skipped"]


def test_a_recipe_without_a_schedule_is_refused_in_one_line(night: Night, capsys: Any) -> None:
    path = night.folder / "bare.yaml"
    path.write_text("name: bare\nmodalities: {}\nsteps: {a: {stage: 'tests.toy:Numbers'}}\n")
    assert cli.main(["tick", str(path)]) == 2
    assert "bare.yaml:1: this recipe has no `schedule`" in capsys.readouterr().err
