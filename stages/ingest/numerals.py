"""Numerals: numbers as people write them into tables, and the field to set where they cannot be meant."""

from __future__ import annotations

import re
from typing import Any, NamedTuple

from hyperloom.stages.modality.choice import real

EXPONENT = r"(?:[eE][+-]?\d+)?"
COMMA = re.compile(rf"[+-]?\d+,\d+{EXPONENT}")
FORMS = {"": "", ".": ".", ",": ",", " ": " \u00a0\u2009\u202f", "'": "'\u2019"}
"""A mark of thousands, and the letters in which it is written."""
HEAD = r"[+-]?[1-9]\d{0,2}"
"""What stands before the first mark of thousands."""
HOLE = r"[+-]?(?i:nan|inf(?:inity)?)"
"""What stands among numbers where one is none, or has no end."""
NOTHING = ("n/a", "na", "nan", "null", "none", "nil", "-", "?")
"""What people write where there is no value."""


class Numerals(NamedTuple):
    """How numbers are written: what stands before their fraction, and what between their thousands ("": nothing)."""

    decimal: str = "."
    thousands: str = ""

    def plain(self, text: str) -> str:
        """The numbers of a cell with points, without marks of thousands, and with blanks between; text that is no such
        numbers as it is. Raises ValueError for what is another number to some than to others, and for what people write
        where there is none."""
        if text.strip().casefold() in NOTHING:
            raise ValueError(f"{text!r} is no number{hint(text)}")
        if self == PLAIN:
            return text
        parts = re.split(r"\s*;\s*" if self.thousands == " " else r"[\s;]+", text.strip())
        marks = FORMS[self.thousands]
        if not all(re.fullmatch(rf"[+-]?[\d.,{marks}]+{EXPONENT}|{HOLE}", part) for part in parts):
            return text
        return " ".join(map(self._pointed, parts))

    def one(self, text: str) -> str:
        """A cell that holds one such number with a point, and without marks of thousands; any other as it is."""
        if not self.thousands or not self._grouped(text.strip()):
            return text.replace(",", ".") if self.decimal == "," and COMMA.fullmatch(text.strip()) else text
        return self._pointed(text.strip())

    def number(self, value: Any) -> float | None:
        """A cell as a number; None where it is none."""
        try:
            return real(self.one(value)) if isinstance(value, str) else float(value)
        except (TypeError, ValueError, OverflowError):
            return None

    def _grouped(self, part: str) -> bool:
        """Do its marks of thousands stand where they should?"""
        fraction = rf"(?:{re.escape(self.decimal)}\d*)?"
        return bool(re.fullmatch(rf"{HEAD}(?:[{FORMS[self.thousands]}]\d{{3}})+{fraction}{EXPONENT}", part))

    def _pointed(self, part: str) -> str:
        marks = FORMS[self.thousands]
        if any(mark in part for mark in marks):
            if not self._grouped(part):
                what = f"{self.thousands!r} marks thousands there, and has not three digits behind each"
                raise ValueError(f"{part!r}: {what}. Next: correct it, or thousands on the source")
            part = part.translate(dict.fromkeys(map(ord, marks)))
        if self.decimal != ",":
            return part
        if "." in part:
            what = 'a point, which marks thousands there, and decimal: "," is set'
            raise ValueError(f'{part!r} has {what}. Next: thousands: "." on the source')
        if part.count(",") > 1:
            more = 'more than one comma, and decimal: "," is set'
            raise ValueError(f'{part!r} has {more}. Next: thousands: "," with decimal: "." on the source')
        return part.replace(",", ".")


PLAIN = Numerals()
COMMAS_TOO = ' with decimal: ","'


def hint(value: Any) -> str:
    """The field to set, where a cell that was refused looks as if one would help."""
    text = value.strip() if isinstance(value, str) else ""
    if text.casefold() in NOTHING:
        return f". If it means that there is no value: missing: [{text}] on the source"
    if COMMA.fullmatch(text):
        either = re.fullmatch(rf"{HEAD},\d{{3}}", text)
        thousands = ', and if it marks thousands: thousands: ","' if either else ""
        return f'. A decimal comma? decimal: "," on the source{thousands}'
    for mark in ",.' ":
        for decimal in ".,":
            if mark != decimal and Numerals(decimal, mark)._grouped(text):
                return f'. Marks of thousands? thousands: "{mark}"{COMMAS_TOO if decimal == "," else ""} on the source'
    return ""
