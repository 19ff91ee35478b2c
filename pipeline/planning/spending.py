"""Spending: what a run has cost so far, the budget that ends it, and rates that are kept for forecasts.

    budget: {hours: 8, gpu_hours: 4, calls: 5000}

Each bound is for one run, from its start. Hours are those of the clock; GPU hours count each share of a GPU while a
unit or a training has it; calls are the questions to endpoints that may cost money, counted when their unit is sent, so
that no run asks more (answers that are kept under the root are asked for again by nobody, and counted here all the
same). A run that has spent one sends nothing more, lets what is in flight end, and ends with code 8.

What units and steps took is kept in `costs/{recipe}.json`. It is a matter of machines, in no identity, and may be lost.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from hyperloom.pipeline.commits.units import Record, Resources, Unit
from hyperloom.pipeline.errors import Ended, StorageError, Torn
from hyperloom.pipeline.exits import Exit
from hyperloom.pipeline.recipes.budget import CostBudget
from hyperloom.pipeline.root.storage import Storage

if TYPE_CHECKING:
    from hyperloom.pipeline.commits.retry import Attempts
    from hyperloom.pipeline.planning.plan import PlannedStep
    from hyperloom.pipeline.workers.reservation import Reservation
    from hyperloom.pipeline.workers.slots import Seat

HOUR = 3600.0


class OverBudget(Ended):
    """A run has spent its budget."""

    exit_code = Exit.BUDGET

    def __init__(self, bound: str):
        self.bound = bound
        self.text = (
            f"ended in order: {bound}; what was committed is kept. Next: raise `budget` in the recipe; the same "
            "command goes on from there, with the whole budget anew"
        )
        super().__init__()

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (self.bound,)


@dataclass
class UnitRate:
    """Units of one space that were done: how many, and what they took in all."""

    units: int = 0
    rows: int = 0
    seconds: float = 0.0
    bytes: int = 0
    gpu_seconds: float = 0.0


@dataclass
class StepRate:
    """A step that was done: seconds, bytes, its effort (`Stage.effort`) and the samples of the run's sources. `paced`:
    the seconds that grow with the effort; the rest is start, export and the like. `gpu_seconds` are those of its units
    and of its own processes; `portion`: samples of one of its updates (`Stage.portion`); `learned`: those samples that
    the effort counts (`Stage.learned`), 0 for all."""

    seconds: float
    bytes: int
    effort: float
    samples: int
    portion: int
    paced: float = 0.0
    gpu_seconds: float = 0.0
    learned: int = 0

    def train(self, pace: UpdatePace) -> None:
        """Take over how long an update took. What was trained in an earlier run counts at this run's pace."""
        own = pace.planned - pace.before
        if own <= 0:
            return
        now = min(self.seconds, pace.seconds * own)
        self.paced = now * pace.planned / own
        self.gpu_seconds *= (self.seconds - now + self.paced) / self.seconds if self.seconds else 1.0
        self.seconds += self.paced - now


@dataclass
class UpdatePace:
    """`seconds` of an update of a training, how many updates its step makes in all, and how many of these an earlier
    run had made."""

    seconds: float
    planned: float
    before: float


@dataclass
class Costs:
    """What is kept of runs of a recipe. `slots` is how many worked at once, `gpus` how many GPUs their units had."""

    spaces: dict[str, UnitRate] = field(default_factory=dict)
    steps: dict[str, StepRate] = field(default_factory=dict)
    slots: int = 1
    gpus: float = 0.0

    def update(self, other: Costs) -> None:
        """Take over what a later run has measured. One of fewer units than there are slots says nothing of these."""
        busy = sum(rate.units for rate in other.spaces.values()) >= 2 * self.slots
        self.slots = other.slots if other.spaces and (other.slots > self.slots or busy) else self.slots
        held = sum(rate.units for rate in other.spaces.values() if rate.gpu_seconds) >= 2 * self.gpus
        self.gpus = other.gpus if other.gpus > self.gpus or (other.gpus and held) else self.gpus
        self.spaces |= other.spaces
        self.steps |= other.steps


def load(storage: Storage, recipe: str) -> Costs:
    """What is known of a recipe's runs on this root; empty where nothing is."""
    try:
        kept = storage.read_json(_path(recipe))
        spaces = {k: UnitRate(**v) for k, v in kept["spaces"].items()}
        steps = {k: StepRate(**v) for k, v in kept["steps"].items()}
        return Costs(spaces, steps, kept["slots"], kept["gpus"])
    except (FileNotFoundError, Torn, KeyError, TypeError):
        return Costs()


