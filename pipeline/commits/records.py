"""Records in bulk: what a step with a million units keeps of each while it runs, and what its manifest holds.

A record is kept as its *line*: the bytes of a short JSON list. It becomes a `Record` when it is looked at, and whoever
asks all of them for one thing (sums, files) goes through the lines without making any. What follows from the rest (the
folder and most of the name of a data file) is left out of the line. Places may be filled in any order, since units end
in any order; the order is that of places.

    ["<id>",<rows>,[["<.suffix or path>",<bytes>,"<sha256>"],..],<quarantined>,{<meta>}]
"""

from __future__ import annotations

import json
from array import array
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from operator import add
from typing import Any, NamedTuple, overload

from hyperloom.pipeline import plain
from hyperloom.pipeline.commits.units import File, Record, data_name, data_path

GAP = b""
AT_ONCE = 1024
"""Lines that are parsed in one go."""


FilePlace = tuple[str, str, int]
"""Where a file must lie, and how long it must be: its folder relative to the root, its name there, bytes."""


class Counts(NamedTuple):
    """Of the records of one space: `rows` are good samples, `quarantined` those left out, `bytes` of all files."""

    records: int
    rows: int
    quarantined: int
    bytes: int


class Line(NamedTuple):
    """A record's line, and what `Counts` adds up of it: good samples, those left out, bytes of all files."""

    text: bytes
    rows: int
    quarantined: int
    bytes: int


class Records(Sequence[Record]):
    """A sequence of records. Two sequences are equal when their records are."""

    def __init__(self, records: Iterable[Record] = ()):
        self._lines: list[bytes] = []
        self._spaces: dict[str, int] = {}
        self._space_of = array("I")
        self.filled = 0
        """Places that are filled: all of them once a step is done."""
        self._names: list[str] = []
        self._sums: list[list[int]] | None = []
        """`Counts` of each space so far; None once something was replaced or came without them."""
        self._short = array("L")
        self.extend(records)

    # -- filling -----------------------------------------------------------------------------------------------------
    def append(self, record: Record) -> None:
        self.put(len(self._lines), record)

    def extend(self, records: Iterable[Record]) -> None:
        """Add records to the end. Lines are shared, not copied."""
        if not isinstance(records, Records):
            for record in records:
                self.append(record)
            return
        numbers = [self._spaces.setdefault(space, len(self._spaces)) for space in records._spaces]
        self._lines += records._lines
        self._space_of.extend(numbers[n] for n in records._space_of)
        self.filled += records.filled
        self._sums = None

    def put(self, place: int, record: Record) -> None:
        """Keep the record at `place`, which may lie beyond the end; one that is there already is replaced."""
        self.put_line(place, record.space, line_of(record))

    def put_line(self, place: int, space: str, line: Line) -> None:
        """Keep a record that is packed already."""
        number = self._spaces.setdefault(space, len(self._spaces))
        if place == len(self._lines):
            self._lines.append(line.text)
            self._space_of.append(number)
            self.filled += 1
        else:
            while len(self._lines) <= place:
                self._lines.append(GAP)
                self._space_of.append(0)
            if self._lines[place] is not GAP:
                self._sums = None
            self.filled += self._lines[place] is GAP
            self._lines[place], self._space_of[place] = line.text, number
        self._add(place, number, line)

    def put_lines(self, place: int, space: str, lines: Sequence[Line]) -> None:
        """Keep many records of one space from `place` on, where and behind which nothing is kept yet."""
        number = self._spaces.setdefault(space, len(self._spaces))
        gaps = place - len(self._lines)
        self._lines += [GAP] * gaps
        self._space_of.extend([0] * gaps)
        self._lines += [line.text for line in lines]
        self._space_of.extend([number] * len(lines))
        self.filled += len(lines)
        if self._sums is not None and lines:
            _, rows, quarantined, sizes = zip(*lines)
            self._count(number, len(lines), sum(rows), sum(quarantined), sum(sizes))
            self._short.extend(at for at, count in enumerate(quarantined, place) if count)

    def _add(self, place: int, number: int, line: Line) -> None:
        if self._sums is not None:
            self._count(number, 1, *line[1:])
            if line.quarantined:
                self._short.append(place)

    def _count(self, number: int, *more: int) -> None:
        """Add to the counts of a space."""
        assert self._sums is not None
        while len(self._sums) <= number:
            self._sums.append([0, 0, 0, 0])
        self._sums[number] = list(map(add, self._sums[number], more))

    # -- one by one --------------------------------------------------------------------------------------------------
    def __len__(self) -> int:
        return len(self._lines)

    @overload
    def __getitem__(self, at: int) -> Record: ...
    @overload
    def __getitem__(self, at: slice) -> list[Record]: ...
    def __getitem__(self, at: int | slice) -> Record | list[Record]:
        if isinstance(at, slice):
            return [self[i] for i in range(*at.indices(len(self)))]
        return _record(self.names[self._space_of[at]], json.loads(self._lines[at].decode()))

    def key(self, at: int) -> tuple[str, str]:
        """Space and id of one record, without a look at the rest."""
        return self.names[self._space_of[at]], id_of(self._lines[at])

    @property
    def names(self) -> list[str]:
        """The spaces, by their numbers."""
        if len(self._names) != len(self._spaces):
            self._names = list(self._spaces)
        return self._names

    def __iter__(self) -> Iterator[Record]:
        return (_record(space, value) for space, value in self._values())

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Sequence) or len(other) != len(self):
            return NotImplemented if not isinstance(other, Sequence) else False
        return all(a == b for a, b in zip(self, other))

    __hash__ = None  # type: ignore[assignment]  # it grows

    def __repr__(self) -> str:
        return f"Records({list(self)!r})"

    # -- all at once -------------------------------------------------------------------------------------------------
    def blocks(self) -> Iterator[tuple[str, list[bytes]]]:
        """The lines in their order, some of one space at a time."""
        spaces = self.names
        for start in range(0, len(self._lines), AT_ONCE):
            numbers, lines = self._space_of[start : start + AT_ONCE], self._lines[start : start + AT_ONCE]
            if numbers.count(numbers[0]) == len(numbers):
                yield spaces[numbers[0]], lines
            else:
                yield from ((spaces[number], [line]) for number, line in zip(numbers, lines))

    def counts(self) -> dict[str, Counts]:
        """By space: how many records, samples, samples left out and bytes."""
        if self._sums is None:
            for _ in self.places():
                pass
        return {space: Counts(*at) for space, at in zip(self.names, self._sums or ()) if at[0]}

    def places(self) -> Iterator[FilePlace]:
        """Of all files."""
        spaces = self.names
        sums = [[0, 0, 0, 0] for _ in spaces]
        short = array("L")
        for i, (number, value) in enumerate(zip(self._space_of, self._parsed())):
            at = sums[number]
            if value[3]:
                short.append(i)
            at[0] += 1
            at[1] += value[1]
            at[2] += value[3]
            for place in places_of(spaces[number], value):
                at[3] += place[2]
                yield place
        self._sums, self._short = sums, short

    def with_quarantine(self) -> Iterator[Record]:
        """The records of units that left samples out."""
        self.counts()
        return (self[i] for i in sorted(self._short))

    def _values(self) -> Iterator[tuple[str, list[Any]]]:
        spaces = self.names
        return ((spaces[number], value) for number, value in zip(self._space_of, self._parsed()))

    def _parsed(self) -> Iterator[list[Any]]:
        lines = iter(self._lines)
        while part := list(islice(lines, AT_ONCE)):
            yield from json.loads(b"[%s]" % b",".join(part))


