"""Length: how many updates a training makes, and how its rate follows that, where no number is given.

    updates: 2000       # a number: everything is known before the first update
    minutes: 20         # as many as fit that time
                        # neither: until it stops getting better

By time, the planned number is what the time would allow at the mean speed so far, validation and checkpoints counted
in. So the share of the planned updates that are made is the share of the time that is spent, any schedule ends with the
time, and a resumed training goes on with the time that its checkpoint had left. How many updates that makes depends on
the machine and what else it does, so such a training is not reproducible to the byte.

Until it stops getting better, the rate stays up after its warm-up while validation improves, and then falls over a
`COOLING` of the updates made so far, which ends the training (Hägele et al. 2024, "Scaling laws and compute-optimal
training beyond fixed training durations": as good as a cosine that had known the end). That follows from updates alone.
Imports no torch.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from hyperloom.stages.results import Shards
from hyperloom.stages.train.optimizers import Optimizer
from hyperloom.stages.train.phases import total
from hyperloom.stages.train.schedules import CosineSchedule, Schedule

if TYPE_CHECKING:
    from hyperloom.pipeline.commits.manifest import Manifest
    from hyperloom.stages.train.stage import Train

COOLING = 0.25
"""Share of the updates made so far over which the rate of an open-ended training falls."""
WARM = 100
"""Updates in which the rate of an open-ended training rises."""
MOST_PASSES = 300
"""An open-ended training sees each sample at most so often."""
OPEN_ENDED: dict[str, Any] = {"optimizer": {"lr": "auto"}, "stop": {"share": 0.3}, "batch": 8, "ema": 0.99}
"""The defaults of a training without a number of updates; docs/training.md says how they were chosen."""
WITHOUT_END = 10**9
"""The plan of a training by time before its first update."""


@dataclass
class Length:
    """`updates` is the number planned at present, which without `minutes` and `open_ended` does not change. `seconds`
    are spent so far, in whatever processes; `cooling` is the update at which the rate of an open-ended training began
    to fall."""

    updates: int
    minutes: float | None = None
    open_ended: bool = False
    seconds: float = 0.0
    cooling: int | None = None
    agreed: Callable[[float], float] = field(default=float, repr=False)
    """All ranks' view of the seconds: those of rank 0."""

    @property
    def fixed(self) -> bool:
        """Is the number of updates known from the start?"""
        return self.minutes is None and not self.open_ended

    @property
    def expected(self) -> int:
        """How many updates there will have been at the end; 0 while nobody knows."""
        unknown = (self.open_ended and self.cooling is None) or self.updates >= WITHOUT_END
        return 0 if unknown else self.updates

    def state(self) -> dict[str, Any]:
        """What a resumed training needs to know."""
        return {"updates": self.updates, "seconds": self.seconds, "cooling": self.cooling}

    def restore(self, state: dict[str, Any]) -> None:
        self.updates, self.seconds, self.cooling = state["updates"], state["seconds"], state["cooling"]

    def spend(self, seconds: float, update: int) -> None:
        """`seconds` more were spent, on what `update` updates now are the end of. Plans anew where time decides."""
        self.seconds += seconds
        if self.minutes is not None and (update <= 8 or update % 8 == 0):
            self.seconds = self.agreed(self.seconds)
            self.updates = max(update, math.ceil(update * self.minutes * 60 / max(self.seconds, 1e-9)))

    def ripe(self, update: int, exhausted: bool) -> bool:
        """Does the rate of an open-ended training begin to fall now, as validation does not improve any more or the
        last updates that it may make begin? Then that is so from here on."""
        last = math.floor(self.updates / (1 + COOLING))
        if not self.open_ended or self.cooling is not None or not (exhausted or update >= last):
            return False
        self.cooling, self.updates = update, min(self.updates, update + max(1, round(update * COOLING)))
        return True

    def rate(self, update: int, schedule: Schedule, optimizer: Optimizer) -> float:
        """The share of the highest rate in update `update` (from 0)."""
        if not self.open_ended:
            return schedule.rate(update, self.updates, optimizer)
        if self.cooling is None or update < self.cooling:
            return min(1.0, (update + 1) / (WARM + 1))
        done = min(1.0, (update - self.cooling) / max(1, self.updates - self.cooling))
        return optimizer.floor + (1 - optimizer.floor) * (1 - math.sqrt(done))


