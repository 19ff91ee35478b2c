"""`hyperloom logs`: what a run has to say, read from its root."""

from __future__ import annotations

import time
from typing import Any

from hyperloom.pipeline.commands import opening


def add(commands: Any) -> None:
    sub = opening.add(commands, "logs", _logs, "show the log of a run, from any machine that reaches its root")
    sub.add_argument("--run", help="the id of the run (the last one of this root)")
    sub.add_argument("--follow", action="store_true", help="until the run is over; waits for one to begin")
    sub.add_argument("--list", action="store_true", help="the runs of this root instead")
    sub.add_argument("--json", action="store_true", help="all events as they are, one a line; with --list a list")
    sub.set_defaults(prints_json=True, only_shows=True)


def _logs(given: Any) -> int:
    loaded, storage = opening.load(given)
    from hyperloom.pipeline import plain
    from hyperloom.pipeline.inspection import logs
    from hyperloom.pipeline.root import events

    runs = storage.names("events")
    while given.follow and not runs:
        time.sleep(logs.POLL_SECONDS)
        runs = storage.names("events")
    if given.run and given.run not in runs:
        raise loaded.error((), f"there is no run {given.run!r} under this root. Next: --list shows them")
    if given.list or not runs:
        print(plain.dumps(runs) if given.json else "\n".join(runs) or "no run has begun under this root")
    elif given.json:
        for event in events.read(storage, given.run or runs[-1]):
            print(plain.dumps(event))
    else:
        for line in logs.lines(storage, given.run or runs[-1], given.follow):
            print(line, flush=True)
    return 0
