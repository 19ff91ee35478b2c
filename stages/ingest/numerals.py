"""Numerals: numbers as people write them into tables, and the field to set where they cannot be meant."""

from __future__ import annotations

import re
from typing import Any

COMMA = re.compile(r"[+-]?\d+,\d+([eE][+-]?\d+)?")
DIGITS = re.compile(r"[+-]?[\d.,]+([eE][+-]?\d+)?")
NOTHING = ("n/a", "na", "nan", "null", "none", "nil", "-", "?")
"""What people write where there is no value."""


def pointed(text: str, decimal: str) -> str:
    """The numbers of a cell with points, and with blanks between. Raises ValueError for what is another number to some
    than to others, and for what people write where there is none."""
    if text.strip().casefold() in NOTHING:
        raise ValueError(f"{text!r} is no number{hint(text)}")
    parts = re.split(r"[\s;]+", text.strip())
    if decimal != "," or not all(DIGITS.fullmatch(part) for part in parts):
        return text
    if wrong := next((part for part in parts if "." in part or part.count(",") > 1), ""):
        what = "a point, which marks thousands there" if "." in wrong else "more than one comma"
        raise ValueError(f'{wrong!r} has {what}, and decimal: "," is set. Next: write numbers without such marks')
    return " ".join(part.replace(",", ".") for part in parts)


def hint(value: Any) -> str:
    """The field to set, where a cell that was refused looks as if one would help."""
    text = value.strip() if isinstance(value, str) else ""
    if text.casefold() in NOTHING:
        return f". If it means that there is no value: missing: [{text}] on the source"
    return '. A decimal comma? decimal: "," on the source' if COMMA.fullmatch(text) else ""
