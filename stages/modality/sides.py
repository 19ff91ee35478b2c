"""Sides: names that differ in left and right alone, such as the classes `left arm` and `right arm`.

In a mirror the one becomes the other. A name is taken apart at blanks, signs and capitals (`LeftArm`, `arm_l`); a
single l or r is a side only where its counterpart is named too, and no other letter or digit in its place that stands
for no place: in an alphabet, or among the sizes S, M, L, it is a letter.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

WORD = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])|[A-Z]")
OTHER = {"left": "right", "right": "left"}
SHORT = {"l": "r", "r": "l"}
PLACES = frozenset("lrcmtbudfsnoxa")
"""Left, right, centre, middle, top, bottom, up, down, front; straight, none, other, unclear, ahead."""
SIZES = frozenset("sm")
"""Small and middle, beside which l is large."""


def mirrored(text: str, words: dict[str, str] = OTHER) -> str:
    """`text` with left and right exchanged, capitals kept; itself where it names no side."""
    return WORD.sub(lambda match: _other(match[0], words), text)


def exchange(names: Sequence[str]) -> tuple[int, ...]:
    """For each name the place of the one that it becomes in a mirror; its own for one without sides."""
    place = {name: i for i, name in enumerate(names)}
    order = []
    for i, name in enumerate(names):
        short = mirrored(name, OTHER | SHORT)
        others = (mirrored(name), name if _letter(name, short, names) else short, _within(name))
        order.append(next((place[other] for other in others if other != name and other in place), i))
    return tuple(order)


def alone(names: Sequence[str]) -> list[str]:
    """The names that have a side and no counterpart: nobody knows what they become in a mirror."""
    order = exchange(names)
    return [name for i, name in enumerate(names) if order[i] == i and mirrored(name) != name]


def named(names: Sequence[str]) -> bool:
    """Does any of the names say a side?"""
    return exchange(names) != tuple(range(len(names))) or bool(alone(names))


def without(names: Sequence[str]) -> str:
    """Why `names` cannot be mirrored, and what to do; empty where they can."""
    lonely = alone(names)
    if not lonely:
        return ""
    return f"what is {lonely[0]!r} in a mirror? It names a side, and there is no {mirrored(lonely[0])!r}"


def lettered(names: Sequence[str]) -> bool:
    """Is an l or r among the names a letter, though its counterpart is named?"""
    return any(other in names and _letter(n, other, names) for n in names for other in [mirrored(n, SHORT)])


def _letter(name: str, other: str, names: Sequence[str]) -> bool:
    """Are `name` and `other`, which differ in l and r, two of several that differ in a letter?"""
    differ = [i for i, (one, two) in enumerate(zip(name, other, strict=False)) if one != two]
    if len(differ) != 1 or len(name) != len(other):
        return False
    before, after = name[: differ[0]], name[differ[0] + 1 :]
    alike = (n for n in names if len(n) == len(name) and n.startswith(before) and n.endswith(after))
    letters = {n[differ[0]].casefold() for n in alike}
    return not letters <= PLACES or letters >= SIZES


def _within(name: str) -> str:
    """With the letters of left and right exchanged wherever they are: `lefteye`."""
    return re.sub("left|right", lambda match: OTHER[match[0]], name)


def _other(word: str, words: dict[str, str]) -> str:
    other = words.get(word.lower())
    if other is None:
        return word
    return other.upper() if word.isupper() else other.capitalize() if word[0].isupper() else other
