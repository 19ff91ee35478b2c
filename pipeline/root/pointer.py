"""Pointers: the few things under a root that change, each a small JSON value with a version.

A pointer is a chain (pipeline.root.chain) whose highest number holds the value. It is written only *after* the version
that the writer had read when it decided, so a writer that slept while others went on gets Superseded and has changed
nothing; no clock and no claim is needed for that.

Where several runs of the same work may overlap unseen (a training whose driver was taken for dead, and the one that
replaced it), each begins by writing the value anew (`begin`): whoever began last goes on, and all earlier ones get
Superseded at their next write. The version's number is the epoch.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from hyperloom.pipeline import plain
from hyperloom.pipeline.errors import Superseded, Torn
from hyperloom.pipeline.root.chain import TRIES, Chain
from hyperloom.pipeline.root.storage import Storage

KEPT = 2
"""Versions that stay: the present one, and the one before for readers that have just listed it."""


@dataclass(frozen=True)
class Version:
    """A value as it was read. Number 0: nobody has written yet, and the value is None."""

    number: int = 0
    value: Any = None


class Pointer:
    """The pointer whose versions lie in `folder`; `what` names it in messages. `alone` as of a Chain."""

    def __init__(self, storage: Storage, folder: str, what: str = "", alone: Callable[[], bool] = lambda: False):
        self.storage, self.folder, self.what = storage, folder, what or folder
        self._chain = Chain(storage, folder, alone)

    def read(self) -> Version:
        """The present version. Raises Torn, StorageError."""
        link = self._chain.last()
        if link is None:
            return Version()
        if not link.data:
            where = self.storage.full(f"{self.folder}/{link.name}")
            raise Torn(
                f"{where}: {self.what} was cut or changed, or belongs to another place. Next: hyperloom verify "
                "--repair, after which what was there before it counts"
            )
        return Version(link.number, json.loads(link.data)["value"])

    def write(self, value: Any, after: Version) -> Version:
        """Make `value` (JSON) the present one, if `after` still is. Raises Superseded, StorageError."""
        new, entry = Version(after.number + 1, value), {"value": value, "by": uuid.uuid4().hex}
        if self._chain.append(after.number, plain.dumps(entry, sort_keys=True).encode()) is None:
            raise Superseded(
                f"{self.what} under {self.storage} was changed by somebody else meanwhile, and is left as it is now. "
                "Next: run the same command again; it starts from what is there"
            )
        self._chain.trim(new.number - KEPT + 1)
        return new

    def begin(self) -> Version:
        """Take the pointer over: the present value, None where it is torn, as a new version after which no writer from
        before can write. Raises StorageError."""
        for _ in range(TRIES):
            try:
                seen = self.read()
            except Torn:
                seen = Version(max(self._chain.names(), default=0))
            try:
                return self.write(seen.value, seen)
            except Superseded:
                continue
        raise Superseded(f"{self.what} under {self.storage} is taken over again and again. Next: find out by whom")
