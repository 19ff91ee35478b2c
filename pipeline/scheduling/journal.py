"""The journal of a schedule: what happened, one entry a link of a chain (pipeline.root.chain),
`{root}/schedules/{name}/`.

An entry holds the event and the standing after it, so that one read tells where a schedule stands. Who appends had to
know all that came before: of several that append at once one succeeds, and the others read again. So a slot is decided
once, is started by one at a time and ends once, whoever dies or sleeps in between. Nothing is ever overwritten; entries
are removed only when KEPT newer ones are there.

Kinds of entries: `add`, `pause`, `resume`, `remove`; `slot` (a decision), `start` (somebody runs it), `leave` (it must
be started again), `end`.
"""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, Literal

from hyperloom.pipeline import plain
from hyperloom.pipeline.errors import IntegrityError
from hyperloom.pipeline.host import process
from hyperloom.pipeline.recipes.timetable import text
from hyperloom.pipeline.root.chain import Chain
from hyperloom.pipeline.root.storage import Storage

FOLDER = "schedules"
KEPT = 10_000
TRIMMED = 100
"""Every so many entries old ones are looked for."""


@dataclass(frozen=True)
class DueSlot:
    """A slot that is to run. `starts` counts all starts, `tries` those that cost it one; `by` is who started it last,
    None once that one has left it."""

    slot: str
    run: str
    job: str
    why: str
    starts: int = 0
    tries: int = 0
    by: dict[str, Any] | None = None


@dataclass(frozen=True)
class Standing:
    """Where a schedule stands. `through`: the last instant whose slots are settled; `ran`: the last slot that was to
    run; `base`: source -> its identity when a run last ended well."""

    status: Literal["active", "paused", "removed"]
    through: str
    ran: str = ""
    base: dict[str, str] = field(default_factory=dict)
    open: DueSlot | None = None
    number: int = 0
    """Of the entry after which this holds."""
    recipe: str = ""
    """The path of the recipe that added it."""


@dataclass(frozen=True)
class JournalEntry:
    """What happened: `at` is the writer's clock (UTC), `about` what belongs to the kind."""

    number: int
    at: str
    kind: str
    about: dict[str, Any]
    by: dict[str, Any]


class Journal:
    """The journal of the schedule `name` under a root."""

    def __init__(self, storage: Storage, name: str):
        self.storage, self.name = storage, name
        self._chain = Chain(storage, f"{FOLDER}/{name}")

    def standing(self) -> Standing | None:
        """The present one; None where nothing was ever added. Raises IntegrityError, StorageError."""
        link = self._chain.last()
        if link is None:
            return None
        value = self._parsed(link.name, link.data)["standing"]
        opened = value.pop("open")
        return Standing(open=DueSlot(**opened) if opened else None, **value)

    def append(self, before: Standing | None, after: Standing, kind: str, **about: Any) -> Standing | None:
        """Add an entry after the standing `before`; the new standing, or None where somebody was faster."""
        number = before.number if before else 0
        after = replace(after, number=number + 1)
        entry = {
            "number": number + 1,
            "at": text(datetime.fromtimestamp(time.time(), UTC)),
            "kind": kind,
            "about": about,
            "by": {**process.this(), "token": uuid.uuid4().hex},
            "standing": asdict(after),
        }
        if self._chain.append(number, plain.dumps(entry, sort_keys=True).encode()) is None:
            return None
        if after.number % TRIMMED == 0:
            self._chain.trim(after.number - KEPT)
        return after

    def entries(self) -> Iterator[JournalEntry]:
        """All entries, the newest first. Raises IntegrityError, StorageError."""
        for _, name in sorted(self._chain.names().items(), reverse=True):
            value = self._parsed(name, self._chain.read(name))
            yield JournalEntry(**{k: v for k, v in value.items() if k != "standing"})

    def _parsed(self, name: str, data: bytes) -> dict[str, Any]:
        try:
            value = json.loads(data)
            value["standing"]["open"]
            return value
        except (ValueError, KeyError, TypeError) as error:
            raise IntegrityError(
                f"{self.storage.full(f'{FOLDER}/{self.name}/{name}')} is no entry of a schedule's journal ({error}). "
                "Next: hyperloom verify --repair; what it says is then decided again"
            ) from error


def names(storage: Storage) -> list[str]:
    """The schedules that were ever added under a root."""
    return storage.names(FOLDER)
