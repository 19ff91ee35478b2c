"""Parts: groups of rows that no field names as it stands: dealt by a hash of their key, so that some can be held out,
or those whose field begins alike, such as all of one month (`when[:7]`)."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from typing import Any

from hyperloom.stages.ingest.source import path_safe

BEGINNING = re.compile(r"(?P<field>.+)\[:(?P<first>[1-9]\d*)\]")


def part_of(key: str, parts: int) -> str:
    """The group of the sample `key` among so many."""
    place = int(hashlib.sha256(key.encode()).hexdigest()[:8], 16) * parts >> 32
    return f"part-{place:0{len(str(parts - 1))}}"


def identity(
    row: Mapping[str, Any], table: str, number: int, key: str = "", group: str = "", parts: int = 0
) -> tuple[str, str]:
    """Key and group of row `number` of a table that is called `table`: what its fields `key` and `group` say. The key
    of one without is its number; its group one of so many `parts`, else the table."""
    name = f"{table}/{number:06d}"
    if key and row.get(key) not in (None, ""):
        name = str(row[key])
    if group:
        return name, owner(row, group)
    return name, part_of(name, parts) if parts else path_safe(table)


def field_of(group: str) -> str:
    """The field that `group` reads: itself, or what stands before `[:n]`."""
    return _parsed(group)[0]


def owner(row: Mapping[str, Any], group: str) -> str:
    """The group of a row: what its field says, or the first letters of that."""
    field, letters = _parsed(group)
    value = row.get(field)
    return "none" if value in (None, "") else path_safe(str(value)[:letters])


def _parsed(group: str) -> tuple[str, int | None]:
    """The field that `group` reads, and how many of its first letters; None for all of them."""
    beginning = BEGINNING.fullmatch(group)
    return (beginning["field"], int(beginning["first"])) if beginning else (group, None)
