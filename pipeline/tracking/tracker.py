"""The tracker: carries a run's events from storage into a view, and remembers how far it came.

The position (`events/{run}/tracked.json`) is saved after the view took a batch, never before, and what a view does is
repeatable; so a tracker that was killed, or a server that was away, costs a repetition and no duplicate. Of several
trackers on one run the youngest wins; one that works touches its position, so that nobody takes its run for left
behind. It waits for a dead server with growing pauses, forever while the driver lives
and for `patience` seconds after that; then the events stay where they are, for the next run.

It knows nothing of MLflow (that is `pipeline.tracking.mlflow_view`) and never writes events.
"""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any, Protocol

from hyperloom.pipeline import events, process
from hyperloom.pipeline.errors import StorageError
from hyperloom.pipeline.storage import Storage

WAITING = 75
"""Exit status of a tracking process that had to leave events behind (EX_TEMPFAIL)."""
POLL_SECONDS = 1.0
LONGEST_PAUSE = 15.0


class Unavailable(Exception):
    """The view's server does not answer, or refuses everything; the events must wait."""


@dataclass
class Position:
    """How far a run has been carried over. `uri` names the store (without secrets): ids mean nothing in another one."""

    uri: str
    owner: str = ""
    """The tracker at work; empty when there is none."""
    touched: float = 0.0
    """When the owner last said so, in seconds since 1970."""
    tracker: dict[str, Any] = field(default_factory=dict)
    """The owner's process, and that of the run's driver (pipeline.process.this): it can be proved that one is gone."""
    driver: dict[str, Any] = field(default_factory=dict)
    seen: dict[str, int] = field(default_factory=dict)
    """Files read of each writer."""
    parent: str = ""
    steps: dict[str, str] = field(default_factory=dict)
    """The view's run id of each step."""
    high: dict[str, dict[str, int]] = field(default_factory=dict)
    """Largest `at` of each metric of each step: a resumed training logs nothing twice."""
    about: dict[str, Any] = field(default_factory=dict)
    """What the run's description is written from."""
    finished: bool = False
    closed: bool = False
    """The view was told that the driver died."""
    problem: str = ""
    """Why events are waiting, in words; empty when they are not."""

    @staticmethod
    def load(storage: Storage, run: str, uri: str) -> Position:
        """The saved position in the store `uri`; a new one when there is none or it is torn."""
        value = events.tracked(storage, run)
        return Position(**value) if value.get("uri") == uri else Position(uri)

    def save(self, storage: Storage, run: str) -> None:
        self.touched = time.time()
        storage.write_json(events.tracked_path(run), asdict(self))

    def copy(self) -> Position:
        return Position(**json.loads(json.dumps(asdict(self))))


class View(Protocol):
    """Where events go. Whatever it does may be repeated; it raises Unavailable when its server does not answer."""

    def take(self, batch: list[dict[str, Any]], position: Position) -> None:
        """Show the events of `batch`, in order, and note in `position` what a later batch needs."""

    def abandon(self, position: Position) -> None:
        """Show that the driver died: what still counts as running is not."""


class Tracker:
    """Carries one run's events into one view."""

    def __init__(self, storage: Storage, run: str, uri: str, view: Callable[[], View]):
        self.storage, self.run, self._make = storage, run, view
        self._view: View | None = None
        self.position = Position.load(storage, run, uri)
        self.position.owner, self.position.tracker = uuid.uuid4().hex, process.this()
        self.position.save(storage, run)

    @property
    def view(self) -> View:
        if self._view is None:
            self._view = self._make()
        return self._view

    def pump(self) -> int:
        """Carry over what is new; how many events that was. Raises Unavailable, and then nothing counts as carried."""
        ahead = self.position.copy()
        batch = list(events.read(self.storage, self.run, ahead.seen))
        if not batch:
            return 0
        for event in batch:
            if event["kind"] in ("run_started", "run_finished"):
                ahead.finished = event["kind"] == "run_finished"
                ahead.closed = False
            if event["kind"] == "run_started":
                ahead.driver = event.get("driver", {})
        self.view.take(batch, ahead)
        ahead.problem = ""
        ahead.save(self.storage, self.run)
        self.position = ahead
        return len(batch)

    def superseded(self) -> bool:
        """Has a younger tracker taken this run over?"""
        owner = events.tracked(self.storage, self.run).get("owner", self.position.owner)
        return owner != self.position.owner

    def follow(self, alive: Callable[[], bool], patience: float, say: Callable[[str], None]) -> bool:
        """Carry events until the run is finished or the driver is not `alive`; False if events had to be left."""
        try:
            return self._follow(alive, patience, say)
        finally:
            if not self.superseded():
                self.position.owner = ""
                self._touch(0)

    def _follow(self, alive: Callable[[], bool], patience: float, say: Callable[[str], None]) -> bool:
        pause, deadline = POLL_SECONDS, None
        while not self.superseded():
            self._touch(events.OWNED_SECONDS / 3)
            driver = alive()  # asked before the pump: what the driver wrote before it died is read below
            try:
                moved = self.pump()
                pause = POLL_SECONDS
                if not moved and (self.position.finished or not driver):
                    self._close()
                    return True
                if moved:
                    continue
            except (Unavailable, StorageError) as error:
                self._note(str(error), say)
                if self._ended(driver):
                    deadline = deadline or time.monotonic() + patience
                    if time.monotonic() > deadline:
                        return False
                pause = min(pause * 2, LONGEST_PAUSE, patience or LONGEST_PAUSE)
            time.sleep(pause)
        return True

    def _close(self) -> None:
        """Show that a run ended with its driver, where it did not end by itself."""
        if self.position.parent and not self.position.finished and not self.position.closed:
            self.view.abandon(self.position)
            self.position.closed = True

    def _ended(self, driver: bool) -> bool:
        waiting = events.read(self.storage, self.run, dict(self.position.seen))
        return not driver or any(event["kind"] == "run_finished" for event in waiting)

    def _note(self, problem: str, say: Callable[[str], None]) -> None:
        if problem == self.position.problem:
            return
        say(problem)
        self.position.problem = problem
        self._touch(0)

    def _touch(self, every: float) -> None:
        """Save the position again unless that was less than `every` seconds ago."""
        if abs(time.time() - self.position.touched) >= every:  # a clock that was set back is no reason to fall silent
            try:
                self.position.save(self.storage, self.run)
            except StorageError:
                pass  # a courtesy; the position on disk is still the right one
