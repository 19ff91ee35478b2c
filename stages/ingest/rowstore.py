"""The rows of one table, kept as small as they came: a mapping for each is made when it is looked at.

A million rows of twenty cells take some 20 times their text as Python's objects. Parquet stays Arrow's columns, and of
those only what is looked at is read; CSV becomes columns of text; lines of JSON stay lines. What has any other form is
kept as it is. A row that could not be understood is the ValueError that says why.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import groupby
from typing import Any, Protocol

TableRow = dict[str, Any]
Fields = frozenset[str] | None
"""The fields that are looked at; None for all."""
BLOCK = 4096
"""Rows that are held as objects at a time."""


class TableRows(Protocol):
    """All rows of a table, in order."""

    def __len__(self) -> int: ...

    def names(self) -> list[str]:
        """The fields that any row has."""
        ...

    def each(self, fields: Fields = None) -> Iterator[TableRow | ValueError]:
        """All of them; of a row at least the `fields` that it has."""
        ...

    def at(self, places: Sequence[int], fields: Fields = None) -> list[TableRow | ValueError]:
        """Those at `places`, in that order."""
        ...


class PlainRows:
    """Rows that are objects already."""

    def __init__(self, rows: Sequence[TableRow | ValueError]):
        self._rows = rows

    def __len__(self) -> int:
        return len(self._rows)

    def names(self) -> list[str]:
        return list(dict.fromkeys(name for row in self.each() if not isinstance(row, ValueError) for name in row))

    def each(self, fields: Fields = None) -> Iterator[TableRow | ValueError]:
        return iter(self._rows)

    def at(self, places: Sequence[int], fields: Fields = None) -> list[TableRow | ValueError]:
        return [self._rows[i] for i in places]


class LineRows(PlainRows):
    """Lines, each of which `parse` understands by itself."""

    def __init__(self, lines: Sequence[str], parse: Callable[[str], TableRow | ValueError]):
        self._lines, self._parse = lines, parse

    def __len__(self) -> int:
        return len(self._lines)

    def each(self, fields: Fields = None) -> Iterator[TableRow | ValueError]:
        return map(self._parse, self._lines)

    def at(self, places: Sequence[int], fields: Fields = None) -> list[TableRow | ValueError]:
        return [self._parse(self._lines[i]) for i in places]


class ColumnRows:
    """An Arrow table, and which of its rows are none and why."""

    def __init__(self, table: Any, faults: dict[int, ValueError] | None = None):
        self._table, self._faults = table, faults or {}

    def __len__(self) -> int:
        return int(self._table.num_rows)

    def names(self) -> list[str]:
        return list(self._table.column_names)

    def each(self, fields: Fields = None) -> Iterator[TableRow | ValueError]:
        table, place = self._of(fields), 0
        for start in range(0, len(self), BLOCK):
            for row in table.slice(start, BLOCK).to_pylist():
                yield self._faults.get(place, row)
                place += 1

    def at(self, places: Sequence[int], fields: Fields = None) -> list[TableRow | ValueError]:
        table, some = self._of(fields), list[TableRow]()
        for _, run in groupby(enumerate(places), key=lambda one: one[1] - one[0]):
            following = [place for _, place in run]  # a slice copies nothing; `take` puts whole columns together
            some += table.slice(following[0], len(following)).to_pylist()
        return [self._faults.get(place, row) for place, row in zip(places, some, strict=True)]

    def _of(self, fields: Fields) -> Any:
        """The table with the `fields` alone, but never without a column: its rows would be gone."""
        if fields is None:
            return self._table
        return self._table.select([n for n in self.names() if n in fields] or self.names()[:1])


def text_rows(names: Sequence[str], rows: Iterable[list[str] | ValueError]) -> ColumnRows:
    """Rows of text, a cell for each of `names`, of which those without a name are left out."""
    import pyarrow as pa

    schema = pa.schema([(name, pa.large_string()) for name in names if name])
    kept = [i for i, name in enumerate(names) if name]
    blocks: list[Any] = []
    faults: dict[int, ValueError] = {}
    block: list[list[str]] = []

    def close() -> None:
        columns = [pa.array([row[i] for row in block], pa.large_string()) for i in kept]
        blocks.append(pa.record_batch(columns, schema=schema))
        block.clear()

    for place, row in enumerate(rows):
        if isinstance(row, ValueError):
            faults[place] = row
        block.append([""] * len(names) if isinstance(row, ValueError) else row)
        if len(block) == BLOCK:
            close()
    if block:
        close()
    return ColumnRows(pa.Table.from_batches(blocks, schema), faults)
