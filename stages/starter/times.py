"""Times: cells that are dates, and the periods into which they part a table's rows, so that the newest are held out.

Rows that lie near each other in time are alike, and what is wanted of a model is what comes next: a split by chance
shows a training rows from after those that it is judged on. A period is what dates begin with (year, month, day, hour).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime

from hyperloom.stages.ingest.parts import owner
from hyperloom.stages.ingest.rowstore import TableRow

FORMATS = tuple(f"{day}{clock}" for day in ("%d.%m.%Y", "%Y/%m/%d", "%d/%m/%Y", "%m/%d/%Y")
                for clock in ("", " %H:%M", " %H:%M:%S"))  # fmt: skip
PERIODS = {4: "years", 7: "months", 10: "days", 13: "hours", 16: "minutes"}
"""Letters of a date that say a period; of dates that begin with the day, days alone."""
FEWEST, MOST = 5, 400
SHARE, LARGEST = 0.2, 0.4
"""Of the rows with a value this share at least is held out, and never more than the other."""


def times(cells: Sequence[str]) -> list[datetime] | None:
    """The instants that the cells say; None where one says none, or day and month cannot be told apart."""
    readings = [found for form in ("", *FORMATS) if (found := _read(cells, form)) is not None]
    return readings[0] if len(readings) == 1 else None


def period(content: Sequence[TableRow], field: str, target: str) -> tuple[str, list[str], int] | None:
    """How rows are grouped by a field of dates (`when[:7]`), the newest periods that together have enough rows with a
    value to learn, and how many these are. None where no length of periods does."""
    rows = [row for row in content if row.get(field) not in (None, "") and row.get(target) not in (None, "")]
    instants = times([str(row[field]) for row in rows]) if rows else None
    if instants is None:
        return None
    for letters in PERIODS if str(rows[0][field])[:4].isdecimal() else (10,):
        group = f"{field}[:{letters}]"
        names = [owner(row, group) for row in rows]
        counts = Counter(names)
        if not FEWEST <= len(counts) <= MOST or any(len(str(row[field])) < letters for row in rows):
            continue
        newest = dict(sorted(zip(instants, names, strict=True)))  # of each instant
        order = list(dict.fromkeys(reversed(list(newest.values()))))
        held, count = [], 0
        for name in order:
            if count >= SHARE * len(rows):
                break
            held.append(name)
            count += counts[name]
        if count <= LARGEST * len(rows):
            return group, sorted(held), count
    return None


def word(group: str) -> str:
    """What the groups of `when[:7]` are: months."""
    return PERIODS[int(group.rpartition(":")[2].rstrip("]"))]


def _read(cells: Sequence[str], form: str) -> list[datetime] | None:
    try:
        each = [datetime.strptime(c.strip(), form) if form else datetime.fromisoformat(c.strip()) for c in cells]
    except ValueError:
        return None
    return [t if t.tzinfo else t.replace(tzinfo=UTC) for t in each]
