"""Written numbers: what marks fractions and thousands in the numbers of a table, told by all of its cells.

`1.234` and `1,234` are one number to some and another to others. A mark counts as one of thousands where it stands
twice in a cell, or before a fraction; and where it stands before three digits each time, in a field with cells of one
to three digits that have none (see `stages.ingest.thousands`). Cells of one length, or whose first group always has
three digits, are codes and lists.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from itertools import product

from hyperloom.stages.ingest.cell import Cell
from hyperloom.stages.ingest.numerals import FORMS, PLAIN, Numerals
from hyperloom.stages.ingest.thousands import MarkedNumbers
from hyperloom.stages.modality.choice import real
from hyperloom.stages.starter.blanks import WORDS

COMMAS = Numerals(",")
KINDS = tuple(Numerals(decimal, thousands) for thousands, decimal in product(",.' ", ".,") if decimal != thousands)
"""Ways to write numbers with marks of thousands."""


def numerals_of(columns: Mapping[str, Sequence[str]], separator: str) -> Numerals:
    """How the cells of these fields write numbers. Commas are decimal ones where `;` separates fields."""
    cells = {name: [c.strip() for c in some if c.strip().casefold() not in WORDS] for name, some in columns.items()}
    marked = [some for some in cells.values() if any(re.search(r"\d[,.'’\s]\d", c) for c in some)]
    commas = separator == ";" and any(re.fullmatch(r"[+-]?\d+,\d+", c) for some in marked for c in some[:50])
    usual = COMMAS if commas else PLAIN
    fitting = [some for some in marked if numbers(some, usual) and not _doubtful(some, usual.decimal)]
    for kind in KINDS:
        others = [s for s in marked if s not in fitting and numbers(s, kind) and _varied(s, kind.thousands)]
        sure = any(_sure(some, kind) or _doubtful(some, kind.thousands) for some in others)
        if sure and all(numbers(some, kind) for some in fitting):
            return kind
    return usual


def numbers(cells: Sequence[str], numerals: Numerals) -> bool:
    """Is each of them a finite number?"""
    try:
        return all(math.isfinite(real(numerals.plain(c))) for c in cells)
    except ValueError:
        return False


def _doubtful(cells: Sequence[str], mark: str) -> bool:
    """Does what this mark would make fractions look like thousands?"""
    looked = MarkedNumbers({"": Cell(field="_")}, mark)
    for cell in cells:
        looked.look({"": cell}, lambda *_: False)
    return bool(looked.doubtful())


def _varied(cells: Sequence[str], mark: str) -> bool:
    """Are they of several lengths, and is the first group of some short?"""
    short = any(re.match(rf"[+-]?\d{{1,2}}[{FORMS[mark]}]\d{{3}}", c) for c in cells)
    return short and len(set(map(len, cells))) > 1


def _sure(cells: Sequence[str], kind: Numerals) -> bool:
    """Does a cell say that this mark is one of thousands, and not of fractions or between several numbers?"""
    return any(numbers([c], kind) and not numbers([c], PLAIN) and not numbers([c], COMMAS) for c in cells)
