"""The nightly cycle from end to end: frames arrive, only these are labelled, a model is trained from the champion or
from scratch, judged against the champion on the same frames, and promoted or held; and what was killed goes on."""

from __future__ import annotations

import argparse
import io
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from benchmarks import night, nightly
from hyperloom.pipeline.output.progress import Progress
from hyperloom.pipeline.planning.plan import plan
from hyperloom.pipeline.recipes import recipe
from hyperloom.pipeline.root import events
from hyperloom.pipeline.root.digests import Digests
from hyperloom.pipeline.root.storage import Storage
from hyperloom.pipeline.running import runner
from hyperloom.pipeline.scheduling import change, history
from hyperloom.pipeline.scheduling.journal import Journal
from hyperloom.pipeline.scheduling.tick import Tick, TickResult
from hyperloom.stages import champion

START = datetime(2026, 3, 1, tzinfo=UTC)


class Nights:
    """Nights at three over one root, without Ray."""

    def __init__(self, folder: Path, **options: Any):
        self.folder, self.text = folder, nightly.recipe(folder, **options)
        self.storage = Storage(str(folder / "root"))
        self.journal = Journal(self.storage, "nightly")
        change.change(self.journal, "add", START)

    def tick(self, night: int) -> TickResult:
        loaded = recipe.parse(self.text, "nightly.yaml")

        def start(named: runner.NamedRun, steps: list[str] | None) -> runner.RunResult:
            out = Progress(io.StringIO())
            return runner.run(loaded, None, str(self.storage), steps, 0, out, track=False, named=named)

        now = START + timedelta(days=night, hours=3.1)
        return Tick(loaded, self.storage, now, start, say=lambda _: None).go()

    def steps(self) -> dict[str, Any]:
        loaded = recipe.parse(self.text, "nightly.yaml")
        return {s.name: s for s in plan(loaded, self.storage, Digests(self.storage))}

    def units(self, folder: str) -> set[str]:
        """Records of all units of a stage."""
        return {p for p in self.storage.walk(folder) if "/units/" in p}

    def told(self, kind: str) -> list[dict[str, Any]]:
        """Events of a kind of the last run."""
        run = history.rows(self.journal, 1)[0]["run"]
        return [e for e in events.read(self.storage, run) if e["kind"] == kind]


@pytest.fixture(scope="module")
def nights(tmp_path_factory: pytest.TempPathFactory) -> Nights:
    """Of three nights: the first champion, new frames, nothing new."""
    nights = Nights(tmp_path_factory.mktemp("nightly"))
    for flight in range(5):
        nightly.arrive(nights.folder, f"flight_{flight}", 6)
    return nights


def test_frames_arrive_and_a_champion_follows_or_stays(nights: Nights) -> None:
    first = nights.tick(0)
    assert first.state == "done" and "nightly: is the champion" in first.text, first.text
    assert "there is no champion yet" in first.text
    assert "start" not in nights.steps()["student"].meaning.get("facts", {}), "trained from nothing"
    labels, shards = nights.units("expert"), set(nights.storage.walk("shard"))

    assert nights.tick(1).text.endswith("no new data: all 7 steps are fresh"), "the champion of tonight makes no work"
    split = _split(nights)
    nightly.arrive(nights.folder, "flight_5", 3)
    assert nights.tick(2).text.endswith("3 new samples in frames, 4 are asked for")

    nightly.arrive(nights.folder, "flight_5", 5)
    second = nights.tick(3)
    assert second.state == "done" and "nightly: is the champion" in second.text, second.text
    assert split.items() <= _split(nights).items(), "no flight has moved"
    assert len(nights.units("expert") - labels) == 2, "the partitions of the new flight alone"
    assert labels <= nights.units("expert") and shards <= set(nights.storage.walk("shard"))
    line = champion.line(nights.storage, "nightly")
    assert len(line) == 2
    steps = nights.steps()
    assert not any("it has an edge" in line for line in steps["report"].manifest.body["said"])
    assert steps["report"].manifest.body["champion"] == line[1].release, "judged on the frames of tonight"
    assert "champion" in steps["report"].manifest.body["figures"]
    assert {s.state for s in steps.values()} == {"fresh"}, "to have become champion makes no training stale"
    (outcome,) = (e["values"]["outcome"] for e in nights.told("tag") if not e["step"] and "outcome" in e["values"])
    assert "is the champion" in outcome and "against" in outcome
    (row,) = history.rows(nights.journal, 1)
    assert row["outcome"] == outcome and row["why"] == "8 new samples in frames"


