"""Chains: numbered files in a folder, of which the highest number counts. The one way to change something under a root
that others may change too.

    {folder}/00000012.json           created exclusively: of several writers of number 12, one gets it
    {folder}/00000012-{token}.json   the same on a store that does not keep exclusive creation

Each is sealed (pipeline.root.sealed) with its folder and number, so a link that was cut, changed or put elsewhere is
known.

Who appends says after which number, so nobody replaces what he has not seen, however long he slept between reading and
writing; nothing that counts is ever overwritten or removed. Numbers only grow: what lies below the highest may be
removed (`trim`), the highest never.

A store without exclusive creation: each writer creates a name of his own, waits for SETTLE_SECONDS, and lists. Of
several files of one number the one that the store dated first counts (ties: the smaller name), and the others withdraw
theirs. A writer whose file took longer than SETTLE_SECONDS to write withdraws it and tries again: the store may have
dated it long before anybody could see it. So that holds as long as the store lists what it has acknowledged and its own
clock does not go back; a reader that looks within SETTLE_SECONDS may see a number that loses.
"""

from __future__ import annotations

import re
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass

from hyperloom.pipeline.errors import StorageError, Torn
from hyperloom.pipeline.root import sealed
from hyperloom.pipeline.root.storage import Storage

SETTLE_SECONDS = 2.0
TRIES = 20
"""How often a chain that others trim meanwhile is listed again."""
NAME = re.compile(r"(\d{8})(-[0-9a-f]{12})?\.json")


def place(path: str) -> str:
    """The place that the link at `path` is sealed for: whoever writes a number seals it alike."""
    folder, _, name = path.rpartition("/")
    return f"{folder}/{name[:8]}.json" if NAME.fullmatch(name) else path


@dataclass(frozen=True)
class Link:
    """One file of a chain, with the JSON that was appended; none at all (b"") where the file is torn."""

    number: int
    name: str
    data: bytes


class Chain:
    """The numbered files of one folder. `alone` may say that nobody else can be about to append, which saves the wait
    on stores without exclusive creation."""

    def __init__(self, storage: Storage, folder: str, alone: Callable[[], bool] = lambda: False):
        self.storage, self.folder, self.alone = storage, folder, alone

    def names(self) -> dict[int, str]:
        """Number -> name of the file that counts for it, in rising order."""
        several: dict[int, list[str]] = {}
        for name in self.storage.names(self.folder):
            if match := NAME.fullmatch(name):
                several.setdefault(int(match[1]), []).append(name)
        return {number: self._first(names) for number, names in sorted(several.items())}

    def last(self) -> Link | None:
        """The link that counts; None of a chain without any. Raises StorageError."""
        for _ in range(TRIES):
            names = self.names()
            if not names:
                return None
            number, name = max(names.items())
            try:
                return Link(number, name, self.read(name))
            except FileNotFoundError:  # a higher one is there since
                continue
        raise StorageError(f"{self.storage.full(self.folder)} changes faster than it can be read. Next: try again")

    def read(self, name: str) -> bytes:
        """The JSON of a link; b"" where its file is torn. Raises FileNotFoundError, StorageError."""
        try:
            return sealed.unwrap(place(f"{self.folder}/{name}"), self.storage.read(f"{self.folder}/{name}"))
        except Torn:
            return b""

    def append(self, after: int, data: bytes) -> Link | None:
        """Add the number after `after`, which the caller has seen to be the last (0: none); None where somebody
        else has added it. `data` is JSON, and differs from what any other writer would append. Raises StorageError."""
        number = after + 1
        if not self.storage.exclusive:
            return self._settled(number, data)
        name = f"{number:08d}.json"
        if not self.storage.create(f"{self.folder}/{name}", self._sealed(name, data)):
            try:  # an answer may have been lost, and the client have asked again
                if self.read(name) != data:
                    return None
            except FileNotFoundError:
                return None
        names = self.names()
        if names and max(names) != number:  # it slept: the number was free since the others have trimmed it
            self.storage.delete(f"{self.folder}/{name}")
            return None
        return Link(number, name, data)

    def replace(self, link: Link, data: bytes) -> None:
        """Write a link anew, on a full disk too. For its own writer alone: where a higher one counts, this changes
        nothing."""
        self.storage.overwrite(f"{self.folder}/{link.name}", self._sealed(link.name, data))

    def trim(self, below: int) -> None:
        """Remove the links with numbers below `below`, which must not be above the last."""
        for name in self.storage.names(self.folder):
            if (match := NAME.fullmatch(name)) and int(match[1]) < below:
                self.storage.delete(f"{self.folder}/{name}")

    def _sealed(self, name: str, data: bytes) -> bytes:
        return sealed.wrap(place(f"{self.folder}/{name}"), data)

    def _first(self, names: list[str]) -> str:
        if len(names) == 1:
            return names[0]
        times = self.storage.times(self.folder)
        return min(names, key=lambda n: (times.get(n, float("inf")), n))

    def _settled(self, number: int, data: bytes) -> Link | None:
        for _ in range(TRIES):
            name = f"{number:08d}-{uuid.uuid4().hex[:12]}.json"
            alone, start = self.alone(), time.monotonic()
            self.storage.write(f"{self.folder}/{name}", self._sealed(name, data))
            if alone or time.monotonic() - start <= SETTLE_SECONDS:
                if not alone:
                    time.sleep(SETTLE_SECONDS)
                names = self.names()
                if names and max(names.items()) == (number, name):
                    return Link(number, name, data)
                self.storage.delete(f"{self.folder}/{name}")
                return None
            self.storage.delete(f"{self.folder}/{name}")
            time.sleep(SETTLE_SECONDS)  # by then whoever had seen it has withdrawn, or somebody else has won
            if max(self.names(), default=0) >= number:
                return None
        raise StorageError(
            f"{self.storage.full(self.folder)}: {TRIES} small files in a row took more than {SETTLE_SECONDS:g} s to "
            "write, so nobody can tell who was first. Next: run the same command again once the store answers faster"
        )
