"""What can be read of a folder: a torn file among many is named and left out, as the run will do, and ends nothing."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

from hyperloom.stages.starter.survey import DataFile
from hyperloom.stages.starter.truth import NotUnderstood

Value = TypeVar("Value")
NAMED = 3
"""Files that cannot be read of which each has a sentence."""


def readable(
    files: Iterable[DataFile], read: Callable[[str], Value], count: int, kind: str
) -> tuple[list[Value], list[str]]:
    """What `read` gives of the first `count` of the files that it can read, and what is to be said of those before
    that it cannot. `read` raises OSError or ValueError of a torn file; `kind` is what they are, as
    `pictures`. Raises NotUnderstood where none can be read."""
    values: list[Value] = []
    torn: list[str] = []
    for file in dict.fromkeys(files):
        if len(values) == count:
            break
        try:
            values.append(read(file.path))
        except (OSError, ValueError) as error:
            torn.append(left_out(file.name, error))
    if torn and not values:
        raise NotUnderstood(f"none of the {kind} that were tried can be read: {torn[0]}. Next: mend them")
    return values, shortened(torn, kind)


def filled(files: Sequence[DataFile], kind: str) -> tuple[list[DataFile], list[str]]:
    """Those of the files that hold anything, if any does, and what is to be said of the others."""
    kept = [file for file in files if os.path.getsize(file.path)]
    if not kept or len(kept) == len(files):
        return list(files), []
    full = set(kept)
    empty = [f"{f.name} is empty, and will be left out" for f in files if f not in full]
    more = len(empty) - NAMED
    return kept, [*empty[:NAMED], *([f"{more} more of the {kind} are empty, and will be left out"] if more > 0 else [])]


def left_out(name: str, error: Exception) -> str:
    return f"{name} cannot be read and will be left out: {str(error).rstrip('.')}"


def shortened(sentences: Sequence[str], kind: str) -> list[str]:
    """The first of them, and of how many more the same is to be said."""
    more = len(sentences) - NAMED
    rest = [f"{more} more of the {kind} cannot be read and will be left out"] if more > 0 else []
    return [*sentences[:NAMED], *rest]
