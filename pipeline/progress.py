"""What a person sees while a run goes on: lines for each step, a live line for those at work, tables when they come.

It is a view of events, like MLflow: the driver's own reach it directly, those of training workers are read from
storage once a second. On a terminal the live line is redrawn, with a piece for each step that runs; in a log each step
has a line every ten seconds.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import IO, Any

from hyperloom.pipeline import events as event_log
from hyperloom.pipeline.errors import StorageError
from hyperloom.pipeline.plan import PlannedStep
from hyperloom.pipeline.storage import Storage

FOLLOW_SECONDS, FOLLOW_REMOTE_SECONDS = 1.0, 5.0
"""How often what others write of a run is looked for, on the local disk and on a store that counts requests."""
LOG_SECONDS = 10.0
WIDTH = 118


@dataclass
class _Live:
    """A step that runs: what it is called, when it began, what was last said of it."""

    place: str
    text: str = ""
    began: float = field(default_factory=time.monotonic)
    printed: float = field(default_factory=time.monotonic)


class Progress:
    """Prints to `out` (standard output). Thread-safe."""

    def __init__(self, out: IO[str] | None = None, quiet: bool = False):
        self.out = out or sys.stdout
        self.quiet = quiet
        self.live = self.out.isatty()
        self._lock = threading.RLock()
        self._width = 0
        self._steps: dict[str, _Live] = {}
        self._total = self._number = 0

    def say(self, text: str) -> None:
        """A line for the user."""
        with self._lock:
            self._clear()
            print(text, file=self.out, flush=True)

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
        self._total, self._number = event["total"], 0
        self.say(f"run of {event['name']}, root {event['params']['root']}")

    def _step_started(self, event: dict[str, Any]) -> None:
        self._number += 1
        self._steps[event["step"]] = _Live(f"[{self._number}/{self._total}] {event['step']}")
        self._update(event["step"], f"{event['stage']}: {'; '.join(event['why'][:3])}", force=True)

    def _step_reused(self, event: dict[str, Any]) -> None:
        self._number += 1
        self.say(f"[{self._number}/{self._total}] {event['step']:<12} fresh, {event['rows']:,} rows")

    def _progress(self, event: dict[str, Any]) -> None:
        if event["total"] and event["step"] in self._steps:
            seconds = time.monotonic() - self._steps[event["step"]].began
            fresh = event["done"] - event["reused"]
            rate = f", {fresh / seconds:.1f}/s" if fresh and seconds > 1 else ""
            reused = f" ({event['reused']:,} reused)" if event["reused"] else ""
            failed = f", {event['failed']} failed" if event["failed"] else ""
            self._update(event["step"], f"{event['done']:,}/{event['total']:,} units{reused}{rate}{failed}")

    def _metric(self, event: dict[str, Any]) -> None:
        if event["at"]:
            values = " ".join(f"{k} {v:.4g}" for k, v in list(event["values"].items())[:4])
            self._update(event["step"], f"update {event['at']}: {values}")

    def _failure(self, event: dict[str, Any]) -> None:
        what = "infrastructure" if event["infrastructure"] else "failure"
        self.say(f"  {what} (attempt {event['attempt']}) in {event['unit']}: {event['error'][:300]}")

    def _quarantine(self, event: dict[str, Any]) -> None:
        first = event["samples"][0]
        more = f" and {event['count'] - 1} more" if event["count"] > 1 else ""
        where = f"{event['step']}: " if len(self._steps) > 1 else ""
        self.say(f"  {where}quarantined {first['key']}{more}: {first['error'][:200]}")

    def _step_finished(self, event: dict[str, Any]) -> None:
        live = self._steps.pop(event["step"], None)
        place = live.place if live else event["step"]
        if event["status"] != "done":
            self.say(f"{place:<20} FAILED after {event['seconds']:.1f} s")
            return
        left_out = f", {event['quarantined']} in quarantine" if event["quarantined"] else ""
        rows = f", {event['rows']:,} rows" if event["rows"] else ""
        self.say(f"{place:<20} done in {event['seconds']:.1f} s{rows}{left_out}")

    def _table(self, event: dict[str, Any]) -> None:
        self.say(f"\n{event['name']}\n{table(event['rows'])}\n")

    def _note(self, event: dict[str, Any]) -> None:
        self.say(f"  {event['text']}")

    # -- the live line -----------------------------------------------------------------------------------------------
    def _update(self, step: str, text: str, force: bool = False) -> None:
        live = self._steps.get(step)
        if live is None:
            return  # what a training wrote may be read when its step has ended
        live.text = text
        with self._lock:
            if self.live:
                self._clear()
                line = self._line()
                self._width = len(line)
                self.out.write(line)
                self.out.flush()
            elif force or time.monotonic() - live.printed > LOG_SECONDS:
                live.printed = time.monotonic()
                print(f"{live.place:<20} {text}", file=self.out, flush=True)

    def _line(self) -> str:
        """The live line: each step that runs has its share of it."""
        steps = list(self._steps.values())
        if len(steps) == 1:
            return f"{steps[0].place:<20} {steps[0].text}"[:WIDTH]
        share = (WIDTH - 3 * (len(steps) - 1)) // len(steps)
        return " | ".join(f"{s.place} {s.text}"[: max(12, share)] for s in steps)[:WIDTH]

    def _clear(self) -> None:
        if self._width:
            self.out.write("\r" + " " * self._width + "\r")
            self._width = 0


def table(rows: list[dict[str, Any]]) -> str:
    """Rows as aligned text; numbers to the right with up to four digits."""
    if not rows:
        return "(empty)"
    columns = list(dict.fromkeys(k for row in rows for k in row))
    cells = [[cell(row.get(c)) for c in columns] for row in rows]
    widths = [max(len(c), *(len(r[i]) for r in cells)) for i, c in enumerate(columns)]
    numeric = [all(isinstance(row.get(c), int | float | None) for row in rows) for c in columns]

    def line(values: list[str]) -> str:
        return "  ".join(
            v.rjust(w) if n else v.ljust(w) for v, w, n in zip(values, widths, numeric, strict=True)
        ).rstrip()

    return "\n".join([line(columns), line(["-" * w for w in widths]), *(line(r) for r in cells)])


def cell(value: Any) -> str:
    """A value in a cell of a table."""
    if value is None:
        return ""
    return f"{value:.4g}" if isinstance(value, float) else str(value)
