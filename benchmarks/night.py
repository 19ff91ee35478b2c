"""Thirty nights in fast motion: `python -m benchmarks.night [--slots N] [--seed N] [--steps data|all] [--ray]
[--mlflow] [--drift] [--schedulers N] [--keep FOLDER [--seconds N]]`.

A recipe has one slot a night, on a clock that this script turns. Each night is drawn by the seed: frames arrive or none
do, and one trouble or none happens: a tick is killed at a named point or after a random time, the root is not mounted
or vanishes under the run, MLflow does not answer, nobody ticks at all. Two schedulers or more tick at once, each a
process of its own; afterwards things are mended and they tick again until the slot is settled.

At the end every slot must be accounted for: it was decided once, ended once, under one run, or it is named as missed by
the slot after it; every frame that arrived is labelled and in a shard; every file is as its manifest says; and, with
`--mlflow`, every run is in MLflow, finished, once. `--steps all` trains, judges and releases in each night with new
data, with `--drift` only where these have drifted; `--ray` runs the command itself, with a private Ray each time,
instead of units in the tick's process.

With `--keep FOLDER --seconds N` it stops after the night in which so much time has passed; the same command lives on
from there until all slots are over, and its last call says what came of all of them.

`unaccounted` must be 0 and `problems` empty. The last line is JSON.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import json
import os
import pickle
import random
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import islice
from pathlib import Path
from typing import Any

import hyperloom.stages  # noqa: F401  registers the plug-ins
from benchmarks import nightly
from benchmarks.mlflow_server import Server
from hyperloom.pipeline.inspection import verify
from hyperloom.pipeline.recipes import recipe, timetable
from hyperloom.pipeline.root.storage import Storage
from hyperloom.pipeline.scheduling import change, history
from hyperloom.pipeline.scheduling.journal import Journal
from hyperloom.pipeline.tracking.replay import catch_up

START = datetime(2026, 3, 1, tzinfo=UTC)
TROUBLES = {
    "none": 5, "killed at": 9, "killed after": 5, "not mounted": 2, "vanishes": 3, "no mlflow": 3, "nobody": 2,
}  # fmt: skip
"""What happens in a night, and how often."""
POINTS = (
    "slot.decided", "slot.claimed", "slot.started", "step.started", "unit.written", "unit.recorded", "manifest.before",
    "manifest.after", "run.finished", "slot.ran", "slot.ended",
)  # fmt: skip
FIRST = 8
"""Flights that are there before the first night."""
DARKENS = 0.3
"""With `--drift`: how likely it grows darker with a flight, for good."""
LONGEST_TICK = 300.0
"""Seconds after which a tick counts as stuck."""
HERE = Path(__file__).parents[1]


@dataclass
class Counts:
    """What happened in all nights."""

    ticks: int = 0
    killed: int = 0
    codes: collections.Counter[int] = field(default_factory=collections.Counter)
    troubles: collections.Counter[str] = field(default_factory=collections.Counter)
    idle: list[float] = field(default_factory=list)
    """Seconds of ticks of nights without a reason to run."""
    seconds: float = 0.0
    nights: int = 0


class Nights:
    """The recipe, its folder, and the clock."""

    def __init__(self, folder: Path, given: argparse.Namespace):
        self.folder, self.given, self.random = folder, given, random.Random(given.seed)
        self.root, self.counts, self.flights, self.light = folder / "root", Counts(), 0, 0
        self.path, self.server = folder / "nightly.yaml", Server.on_free_port(folder) if given.mlflow else None
        text = nightly.recipe(folder, drift=given.drift, updates=8)
        tracking = f"tracking: {self.server.url}\n" if self.server else ""
        self.path.write_text(tracking + (text if given.steps == "all" else nightly.data_steps(text)))
        self.storage = Storage(str(self.root))
        self.journal = Journal(self.storage, "nightly")
        self.kept = folder / "nights.pickle"
        if self.kept.exists():
            state, self.counts, self.flights, self.light = pickle.loads(self.kept.read_bytes())
            self.random.setstate(state)
            return
        change.change(self.journal, "add", START)
        for _ in range(FIRST):
            self.arrive(4)

    def live(self) -> None:
        """All nights that are left, or so many as `--seconds` allows, one after the other."""
        if self.server:
            self.server.start()
        start = time.monotonic()
        while self.counts.nights < self.given.slots and time.monotonic() - start < self.given.seconds:
            began = time.monotonic()
            self.live_next(self.counts.nights)
            self.counts.nights += 1
            self.counts.seconds += time.monotonic() - began
            self.kept.write_bytes(pickle.dumps((self.random.getstate(), self.counts, self.flights, self.light)))

    def live_next(self, night: int) -> None:
        """The night of this number."""
        new = self.random.random() < 0.6
        if new and night:
            self.arrive(6)
        trouble = self.random.choices(list(TROUBLES), list(TROUBLES.values()))[0]
        if night == self.given.slots - 1 or (trouble == "no mlflow" and not self.server):
            trouble = "none"
        self.counts.troubles[trouble] += 1
        began = time.monotonic()
        self.live_one(START + timedelta(days=night, hours=3, minutes=5), trouble)
        state = "passed" if trouble == "nobody" else self.rows()[-1]["state"]
        arrived, seconds = "new frames" if new else "-", time.monotonic() - began
        print(f"night {night:2d}: {arrived:<10} {trouble:<12} {state:<8} {seconds:.1f} s", flush=True)

    def live_one(self, now: datetime, trouble: str) -> None:
        if trouble == "nobody":
            return
        with self.trouble(trouble) as (environment, kill_after):
            self.tick(now, environment, kill_after)
        for later in range(1, 9):
            standing = self.journal.standing()
            if standing and standing.open is None and timetable.instant(standing.through) > now - timedelta(hours=1):
                return
            self.tick(now + timedelta(minutes=5 * later), {}, None)

    @contextlib.contextmanager
    def trouble(self, kind: str) -> Iterator[tuple[dict[str, str], float | None]]:
        """Inside the block the trouble holds: variables of a tick's environment, and when to kill it."""
        away = self.folder / "away"
        if kind == "killed at":
            once = self.folder / f"once-{self.counts.ticks}"
            point = self.random.choice(POINTS)
            yield {"HYPERLOOM_FAULT": f"{point}=kill", "HYPERLOOM_FAULT_ONCE": str(once)}, None
            self.counts.killed += Path(f"{once}.{point}").exists()
        elif kind == "killed after":
            yield {}, self.random.uniform(0.2, 4.0 if self.given.steps == "data" else 12.0)
        elif kind in ("not mounted", "vanishes"):
            if kind == "not mounted":
                self.root.rename(away)
            yield ({}, None) if kind == "not mounted" else ({"NIGHT_VANISHES": "1"}, None)
            if away.exists():
                shutil.rmtree(self.root, ignore_errors=True)
                away.rename(self.root)
        elif kind == "no mlflow" and self.server:
            self.server.stop()
            yield {}, None
            self.server.start()
        else:
            yield {}, None

    def tick(self, now: datetime, environment: dict[str, str], kill_after: float | None) -> None:
        """Two schedulers tick at once. The root vanishes, or one is killed, some time after they began."""
        began, before = time.monotonic(), self.journal_length()
        processes = [self.start(now, environment) for _ in range(self.given.schedulers)]
        if kill_after is not None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                processes[0].wait(kill_after)
            if processes[0].poll() is None:
                self.kill(processes[0])
        if environment.get("NIGHT_VANISHES"):
            time.sleep(self.random.uniform(0.3, 2.0))
            self.root.rename(self.folder / "away")
        for process in processes:
            try:
                code = process.wait(LONGEST_TICK)
            except subprocess.TimeoutExpired:
                self.kill(process)
                code = -1
            self.counts.codes[code] += 1
        if not environment and kill_after is None and self.journal_length() <= before + 1:
            self.counts.idle.append(time.monotonic() - began)

    def journal_length(self) -> int:
        standing = self.journal.standing() if self.root.exists() else None
        return standing.number if standing else 0

    def start(self, now: datetime, environment: dict[str, str]) -> subprocess.Popen[bytes]:
        self.counts.ticks += 1
        module = ["hyperloom.pipeline", "tick"] if self.given.ray else ["benchmarks.night", "--tick"]
        words = [sys.executable, "-m", *module, str(self.path), "--at", timetable.text(now)]
        words += [] if self.server else ["--no-mlflow"]
        with open(self.folder / "ticks.log", "ab") as log:
            return subprocess.Popen(
                words, cwd=HERE, env={**os.environ, **environment}, stdout=log, stderr=log, start_new_session=True
            )

    def kill(self, process: subprocess.Popen[bytes]) -> None:
        """The tick alone, as the kernel would for want of memory."""
        self.counts.killed += 1
        os.kill(process.pid, signal.SIGKILL)
        process.wait()

    def arrive(self, count: int) -> None:
        """A flight."""
        if self.given.drift and self.flights > FIRST and self.random.random() < DARKENS:
            self.light -= 25
        nightly.arrive(self.folder, f"flight_{self.flights:02d}", count, self.given.seed, self.light)
        self.flights += 1

    def rows(self) -> list[dict[str, Any]]:
        """Slots that were decided, the oldest first."""
        return [r for r in reversed(history.rows(self.journal, 10_000)) if "missed" in r]

    # -- accounts ------------------------------------------------------------------------------------------------------
    def problems(self) -> Iterator[str]:
        """What is not accounted for, in words."""
        rows = self.rows()
        decided = collections.Counter(row["slot"] for row in rows)
        missed = collections.Counter(slot for row in rows for slot in row["missed_slots"])
        schedule = recipe.load(self.path).recipe.schedule
        assert schedule is not None
        for slot in map(timetable.text, islice(timetable.slots(schedule, START), self.given.slots)):
            if decided[slot] + missed[slot] != 1:
                yield f"slot {slot}: decided {decided[slot]} times, missed {missed[slot]} times"
        ends = collections.Counter(e.about["slot"] for e in self.journal.entries() if e.kind == "end")
        runs = [row["run"] for row in rows if "run" in row]
        good = ("done", "skipped", *(("held",) if self.given.drift else ()))
        left = (row for row in rows if row["state"] not in good)
        yield from (f"slot {row['slot']} is {row['state']}: {row['outcome']}" for row in left)
        yield from (f"slot {slot} ended {count} times" for slot, count in ends.items() if count > 1)
        if sorted(runs) != self.storage.names("events"):
            yield f"runs {sorted(runs)}, and events of {self.storage.names('events')}"
        yield from map(str, verify.verify(self.storage).problems)
        yield from self.lost()

    def lost(self) -> Iterator[str]:
        """Frames that arrived and are not in the last shards, and runs that MLflow does not know as finished."""
        from hyperloom.pipeline.planning.plan import plan
        from hyperloom.pipeline.root.digests import Digests

        shards = {s.name: s for s in plan(recipe.load(self.path), self.storage, Digests(self.storage))}["shards"]
        rows = shards.manifest.rows if shards.manifest else 0
        frames = len(list((self.folder / "incoming").glob("*/*.png")))
        if rows != frames:
            yield f"{frames} frames arrived, and {rows} are in shards"
        if self.server:
            yield from unshown(self.server.url, [row["run"] for row in self.rows() if "run" in row])


