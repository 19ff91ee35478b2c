"""Counting: a number with its noun, in the form that the number wants."""

from __future__ import annotations


def counted(count: int, noun: str) -> str:
    """`1 sample`, `1,200 samples`; `noun` is the singular."""
    return f"{count:,} {noun if count == 1 else plural(noun)}"


def plural(noun: str) -> str:
    """`sample` -> `samples`, `class` -> `classes`, `copy` -> `copies`. Of several words the last one counts."""
    if noun.endswith(("s", "x", "ch", "sh")):
        return f"{noun}es"
    return f"{noun[:-1]}ies" if noun.endswith("y") and noun[-2:-1] not in "aeiou" else f"{noun}s"