def test_a_release_that_was_killed_after_it_moved_the_champion_goes_on(nights: Nights) -> None:
    before = champion.line(nights.storage, "nightly")
    nights.storage.delete(f"{nights.steps()['release'].folder}/manifest.json")
    states = {name: step.state for name, step in nights.steps().items()}
    assert states.pop("release") != "fresh"
    assert set(states.values()) == {"fresh"}, "it started from the champion before, and does so still"
    out = Progress(io.StringIO())
    again = runner.run(recipe.parse(nights.text), None, str(nights.storage), None, 0, out, track=False)
    assert again.ok and "is the champion" in again.outcomes["release"]
    assert champion.line(nights.storage, "nightly") == before


def test_a_candidate_that_is_worse_is_held_with_its_reason(nights: Nights) -> None:
    before = champion.line(nights.storage, "nightly")
    nights.text = nightly.recipe(nights.folder, ">= champion - 0.05", fresh=True, salt="b", updates=1)
    nightly.arrive(nights.folder, "flight_6", 8)
    held = nights.tick(4)
    assert held.state == "done" and "NOT the champion: the gate failed" in held.text and "FAILS" in held.text
    assert champion.line(nights.storage, "nightly") == before
    tags = [e["values"] for e in nights.told("tag") if e["step"] == "release"]
    assert tags[0]["gate"] == "failed" and "FAILS (it is" in tags[0]["reasons"]
    words = nights.steps()["report"].manifest.body["said"]
    assert any("the champion learned from" in line and "it has an edge" in line for line in words), "the splits moved"


def test_a_night_that_has_drifted_trains_and_is_judged_and_one_that_has_not_is_held(tmp_path: Path) -> None:
    nights = Nights(tmp_path, drift=True, updates=10)
    for flight in range(10):
        nightly.arrive(tmp_path, f"flight_{flight:02d}", 4)
    assert "is the champion" in nights.tick(0).text
    (first,) = champion.line(nights.storage, "nightly")

    nightly.arrive(tmp_path, "flight_10", 4)
    nightly.arrive(tmp_path, "flight_11", 4)
    held = nights.tick(1)
    assert held.state == "held" and "are as before" in held.text, held.text
    assert nights.steps()["drift"].state == "fresh" and nights.steps()["student"].state == "stale", (
        "looked at, not trained"
    )

    for flight in (12, 13, 14):
        nightly.arrive(tmp_path, f"flight_{flight}", 4, light=-60)
    dark = nights.tick(2)
    assert dark.state == "done" and "champion" in dark.text, dark.text
    (row, before) = history.rows(nights.journal, 2)
    assert row["outcome"].startswith("drift: ") and "rgb@camera" in row["outcome"] and before["state"] == "held", row
    assert any(e["values"].get("why", "").startswith("drift: ") for e in nights.told("tag")), "MLflow is told too"
    report = nights.steps()["report"].manifest.body
    assert report["champion"] == first.release and "champion" in report["figures"], "judged on the same frames"
    tags = [e["values"] for e in nights.told("tag") if e["step"] == "release"]
    assert tags[0]["gate"] in ("passed", "failed") and "the champion" in row["outcome"], (tags, row)
    assert len(champion.line(nights.storage, "nightly")) == 1 + (tags[0]["gate"] == "passed")


def test_six_nights_with_troubles_are_all_accounted_for(tmp_path: Path) -> None:
    """The short form of benchmarks/night.py: kills, a root that is not mounted, a night in which nobody ticks."""
    given = argparse.Namespace(
        slots=6, seed=8, steps="data", schedulers=2, ray=False, mlflow=False, drift=False, seconds=600
    )
    result = night.live(tmp_path, given)
    assert result["problems"] == []
    assert sum(result["states"].values()) + result["missed"] == 6 and result["missed"] == 1
    assert result["states"]["done"] >= 3 and result["killed"] >= 1


def _split(nights: Nights) -> dict[str, str]:
    """The split of each flight, by the shards."""
    sizes = nights.steps()["shards"].manifest.body["splits"]
    return {group: name for name, size in sizes.items() for group in size["groups"]}
