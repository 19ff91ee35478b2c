"""Blanks: what cells of a table of text say where there is no value, as R, pandas and people write it.

Among numbers and dates each such word means that; among words, `none` and `-` may be classes, so that only what says
nothing else does. A recipe says it once for all fields of a table.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from hyperloom.stages.ingest.numerals import NOTHING

SURE = ("", "na", "n/a", "#n/a", "<na>", "nan", "null", "?")
"""No name of a class; `NA` is one among pairs of letters, which are countries or continents. "" are blanks alone."""
WORDS = (*NOTHING, *SURE, ".")


def blanks(columns: Sequence[Sequence[str]], numeric: Callable[[Sequence[str]], bool]) -> tuple[str, ...]:
    """The cells of these columns that mean that there is no value, as they are written. `numeric` says whether cells
    are all numbers, or all dates."""
    empty, named = set[str](), set[str]()
    for cells in columns:
        words = {c for c in cells if c.strip().casefold() in WORDS}
        rest = [c for c in cells if c not in words]
        if not rest or among_numbers(cells, numeric):
            empty |= words  # where there is nothing else it is no class, and takes no meaning from other fields
        else:
            sure = {w for w in words if w.strip().casefold() in SURE and not _code(w, rest)}
            empty |= sure
            named |= words - sure
    return tuple(sorted({word.strip() for word in empty} - {word.strip() for word in named}))


def among_numbers(cells: Sequence[str], numeric: Callable[[Sequence[str]], bool]) -> list[str]:
    """The words for no value of these cells, as they are written, where all others are numbers or dates."""
    words = {c for c in cells if c.strip().casefold() in WORDS}
    rest = [c for c in cells if c not in words]
    return sorted(word.strip() for word in words) if words and rest and numeric(rest) else []


def _code(word: str, others: Sequence[str]) -> bool:
    """Is a word of two letters one of many codes?"""
    return len(word) == 2 and len(set(others)) > 1 and all(re.fullmatch("[A-Z]{2}", other) for other in others)
