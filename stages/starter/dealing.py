"""Dealing: which groups of a table's rows are held out, so that enough rows with a value are judged, of every class.

A share of the groups by chance may hold none of a few labelled rows, or lack a class. Groups are those that the source
will make: of the field that says what belongs together, or parts by a hash of the key.
"""

from __future__ import annotations

import os
from collections import Counter

from hyperloom.stages.ingest.parts import identity
from hyperloom.stages.ingest.source import stem
from hyperloom.stages.starter.fields import TableField, TableLook
from hyperloom.stages.starter.grouping import Grouping, held

MOST = 60
"""Groups that a recipe names; of more a share is held out."""
LARGEST = 0.4
"""No larger share of the labelled rows is held out for the sake of a class."""


def held_rows(table: TableLook, target: TableField, parts: int) -> tuple[list[str], int]:
    """The groups to hold out, and how many rows with a value to learn they have; no groups where there are too many to
    be named."""
    called = stem(os.path.basename(table.path))
    groups: dict[str, str] = {}
    values: dict[str, str] = {}
    for number, row in table.content.items():
        name, groups[name] = identity(row, called, number, table.key, table.group, parts)
        if target.among(row):
            values[name] = str(row[target.name])
    if len(set(groups.values())) > MOST:
        return [], 0
    chosen = set(held(Grouping("", groups, ""), list(values)))
    if target.kind == "category":
        _complete(chosen, groups, values)
    return sorted(chosen), sum(groups[name] in chosen for name in values)


def _complete(chosen: set[str], groups: dict[str, str], values: dict[str, str]) -> None:
    """Add a group for each class that none of the chosen has, where the others keep one of each class that it has."""
    counts: dict[str, Counter[str]] = {}
    for name, value in values.items():
        counts.setdefault(groups[name], Counter())[value] += 1
    for value in sorted(set(values.values())):
        if any(counts[g][value] for g in chosen if g in counts):
            continue
        for group in sorted((g for g in counts if counts[g][value]), key=lambda g: (counts[g].total(), g)):
            left = sum((counts[g] for g in counts if g not in chosen and g != group), Counter[str]())
            out = len(values) - left.total()
            if set(left) == set(values.values()) and out <= LARGEST * len(values):
                chosen.add(group)
                break
