"""Records in bulk: what a step with a hundred thousand units keeps of each while it runs, and what its manifest holds.

A record is kept as the bytes of one short JSON line and becomes a `Record` when it is looked at, which costs a few
microseconds and saves most of a kilobyte. What follows from the rest (the folder and most of the name of a data file)
is left out of the line. Places may be filled in any order, since units end in any order; the order is that of places.
"""

from __future__ import annotations

import json
from array import array
from collections.abc import Iterable, Iterator, Sequence
from typing import overload

from hyperloom.pipeline.units import File, Record, data_path

GAP = b""


class Records(Sequence[Record]):
    """A sequence of records. Two sequences are equal when their records are."""

    def __init__(self, records: Iterable[Record] = ()):
        self._lines: list[bytes] = []
        self._spaces: dict[str, int] = {}
        self._space_of = array("I")
        self.filled = 0
        """Places that are filled: all of them once a step is done."""
        self.extend(records)

    def append(self, record: Record) -> None:
        self.put(len(self._lines), record)

    def extend(self, records: Iterable[Record]) -> None:
        """Add records to the end. Packed ones are shared, not copied."""
        if not isinstance(records, Records):
            for record in records:
                self.append(record)
            return
        numbers = [self._spaces.setdefault(space, len(self._spaces)) for space in records._spaces]
        self._lines += records._lines
        self._space_of.extend(numbers[n] for n in records._space_of)
        self.filled += records.filled

    def put(self, place: int, record: Record) -> None:
        """Keep the record at `place`, which may lie beyond the end; one that is there already is replaced."""
        while len(self._lines) <= place:
            self._lines.append(GAP)
            self._space_of.append(0)
        self.filled += self._lines[place] is GAP
        self._lines[place] = _packed(record)
        self._space_of[place] = self._spaces.setdefault(record.space, len(self._spaces))

    def __len__(self) -> int:
        return len(self._lines)

    @overload
    def __getitem__(self, at: int) -> Record: ...
    @overload
    def __getitem__(self, at: slice) -> list[Record]: ...
    def __getitem__(self, at: int | slice) -> Record | list[Record]:
        if isinstance(at, slice):
            return [self[i] for i in range(*at.indices(len(self)))]
        return _unpacked(list(self._spaces)[self._space_of[at]], self._lines[at])

    def __iter__(self) -> Iterator[Record]:
        spaces = list(self._spaces)
        return (_unpacked(spaces[space], line) for space, line in zip(self._space_of, self._lines))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Sequence) or len(other) != len(self):
            return NotImplemented if not isinstance(other, Sequence) else False
        return all(a == b for a, b in zip(self, other))

    __hash__ = None  # type: ignore[assignment]  # it grows

    def __repr__(self) -> str:
        return f"Records({list(self)!r})"


def _packed(record: Record) -> bytes:
    files = [[_short(record, f), f.bytes, f.sha256] for f in record.files]
    value = [record.id, record.rows, files, record.quarantined, record.meta]
    return json.dumps(value, separators=(",", ":")).encode()


def _unpacked(space: str, line: bytes) -> Record:
    id_, rows, files, quarantined, meta = json.loads(line)
    paths = [data_path(space, id_, sha, name[1:]) if name[0] == "." else name for name, _, sha in files]
    whole = tuple(File(path, size, sha) for path, (_, size, sha) in zip(paths, files))
    return Record(space, id_, rows, whole, quarantined, meta)


def _short(record: Record, file: File) -> str:
    """`.suffix` of a file whose path follows from the record, else the path."""
    suffix = file.path.rpartition(".")[2]
    return f".{suffix}" if file.path == data_path(record.space, record.id, file.sha256, suffix) else file.path
