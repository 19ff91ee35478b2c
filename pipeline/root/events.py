"""Events: what happened, as JSON lines in storage. MLflow, the progress display and `status` are views of them.

Each writer (the driver, rank 0 of a training) owns its own files, `{root}/events/{run}/{writer}/{seq:06d}.jsonl`, since
object stores cannot append. An event is {"t": ms since 1970, "kind": ..., "step": step name or "", ...}. Writing one
never raises into the work: what cannot be written is kept and tried again with the next. The last line of a file is a
digest of the others and of the file's path: what is torn is passed over whole, and said. The order of a writer's events
is that of its files, whatever its clock said meanwhile.

Kinds and their fields:
    run_started     name, recipe (text), path, params {}, total, steps [names], driver (pipeline.host.process.this)
    step_started    stage, fingerprint, params {}, why [..], inputs [{name, stage, digest, uri}]
    step_reused     stage, fingerprint, rows, reads [names of steps], figures {key: float} of the whole run
    progress        done, total, reused, failed, workers    of a step's units; workers: slots that work on them
    metric          values {key: float}, at, of             at: the training update, or 0; of: how many there will be
                    space, by                               of the unit that took it; of the run's, the step it is of
    trained         folder, seconds, cpu_seconds, device    how long a training took, over all its processes
    artifact        path (in root), to (artifact folder)
    table           name, rows [{column: value}]
    tag             values {key: str}                       `outcome` (and `reasons`): how a step ended, for the run too
    register        name, model {...}                       see pipeline.tracking.mlflow_model
    alias           name, alias, fingerprint, left          the registered model's alias goes to another version
    quarantine      unit, samples [{key, error}], count
    failure         unit, error, attempt, infrastructure
    step_finished   stage, fingerprint, rows, quarantined, seconds, status, error
    run_finished    status, seconds
"""

from __future__ import annotations

import calendar
import hashlib
import json
import math
import re
import threading
import time
import uuid
from collections.abc import Iterable, Iterator
from typing import Any

from hyperloom.pipeline import plain
from hyperloom.pipeline.errors import StorageError, Torn
from hyperloom.pipeline.host.process import is_gone
from hyperloom.pipeline.root.chain import Chain
from hyperloom.pipeline.root.storage import Storage
from hyperloom.pipeline.secrets import scrub

FLUSH_SECONDS = 1.0
NAMES = {"artifact": ("path", "to")}
"""Fields by which a view finds a file: they stay as they are, whatever word of a secret is in them."""
STAMP = "%Y%m%d-%H%M%S"
_RUN = re.compile(r"(\d{8}-\d{6})-")
OWNED_SECONDS = 60.0
"""A tracker that said nothing for so long is taken for dead."""
SILENT_SECONDS = 300.0
"""So long after the last word of its tracker, a run that is not at its end is taken for one whose driver died: a living
driver starts a tracker again that dies."""


class Events:
    """One writer's events of one run. Thread-safe; `close` (or leaving the `with`) writes what is left."""

    def __init__(self, storage: Storage, run: str, writer: str, listeners: tuple[Any, ...] = ()):
        self.storage, self.run, self.writer, self.listeners = storage, run, writer, listeners
        self._folder = f"events/{run}/{writer}"
        self._lines: list[bytes] = []
        self._seq = max(_numbers(storage, self._folder), default=-1) + 1
        self._lock = threading.Lock()
        self._last = time.monotonic()

    def emit(self, kind: str, step: str = "", **fields: Any) -> None:
        """Note an event. It reaches storage within about a second of the next event, or at `flush`."""
        names = {k: fields[k] for k in NAMES.get(kind, ()) if k in fields}
        event = {"t": int(time.time() * 1000), "kind": kind, "step": step, **scrub(fields), **names}
        for listener in self.listeners:
            listener(event)
        with self._lock:
            self._lines.append(plain.dumps(event).encode())
        if time.monotonic() - self._last > FLUSH_SECONDS or kind.endswith(("_started", "_finished")):
            self.flush()

    def metric(self, step: str, values: dict[str, float], at: int = 0, of: int = 0, **about: str) -> None:
        """Figures of `step` after `at` updates of `of` (0: nobody knows how many); one that is no number is none.
        `about`: the `space` of the unit that took them, and `by` which step those of the whole run are."""
        known: dict[str, Any] = {"of": of, **about} if of else dict(about)
        self.emit("metric", step, values={k: float(v) for k, v in values.items() if math.isfinite(v)}, at=at, **known)

    def flush(self) -> None:
        with self._lock:
            self._last = time.monotonic()
            if not self._lines:
                return
            try:
                path = file_path(self.run, self.writer, self._seq)
                self.storage.write(path, dump(path, self._lines))
            except StorageError:
                return  # the view must not stop the work; the lines stay for the next flush
            self._lines.clear()
            self._seq += 1

    def close(self) -> None:
        self.flush()

    def __enter__(self) -> Events:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def new_run(storage: Storage) -> str:
    """An id for a run that begins now, which sorts after all that began here before, whatever the clock says."""
    stamps = (match[1] for name in storage.names("events") if (match := _RUN.match(name)))
    now, last = time.time(), max(stamps, default="")
    if last:
        now = max(now, calendar.timegm(time.strptime(last, STAMP)) + 1)
    return f"{time.strftime(STAMP, time.gmtime(now))}-{uuid.uuid4().hex[:6]}"