def passes(rows: int, batch: int) -> int:
    """The most updates of an open-ended training."""
    return max(1, MOST_PASSES * rows // batch)


def open_ended(recipe: dict[str, Any]) -> dict[str, Any]:
    """A step without a number of updates, with what it is given where it says nothing itself."""
    targets = recipe.get("targets") or ()
    several = len(targets) > 1 and not isinstance(targets, str) and recipe.get("parallel") != "fsdp"
    more: dict[str, Any] = {"balancer": "leading"} if several else {}
    model = recipe.get("model", {})
    if isinstance(model, dict) and recipe.get("stage") != "distill":
        recipe = {**recipe, "model": {"residual": True, **model}}
    return {**OPEN_ENDED, **more, **recipe} if targets else recipe


def check(stage: Train) -> None:
    """Raises ValueError when a recipe says twice how long its training is, or what does not go with it."""
    given = [n for n in (stage.updates, stage.epochs, stage.minutes, total(stage.phases)) if n is not None]
    if len(given) > 1:
        raise ValueError("give one of updates, epochs and minutes" + ", or updates of phases" * bool(stage.phases))
    if given and not stage.minutes:
        return
    if stage.phases:
        raise ValueError("phases need a number of updates or epochs, or updates of their own")
    if not given and not stage.targets:
        raise ValueError("without targets nothing says when to stop: give updates, epochs or minutes")
    if not given and type(stage.schedule) is not CosineSchedule:
        raise ValueError(f"the schedule {stage.schedule.type!r} needs an end: give updates, epochs or minutes")
    if type(stage.schedule).build is not Schedule.build:
        raise ValueError(f"minutes: the schedule {stage.schedule.type!r} needs a number of updates")


def lasts(stage: Train) -> float | None:
    """Seconds of a training by time; NaN of an open-ended one; None where its updates are known."""
    if stage.minutes is not None:
        return stage.minutes * 60 * stage.seeds
    return None if stage.updates or stage.epochs or total(stage.phases) else math.nan


def effort(stage: Train, samples: int) -> float:
    """Updates of all seeds, where so many samples teach; 0 where only the run tells."""
    updates = stage.updates or total(stage.phases) or updates_of(stage.epochs or 0.0, samples, stage.batch)
    return float(updates * stage.seeds)


def learned(only: str, inputs: Mapping[str, Manifest]) -> int:
    """The rows of the training split, of which an epoch is one pass; with `only` those where it is above 0."""
    sets = [(m, shards) for m in inputs.values() if (shards := Shards.of(m)) is not None]
    return sum(_chosen(only, m, shards) if only in shards.schema else shards.rows("train") for m, shards in sets)


def _chosen(column: str, manifest: Manifest, shards: Shards) -> int:
    """Training rows where a column of one number is above 0, by what the shards noted of its samples."""
    import numpy as np

    from hyperloom.pipeline import plugins
    from hyperloom.stages.shard.summaries import codes

    kind = plugins.parse("modality", {k: v for k, v in shards.schema[column].items() if k != "modality"})
    zero = int(codes(kind, np.zeros(1, np.float32))[0])
    places = zip(manifest.records, shards.shards, strict=True)
    noted = [r.meta["statistics"][column].get("samples", {}) for r, shard in places if shard.split == "train"]
    return sum(n for one in noted for code, n in zip(one.get("codes", ()), one.get("counts", ())) if code > zero)


def updates_of(epochs: float, rows: int, batch: int) -> int:
    """Updates of so many passes over so many rows, in whole batches; fewer rows than a batch are one."""
    return max(1, math.ceil(epochs * (rows // min(batch, rows)))) if epochs and rows else 0


def portion(stage: Train) -> int:
    """Samples of an update: a pilot of few samples has a smaller batch than the whole, and shorter updates."""
    return stage.batch


def repeats(stage: Train) -> int:
    """Trainings of the step, one for each seed."""
    return stage.seeds
