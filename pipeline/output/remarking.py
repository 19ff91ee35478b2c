"""Remarking: what several steps say in the same words is said once, with the names of the steps."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

SHOWN = 3
"""Steps that are named; of more it says how many."""


def lines(remarks: Iterable[tuple[str, str]]) -> list[str]:
    """Of (step, text) a line for each text, in the order in which it first came: `a, b and 3 more: text`."""
    steps: dict[str, list[str]] = {}
    for step, text in remarks:
        names = steps.setdefault(text, [])
        if step and step not in names:
            names.append(step)
    return [f"{listed(names)}: {text}" if names else text for text, names in steps.items()]


def listed(names: Sequence[str]) -> str:
    """The names, with commas between: the first few, and how many more."""
    if len(names) <= SHOWN + 1:
        return ", ".join(names)
    return f"{', '.join(names[:SHOWN])} and {len(names) - SHOWN} more"