class RecordReader:
    """Takes records from the lines of a manifest: `  [<number of the space>,<the rest of the record's line>`, and a
    comma or nothing."""

    def __init__(self) -> None:
        self._lines: list[bytes] = []
        self._numbers = array("I")

    def take(self, line: bytes) -> None:
        """Raises ValueError and OverflowError for a line that begins otherwise."""
        end = line.index(b",")
        self._numbers.append(int(line[3:end]))
        self._lines.append(b"[" + line[end + 1 :].rstrip(b",\n"))

    def end(self, spaces: list[str]) -> Records:
        """The records, once it is known which spaces the numbers mean. Raises ValueError."""
        if self._numbers and max(self._numbers) >= len(spaces):
            raise ValueError(f"a record is of space {max(self._numbers)} of {len(spaces)}")
        records = Records()
        records._lines, records._space_of, records.filled = self._lines, self._numbers, len(self._lines)
        records._sums = None
        records._spaces = {space: number for number, space in enumerate(spaces)}
        return records


def line_of(record: Record) -> Line:
    """The line of a record."""
    return Line(_packed(record), record.rows, record.quarantined, sum(f.bytes for f in record.files))


def line_with(text: bytes, value: list[Any]) -> Line:
    """The line of this text, which was parsed to `value`."""
    return Line(text, value[1], value[3], sum(size for _, size, _ in value[2]))


def _packed(record: Record) -> bytes:
    files = [[_short(record, f), f.bytes, f.sha256] for f in record.files]
    value = [record.id, record.rows, files, record.quarantined, record.meta]
    return plain.dumps(value, sort_keys=True, separators=(",", ":")).encode()


def id_of(line: bytes) -> str:
    """The unit's id in a record's line."""
    name = line[2 : line.index(b'"', 2)]
    return json.loads(line)[0] if b"\\" in name else name.decode()


def places_of(space: str, value: list[Any]) -> list[FilePlace]:
    """Places of the files of a parsed line."""
    return [
        (f"{space}/data", data_name(value[0], sha, name[1:]), size) if name[0] == "." else (*_split(name), size)
        for name, size, sha in value[2]
    ]


def place(file: File) -> FilePlace:
    """Where a file must lie."""
    return *_split(file.path), file.bytes


def _split(path: str) -> tuple[str, str]:
    folder, _, name = path.rpartition("/")
    return folder, name


def _record(space: str, value: list[Any]) -> Record:
    id_, rows, files, quarantined, meta = value
    paths = [data_path(space, id_, sha, name[1:]) if name[0] == "." else name for name, _, sha in files]
    whole = tuple(File(path, size, sha) for path, (_, size, sha) in zip(paths, files))
    return Record(space, id_, rows, whole, quarantined, meta)


def _short(record: Record, file: File) -> str:
    """`.suffix` of a file whose path follows from the record, else the path."""
    suffix = file.path.rpartition(".")[2]
    return f".{suffix}" if file.path == data_path(record.space, record.id, file.sha256, suffix) else file.path
