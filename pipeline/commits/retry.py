"""How often a unit may fail, and whose fault a failure is.

Two budgets, as a machine that dies says nothing of the work: *task* failures (exceptions, wrong output) and
*infrastructure* failures (worker, node, store, network), the latter with backoff. What cannot pass by itself is not
retried: a full or read-only disk and a mistake of the recipe end the step at once, and an error that follows from code
and data alone (`executor.REPEATABLE`) gives its unit up when the next attempt says the same.

Attempts are counted in storage before the work starts: one note for all that is sent in one turn of the pool,
`{step}/attempts/{seq}.json`, which is removed when all of it came back. So what a dead driver had in flight is known to
the next one, and a turn costs one request however many slots it feeds.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from hyperloom.pipeline.commits.units import Unit
from hyperloom.pipeline.errors import Torn
from hyperloom.pipeline.root.storage import Storage

Key = tuple[str, str]


@dataclass(frozen=True)
class Budget:
    """Attempts a unit has for its own failures, and deaths around it that are forgiven."""

    task: int = 3
    infrastructure: int = 20
    backoff: float = 0.5
    longest: float = 30.0

    def pause(self, deaths: int) -> float:
        """Seconds to wait before the next attempt after this many infrastructure failures in a row."""
        return min(self.longest, self.backoff * 2 ** max(0, deaths - 1)) if deaths else 0.0


@dataclass
class Tally:
    """Failures of one unit in this run, and starts that a dead driver left behind."""

    task: int = 0
    infrastructure: int = 0
    started: int = 0
    error: str = ""
    """The error of the last attempt, where it follows from the work alone."""

    @property
    def attempt(self) -> int:
        """The number of the next attempt, from 1."""
        return 1 + self.task + self.infrastructure + self.started


@dataclass
class Attempts:
    """The durable record of what is in flight for one step."""

    storage: Storage
    folder: str
    tallies: dict[Key, Tally] = field(default_factory=dict)
    _next: int = 0
    _groups: Counter[str] = field(default_factory=Counter)
    """By note: how many of its groups have not come back."""

    def load(self) -> None:
        """Count what a dead driver had in flight, and start numbering after it."""
        counts: Counter[Key] = Counter()
        for name in self.storage.names(self.folder):
            number = name.removesuffix(".json")
            self._next = max(self._next, int(number) + 1 if number.isdigit() else 0)
            try:
                counts.update(tuple(k) for k in self.storage.read_json(f"{self.folder}/{name}"))
            except (FileNotFoundError, Torn):
                continue
        self.tallies.update((key, Tally(started=count)) for key, count in counts.items())

    def of(self, key: Key) -> Tally:
        """What is counted against a unit; a fresh tally, which `keep` would keep, where there is nothing."""
        return self.tallies.get(key) or Tally()

    def keep(self, key: Key, tally: Tally) -> None:
        self.tallies[key] = tally

    def forget(self, key: Key) -> None:
        """The unit is done."""
        self.tallies.pop(key, None)

    def begin(self, groups: list[list[Unit]]) -> str:
        """Note that these groups of units start now; the returned name is for `end`, once for each."""
        path = f"{self.folder}/{self._next:08d}.json"
        self._next += 1
        self.storage.write_json(path, [u.key for group in groups for u in group])
        self._groups[path] = len(groups)
        return path

    def end(self, path: str) -> None:
        """One of the groups of a note came back, its units done or failed."""
        self._groups[path] -= 1
        if not self._groups[path]:
            del self._groups[path]
            self.storage.delete(path)

    def clear(self) -> None:
        """The step is finished: forget all attempts."""
        self.tallies.clear()
        if self.storage.names(self.folder):
            self.storage.delete(self.folder)
