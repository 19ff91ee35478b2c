"""What is committed already: one listing per folder, made when the first unit of a space is asked about.

Storage is the truth: a unit counts as done when its record can be read and its files have the sizes that it says. So
a torn record and a data file that is gone or cut short both mean that the unit is made again. Records are read from
packs where there are any.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import chain

from hyperloom.pipeline.commits import packs
from hyperloom.pipeline.commits.listing import Listing
from hyperloom.pipeline.commits.packs import Packer
from hyperloom.pipeline.commits.records import Line, line_of, line_with, places_of
from hyperloom.pipeline.commits.retry import Key
from hyperloom.pipeline.commits.units import Unit, load_record
from hyperloom.pipeline.root.storage import Storage

THREADS = 16
"""Records read at once from an object store."""


class Committed:
    """The committed units of the spaces that are asked about, as they were at the first question about each. Records
    that lie in no pack go to the `packer`, if there is one."""

    def __init__(self, storage: Storage, packer: Packer | None = None):
        self.storage, self.packer = storage, packer
        self._records: dict[str, set[str]] = {}
        self._packs: dict[str, dict[str, bytes]] = {}
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

    def find(self, units: Sequence[Unit]) -> list[Line | None]:
        """The record of each unit that is committed and whole, as its line (pipeline.commits.records), else None. Data
        is not read."""
        listed = [u.key for u in units if self.has(u.space, u.id)]
        lines = self._whole((key, text) for key in listed if (text := self._packed(*key)) is not None)
        if len(lines) < len(listed):
            loose = self._whole(self._read([key for key in listed if key not in lines]))
            if self.packer is not None:
                for (space, _), line in loose.items():
                    self.packer.add(space, line.text)
            lines.update(loose)
        return [lines.get(u.key) for u in units]

    def _packed(self, space: str, id_: str) -> bytes | None:
        """The unit's line in a pack, once: a step asks for a unit once, and there may be a million."""
        if space not in self._packs:
            self._packs[space] = packs.load(self.storage, space)
        return self._packs[space].pop(id_, None)

    def _read(self, keys: list[Key]) -> list[tuple[Key, bytes]]:
        if self.storage.is_local or len(keys) < 4:
            records = [load_record(self.storage, *key) for key in keys]
        else:
            with ThreadPoolExecutor(THREADS) as threads:
                records = list(threads.map(lambda key: load_record(self.storage, *key), keys))
        return [(key, line_of(record).text) for key, record in zip(keys, records) if record is not None]

    def _whole(self, pairs: Iterable[tuple[Key, bytes]]) -> dict[Key, Line]:
        """Those whose files are there."""
        texts = dict(pairs)
        values = json.loads(b"[%s]" % b",".join(texts.values()))
        places = [places_of(key[0], value) for key, value in zip(texts, values)]
        lines = {key: line_with(text, value) for (key, text), value in zip(texts.items(), values)}
        if self._listing.lacks(chain.from_iterable(places)):
            return {key: line for (key, line), at in zip(lines.items(), places) if not self._listing.lacks(at)}
        return lines
