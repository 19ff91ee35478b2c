"""An ensemble's members: how far they differ, what fewer of them would have come to, and whether it errs where they do.

Every sample's statistics of a task get its spread (`APART`: the standard deviation over members, a mean over the
sample) and `ASKED`, so that both add up like all statistics; one without an answer has neither. What the first 1, 2, 4,
.. members come to is counted a shard at a time, from the same pass. Nothing here asks a network, and of one member
nothing is said.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from hyperloom.pipeline.commits.units import Record
from hyperloom.pipeline.root.storage import Storage
from hyperloom.stages.measure.measure import directions
from hyperloom.stages.measure.scores import measures
from hyperloom.stages.measure.sheet import read_sheet, total
from hyperloom.stages.measure.sums import Sums, merged
from hyperloom.stages.modality import Modality

APART, ASKED = "apart", "asked"
FEWER = "fewer"
"""In a unit's `meta`: pairs of a number of members and what they come to, task -> statistics."""
PARTS = 4
"""Into so many parts of equal size samples go by how far members differ on them."""
FEWEST = 5
"""Samples a part; of smaller ones a figure says nothing."""
WORSE = 0.05
"""The share of its first member's figure by which an ensemble is worse, and worth a word."""


def sizes(members: int) -> tuple[int, ...]:
    """1, 2, 4, .. and all of them."""
    return (*(2**i for i in range(members.bit_length()) if 2**i < members), members)


def apart(spread: np.ndarray) -> Sums:
    """The statistics of one sample's spread (*sites, 1)."""
    return {APART: float(np.mean(spread, dtype=np.float64)), ASKED: 1}


class Smaller:
    """What fewer members come to, over the batches of a shard."""

    def __init__(self) -> None:
        self._parts: dict[int, dict[str, list[Sums]]] = {}

    def add(self, members: int, task: str, sums: Sums) -> None:
        self._parts.setdefault(members, {}).setdefault(task, []).append(sums)

    def meta(self) -> dict[str, Any]:
        """For a unit's record; empty where there is but one member."""
        rows = [[size, {task: merged(s) for task, s in tasks.items()}] for size, tasks in sorted(self._parts.items())]
        return {FEWER: rows} if rows else {}


def ensemble(
    storage: Storage, modality: Modality, task: str, sums: Sums, records: Sequence[Record], members: int
) -> dict[str, Any] | None:
    """Of one model and task: the mean `spread` of its `members`, its figure by how many of them are asked
    (`by_members`, pairs), and by how far they differ (`by_spread`, pairs of a part's mean spread and figure; empty of
    few samples).
    None where a record lacks them or nobody was asked."""
    if not sums.get(ASKED) or not all(FEWER in r.meta for r in records):
        return None
    by: dict[int, list[Sums]] = {}
    for size, tasks in (row for r in records for row in r.meta[FEWER]):
        by.setdefault(size, []).append(tasks.get(task, {}))
    figures = {size: _figure(modality, parts) for size, parts in by.items()} | {members: _figure(modality, [sums])}
    return {
        "measure": modality.metric,
        "members": members,
        "spread": sums[APART] / sums[ASKED],
        "by_members": [[size, value] for size, value in sorted(figures.items()) if value is not None],
        "by_spread": _by_spread(storage, modality, task, records),
    }


def short(row: Mapping[str, Any]) -> dict[str, Any]:
    """One line of what `ensemble` tells, for a table: the figure of one member and of all, and that of the samples on
    which members agree most and least."""
    ends = {"one member": (row["by_members"], 0), "all": (row["by_members"], -1)}
    ends |= {"where they agree": (row["by_spread"], 0), "where they differ": (row["by_spread"], -1)}
    figures = {name: pairs[at][1] if len(pairs) > 1 else None for name, (pairs, at) in ends.items()}
    return {"members": row["members"], "spread": row["spread"], "measure": row["measure"], **figures}


def worse(who: str, modality: Modality, task: str, row: Mapping[str, Any]) -> str:
    """What to say where all members together are clearly worse than the first alone, which of an ensemble of masks sees
    all inputs; else empty. So it is where one input says nearly all of a task, and others are asked without it."""
    pairs = row["by_members"]
    if len(pairs) < 2:
        return ""
    (_, one), (members, all_) = pairs[0], pairs[-1]
    lost = one - all_ if directions(modality)[row["measure"]] else all_ - one
    if not lost > WORSE * abs(one):
        return ""
    return (
        f"{who}: the ensemble makes {task} worse: {row['measure']} {all_:.4g} of {members} members, {one:.4g} of the "
        f"first alone. Next: if it reads {task}, show that to all members, `mask: {{type: modality, visible: {task}}}` "
        f"of `ensemble`; else take {task} from a `model` without `ensemble`, also where it teaches"
    )


def _figure(modality: Modality, parts: Iterable[Sums]) -> float | None:
    listed = [part for part in parts if part]
    return measures(modality, merged(listed)).get(modality.metric) if listed else None


def _by_spread(storage: Storage, modality: Modality, task: str, records: Sequence[Record]) -> list[list[float]]:
    read = (read_sheet(storage, r.files[1].path)[2].get(task, {}) for r in records)
    sheets = [sheet for sheet in read if APART in sheet]  # a shard may have no sample that was asked
    if not sheets:
        return []
    every = {stat: np.concatenate([sheet[stat] for sheet in sheets]) for stat in _shared(sheets)}
    one = {stat: values[every[ASKED] > 0] for stat, values in every.items()}
    order = np.argsort(one[APART], kind="stable")
    if len(order) < PARTS * FEWEST:
        return []
    rows = []
    for chosen in np.array_split(order, PARTS):
        value = _figure(modality, [{stat: total(values[chosen]) for stat, values in one.items()}])
        if value is not None:
            rows.append([float(one[APART][chosen].mean()), value])
    return rows


def _shared(sheets: Sequence[Mapping[str, np.ndarray]]) -> list[str]:
    return [stat for stat in sheets[0] if all(stat in sheet for sheet in sheets)]
