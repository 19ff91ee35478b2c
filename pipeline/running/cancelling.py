"""Cancelling a run from anywhere that reaches its root: a notice beside its events, at which its driver looks.

The driver heeds it as it does SIGTERM, so a training stores a checkpoint first. A run whose driver is gone cancels
nothing: its notice is of no consequence, since every run has an id of its own.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from hyperloom.pipeline.errors import Cancelled, StorageError
from hyperloom.pipeline.host import process
from hyperloom.pipeline.host.ending import Ending
from hyperloom.pipeline.root import claims, events
from hyperloom.pipeline.root.storage import Storage

LOOK_SECONDS = 3.0
"""How often a driver looks for a notice."""
NOTICE = "cancel.json"


def cancel(storage: Storage, run: str) -> None:
    """Ask the driver of a run to end it."""
    storage.write_json(f"events/{run}/{NOTICE}", {"by": process.this(), "t": time.time()})


def cancelled(storage: Storage, run: str) -> bool:
    """Has somebody asked for it?"""
    return storage.exists(f"events/{run}/{NOTICE}")


def running(storage: Storage, recipe: str) -> list[str]:
    """Runs of a recipe that have begun and not ended, oldest first; none where all its drivers provably died. One that
    died elsewhere may be among them."""
    if not any(card["recipe"] == recipe and not process.is_gone(card) for card in claims.cards(storage)):
        return []
    return [run for run in storage.names("events") if _state(storage, run, recipe) == "running"]


def over(storage: Storage, run: str) -> bool:
    """Has its driver said that the run is over?"""
    return any(event["kind"] == "run_finished" for event in events.read(storage, run))


def _state(storage: Storage, run: str, recipe: str) -> str:
    state = ""
    for event in events.read(storage, run):
        if event["kind"] == "run_started":
            state = "running" if event["name"] == recipe else "another"
        elif event["kind"] == "run_finished":
            state = "over"
    return state


@contextmanager
def heeded(storage: Storage, run: str, ending: Ending) -> Iterator[None]:
    """Inside the block a notice of this run begins its end."""
    left = threading.Event()

    def look() -> None:
        while not left.wait(LOOK_SECONDS) and not ending.begun:
            try:
                if cancelled(storage, run):
                    ending.begin(Cancelled)
            except StorageError:
                continue  # the store will answer again, or the run fails by itself

    thread = threading.Thread(target=look, name="cancelling", daemon=True)
    thread.start()
    try:
        yield
    finally:
        left.set()
        thread.join(timeout=5.0)
