"""Reservations: room on the cluster for a stage's own processes (Ray Train's workers), beside the slots.

Room is taken as it becomes free, and idle slots make way; meanwhile no unit begins, so nobody overtakes. Two
reservations that do not fit beside each other take turns in the order in which they came, and the later one takes
nothing before. What is lost with a node is taken again where another one has come.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from hyperloom.pipeline.commits.units import Resources
from hyperloom.pipeline.workers.executor import Executor
from hyperloom.pipeline.workers.slots import Seats


@dataclass(eq=False)
class Reservation:
    """Room for `count` processes, or for as many as the cluster can ever hold."""

    resources: Resources
    count: int
    places: list[Any] = field(default_factory=list)
    granted: bool = False
    error: Exception | None = None
    step: str = ""
    """Whose it is."""


class Reservations:
    """Those of all steps of a run. Belongs to the pool's thread."""

    def __init__(self, executor: Executor, seats: Seats):
        self._executor, self._seats = executor, seats
        self.all: list[Reservation] = []

    def take(self) -> bool:
        """Take what can be taken. Is there one for which what becomes free is kept?"""
        kept = [self._take(reservation) for reservation in self.all if not reservation.error]
        return any(kept)

    def _take(self, reservation: Reservation) -> bool:
        executor = self._executor
        try:
            executor.connect()
            reservation.places = [p for p in reservation.places if executor.holds(p)]
            others = [p for r in self.all if r is not reservation for p in r.places]
            most = min(reservation.count, executor.capacity(reservation.resources, others)) if reservation.count else 0
            if not reservation.granted and most < min(reservation.count, executor.capacity(reservation.resources, [])):
                return False
            while len(reservation.places) < most:
                place = executor.reserve(reservation.resources)
                if place is not None:
                    reservation.places.append(place)
                elif (idle := self._seats.idle()) is not None:
                    self._seats.close(idle)
                else:
                    return True
            reservation.granted = True
        except Exception as error:  # it belongs to the step that asked
            reservation.error = error
        return False

    def refuse(self, error: Exception) -> None:
        """Those that wait get this instead."""
        for reservation in self.all:
            if not reservation.granted:
                reservation.error = error

    def end(self, reservation: Reservation) -> None:
        """Give the room back."""
        self.all.remove(reservation)
        for place in reservation.places:
            self._executor.release(place)
