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


def field_of(group: str) -> str:
    """The field that `group` reads: itself, or what stands before `[:n]`."""
    beginning = BEGINNING.fullmatch(group)
    return beginning["field"] if beginning else group


def owner(row: Mapping[str, Any], group: str) -> str:
    """The group of a row: what its field says, or the first letters of that."""
    beginning = BEGINNING.fullmatch(group)
    value = row.get(beginning["field"] if beginning else group)
    if value in (None, ""):
        return "none"
    return path_safe(str(value)[: int(beginning["first"])] if beginning else str(value))
