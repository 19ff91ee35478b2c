"""The log of a run, out of its events: what its driver and its trainings had to say, from wherever the root is reached.

One line an event, with time (UTC), step and words; metrics and units are summed up, a line every `EVERY` seconds of a
step. It is a view like MLflow's and the progress display's, and knows only what storage holds.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

from hyperloom.pipeline.root import events
from hyperloom.pipeline.root.storage import Storage

EVERY = 10.0
"""Seconds of a step between two lines on how far it is."""
POLL_SECONDS = 1.0


def lines(storage: Storage, run: str, follow: bool = False) -> Iterator[str]:
    """The lines of a run, in the order of time; with `follow` until the run is over."""
    seen: dict[str, int] = {}
    last: dict[tuple[str, str], int] = {}
    while True:
        batch = events.in_time(events.read(storage, run, seen))
        for event in batch:
            key = event.get("step", ""), event["kind"]
            if event["kind"] in ("progress", "metric"):
                if abs(event["t"] - last.get(key, 0)) < EVERY * 1000:  # a clock that was set back silences nothing
                    continue
                last[key] = event["t"]
            if text := words(event):
                yield _line(event, text)
        if not follow or any(event["kind"] == "run_finished" for event in batch):
            return
        time.sleep(POLL_SECONDS)


def words(event: dict[str, Any]) -> str:
    """What an event says to a person; empty when nothing."""
    tell = _WORDS.get(event["kind"])
    return tell(event) if tell else ""


def _line(event: dict[str, Any], text: str) -> str:
    at = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(event["t"] / 1000))
    head = f"{at}  {event.get('step', '') or '-':<12}  "
    return head + text.replace("\n", "\n" + " " * len(head))


def _finished(event: dict[str, Any]) -> str:
    rows = f", {event['rows']:,} rows" if event.get("rows") else ""
    left_out = f", {event['quarantined']} in quarantine" if event.get("quarantined") else ""
    error = f": {event['error']}" if event.get("error") else ""
    return f"{event['status']} after {event['seconds']:.1f} s{rows}{left_out}{error}"


def _progress(event: dict[str, Any]) -> str:
    failed = f", {event['failed']} failed" if event["failed"] else ""
    return f"{event['done']:,}/{event['total']:,} units{failed}"


def _metric(event: dict[str, Any]) -> str:
    values = " ".join(f"{k} {v:.4g}" for k, v in list(event["values"].items())[:4])
    of = f" of {event['of']:,}" if event.get("of") else ""
    return f"update {event['at']:,}{of}: {values}" if event["at"] else ""


def _failure(event: dict[str, Any]) -> str:
    what = "infrastructure" if event["infrastructure"] else "failure"
    return f"{what} (attempt {event['attempt']}) in {event['unit']}: {event['error']}"


def _quarantine(event: dict[str, Any]) -> str:
    first = event["samples"][0]
    more = f" and {event['count'] - 1} more" if event["count"] > 1 else ""
    return f"quarantined {first['key']}{more}: {first['error']}"


_WORDS: dict[str, Callable[[dict[str, Any]], str]] = {
    "run_started": lambda e: f"run of {e['name']}, root {e['params']['root']}, {e['total']} steps",
    "step_started": lambda e: f"{e['stage']} {e['fingerprint'][:12]}: {'; '.join(e['why'])}",
    "step_reused": lambda e: f"fresh, {e['rows']:,} rows",
    "progress": _progress,
    "metric": _metric,
    "note": lambda e: e["text"],
    "failure": _failure,
    "quarantine": _quarantine,
    "step_finished": _finished,
    "run_finished": lambda e: f"run {e['status']} after {e['seconds']:.1f} s",
}