def _paces(storage: Storage, run: str, repeats: Mapping[str, int]) -> dict[str, UpdatePace]:
    """The pace of each training, of so many `repeats` a step, from when its figures were noted: the median, since a
    start may lie between. Of several seeds each counts by itself: they may have trained one after the other."""
    from itertools import pairwise
    from statistics import median

    from hyperloom.pipeline.root import events

    noted: dict[str, dict[str, dict[int, float]]] = {}
    planned: dict[tuple[str, str], float] = {}
    for event in events.read(storage, run):
        if event["kind"] == "metric" and event.get("at") and event["step"] in repeats:
            mine = noted.setdefault(event["step"], {}).setdefault(event["writer"], {})
            mine.setdefault(event["at"], event["t"] / 1000)
            planned[event["step"], event["writer"]] = event.get("of", 0)
    paces = {}
    for name, writers in noted.items():
        steps: list[float] = []
        before = 0.0
        for points in map(sorted, map(dict.items, writers.values())):
            steps += [(t1 - t0) / (a1 - a0) for (a0, t0), (a1, t1) in pairwise(points) if t1 >= t0]
            gaps = [a1 - a0 for (a0, _), (a1, _) in pairwise(points)] or [points[0][0]]
            before += max(0.0, points[0][0] - max(gaps))
        lengths = [planned[name, writer] for writer in writers]
        if steps and all(lengths):
            length = sum(lengths) / len(lengths)
            before += max(0, repeats[name] - len(lengths)) * length  # seeds that were done say nothing in this run
            paces[name] = UpdatePace(median(steps), max(repeats[name], len(lengths)) * length, before)
    return paces


def _path(recipe: str) -> str:
    return f"costs/{recipe}.json"


@dataclass
class Spending:
    """Of one run. Belongs to the thread that owns the pool."""

    budget: CostBudget | None = None
    clock: Callable[[], float] = time.monotonic
    calls: int = 0
    gpu_seconds: float = 0.0
    costs: Costs = field(default_factory=Costs)
    busy: int = 0
    """Slots that were at work when time passed last."""
    _gpus: dict[str, float] = field(default_factory=dict)
    """GPU seconds by step, of its units and of its own processes."""
    _repeats: dict[str, int] = field(default_factory=dict)
    _refused: str = ""

    def __post_init__(self) -> None:
        self._began = self._last = self.clock()

    def passes(self, busy: Sequence[Seat], reservations: Sequence[Reservation]) -> None:
        """Time has passed with these slots at work, and this room kept for stages' own processes."""
        now, self.busy = self.clock(), len(busy)
        gpus = sum(seat.kind.resources.gpus for seat in busy)
        self.costs.gpus = max(self.costs.gpus, gpus)
        for one in reservations:
            mine = one.resources.gpus * len(one.places)
            gpus += mine
            self._gpus[one.step] = self._gpus.get(one.step, 0.0) + mine * (now - self._last)
        self.gpu_seconds += gpus * (now - self._last)
        self.costs.slots = max(self.costs.slots, self.busy)
        self._last = now

    def affordable(self, units: list[Unit], attempts: Attempts) -> list[Unit]:
        """The first of the units that the bound on calls lets begin. Their calls count from here on; of what was asked
        in an earlier attempt the answers are kept."""
        most = self.budget.calls if self.budget else None
        for place, unit in enumerate(units):
            calls = unit.calls if attempts.of(unit.key).attempt == 1 else 0
            if calls and most is not None and self.calls + calls > most:
                self._refused = f"its next {calls} calls would exceed the budget of {most:,} ({self.calls:,} were sent)"
                return units[:place]
            self.calls += calls
        return units

    def unit(self, step: str, record: Record, seconds: float, resources: Resources) -> None:
        """A unit of the step was done."""
        gpus = resources.gpus
        self._gpus[step] = self._gpus.get(step, 0.0) + seconds * gpus
        rate = self.costs.spaces.setdefault(record.space, UnitRate())
        rate.units, rate.rows = rate.units + 1, rate.rows + record.rows + record.quarantined
        rate.seconds, rate.gpu_seconds = rate.seconds + seconds, rate.gpu_seconds + seconds * gpus
        rate.bytes += sum(f.bytes for f in record.files)

    def step(self, step: PlannedStep, seconds: float, steps: Sequence[PlannedStep]) -> None:
        """A step of the run's `steps` was done."""
        manifest = step.manifest
        samples = sum(s.manifest.rows for s in steps if s.is_source and s.manifest)
        size = manifest.total_bytes if manifest else 0
        learned = step.stage.learned({s.name: s.manifest for s in steps if s.name in step.reads and s.manifest})
        self._repeats[step.name] = step.stage.repeats
        self.costs.steps[step.name] = StepRate(
            seconds,
            size,
            step.stage.effort(learned or samples),
            samples,
            step.stage.portion,
            gpu_seconds=self._gpus.get(step.name, 0.0),
            learned=learned,
        )

    @property
    def over(self) -> str:
        """Which bound is reached, in words; empty while none is."""
        bounds = self.budget or CostBudget()
        if bounds.hours is not None and self.clock() - self._began >= bounds.hours * HOUR:
            return f"its budget of {bounds.hours:g} hours is spent"
        if bounds.gpu_hours is not None and self.gpu_seconds > bounds.gpu_hours * HOUR:
            return f"its budget of {bounds.gpu_hours:g} GPU hours is spent"
        return self._refused

    def keep(self, storage: Storage, recipe: str, run: str = "") -> None:
        """Keep the rates, beside those of earlier runs; trainings have noted their pace in the events of `run`."""
        if not self.costs.spaces and not self.costs.steps:
            return
        trained = {name: self._repeats.get(name, 1) for name, rate in self.costs.steps.items() if rate.effort}
        for name, pace in (_paces(storage, run, trained) if trained and run else {}).items():
            self.costs.steps[name].train(pace)
        known = load(storage, recipe)
        known.update(self.costs)
        value: dict[str, Any] = asdict(known)
        try:
            storage.write_json(_path(recipe), value)
        except StorageError:
            pass  # a forecast lacks it