def unshown(url: str, runs: list[str]) -> Iterator[str]:
    """Runs that MLflow does not show once, finished."""
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=url)
    experiment = client.get_experiment_by_name("nightly")
    shown = client.search_runs([experiment.experiment_id], "tags.`hyperloom.run` != ''", max_results=1000)
    states = collections.defaultdict(list)
    for run in shown:
        states[run.data.tags["hyperloom.run"]].append(run.info.status)
    yield from (f"MLflow shows run {run} as {states[run]}" for run in runs if states[run] != ["FINISHED"])


def tick(path: str, at: str, track: bool) -> int:
    """A tick with its units in this process."""
    from hyperloom.pipeline.errors import HyperloomError
    from hyperloom.pipeline.output.progress import Progress
    from hyperloom.pipeline.running import runner
    from hyperloom.pipeline.scheduling.tick import Tick

    loaded = recipe.load(path)
    root = loaded.recipe.root

    def start(named: runner.NamedRun, steps: list[str] | None) -> runner.RunResult:
        return runner.run(loaded, None, root, steps, track=track, named=named)

    def afterwards() -> None:
        if track:
            catch_up(Storage(root), loaded, Progress())

    try:
        result = Tick(loaded, Storage(root), timetable.instant(at), start, afterwards=afterwards).go()
    except HyperloomError as error:
        print(error, flush=True)
        return error.exit_code
    print(result.text, flush=True)
    return result.exit_code


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--slots", type=int, default=30)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--steps", choices=["data", "all"], default="all")
    parser.add_argument("--schedulers", type=int, default=2, help="how many tick at once")
    parser.add_argument("--ray", action="store_true")
    parser.add_argument("--mlflow", action="store_true")
    parser.add_argument("--drift", action="store_true", help="train on an alarm only; at times it grows darker")
    parser.add_argument("--keep", metavar="FOLDER", help="work there, and leave it")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="with --keep: go on another time")
    parser.add_argument("--tick", help=argparse.SUPPRESS)
    parser.add_argument("--at", help=argparse.SUPPRESS)
    parser.add_argument("--no-mlflow", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.tick:
        return tick(given.tick, given.at, not given.no_mlflow)
    with tempfile.TemporaryDirectory() as scratch:
        result = live(Path(given.keep or scratch), given)
    print(json.dumps(result))
    return 1 if result["problems"] else 0


def live(folder: Path, given: argparse.Namespace) -> dict[str, Any]:
    """The nights, and what came of them."""
    folder.mkdir(parents=True, exist_ok=True)
    nights = Nights(folder, given)
    try:
        nights.live()
        if nights.counts.nights < given.slots:
            return {"slots": given.slots, "nights": nights.counts.nights, "problems": [], "next": "the same command"}
        problems = list(nights.problems())
    finally:
        if nights.server:
            nights.server.stop()
    rows, counts = nights.rows(), nights.counts
    return {
        "slots": given.slots,
        "states": dict(collections.Counter(row["state"] for row in rows)),
        "missed": sum(row["missed"] for row in rows),
        "taken_up": sum(row.get("starts", 0) > 1 for row in rows),
        "troubles": dict(counts.troubles),
        "ticks": counts.ticks,
        "killed": counts.killed,
        "exit_codes": {str(code): count for code, count in sorted(counts.codes.items())},
        "idle_s": round(statistics.median(counts.idle), 2) if counts.idle else None,
        "seconds": round(counts.seconds, 1),
        "unaccounted": len(problems),
        "problems": problems,
    }


if __name__ == "__main__":
    sys.exit(main())
