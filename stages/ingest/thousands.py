"""Thousands: do the marks that a table's numbers have mark their fractions, or their thousands?

`1.234` is one number to some and another to others. Where some cells of a field have no mark, and those that have it
have three digits behind each time, they are no fractions by chance: whoever writes three digits writes them everywhere,
and whoever leaves zeros out has fractions of other lengths.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from hyperloom.stages.ingest.cell import Cell
from hyperloom.stages.ingest.numerals import HEAD
from hyperloom.stages.remarks import remark

FEW = 3
"""Marked cells below which nothing is said."""


class MarkedNumbers:
    """Of the fields of a table, by name with what the recipe says of their cells; rows are looked at one after the
    other. `mark` is that of fractions."""

    def __init__(self, cells: Mapping[str, Cell], mark: str):
        self.mark = mark
        self._marked = re.compile(rf"{HEAD}{re.escape(mark)}\d{{3}}")
        self._cells = cells
        self._open = {name: [0, 0] for name in cells}
        """Fields that may be such, with their cells with a mark and without."""
        self._first: dict[str, str] = {}

    def look(self, row: Mapping[str, Any], absent: Callable[[Cell, Any], bool]) -> None:
        """At the cells of a row; those of which `absent` is true say nothing."""
        over = []
        for name, counts in self._open.items():
            value = row.get(name)
            if value is None or value == "" or absent(self._cells[name], value):
                continue
            text = value.strip() if isinstance(value, str) else ""
            digits = text.lstrip("+-")
            if len(digits) <= 3 and digits.isdecimal():
                counts[1] += 1
            elif self._marked.fullmatch(text):
                counts[0] += 1
                self._first.setdefault(name, text)
            else:
                over.append(name)
        for name in over:
            del self._open[name]

    def doubtful(self) -> dict[str, tuple[int, int]]:
        """The fields whose marks look like those of thousands: how many cells have one, and how many have none."""
        return {name: (n, rest) for name, (n, rest) in self._open.items() if n >= FEW and rest}

    def say(self) -> None:
        """What the recipe may have to say."""
        for name, (marked, rest) in self.doubtful().items():
            other = "," if self.mark == "." else "."
            what = f"{name}: {self._first[name]} and {marked - 1} more cells have three digits behind the {self.mark!r}"
            remark(
                f"{what}, and {rest} are small whole numbers. They are taken for fractions; if they are thousands: "
                f'thousands: "{self.mark}" with decimal: "{other}" on the source'
            )
