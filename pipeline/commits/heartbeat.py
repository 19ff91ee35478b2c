"""Signs of life of a unit that runs for hours: a file that changes as long as its worker gets on.

The worker calls `Output.beat()` as often as it likes; a few seconds apart `{space}/beats/{unit}` gets a new content.
The pool looks at that file: as long as it changes, the unit is never taken for hung, however long it runs. The file is
written by whoever does the work, in the thread that does it, so a process that lives but does not get on falls silent.
It says nothing of how far the work is, and it is gone when the attempt has ended.
"""

from __future__ import annotations

import time
import uuid

from hyperloom.pipeline.errors import StorageError
from hyperloom.pipeline.root.storage import Storage

BEAT_SECONDS = 5.0
"""Fewest seconds between two writes of one unit."""
LOOK_SECONDS = 30.0
"""How often the driver looks at a unit that has said it beats."""
SILENCE_SECONDS = 300.0
"""A unit that has beaten and then says nothing for so long is taken for hung."""


def beat_path(space: str, id_: str) -> str:
    return f"{space}/beats/{id_}"


class Heartbeat:
    """The worker's side: one attempt at one unit."""

    def __init__(self, storage: Storage, space: str, id_: str):
        self.storage, self.path = storage, beat_path(space, id_)
        self._attempt = uuid.uuid4().hex
        self._count = 0
        self._last = 0.0

    def beat(self) -> None:
        """Note that the work gets on. Writes every few seconds; a store that does not answer is no matter."""
        now = time.monotonic()
        if self._count and now - self._last < BEAT_SECONDS:
            return
        self._last = now
        self._count += 1
        try:
            self.storage.write(self.path, f"{self._attempt} {self._count}".encode(), durable=False)
        except StorageError:
            pass  # the next one may come through

    def end(self) -> None:
        """Remove the file, if there is one."""
        if self._count:
            try:
                self.storage.delete(self.path)
            except StorageError:
                pass  # it says nothing to the next attempt, which writes its own


class Watch:
    """The driver's side: has a group of units been silent for too long?

    `limit` are the seconds that the group has when it never beats. `beats` says that its worker has promised to; then
    the file is looked at regularly, else only when the limit is over.
    """

    def __init__(self, storage: Storage, keys: list[tuple[str, str]], limit: float, beats: bool):
        self.storage, self.paths, self.limit, self.beats = storage, [beat_path(*k) for k in keys], limit, beats
        self.heard = False
        self._since = self._looked = time.monotonic()
        self._last = self._read() if beats else set()

    def restart(self) -> None:
        """The group begins only now: it had to wait for another one."""
        self._since = self._looked = time.monotonic()

    def hung(self) -> str:
        """What to say of a group that is taken for hung; empty as long as it is not."""
        now = time.monotonic()
        allowed = SILENCE_SECONDS if self.heard else self.limit
        if now - self._looked >= min(LOOK_SECONDS if self.beats or self.heard else allowed, allowed):
            self._look(now)
            allowed = SILENCE_SECONDS if self.heard else self.limit
        if now - self._since <= allowed:
            return ""
        return f"no sign of life for {allowed:.0f} s" if self.heard else f"no answer within {allowed:.0f} s"

    def _look(self, now: float) -> None:
        self._looked = now
        try:
            pulses = self._read()
        except StorageError:
            self._since = now  # a store that does not answer says nothing of the unit
            return
        if pulses - self._last:
            self.heard, self._since = True, now
        self._last = pulses

    def clear(self) -> None:
        """Remove what a process that died has left."""
        if self.beats or self.heard:
            for path in self.paths:
                self.storage.delete(path)

    def _read(self) -> set[bytes]:
        pulses = set()
        for path in self.paths:
            try:
                pulses.add(self.storage.read(path))
            except FileNotFoundError:
                continue
        return pulses
