"""The tracker: carries a run's events from storage into a view, and remembers how far it came.

The position (`events/{run}/tracked.at/{number}.json`) is saved after the view took a batch, never before, and what a
view does is repeatable; so a tracker that was killed, or a server that was away, costs a repetition and no duplicate.
Of several trackers on one run the youngest wins: each has a link of a chain for its position, so one that slept while
another took over changes nothing when it wakes. One that works touches its position, so that nobody takes its run for
left behind. It waits for a dead server with growing pauses, forever while the driver lives and for `patience` seconds
after that; then the events stay where they are, for the next run.

It knows nothing of MLflow (that is `pipeline.tracking.mlflow_view`) and never writes events.
"""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any, Protocol

from hyperloom.pipeline.errors import StorageError
from hyperloom.pipeline.host import process
from hyperloom.pipeline.root import events
from hyperloom.pipeline.root.chain import TRIES, Link
from hyperloom.pipeline.root.storage import Storage

WAITING = 75
"""Exit status of a tracking process that had to leave events behind (EX_TEMPFAIL)."""
POLL_SECONDS = 1.0
LONGEST_PAUSE = 15.0


MOST_SAID = 20
"""Notes, and things left out, that a position keeps in words."""
REPETITIONS = 3
"""How often one tracker shows a run anew from its start."""


class Unavailable(Exception):
    """The view's server does not answer, or refuses everything; the events must wait. `patience`: how many times the
    usual time it is waited for at the end of a run, 0 where nothing but a person mends it."""

    def __init__(self, message: str, patience: float = 1.0):
        super().__init__(message)
        self.patience = patience


class Forgotten(Exception):
    """The view has lost for good what it was shown of this run: all of it must be shown again."""


