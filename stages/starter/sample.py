"""Which partitions a pilot takes: few, whole, of every split, spread over the groups, with labels among them.

Whole partitions, since these are the units of work: what a pilot has read and labelled is not done again. Where an
expert compares neighbouring frames, a group's partitions are taken from its start, so that none lacks the one before.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from hyperloom.pipeline.commits.units import Unit


@dataclass
class _Stratum:
    """The partitions of one combination of splits, by group in the order in which they are taken."""

    total: int = 0
    taken: int = 0
    groups: dict[str, list[Unit]] = field(default_factory=dict)
    rows_of: dict[str, int] = field(default_factory=dict)
    columns: set[str] = field(default_factory=set)


def chosen(units: Sequence[Unit], strata: Mapping[str, str], samples: int, consecutive: bool) -> list[Unit]:
    """Partitions of about so many samples in all, of each stratum at least one and half of its share, which a group of
    a single sample is not; `strata`: group -> its splits."""
    parts: dict[str, _Stratum] = {}
    for unit in units:
        stratum = parts.setdefault(strata[unit.payload["group"]], _Stratum())
        stratum.total += _rows(unit)
        stratum.groups.setdefault(unit.payload["group"], []).append(unit)
    for stratum in parts.values():
        stratum.rows_of = dict.fromkeys(stratum.groups, 0)
        if not consecutive:
            stratum.groups = {g: _spread(own) for g, own in stratum.groups.items()}
    picked: list[Unit] = []
    half = 0.5 * samples / max(1, sum(map(_rows, units)))
    while any(s.groups for s in parts.values()):
        least = min((s for s in parts.values() if s.groups), key=lambda s: s.taken / s.total)
        if least.taken >= max(1.0, half * least.total) and sum(map(_rows, picked)) >= samples:
            break
        picked.append(_next(least, consecutive))
    order = {unit.id: place for place, unit in enumerate(units)}
    return sorted(picked, key=lambda unit: order[unit.id])


def _next(stratum: _Stratum, consecutive: bool) -> Unit:
    """Of the group of which least was taken the next partition; first one with a column that none has yet."""
    fewest = min(stratum.rows_of[g] for g in stratum.groups)
    candidates = [g for g in stratum.groups if stratum.rows_of[g] == fewest]
    new = [
        (g, u)
        for g in candidates
        for u in stratum.groups[g][: 1 if consecutive else None]
        if _sides(u) - stratum.columns
    ]
    group, unit = (
        new[0] if new else (candidates[len(candidates) // 2], stratum.groups[candidates[len(candidates) // 2]][0])
    )
    stratum.groups[group].remove(unit)
    if not stratum.groups[group]:
        del stratum.groups[group]
    stratum.rows_of[group] += _rows(unit)
    stratum.taken += _rows(unit)
    stratum.columns |= _sides(unit)
    return unit


def _rows(unit: Unit) -> int:
    return len(unit.payload["items"])


def _sides(unit: Unit) -> set[str]:
    """The side columns that samples of a partition have."""
    return {column for item in unit.payload["items"] for column in item["sides"] if column}


def _spread(units: list[Unit]) -> list[Unit]:
    """The first, the last, the middle, and so on between them."""
    order, step = [0, len(units) - 1], len(units)
    while step > 1:
        step = (step + 1) // 2
        order += range(step, len(units), step)
    return [units[i] for i in dict.fromkeys(order)]
