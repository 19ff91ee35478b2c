"""Assembly: from a train or distill step of a recipe, and the shards it reads, to the `Job` that the loop runs.

What the shards alone can tell is checked here: do they have the columns, is there a row to learn from, does each column
fit the task it teaches, do sizes agree. Imports no torch and starts nothing.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from hyperloom.pipeline.errors import RecipeError, StepFailed
from hyperloom.pipeline.manifest import Manifest
from hyperloom.pipeline.plugins import parse
from hyperloom.pipeline.stage import StepRun
from hyperloom.stages.base import modality_of
from hyperloom.stages.network.architecture import Architecture, Input, Scale, Task, check_sizes, scale_of
from hyperloom.stages.results import Shards
from hyperloom.stages.shard.mixture import Mixture
from hyperloom.stages.train.job import Job, Rhythm, Target
from hyperloom.stages.train.stopping import EarlyStop

if TYPE_CHECKING:
    from hyperloom.stages.train.stage import Train


class Assembly:
    """Assembles the job of `stage` in `step`."""

    def __init__(self, stage: Train, step: StepRun):
        self.stage, self.step = stage, step
        self.shards = self._shards()
        self.offered = self._offered()

    def job(self) -> Job:
        """What the loop needs. Raises RecipeError or StepFailed when the shards do not offer what the recipe wants."""
        stage = self.stage
        self._check_offered()
        rows = self.offered.rows("train")
        if rows < stage.batch:
            raise StepFailed(
                f"step {self.step.name!r}: batch {stage.batch} is more than the {rows} training rows. Next: "
                f"batch: {rows}"
            )
        judged = self._judged()
        return Job(
            storage=self.step.storage,
            folder=self.step.folder,
            shards=self.shards,
            modalities=self.step.modalities,
            architecture=self._architecture(),
            parameters=stage.model.parameters,
            targets=tuple(self._target(t, c, w) for t, cs in stage.targets.items() for c, w in cs.items()),
            judged=judged,
            mask=stage.mask,
            augment=stage.augment,
            balancer=stage.balancer,
            optimizer=stage.optimizer,
            schedule=stage.schedule,
            learner=stage.learner,
            batches=stage.batches,
            batch=stage.batch,
            updates=stage.updates or max(1, math.ceil(stage.epochs * (rows // stage.batch))),  # type: ignore[operator]
            ema=stage.ema,
            seed=stage.seed,
            rhythm=self._rhythm(),
            precision=stage.precision,
            stop=self._stop(judged),
            extras=stage.extras,
        )

    def _rhythm(self) -> Rhythm:
        stage = self.stage
        return Rhythm(
            checkpoint=stage.checkpoint_every,
            log=stage.log_every,
            validate=stage.validate_every,
            threads=stage.threads,
            cache_mb=stage.cache_mb,
            micro=stage.micro,
            compile=stage.compile,
            sharded=stage.parallel == "fsdp",
            disk_cache=stage.disk_cache,
            disk_cache_gb=stage.disk_cache_gb,
        )

    def _stop(self, judged: dict[str, str]) -> EarlyStop | None:
        """Early stopping, if what it looks at is measured."""
        stop = self.stage.stop
        if stop is None:
            return None
        if stop.task not in judged:
            raise RecipeError(
                f"step {self.step.name!r}: stop looks at {stop.metric}, and {stop.task!r} is not validated. "
                f"Next: give {self.stage.data!r} a split val (split: {{val: 0.1}}), and the task a hard target or "
                f"validate: {{{stop.task}: a column}}"
            )
        measure = self.step.modalities[stop.task].metric
        if stop.measure != measure:
            raise RecipeError(f"step {self.step.name!r}: validation measures {stop.task}.{measure}; stop on that")
        return stop

    def _shards(self) -> Manifest | Mixture:
        if isinstance(self.stage.data, str):
            return self.step.inputs[self.stage.data]
        return Mixture(
            tuple(self.step.inputs[name] for name in self.stage.data), self.stage.sampler, self.step.modalities
        )

    def _offered(self) -> Shards:
        return self.shards.whole if isinstance(self.shards, Mixture) else Shards.from_manifest(self.shards)

    def _architecture(self) -> Architecture:
        inputs = self._inputs()
        tasks = tuple(self._task(name) for name in self.stage.targets)
        read = [*self.stage.inputs, *(c for columns in self.stage.targets.values() for c in columns)]
        read += [c.column for c in self.stage.confidence.values()]
        try:
            check_sizes(inputs, tasks)
            self.stage.model.trunk.check(inputs, tasks)
            for augment in self.stage.augment:
                augment.check({c: self.step.modalities[modality_of(c)] for c in read})
            architecture = Architecture(inputs, tasks, self.stage.model.trunk)
            for extra in self.stage.extras.values():
                extra.fits(architecture)
        except ValueError as error:
            raise RecipeError(f"step {self.step.name!r}: {error}") from error
        return architecture

    def _check_offered(self) -> None:
        offered = self.offered.schema
        wanted = [
            *self.stage.inputs,
            *self.stage.validate_on.values(),
            *(c for cs in self.stage.targets.values() for c in cs),
        ]
        wanted += [c.column for c in self.stage.confidence.values()]
        absent = sorted({c for c in wanted if c not in offered})
        if absent:
            raise RecipeError(
                f"step {self.step.name!r}: {self.stage.data!r} has no column {', '.join(absent)}; "
                f"it has {', '.join(sorted(offered))}"
            )
        if unknown := [t for t in self.stage.targets if t not in self.step.modalities]:
            raise RecipeError(f"step {self.step.name!r}: the task {unknown[0]!r} is no modality of the recipe")

    def _inputs(self) -> tuple[Input, ...]:
        found = []
        for column in self.stage.inputs:
            modality = self.step.modalities[modality_of(column)]
            found.append(Input(column, modality, scale_of(modality, self.offered.statistics.get(column, {}))))
        return tuple(found)

    def _task(self, name: str) -> Task:
        statistics = [self.offered.statistics.get(c, {}) for c in self.stage.targets[name]]
        if all(s.get("missing", 1.0) >= 1.0 for s in statistics):
            raise StepFailed(
                f"step {self.step.name!r}: no training row has a value of {', '.join(self.stage.targets[name])}, "
                f"so {name!r} cannot be learned. Next: see the quarantine of the step that makes it (hyperloom failed)"
            )
        scales = [scale_of(self.step.modalities[name], s) for s in statistics]
        return Task(name, self.step.modalities[name], next((s for s in scales if s.mean), Scale()))

    def _target(self, task: str, column: str, weight: float) -> Target:
        modality, predicted = self.step.modalities[modality_of(column)], self.step.modalities[task]
        if not modality.teaches(predicted):
            raise RecipeError(
                f"step {self.step.name!r}: {column} cannot teach {task!r}: their modalities differ in kind or channels"
            )
        chosen = [self.stage.losses[k] for k in (column, modality_of(column), task) if k in self.stage.losses]
        fitting = [o for o in chosen if o.takes(modality)]
        if chosen and not fitting:
            raise RecipeError(f"step {self.step.name!r}: the objective {chosen[0].type!r} does not fit {column}")
        objective = fitting[0] if fitting else parse("objective", modality.loss_against(predicted))
        counts = self.offered.statistics.get(column, {}).get("classes")
        confidence = self.stage.confidence.get(column)
        if confidence and self.step.modalities[modality_of(confidence.column)].channels != 1:
            raise RecipeError(
                f"step {self.step.name!r}: {confidence.column} has several channels, confidence is one number"
            )
        classes = tuple(counts.values()) if counts else None
        return Target(task, column, weight, objective, classes, confidence, self.stage.count == "hidden")

    def _judged(self) -> dict[str, str]:
        """What each task is validated against; nothing when there is no split `val`."""
        if not self.offered.rows("val"):
            return {}
        hard = {
            t: [c for c in cs if not self.step.modalities[modality_of(c)].soft] for t, cs in self.stage.targets.items()
        }
        return {
            t: self.stage.validate_on.get(t) or cs[0] for t, cs in hard.items() if cs or t in self.stage.validate_on
        }
