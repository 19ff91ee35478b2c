"""Parts: groups of rows that no field names as it stands: dealt by a hash of their key, so that some can be held out,
or those whose field begins alike, such as all of one month (`when[:7]`)."""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Mapping
from typing import Any

from hyperloom.stages.ingest.source import path_safe
from hyperloom.stages.remarks import remark

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
    name = _said(row, group)
    return path_safe(name) if name else "none"


class Namesakes:
    """Groups whose names differ by blanks, capitals or how their accents are written, which are likely one: a split may
    cut them in two."""

    def __init__(self, group: str):
        self._group = group
        self._first: dict[str, str] = {}
        self._others: dict[str, str] = {}

    def look(self, row: Mapping[str, Any]) -> None:
        name = _said(row, self._group)
        plain = " ".join(unicodedata.normalize("NFKC", name).casefold().split())
        if self._first.setdefault(plain, name) != name:
            self._others.setdefault(plain, name)

    def say(self) -> None:
        """At most one sentence."""
        for plain, other in sorted(self._others.items())[:1]:
            more = f" (and {len(self._others) - 1} more)" if len(self._others) > 1 else ""
            both = f"{self._first[plain]!r} and {other!r}{more}"
            remark(
                f"group: {self._group}: {both} are groups of their own, which a split may lay on both sides; if they "
                "are one, write them alike in the table"
            )


def _said(row: Mapping[str, Any], group: str) -> str:
    """What the field of a group says of a row; empty for nothing."""
    field, letters = _parsed(group)
    value = row.get(field)
    return "" if value in (None, "") else str(value)[:letters]


def _parsed(group: str) -> tuple[str, int | None]:
    """The field that `group` reads, and how many of its first letters; None for all of them."""
    beginning = BEGINNING.fullmatch(group)
    return (beginning["field"], int(beginning["first"])) if beginning else (group, None)
