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


def figure(value: float) -> str:
    """Four digits of a number, of a larger one all before the point: `0.1235`, `12346`."""
    return f"{value:.0f}" if 9999.5 <= abs(value) < 1e15 else f"{value:.4g}"


def rounded(value: float, places: int) -> float:
    """To so many places behind the point; what has less than two digits there, as of a small unit, to four of its
    own."""
    return float(f"{value:.4g}") if 0 < abs(value) < 10.0 ** (1 - places) else round(value, places)


def placed(value: float, places: int, sign: str = "") -> str:
    """With so many places behind the point; what has less than two digits there, as of a small unit, in two of its own.
    `sign`: `+` for one before what is above zero too."""
    small = 0 < abs(value) < 10.0 ** (1 - places)
    return f"{value:{sign}.2g}" if small else f"{value:{sign}.{places}f}"


def share(part: float, places: int = 1) -> str:
    """`12.5%` of a share between 0 and 1. Some are never none, and not all never all: `<0.1%`, `>99.9%`."""
    least = 10.0**-places
    if 0 < 100 * part < least / 2:
        return f"<{least:.{places}f}%"
    if 100 - least / 2 <= 100 * part < 100:
        return f">{100 - least:.{places}f}%"
    return f"{part:.{places}%}"