@dataclass
class Position:
    """How far a run has been carried over. `uri` names the store (without secrets): ids mean nothing in another one."""

    uri: str
    owner: str = ""
    """The tracker at work; empty when there is none."""
    touched: float = 0.0
    """When the owner last said so, in seconds since 1970."""
    tracker: dict[str, Any] = field(default_factory=dict)
    """The owner's process, and that of the run's driver (pipeline.host.process.this): it can be proved that one is
    gone."""
    driver: dict[str, Any] = field(default_factory=dict)
    store: str = ""
    """Which store it is that `uri` led to: another file or database may have taken its place."""
    seen: dict[str, int] = field(default_factory=dict)
    """Files read of each writer."""
    parent: str = ""
    steps: dict[str, str] = field(default_factory=dict)
    """The view's run id of each step."""
    high: dict[str, dict[str, int]] = field(default_factory=dict)
    """Largest `at` of each metric of each step: a resumed training logs nothing twice. In the order in which they came,
    from which their names in MLflow follow."""
    about: dict[str, Any] = field(default_factory=dict)
    """What the run's description is written from."""
    finished: bool = False
    closed: bool = False
    """The view was told that the driver died."""
    problem: str = ""
    """Why events are waiting, in words; empty when they are not."""
    notes: list[str] = field(default_factory=list)
    """What was mended in the view and what a person decided there, in words."""
    lacks: list[str] = field(default_factory=list)
    """What the view refused and does not show, in words."""

    @staticmethod
    def load(storage: Storage, run: str, uri: str) -> Position:
        """The saved position in the store `uri`; a new one when there is none or it is torn."""
        value = events.tracked(storage, run)
        return Position(**value) if value.get("uri") == uri else Position(uri)

    def text(self) -> bytes:
        """As JSON, with the time of now."""
        self.touched = time.time()
        return json.dumps(asdict(self)).encode()

    def note(self, text: str) -> None:
        if text not in self.notes:
            self.notes = [*self.notes, text][-MOST_SAID:]

    def lack(self, text: str) -> None:
        if text not in self.lacks:
            self.lacks = [*self.lacks, text][-MOST_SAID:]

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
        self._repetitions = 0
        self._positions = events.positions(storage, run)
        self._link = self._begin(uri)

    def _begin(self, uri: str) -> Link:
        """Take the run over: the last position in a link of this tracker. Raises StorageError."""
        for _ in range(TRIES):
            last = self._positions.last()
            self.position = Position.load(self.storage, self.run, uri)
            self.position.owner, self.position.tracker = uuid.uuid4().hex, process.this()
            self.position.problem = ""  # another tracker's: this one has not tried yet
            link = self._positions.append(last.number if last else 0, self.position.text())
            if link is not None:
                self._positions.trim(link.number)
                return link
        raise StorageError(f"run {self.run} is taken over by one tracker after another. Next: find out by whom")

    def _save(self, position: Position) -> None:
        self._positions.replace(self._link, position.text())

    @property
    def view(self) -> View:
        """The view, made when it is first needed. Raises Unavailable, and Forgotten where it is not the one that was
        shown this run before."""
        if self._view is None:
            self._view = self._make()
            self._recognise(getattr(self._view, "store", ""))
        return self._view

    def _recognise(self, store: str) -> None:
        """Let no run of the root count as shown that was shown to another store at the same place."""
        if not store:
            return
        for run in self.storage.names("events"):
            known = events.tracked(self.storage, run)
            moved = known.get("uri") == self.position.uri and known.get("store") not in (None, "", store)
            if moved and not known.get("owner"):
                self.storage.delete(events.positions(self.storage, run).folder)
        if self.position.store not in ("", store):
            raise Forgotten("MLflow's store is a new one: this run is shown in it from its start")
        self.position.store = store

    def pump(self) -> int:
        """Carry over what is new; how many events that was. Raises Unavailable, and then nothing counts as carried."""
        ahead = self.position.copy()
        batch = list(events.read(self.storage, self.run, ahead.seen))
        if not batch or self.superseded():
            return 0
        for event in batch:
            if event["kind"] in ("run_started", "run_finished"):
                ahead.finished = event["kind"] == "run_finished"
                ahead.closed = False
            if event["kind"] == "run_started":
                ahead.driver = event.get("driver", {})
        view = self.view
        ahead.store = self.position.store
        try:
            view.take(batch, ahead)
        finally:
            self.position.notes = ahead.notes  # of what was done, whatever came after it
        ahead.problem = ""
        self._save(ahead)
        self.position = ahead
        return len(batch)

    def superseded(self) -> bool:
        """Has a younger tracker taken this run over?"""
        return max(self._positions.names(), default=0) > self._link.number

    def follow(self, alive: Callable[[], bool], patience: float, say: Callable[[str], None]) -> bool:
        """Carry events until the run is finished or the driver is not `alive`; False if events had to be left."""
        try:
            return self._follow(alive, patience, say)
        finally:
            if not self.superseded():
                self.position.owner = ""
                self._touch(0)

    def _follow(self, alive: Callable[[], bool], patience: float, say: Callable[[str], None]) -> bool:
        pause, ended = POLL_SECONDS, 0.0
        while not self.superseded():
            self._touch(events.OWNED_SECONDS / 3)
            driver = alive()  # asked before the pump: what the driver wrote before it died is read below
            try:
                moved = self._carry(driver)
                pause = POLL_SECONDS
                if moved is None:
                    return True
                if moved:
                    continue
            except (Unavailable, StorageError) as error:
                self._note(str(error), say)
                if self._ended(driver):
                    ended = ended or time.monotonic()
                    if time.monotonic() > ended + patience * getattr(error, "patience", 1.0):
                        return False
                pause = min(pause * 2, LONGEST_PAUSE, patience or LONGEST_PAUSE)
            time.sleep(pause)
        return True

    def _carry(self, driver: bool) -> int | None:
        """How many events were carried; None once the run is at its end. Raises Unavailable."""
        try:
            moved = self.pump()
            if moved or (driver and not self.position.finished):
                return moved
            self._close()
            return None
        except Forgotten as error:
            self._begin_again(error)
            return 1

    def _begin_again(self, error: Forgotten) -> None:
        """Show the run from its first event on, in a view that may be another one. Raises Unavailable where even that
        is forgotten again and again."""
        self._repetitions += 1
        if self._repetitions > REPETITIONS:
            raise Unavailable(str(error), 0) from error
        old, self._view = self.position, None
        self.position = Position(old.uri, owner=old.owner, tracker=old.tracker, notes=old.notes)
        self.position.note(str(error))
        self._save(self.position)

    def fail(self, problem: str) -> None:
        """Note why this tracker ends without having shown everything."""
        self._note(problem, lambda _: None)

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
                self._save(self.position)
            except StorageError:
                pass  # a courtesy; the position on disk is still the right one
