"""Turns: whose units the next slot gets, among the steps of a run that run side by side.

A step that waits for long comes first, then one that has nothing in flight, then the earliest of the recipe.
"""

from __future__ import annotations

import time
from collections.abc import Iterable

from hyperloom.pipeline.running.work import Work
from hyperloom.pipeline.workers.slots import Backlog, Kind

STARVED_SECONDS = 60.0
"""A step with ready units that got no slot for so long comes first."""


def backlog(works: Iterable[Work]) -> dict[Kind, Backlog]:
    """The ready work of all steps; the workers are those of the step whose turn it is."""
    merged: dict[Kind, Backlog] = {}
    for work in sorted(works, key=_turn):
        for kind, more in work.backlog().items():
            has = merged.setdefault(kind, more)
            if has is not more:
                both = has.seconds + more.seconds, min(has.oldest, more.oldest)
                merged[kind] = Backlog(*both, has.workers)
    return merged


def whose(works: Iterable[Work], kind: Kind) -> Work | None:
    """The step whose units the next slot of this kind gets."""
    return min((w for w in works if w.waiting(kind)), key=_turn, default=None)


def _turn(work: Work) -> tuple[bool, bool, int]:
    return time.monotonic() - work.served < STARVED_SECONDS, work.flying > 0, work.rank
