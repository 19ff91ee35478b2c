"""Reservations: room on the cluster for a stage's own processes (Ray Train's workers), beside the slots.

Room is taken as it becomes free, and idle slots make way; meanwhile no unit begins, so nobody overtakes. Two
reservations that do not fit beside each other take turns in the order in which they came, and the later one takes
nothing before. What is lost with a node is taken again where another one has come.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from hyperloom.pipeline.executor import Executor
from hyperloom.pipeline.slots import Seats
from hyperloom.pipeline.units import Resources


@dataclass(eq=False)
class Reservation:
    """Room for `count` processes, or for as many as the cluster can ever hold."""

    resources: Resources
    count: int
    places: list[Any] = field(default_factory=list)
    granted: bool = False
    error: Exception | None = None


class Reservations:
    """Those of all steps of a run. Belongs to the pool's thread."""

    def __init__(self, executor: Executor, seats: Seats):
        self._executor, self._seats = executor, seats
        self.all: list[Reservation] = []

    def take(self) -> bool:
        """Take what can be taken. Is there one for which what becomes free is kept?"""
        kept = [self._take(wanted) for wanted in self.all if not wanted.error]
        return any(kept)

    def _take(self, wanted: Reservation) -> bool:
        executor = self._executor
        try:
            executor.connect()
            wanted.places = [p for p in wanted.places if executor.holds(p)]
            others = [p for r in self.all if r is not wanted for p in r.places]
            most = min(wanted.count, executor.capacity(wanted.resources, others)) if wanted.count else 0
            if not wanted.granted and most < min(wanted.count, executor.capacity(wanted.resources, [])):
                return False
            while len(wanted.places) < most:
                place = executor.reserve(wanted.resources)
                if place is not None:
                    wanted.places.append(place)
                elif (idle := self._seats.idle()) is not None:
                    self._seats.close(idle)
                else:
                    return True
            wanted.granted = True
        except Exception as error:  # it belongs to the step that asked
            wanted.error = error
        return False

    def refuse(self, error: Exception) -> None:
        """Those that wait get this instead."""
        for wanted in self.all:
            if not wanted.granted:
                wanted.error = error

    def end(self, wanted: Reservation) -> None:
        """Give the room back."""
        self.all.remove(wanted)
        for place in wanted.places:
            self._executor.release(place)
