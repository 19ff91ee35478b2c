"""Times: cells that are dates, and the periods into which they part a table's rows, so that the newest are held out.

Rows that lie near each other in time are alike, and what is wanted of a model is what comes next: a split by chance
shows a training rows from after those that it is judged on. A period is what dates begin with (year, month, week,
day, hour, minute) or, where their beginning says none, the date as it is written.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from itertools import groupby
from typing import TYPE_CHECKING

from hyperloom.stages.ingest.parts import owner
from hyperloom.stages.ingest.rowstore import TableRow

if TYPE_CHECKING:
    from hyperloom.stages.starter.fields import TableField

FORMATS = tuple(f"{day}{clock}" for day in ("%d.%m.%Y", "%Y/%m/%d", "%d/%m/%Y", "%m/%d/%Y")
                for clock in ("", " %H:%M", " %H:%M:%S"))  # fmt: skip
PERIODS = {4: "years", 7: "months", 8: "weeks", 10: "days", 13: "hours", 16: "minutes"}
BEGINNINGS = {
    r"\d{4}-W\d\d-\d": (4, 8, 10), r"\d{4}-W\d\d": (4, 8), r"\d{4}[-/]\d\d[-/]\d\d": (4, 7, 10, 13, 16),
    r"\d{4}[-/]": (4,), r"\d\d[./]\d\d[./]\d{4}": (10,),
}  # fmt: skip
"""By how dates begin, how many letters say a period; of such as 1/15/2026 none, and all of the text says it."""
FEWEST, MOST = 5, 400
SHARE, LARGEST = 0.2, 0.4
"""Of the rows with a value this share at least is held out, and never more than the other."""


def times(cells: Sequence[str]) -> list[datetime] | None:
    """The instants that the cells say; None where one says none, or day and month cannot be told apart."""
    readings = [times for form in ("", *FORMATS) if (times := _read(cells, form)) is not None]
    return readings[0] if len(readings) == 1 else None


def period(content: Sequence[TableRow], when: TableField, target: TableField) -> tuple[str, list[str], int] | str:
    """How rows are grouped by a field of dates (`when[:7]`, or `when` by all of its text), the newest periods that
    together have enough rows with a value to learn, and how many these are; or why no period will do."""
    rows = [row for row in content if when.among(row) and target.among(row)]
    cells = [str(row[when.name]) for row in rows]
    instants = times(cells) if rows else None
    if instants is None:
        return f"no row with {target.name} has one"
    counts: dict[str, int] = {}
    groups = _groups(when.name, cells)
    for group in groups:
        names = [owner(row, group) for row in rows]
        order = [name for name, _ in groupby(name for _, name in sorted(zip(instants, names, strict=True)))]
        if len(set(order)) < len(order):
            continue  # not one stretch of time each
        counts[group] = len(order)
        if FEWEST <= len(order) <= MOST and (newest := _newest(order, Counter(names))):
            return group, *newest
    return _why(counts, len(counts) < len(groups))


def word(group: str) -> str:
    """What the groups of `when[:7]` are: months."""
    return PERIODS[int(group.rpartition(":")[2].rstrip("]"))] if group.endswith("]") else "dates"


def _groups(field: str, cells: Sequence[str]) -> list[str]:
    """What may group rows with these dates, long periods first."""
    alike = (letters for form, letters in BEGINNINGS.items() if all(re.match(form, cell) for cell in cells))
    shortest = min(map(len, cells))
    return [*(f"{field}[:{n}]" for n in next(alike, ()) if n <= shortest), field]


def _newest(order: Sequence[str], counts: Mapping[str, int]) -> tuple[list[str], int] | None:
    """The last of the periods that have enough rows, and how many; None where these are too many."""
    held: list[str] = []
    while sum(counts[name] for name in held) < SHARE * sum(counts.values()):
        held.append(order[-1 - len(held)])
    count = sum(counts[name] for name in held)
    return (sorted(held), count) if count <= LARGEST * sum(counts.values()) else None


def _why(counts: Mapping[str, int], mixed: bool) -> str:
    """Why rows are not parted by the periods that they fall into, of which there are so many by each grouping. `mixed`:
    do the periods of other groupings lie in one another?"""
    if max(counts.values(), default=0) < FEWEST:
        return "they part these rows into too few"
    if min(counts.values()) > MOST:
        kind = word(min(counts, key=lambda group: counts[group]))
        why = "no beginning of their text says a longer period, as that of 2026-01-31 says its month"
        if mixed:
            why = "the order of their text is not that of their times, as where they are of several time zones"
        return f"they are more than {MOST} {kind}, and {why}"
    return f"by no period that their text says are the newest {SHARE:.0%} to {LARGEST:.0%} of these rows parted off"


def _read(cells: Sequence[str], form: str) -> list[datetime] | None:
    try:
        each = [datetime.strptime(c.strip(), form) if form else datetime.fromisoformat(c.strip()) for c in cells]
    except ValueError:
        return None
    return [t if t.tzinfo else t.replace(tzinfo=UTC) for t in each]