def file_path(run: str, writer: str, number: int) -> str:
    return f"events/{run}/{writer}/{number:06d}.jsonl"


def dump(path: str, lines: list[bytes]) -> bytes:
    """The bytes of the file of events at `path`: its lines, and their digest."""
    text = b"".join(line + b"\n" for line in lines)
    return text + json.dumps({"sha256": _digest(path, text)}).encode() + b"\n"


def load(path: str, data: bytes) -> list[dict[str, Any]]:
    """The events in the file `data` that lies at `path`. Raises Torn."""
    *lines, last = data.splitlines(keepends=True) or [b""]
    text = b"".join(lines)
    if last != json.dumps({"sha256": _digest(path, text)}).encode() + b"\n":
        raise Torn("it was cut or changed, or belongs to another place")
    return [json.loads(line) for line in lines]


def read(storage: Storage, run: str, seen: dict[str, int] | None = None) -> Iterator[dict[str, Any]]:
    """Events of a run, in order within each writer. In the place of a file that is torn or gone comes a note.

    `seen` (writer -> the number after the last file read) is advanced, so a second call gives only what is new.
    """
    seen = {} if seen is None else seen
    for writer in storage.names(f"events/{run}"):
        if "." in writer:
            continue
        at = 0
        for number in _numbers(storage, f"events/{run}/{writer}", seen.get(writer, 0)):
            path = file_path(run, writer, number)
            try:
                events = load(path, storage.read(path))
            except (FileNotFoundError, Torn) as error:
                text = f"{storage.full(path)}: these events are lost: {error}. Next: hyperloom verify --repair"
                events = [{"t": at, "kind": "note", "step": "", "text": text}]
            for event in events:
                at = event["t"]
                yield {**event, "writer": writer}
            seen[writer] = number + 1


def in_time(events: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Events of several writers in the order of time. What a writer said later never comes before what it said earlier,
    also where its clock was set back in between."""
    latest: dict[str, int] = {}
    stamped = []
    for event in events:
        writer = event["writer"]
        latest[writer] = max(latest.get(writer, 0), event.get("t", 0))
        stamped.append((latest[writer], event))
    return [event for _, event in sorted(stamped, key=lambda pair: pair[0])]


def _numbers(storage: Storage, folder: str, first: int = 0) -> list[int]:
    """The numbers of a writer's files from `first` on, in order."""
    stems = (name.removesuffix(".jsonl") for name in storage.names(folder) if name.endswith(".jsonl"))
    return sorted(number for stem in stems if stem.isdecimal() and (number := int(stem)) >= first)


def _digest(path: str, text: bytes) -> str:
    return hashlib.sha256(path.encode() + b"\n" + text).hexdigest()


def positions(storage: Storage, run: str) -> Chain:
    """Where a run's trackers keep their positions: each has a link of its own, and that of the youngest counts."""
    return Chain(storage, f"events/{run}/tracked.at")


def tracked(storage: Storage, run: str) -> dict[str, Any]:
    """The saved position of a run's tracker (pipeline.tracking.tracker.Position); empty without a whole one."""
    link = positions(storage, run).last()
    return dict(json.loads(link.data)) if link and link.data else {}


def pending(storage: Storage) -> list[str]:
    """Runs that a view has not seen to their end though nobody works on it, oldest first: there are events that it has
    not taken, or it still shows a run as running whose driver is dead."""
    waiting = []
    for run in storage.names("events"):
        position = tracked(storage, run)
        silent = abs(time.time() - position.get("touched", 0))  # (hours ahead is of a clock that was wrong)
        if position.get("owner") and silent < OWNED_SECONDS and not is_gone(position.get("tracker", {})):
            continue
        seen = position.get("seen", {})
        writers = [w for w in storage.names(f"events/{run}") if "." not in w]
        new = any(_numbers(storage, f"events/{run}/{w}", seen.get(w, 0)) for w in writers)
        dead = is_gone(position.get("driver", {})) or silent > SILENT_SECONDS
        if new or (dead and position.get("parent") and not position.get("finished") and not position.get("closed")):
            waiting.append(run)
    return waiting
