"""Assembly: from a train or distill step of a recipe, and the shards it reads, to the `Job` that the loop runs.

What the data alone can tell is checked here: are there rows enough, has a task a value to learn from. What recipe and
schemas tell is `stages.train.check`'s. Imports no torch and starts nothing.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from hyperloom.pipeline.commits.manifest import Manifest
from hyperloom.pipeline.errors import RecipeError, StepFailed
from hyperloom.pipeline.plugins import parse
from hyperloom.pipeline.stage import StepRun
from hyperloom.stages.base import modality_of
from hyperloom.stages.meaning import translation
from hyperloom.stages.modality import Modality
from hyperloom.stages.network.architecture import Architecture, Input, Task
from hyperloom.stages.network.processors import Scale, processor_of
from hyperloom.stages.objective.hints import hints
from hyperloom.stages.results import Shards, Trained
from hyperloom.stages.schema import recheck
from hyperloom.stages.shard import wild
from hyperloom.stages.shard.holdout import held_out
from hyperloom.stages.shard.mixture import Mixture
from hyperloom.stages.train.check import fitted, judged, looked_at, objectives
from hyperloom.stages.train.job import Job, Rhythm, Span, Target, Teaching
from hyperloom.stages.train.length import WITHOUT_END, passes, updates_of
from hyperloom.stages.train.network import origin_of
from hyperloom.stages.train.phases import Phase, borders, total

if TYPE_CHECKING:
    from hyperloom.stages.train.stage import Train


class Assembly:
    """Assembles the job of `stage` in `step`."""

    def __init__(self, stage: Train, step: StepRun):
        recheck(step)
        self.stage, self.step = stage, step
        self.shards = self._shards()
        self.offered = self._offered()
        self.stop = stage.stop.resolved(looked_at(stage, step.modalities)) if stage.stop else None
        self.held = self._hold_out() if self.stop and self.stop.metric and not self.offered.rows("val") else ""
        self.rows = {name: self.offered.rows(name) for name in ("train", "val")}
        if self.held:
            self.rows = {name: sum(Shards.from_manifest(m).rows(name) for m in self._sets) for name in self.rows}
        if stage.only:
            self.rows["train"] = self._chosen()

    def job(self) -> Job:
        """What the loop needs. Raises RecipeError or StepFailed when the shards do not offer what the recipe wants."""
        stage, updates = self.stage, self._updates()
        self._say_what_is_wild()
        job = Job(
            storage=self.step.storage,
            folder=self.step.folder,
            shards=self.shards,
            modalities=self.step.modalities,
            architecture=self._architecture(),
            parameters=stage.model.parameters,
            targets=self._targets(),
            judged=judged(stage, self.step.modalities) if self.rows["val"] else {},
            fitted=fitted(stage, self.step.modalities),
            mask=stage.mask,
            augment=stage.augment,
            balancer=stage.balancer,
            optimizer=stage.optimizer,
            schedule=stage.schedule,
            learner=stage.learner,
            batches=stage.batches,
            batch=self._batch,
            updates=updates,
            ema=stage.ema,
            seed=stage.seed,
            rhythm=self._rhythm(),
            precision=stage.precision,
            stop=self.stop,
            minutes=stage.minutes,
            open_ended=stage.open_ended,
            held=self.held,
            only=stage.only,
            extras=stage.extras,
            spans=self._spans(updates),
            start=stage.model.start.origin(self.step) if stage.model.start else None,
            guide=self._guide(),
            freeze=stage.model.freeze,
            learn_rates=stage.model.learn_rates,
        )
        return replace(job, needs=self._needs(job))

    def _needs(self, job: Job) -> tuple[str, ...]:
        """Columns of inputs that no mask hides and no training sample lacks: what the network makes of samples without
        them nobody taught it."""
        inputs, masks = job.architecture.inputs, [span.mask for span in job.spans] or [job.mask]
        shown = zip(*(mask.shown_inputs(job.architecture.columns) for mask in masks), strict=True)
        needed = (item for item, each in zip(inputs, shown, strict=True) if all(each))
        whole = ([part.column for part in item.parts] for item in needed)
        return tuple(c for columns in whole if all(map(self._complete, columns)) for c in columns)

    def _complete(self, column: str) -> bool:
        return self.offered.statistics.get(column, {}).get("missing") == 0

    def _say_what_is_wild(self) -> None:
        for column in dict.fromkeys(
            [*self.stage.inputs, *(c for columns in self.stage.targets.values() for c in columns)]
        ):
            if unusual := self.offered.statistics.get(column, {}).get("wild"):
                self.step.events.emit("note", self.step.name, text=wild.sentence(column, unusual))
        for target, by in self.stage.confidence.items():
            if by.doubtful:
                text = (
                    f"{self.step.name}: confidence: {by.column} weighs {target} as it is, so what it doubts most "
                    f"counts most. Next: {{column: {by.column}, falls: 0.1}}, if it is a spread and no score"
                )
                self.step.events.emit("note", self.step.name, text=text)

    @property
    def _batch(self) -> int:
        """Of a rehearsal no more than there are samples: a pilot cannot know beforehand which end in quarantine."""
        most = self.stage.batch if self.stage.rehearses is None else max(1, self.rows["train"])
        return min(self.stage.batch, most)

    def _updates(self) -> int:
        """How many updates there are in all."""
        stage, rows = self.stage, self.rows["train"]
        if rows < self._batch:
            raise StepFailed(
                f"step {self.step.name!r}: batch {stage.batch} is more than the {rows} training rows. Next: "
                f"batch: {rows}"
            )
        if stage.minutes:
            return WITHOUT_END
        if stage.open_ended:
            return passes(rows, self._batch)
        given = stage.updates or total(stage.phases)
        return given or updates_of(stage.epochs or 0.0, rows, self._batch)

    def _guide(self) -> Teaching | None:
        """The network that hints ask, where there are any. Raises RecipeError when it has not what they look at."""
        name, storage = self.stage.guide, self.step.storage
        if not name:
            return None
        manifest = self.step.inputs[name]
        origin = origin_of(name, manifest)
        architecture = Architecture.from_json(json.loads(storage.read(origin.about)))
        try:
            for hint in hints(self.stage.extras).values():
                hint.fits_one(architecture, "the teacher's")
        except ValueError as error:
            raise RecipeError(f"step {self.step.name!r}: extras: {error}") from error
        return Teaching(origin, Trained.from_manifest(manifest).visible)

    def _spans(self, updates: int) -> tuple[Span, ...]:
        """The phases, with what they do not say themselves. Heads that nothing teaches rest, so that neither momentum
        nor decay moves them."""
        stage, phases = self.stage, self.stage.phases
        try:
            begins = borders(phases, updates) if phases else []
        except ValueError as error:
            raise RecipeError(f"step {self.step.name!r}: {error}") from error
        spans = []
        for phase, start, end in zip(phases, begins, begins[1:]):
            targets = self._targets(phase)
            idle = [t for t in stage.targets if t not in {target.task for target in targets}]
            own = stage.model.freeze if phase.freeze is None else phase.freeze
            spans.append(
                Span(
                    name=phase.name,
                    start=start,
                    end=end,
                    targets=targets,
                    extras=tuple(stage.extras) if phase.extras is None else phase.extras,
                    mask=stage.mask if phase.mask is None else phase.mask,
                    freeze=(*own, *(f"heads.{t}" for t in idle)),
                    balancer=phase.balancer,
                    sampler=phase.sampler,
                    restart=phase.restart,
                )
            )
        return tuple(spans)

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
            deterministic=stage.deterministic,
            decode=stage.decode,
            sharded=stage.parallel == "fsdp",
            disk_cache=stage.disk_cache,
            disk_cache_gb=stage.disk_cache_gb,
        )

    def _shards(self) -> Manifest | Mixture:
        if isinstance(self.stage.data, str):
            return self.step.inputs[self.stage.data]
        return Mixture(
            tuple(self.step.inputs[name] for name in self.stage.data), self.stage.sampler, self.step.modalities
        )

    @property
    def _sets(self) -> tuple[Manifest, ...]:
        return self.shards.sets if isinstance(self.shards, Mixture) else (self.shards,)

    def _hold_out(self) -> str:
        """Have a split `val` made out of training groups, in every data set; what was held back, in words. Statistics
        stay those of all that the recipe calls training samples."""
        held = [held_out(manifest) for manifest in self._sets]
        if not any(one.words for one in held):
            return ""
        manifests = tuple(one.manifest for one in held)
        self.shards = replace(self.shards, sets=manifests) if isinstance(self.shards, Mixture) else manifests[0]
        return "; ".join(one.words for one in held if one.words)

    def _chosen(self) -> int:
        """How many training samples are not held back; said."""
        from hyperloom.stages.shard.loader import Loader

        step, only = self.step, self.stage.only
        options: dict[str, Any] = {"shuffle": False, "batch": 1, "pinned": False, "only": only}
        rows = Loader(step.storage, self.shards, step.modalities, [only], **options).rows
        text = f"{rows} of {self.rows['train']} training samples are chosen by {only}, the others held back"
        step.events.emit("note", step.name, text=f"{step.name}: {text}")
        return rows

    def _offered(self) -> Shards:
        return self.shards.whole if isinstance(self.shards, Mixture) else Shards.from_manifest(self.shards)

    def _architecture(self) -> Architecture:
        inputs = self._inputs()
        tasks = self.stage.model.tasks([self._task(name) for name in self.stage.targets], inputs)
        return Architecture(inputs, tasks, self.stage.model.trunk)

    def _inputs(self) -> tuple[Input, ...]:
        read = {}
        for column in self.stage.inputs:
            modality = self.step.modalities[modality_of(column)]
            statistics = self.offered.statistics.get(column, {})
            learned = self._learned(column, modality, statistics)
            read[column] = Input(column, learned, processor_of(modality).scale(statistics))
        return self.stage.model.inputs(read)

    def _learned(self, name: str, modality: Modality, statistics: Mapping[str, Any]) -> Modality:
        try:
            return modality.learned(statistics)
        except ValueError as error:
            raise StepFailed(f"step {self.step.name!r}: {name}: {error}") from error

    def _task(self, name: str) -> Task:
        statistics = [self.offered.statistics.get(c, {}) for c in self.stage.targets[name]]
        if all(s.get("missing", 1.0) >= 1.0 for s in statistics):
            raise StepFailed(
                f"step {self.step.name!r}: no training row has a value of {', '.join(self.stage.targets[name])}, "
                f"so {name!r} cannot be learned. Next: see the quarantine of the step that makes it (hyperloom failed)"
            )
        modality = self._learned(name, self.step.modalities[name], next((s for s in statistics if s), {}))
        columns = [self.step.modalities[modality_of(c)] for c in self.stage.targets[name]]
        scales = [
            processor_of(modality).scale(s).translated(translation(column.meaning, modality.meaning))
            for column, s in zip(columns, statistics, strict=True)
        ]
        scale = Scale() if name in self.stage.raw else next((s for s in scales if s.mean), Scale())
        return Task(name, modality, scale)

    def _targets(self, phase: Phase | None = None) -> tuple[Target, ...]:
        """What teaches, in a phase or in all of the training."""
        every = ((t, c, w) for t, columns in self.stage.targets.items() for c, w in columns.items())
        return tuple(self._target(t, c, w, phase) for t, c, w in every if phase is None or phase.teaches(t, c))

    def _target(self, task: str, column: str, weight: float, phase: Phase | None) -> Target:
        modality, predicted = self.step.modalities[modality_of(column)], self.step.modalities[task]
        fitting = [o for o in objectives(self.stage, task, column, phase).values() if o.takes(modality)]
        objective = fitting[0] if fitting else parse("objective", modality.loss_against(predicted))
        known = self.offered.statistics.get(column, {})
        confidence = self.stage.confidence.get(column)
        counts = known.get("classes")
        classes = tuple(counts[name] for name in modality.counted) if counts else None
        if classes is None and modality.soft and known.get("mean"):
            classes = tuple(known["mean"])
        if classes is not None:  # the objective reads targets in the order of the task
            places = translation(modality.meaning, predicted.meaning).places
            classes = tuple(classes[places.index(i)] for i in range(len(places))) if places else classes
        return Target(task, column, weight, objective, classes, confidence, self.stage.count == "hidden")
