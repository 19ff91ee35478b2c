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
        if not words:
            continue
        rest = [c for c in cells if c not in words]
        if rest and numeric(rest):
            empty |= words
        else:
            sure = {w for w in words if w.strip().casefold() in SURE and not _code(w, rest)}
            empty |= sure
            named |= words - sure
    return tuple(sorted({word.strip() for word in empty} - {word.strip() for word in named}))


def _code(word: str, others: Sequence[str]) -> bool:
    """Is a word of two letters one of many codes?"""
    return len(word) == 2 and len(set(others)) > 1 and all(re.fullmatch("[A-Z]{2}", other) for other in others)
