"""What a person sees while a run goes on: lines for each step, a live line for those at work, tables when they come.

It is a view of events, like MLflow: the driver's own reach it directly, those of training workers are read from
storage once a second. On a terminal a line for each step that runs is redrawn (`pipeline.output.live`); in a log each
step has a line every ten seconds, if there is something new to say, else one every five minutes.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, Any

from hyperloom.pipeline.errors import StorageError
from hyperloom.pipeline.output.live import LiveStep, LiveView, suits
from hyperloom.pipeline.output.tables import table
from hyperloom.pipeline.planning.plan import PlannedStep
from hyperloom.pipeline.root import events as event_log
from hyperloom.pipeline.root.storage import Storage

FOLLOW_SECONDS, FOLLOW_REMOTE_SECONDS = 1.0, 5.0
"""How often what others write of a run is looked for, on the local disk and on a store that counts requests."""
LOG_SECONDS, STILL_SECONDS = 10.0, 300.0
"""Between two lines of a step in a log; and after how many it says that nothing is new, which tells it from one that
hangs to whoever waits for lines."""
LONG = 60
"""Letters of a note from which it is a sentence that is not said twice."""


class Progress:
    """Prints to `out` (standard output). Thread-safe."""

    def __init__(self, out: IO[str] | None = None, quiet: bool = False):
        self.out = out or sys.stdout
        self.quiet = quiet
        self._lock = threading.RLock()
        self._view: LiveView | None = None
        self._live = suits(self.out) and not quiet
        self._steps: dict[str, LiveStep] = {}
        self._total = self._number = self._ended = 0
        self._heard: dict[str, str] = {}
        """Sentences that were said, and the step that said each first."""
        self._name = self._warning = ""
        self._began = time.monotonic()

    def say(self, text: str) -> None:
        """A line for the user."""
        with self._lock:
            if self._view is not None:
                self._view.say(text)
            else:
                print(text, file=self.out, flush=True)

    def warn(self, text: str) -> None:
        """The same of what went wrong; the live view keeps the last in sight."""
        self._warning = text.strip().partition("\n")[0]
        self.say(text)

    def event(self, event: dict[str, Any]) -> None:
        """Show one event, if it is for people."""
        show = getattr(self, "_" + event["kind"], None)
        if show is not None and not self.quiet:
            with self._lock:
                show(event)

    def all_fresh(self, steps: list[PlannedStep]) -> None:
        rows = sum(s.manifest.rows for s in steps if s.manifest)
        self.say(f"all {len(steps)} steps are fresh ({rows:,} rows committed); nothing to do")

    @contextmanager
    def following(self, storage: Storage, run: str) -> Iterator[None]:
        """Show what other writers (training workers) of this run put into storage meanwhile."""
        stop = threading.Event()
        seen: dict[str, int] = {}
        for _ in event_log.read(storage, run, seen):
            pass

        def follow() -> None:
            while not stop.wait(FOLLOW_SECONDS if storage.is_local else FOLLOW_REMOTE_SECONDS):
                try:
                    for event in event_log.read(storage, run, seen):
                        if not event["writer"].startswith("driver"):
                            self.event(event)
                except (StorageError, OSError, ValueError):
                    continue  # the view must not stop the work

        thread = threading.Thread(target=follow, name="progress", daemon=True)
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join(timeout=5)

    # -- one method an event kind ----------------------------------------------------------------------------------
    def _run_started(self, event: dict[str, Any]) -> None:
        self._total, self._number, self._ended = event["total"], 0, 0
        self._name, self._began = event["name"], time.monotonic()
        self.say(f"run of {event['name']}, root {event['params']['root']}")

    def _step_started(self, event: dict[str, Any]) -> None:
        self._number += 1
        self._steps[event["step"]] = LiveStep(f"[{self._number}/{self._total}]", event["step"])
        self._update(event["step"], f"{event['stage']}: {'; '.join(event['why'][:3])}", force=True)

    def _step_reused(self, event: dict[str, Any]) -> None:
        self._number += 1
        self._ended += 1
        self.say(f"[{self._number}/{self._total}] {event['step']:<12} fresh, {event['rows']:,} rows")

    def _progress(self, event: dict[str, Any]) -> None:
        live = self._steps.get(event["step"])
        if event["total"] and live is not None:
            live.progress(event)
            self._update(event["step"], live.text)

    def _metric(self, event: dict[str, Any]) -> None:
        live = self._steps.get(event["step"])
        if event["at"] and live is not None:
            live.trained(event)
            self._update(event["step"], live.text)

    def _failure(self, event: dict[str, Any]) -> None:
        what = "infrastructure" if event["infrastructure"] else "failure"
        self.warn(f"  {what} (attempt {event['attempt']}) in {event['unit']}: {event['error'][:300]}")

    def _quarantine(self, event: dict[str, Any]) -> None:
        first = event["samples"][0]
        more = f" and {event['count'] - 1} more" if event["count"] > 1 else ""
        where = f"{event['step']}: " if len(self._steps) > 1 else ""
        self.warn(f"  {where}quarantined {first['key']}{more}: {first['error'][:200]}")

    def _step_finished(self, event: dict[str, Any]) -> None:
        live = self._steps.pop(event["step"], None)
        place = f"{live.place} {live.name}" if live else event["step"]
        self._ended += 1
        if event["status"] != "done":
            what = "stopped" if event["status"] == "interrupted" else "FAILED"
            self.warn(f"{place:<20} {what} after {event['seconds']:.1f} s")
        else:
            left_out = f", {event['quarantined']} in quarantine" if event["quarantined"] else ""
            rows = f", {event['rows']:,} rows" if event["rows"] else ""
            self.say(f"{place:<20} done in {event['seconds']:.1f} s{rows}{left_out}")
        self._draw()

    def _run_finished(self, event: dict[str, Any]) -> None:
        self._steps.clear()
        self._draw()

    def _table(self, event: dict[str, Any]) -> None:
        if event["name"] == "remarks":
            return  # notes, which were said one by one
        filled = {key for row in event["rows"] for key, value in row.items() if value is not None}
        rows = [
            {key: value for key, value in row.items() if key in filled} for row in event["rows"]
        ]  # not empty columns
        self.say(f"\n{event['name']}\n{table(rows, rest='the report and MLflow show all')}\n")

    def _note(self, event: dict[str, Any]) -> None:
        """What somebody has said already is not said again; of another step in few words."""
        step, text = str(event.get("step") or ""), str(event["text"])
        own = text.removeprefix(f"{step}: ")
        if len(own) <= LONG:
            self.say(f"  {text}")
            return
        if text in self._heard:
            return
        first = self._heard.setdefault(own, step)
        self._heard[text] = step
        self.say(f"  {text}" if first == step else f"  {step}: as {first} says: {own[:LONG]}…")

    # -- the live view -----------------------------------------------------------------------------------------------
    def _update(self, step: str, text: str, force: bool = False) -> None:
        live = self._steps.get(step)
        if live is None:
            return  # what a training wrote may be read when its step has ended
        live.text = text
        if self._live:
            self._draw()
            return
        same, now = text == live.shown, time.monotonic()
        if force or now - live.printed > (STILL_SECONDS if same else LOG_SECONDS):
            live.printed, live.shown = now, text
            live.since = live.since if same else now
            still = f", still after {(now - live.since) / 60:.0f} min" if same else ""
            print(f"{live.place + ' ' + live.name:<20} {text}{still}", file=self.out, flush=True)

    def _draw(self) -> None:
        """Show the steps that run; without any nothing is redrawn."""
        if self._live and self._steps:
            self._view = self._view or LiveView(self.out, self._state)
            self._view.show()
        elif self._view is not None:
            self._view.hide()
            self._view = None

    def _state(self) -> tuple[list[LiveStep], str, str]:
        seconds = round(time.monotonic() - self._began)
        clock = f"{seconds // 3600}:{seconds // 60 % 60:02d}:{seconds % 60:02d}"
        waiting = self._total - self._ended - len(self._steps)
        waits = f", {waiting} wait" if waiting > 0 else ""
        headline = (
            f"{self._name}: {self._ended} of {self._total} steps done, {len(self._steps)} at work{waits}, {clock}"
        )
        return list(self._steps.values()), headline, self._warning
