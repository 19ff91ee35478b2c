"""The timetable: which slots a schedule has, and when each is due.

A slot is an instant in UTC and known by it, so a change of the cron expression never makes an old slot anew. What local
clocks do twice a year is cronsim's: the rules of Debian's cron (`pipeline.recipes.local_times`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import islice, pairwise
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

if TYPE_CHECKING:
    from hyperloom.pipeline.recipes.schedule import CronSchedule

FORM = "%Y-%m-%dT%H:%M:%SZ"
LOOKED_AT = 100
"""Slots from which the shortest time between two is taken."""
EPOCH = datetime(2024, 1, 1, tzinfo=UTC)


def text(instant: datetime) -> str:
    """An instant as journals and people write it, in UTC."""
    return instant.astimezone(UTC).strftime(FORM)


def instant(written: str) -> datetime:
    """The instant that `text` wrote; other ISO 8601 forms too. Raises ValueError without an offset to UTC."""
    value = datetime.fromisoformat(written)
    if value.tzinfo is None:
        raise ValueError(f"{written!r} does not say its offset to UTC. Next: add Z, as in 2026-03-29T01:00:00Z")
    return value.astimezone(UTC)


def slots(schedule: CronSchedule, after: datetime) -> Iterator[datetime]:
    """The slots after an instant, in order and without end, in UTC; one that two expressions give comes once."""
    import heapq

    zone = ZoneInfo(schedule.timezone)
    streams = [_stream(cron, after.astimezone(zone)) for cron in schedule.cron]
    last = after.astimezone(UTC)
    for slot in heapq.merge(*streams):
        if slot > last:  # an expression looked at from within a repeated hour may begin before it
            last = slot
            yield slot


def due(schedule: CronSchedule, name: str, slot: datetime) -> datetime:
    """When a slot may start: the slot and its share of the jitter, the same for whoever asks."""
    place = int.from_bytes(hashlib.sha256(f"{name}/{text(slot)}".encode()).digest()[:8], "big") / 2**64
    return slot + timedelta(seconds=int(schedule.jitter.total_seconds() * place))


def pending(schedule: CronSchedule, name: str, after: datetime, now: datetime) -> Iterator[datetime]:
    """Slots after `after` that are due at `now`, in order: none before an earlier one with more jitter, which would
    never be decided."""
    for slot in slots(schedule, after):
        if due(schedule, name, slot) > now:
            return
        yield slot


def first(cron: str) -> datetime | None:
    """The first time that an expression gives; None if it gives none. Raises CronSimError where it is none."""
    return next(_stream(cron, EPOCH), None)


def closest(schedule: CronSchedule) -> timedelta:
    """The shortest time between two slots."""
    return min(b - a for a, b in pairwise(islice(slots(schedule, EPOCH), LOOKED_AT)))


def _stream(cron: str, after: datetime) -> Iterator[datetime]:
    from hyperloom.pipeline.recipes.local_times import LocalTimes

    for local in LocalTimes(cron, after):
        yield local.astimezone(UTC)
