"""What is committed already: one listing per folder, made when the first unit of a space is asked about.

Storage is the truth: a unit counts as done when its record can be read and its files have the sizes that it says. So
a torn record and a data file that is gone or cut short both mean that the unit is made again.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from hyperloom.pipeline.listing import Listing
from hyperloom.pipeline.storage import Storage
from hyperloom.pipeline.units import Record, Unit, load_record

THREADS = 16
"""Records read at once from an object store."""


class Committed:
    """The committed units of the spaces that are asked about, as they were at the first question about each."""

    def __init__(self, storage: Storage):
        self.storage = storage
        self._records: dict[str, set[str]] = {}
        self._listing = Listing(storage)

    def has(self, space: str, id_: str) -> bool:
        """Is there a record of this unit? Looks at the listing alone."""
        if space not in self._records:
            self._records[space] = {name.removesuffix(".json") for name in self.storage.names(f"{space}/units")}
        return id_ in self._records[space]

    def note(self, space: str, id_: str) -> None:
        """This unit was committed meanwhile."""
        if space in self._records:
            self._records[space].add(id_)

    def find(self, units: Sequence[Unit]) -> list[Record | None]:
        """The record of each unit that is committed and whole, else None. Records are read, data is not."""
        listed = [u.key for u in units if self.has(u.space, u.id)]
        if self.storage.is_local or len(listed) < 4:
            read = [load_record(self.storage, *key) for key in listed]
        else:
            with ThreadPoolExecutor(THREADS) as threads:
                read = list(threads.map(lambda key: load_record(self.storage, *key), listed))
        records = {(r.space, r.id): r for r in read if r is not None and not self._listing.lacks(r.files)}
        return [records.get(u.key) for u in units]
