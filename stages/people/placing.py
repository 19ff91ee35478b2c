"""Placing: in which partition the sample of each answer lies by now.

Its index says where it was when it went out. New samples that come before it move it, and other groups take it along:
then it is found by its key, which stays. Where that is nowhere, the sample is gone.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from hyperloom.pipeline.root.storage import Storage
from hyperloom.stages.base import KEY, Partition
from hyperloom.stages.catalogue import Catalogue
from hyperloom.stages.people.ledger import PeopleEntry
from hyperloom.stages.table import open_table, whole

_read: dict[str, frozenset[str]] = {}
"""The keys in tables that this process has read: their names hold digests of what is in them."""


class PlacedAnswers(NamedTuple):
    """The answers of each partition that has some, by index and key, of one sample the last word last; and how many are
    of samples that are gone."""

    partitions: list[tuple[Partition, list[PeopleEntry]]]
    gone: int


def placed(storage: Storage, answers: Iterable[PeopleEntry], offered: Catalogue) -> PlacedAnswers:
    """Where `answers`, in the order in which they were given, lie in what is offered. Keys are read of partitions with
    answers, and of others only for answers that have moved. Raises StorageError."""
    keys = _Keys(storage, offered)
    groups: dict[str, list[int]] = {}
    for number, partition in enumerate(offered.partitions):
        groups.setdefault(partition.group, []).append(number)
    firsts = {group: [offered.partitions[n].first for n in numbers] for group, numbers in groups.items()}
    entries = list(answers)
    places = [_by_index(groups.get(e.group, ()), firsts.get(e.group, ()), e.index) for e in entries]
    moved = {e.key: e.group for e, place in zip(entries, places, strict=True) if not keys.holds(place, e.key)}
    now_at = keys.places(moved, [n for group in dict.fromkeys(moved.values()) for n in groups.get(group, ())])
    by_partition: dict[int, list[PeopleEntry]] = {}
    gone = 0
    for entry, place in zip(entries, places, strict=True):
        now = now_at.get(entry.key) if entry.key in moved else place
        if now is None:
            gone += 1
        else:
            by_partition.setdefault(now, []).append(entry)
    ordered = [(offered.partitions[n], _by_sample(by_partition[n])) for n in sorted(by_partition)]
    return PlacedAnswers(ordered, gone)


def _by_sample(entries: Sequence[PeopleEntry]) -> list[PeopleEntry]:
    """A sample's answers together, where it was when the last of them went out: it may have been elsewhere before."""
    indices = {e.key: e.index for e in entries}
    return sorted(entries, key=lambda e: (indices[e.key], e.key))


def _by_index(numbers: Sequence[int], firsts: Sequence[int], index: int) -> int | None:
    """The one of a group's partitions, given by number and first index, in which an index lies; None before all."""
    place = bisect_right(firsts, index) - 1
    return numbers[place] if place >= 0 else None


class _Keys:
    """The keys of partitions, each read once."""

    def __init__(self, storage: Storage, offered: Catalogue):
        self._storage, self._offered = storage, offered
        self._known: dict[int, frozenset[str] | None] = {}

    def of(self, number: int) -> frozenset[str] | None:
        """None of a partition that is not made yet."""
        if number not in self._known:
            record = self._offered.ingested(self._offered.partitions[number].pid)
            path = record.file.path if record is not None and record.files else ""
            self._known[number] = _keys_at(self._storage, path) if path else None
        return self._known[number]

    def holds(self, number: int | None, key: str) -> bool:
        """Does a partition hold a key? One that is not made yet is taken to."""
        return number is not None and ((keys := self.of(number)) is None or key in keys)

    def places(self, keys: Iterable[str], first: Sequence[int]) -> dict[str, int]:
        """Key -> the number of its partition, looked for in those that are named `first`."""
        left, places = set(keys), dict[str, int]()
        for number in dict.fromkeys([*first, *range(len(self._offered.partitions))]):
            if not left:
                break
            here = left & (self.of(number) or frozenset())
            places |= dict.fromkeys(here, number)
            left -= here
        return places


def _keys_at(storage: Storage, path: str) -> frozenset[str]:
    """Planning asks for them, so the pages of this column are compared with their checksums, not the whole file with
    its name. Raises IntegrityError."""
    name = storage.full(path)
    if name not in _read:
        with open_table(storage, path, checked=True) as file, whole(storage, path):
            _read[name] = frozenset(file.read(columns=[KEY], use_threads=False)[KEY].to_pylist())
    return _read[name]
