"""The lease that keeps two drivers off one root.

`{root}/lease.json` names its owner and carries a beat that the owner advances every few seconds. A lease is dead when
its process is gone (same host) or when its beat has not moved for `EXPIRY` seconds of the observer's own clock, so
clocks need not agree. Whoever takes over a dead lease removes it and creates its own, exclusively; on a store that does
not keep exclusive creation, it reads back after a pause instead. A driver that finds another owner in its lease has
lost it, and `check` raises.
"""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Callable
from typing import Any

from hyperloom.pipeline import process
from hyperloom.pipeline.errors import ClaimError, StorageError, Torn
from hyperloom.pipeline.storage import Storage

PATH = "lease.json"
BEAT = 5.0
EXPIRY = 30.0


class Lease:
    """Held from `acquire` (or `with`) to `release`. Heartbeats run in a daemon thread."""

    def __init__(self, storage: Storage, recipe: str, wait: float = 60.0, say: Callable[[str], None] = lambda _: None):
        self.storage, self.recipe, self.wait, self.say = storage, recipe, wait, say
        self.owner = uuid.uuid4().hex
        self._beat = 0
        self._lost: str | None = None
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def __enter__(self) -> Lease:
        self.acquire()
        return self

    def __exit__(self, *_: object) -> None:
        self.release()

    def acquire(self) -> None:
        """Take the lease, waiting up to `wait` seconds for another driver. Raises ClaimError, saying who holds it."""
        deadline = time.monotonic() + self.wait
        exclusive = self.storage.probe_exclusive()
        if not exclusive:
            self.say("this store does not keep exclusive creation: the lease falls back to write-then-read-back")
        watched: tuple[Any, float] = (None, time.monotonic())
        announced = False
        while True:
            if self._create(exclusive):
                self._thread = threading.Thread(target=self._keep, name="lease", daemon=True)
                self._thread.start()
                return
            held = self._read()
            if held is None:
                continue
            if (held["owner"], held["beat"]) != watched[0]:
                watched = ((held["owner"], held["beat"]), time.monotonic())
            if process.is_gone(held) or time.monotonic() - watched[1] > EXPIRY:
                self.say(f"taking over from {_who(held)}, which is gone")
                self._remove(held["owner"])
                continue
            if time.monotonic() > deadline:
                raise ClaimError(
                    f"{self.storage} is in use by {_who(held)}, recipe {held['recipe']!r}. Next: wait for it "
                    f"(hyperloom run --wait 3600 ...), or stop it; a dead machine's lease expires in {EXPIRY:.0f} s"
                )
            if not announced:
                self.say(f"waiting for {_who(held)}, which works on this root (up to {self.wait:.0f} s)")
                announced = True
            time.sleep(0.5)

    def check(self) -> None:
        """Raise ClaimError when the lease was lost."""
        if self._lost:
            raise ClaimError(
                f"this driver lost its lease on {self.storage}: {self._lost}. "
                "Its finished work is kept; run the same command again"
            )

    def release(self) -> None:
        """Give the lease back, if it is still ours."""
        self._stop.set()
        if self._thread:
            self._thread.join(timeout=BEAT * 2)
            self._thread = None
        if not self._lost:
            try:
                self._remove(self.owner)
            except StorageError:
                pass  # it expires by itself

    def _value(self) -> dict[str, Any]:
        return {"owner": self.owner, "beat": self._beat, "recipe": self.recipe, **process.this()}

    def _create(self, exclusive: bool) -> bool:
        if exclusive:
            return self.storage.create_json(PATH, self._value())
        if self.storage.exists(PATH):
            return False
        self.storage.write_json(PATH, self._value())
        time.sleep(2.0)
        held = self._read()
        return held is not None and held["owner"] == self.owner

    def _read(self) -> dict[str, Any] | None:
        return read(self.storage)

    def _remove(self, owner: str) -> None:
        held = self._read()
        if held is not None and held["owner"] == owner:
            self.storage.delete(PATH)

    def _keep(self) -> None:
        failing: float | None = None
        while not self._stop.wait(BEAT):
            try:
                held = self._read()
                if held is None or held["owner"] != self.owner:
                    self._lost = f"{_who(held)} took it" if held else "its file is gone"
                    return
                self._beat += 1
                self.storage.write_json(PATH, self._value())
                failing = None
            except StorageError as error:
                failing = failing or time.monotonic()
                if time.monotonic() - failing > EXPIRY:
                    self._lost = f"the store has not answered for {EXPIRY:.0f} s ({error})"
                    return


def read(storage: Storage) -> dict[str, Any] | None:
    """Who holds the root; None when nobody does."""
    try:
        return storage.read_json(PATH)
    except FileNotFoundError:
        return None
    except Torn:
        return {"owner": "?", "beat": -1, "host": "?", "pid": -1, "recipe": "?", "born": ""}


def sweep(storage: Storage) -> None:
    """Remove the lease of a driver that died on this host."""
    held = read(storage)
    if held is not None and process.is_gone(held):
        storage.delete(PATH)


def _who(held: dict[str, Any]) -> str:
    return f"process {held['pid']} on {held['host']}"
