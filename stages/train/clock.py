"""Clock: the time that a training took, over all processes that worked on it one after the other.

Wall time is what somebody waits; CPU time is what the training itself needed, which neighbours on the same machine
change little. Both go out as an event and into checkpoints, never into a record: data follows from the recipe alone.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hyperloom.stages.world import World


@dataclass(frozen=True)
class TrainingTime:
    """What a training in `folder` took: seconds of wall and of CPU (all workers' together), on devices of this type."""

    folder: str
    seconds: float
    cpu_seconds: float
    device: str


@dataclass
class Clock:
    """Runs from its making on; `restore` adds what earlier processes took."""

    before: tuple[float, float] = (0.0, 0.0)
    since: tuple[float, float] = field(default_factory=lambda: (time.perf_counter(), time.process_time()))

    @property
    def seconds(self) -> float:
        """Wall time so far."""
        return self.before[0] + time.perf_counter() - self.since[0]

    @property
    def cpu_seconds(self) -> float:
        """CPU time of this process's threads, and of the processes before it."""
        return self.before[1] + time.process_time() - self.since[1]

    def state(self, world: World) -> list[float]:
        """For a checkpoint: wall time, and CPU time of all ranks, which call it together."""
        return [self.seconds, sum(world.gather(self.cpu_seconds))]

    def restore(self, state: list[float], world: World) -> None:
        """Go on from what a checkpoint says, of however many ranks it was: the first one counts what they took. What
        was done since then by a process that died is done again, and counts once."""
        self.before = (state[0], state[1] if world.rank == 0 else 0.0)
