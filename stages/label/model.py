"""The expert `model`: a model that this pipeline trained, used like any other expert.

    {type: model, model: teacher, out: [semantic@teacher, soft@teacher], ensemble: {type: masks, members: 16}}

An ensemble of masks asks the one network along many hyper-edges (random subsets of its inputs) and averages the answers
(PHG-MAE 2025); an ensemble of models asks several that were trained apart; of a family (`seeds: 3`) all members are
asked, in any case. `pool` says how answers become one. An output column is a task's prediction (classes by the highest
mean probability), or the probabilities of a task with classes (a `soft` modality), or, for any other dense modality of
one channel, how much the members differ (`spread_of` a task), which can weigh a student's loss as `certainty`. A dense
modality of several channels that is no task gets the features at full resolution, and an embedding those of the whole
sample: targets for a student, whose head for them is the projector (FitNets, Romero et al. 2015). Inputs default to the
model's own; missing ones are hidden. A sample without any, or without one that the training never missed or hid, has no
answer.
Imports torch only in a worker.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Self

import numpy as np
from pydantic import Field, field_validator

from hyperloom.pipeline.commits.manifest import Manifest
from hyperloom.pipeline.config import StepName, placement
from hyperloom.pipeline.errors import RecipeError
from hyperloom.pipeline.plugins import of
from hyperloom.pipeline.root.storage import Storage
from hyperloom.stages.base import defined, modality_of
from hyperloom.stages.label.expert import CPU_BATCH, Batch, Expert, Function
from hyperloom.stages.label.steps import Steps
from hyperloom.stages.label.tag_ends import TagEnds, are_tags
from hyperloom.stages.meaning import Meaning, MeaningsDiffer, Translation, translation
from hyperloom.stages.modality.prediction import Offered, Taken
from hyperloom.stages.network.ensemble import Single
from hyperloom.stages.remarks import remark
from hyperloom.stages.results import Trained
from hyperloom.stages.schema import ModelSchema

if TYPE_CHECKING:
    from hyperloom.pipeline.planning.check import StepCheck
    from hyperloom.pipeline.recipes.recipe import Where
    from hyperloom.stages.network.architecture import Architecture, Task
    from hyperloom.stages.network.predictor import Prediction, Predictor, Together


UNANSWERED = "the model was never trained without an input that is missing here, so it has no answer"


class Model(Expert):
    """`model` names the train or distill step; `in` may be fewer columns than it was trained with."""

    revision: ClassVar[int] = 1
    accepts_missing: ClassVar[bool] = True

    in_: tuple[str, ...] = Field((), alias="in")
    model: StepName
    ensemble: Annotated[Any, of("ensemble")] = Single(type="single")
    spread_of: str = ""
    """The task whose spread a dense column that is no task shows; by default the first."""
    as_: Literal["spread", "certainty"] = Field("spread", alias="spread_as")
    """spread: the standard deviation over members, in the task's unit or as a probability. certainty: 1 where all
    agree, 0 where they could not differ more; of numbers one half where they differ as the training data do."""
    folders: tuple[str, ...] = placement(())
    """Filled in by `bind`, as are how large the weights in them are and what the model cannot do without."""
    weight_bytes: int = placement(0)
    needs: tuple[str, ...] = placement(())

    @field_validator("folders", "weight_bytes", "needs")
    @classmethod
    def _unset(cls, value: Any) -> Any:
        if value:
            raise ValueError("it follows from the model's step; leave it out")
        return value

    def checked(self, step: StepCheck, where: Where) -> Self:
        model = step.read((*where, "model"), self.model, ModelSchema)
        self.ensemble.check(step, (*where, "ensemble"), model)
        if model is None:
            return self
        for i, column in enumerate(self.in_):
            if column not in model.inputs:
                step.unknown((*where, "in", i), column, f"the model of {self.model!r} has no input", model.inputs)
        if all(task in step.modalities for task in model.tasks):
            tasks = {task: step.modalities[task] for task in model.tasks}
            for i, column in enumerate(self.out):
                modality = step.modalities.get(modality_of(column))
                wide = (
                    modality.shape[-1] if modality is not None and modality.shape else 0
                )  # of features, as if they fit
                if modality is None:
                    continue
                taken = self._taken(column, modality, Offered(tasks, wide, wide))
                if taken is None:
                    what = f"the model of {self.model!r} predicts {', '.join(tasks)}, nothing for {column}"
                    step.mistake((*where, "out", i), what)
                    continue
                try:
                    self._brought(taken, column, modality, tasks)
                except RecipeError as error:
                    step.mistake((*where, "out", i), str(error))
        visible = tuple(c for c in model.inputs if c not in model.hidden)
        return self.model_copy(update={"in_": tuple(c for c in self.in_ if c in model.inputs) or visible})

    def bind(self, inputs: Mapping[str, Manifest]) -> Self:
        from hyperloom.stages.network.stored import weight_bytes

        manifest = inputs[self.model]
        trained = Trained.from_manifest(manifest)
        known = {"folders": trained.folders(manifest), "weight_bytes": weight_bytes(manifest)}
        known["needs"] = tuple(trained.needs or ())
        bound = {"in_": self.in_ or trained.visible, "ensemble": self.ensemble.bind(inputs)}
        return self.model_copy(update=known | bound)

    def revised_for(self, modalities: Mapping[str, Any]) -> dict[str, int]:
        """Rows of boxes of several networks were averaged row by row, other objects' with each other. Tags went on
        behind the end of their text."""
        several = len(self.folders) != 1 or not isinstance(self.ensemble, Single)
        kinds = defined(modalities, self.out)
        boxes = several and any(kind.markup == "boxes" for kind in kinds)
        changed = {"pooled boxes": boxes, "ends of tags": any(are_tags(kind) for kind in kinds)}
        return {name: 2 for name, concerned in changed.items() if concerned}

    def heft(self, storage: Storage) -> int:
        return self.weight_bytes

    @property
    def usual_batch(self) -> int | None:
        return None if self.gpus else CPU_BATCH

    def build(self, modalities: dict[str, Any], storage: Storage) -> Function:
        from hyperloom.stages.network.predictor import device_of

        predictor = self.ensemble.predictor(storage, self.folders, self.in_).to(device_of(self.gpus))
        predictor.needs |= frozenset(self.needs)
        architecture = predictor.model.architecture
        known = {part.column for part in architecture.parts}
        for part in architecture.parts:
            if part.column in self.in_ and self._differs(part.modality, modalities[modality_of(part.column)]):
                raise RecipeError(
                    f"the model of {self.model!r} was trained when {part.column} had other classes or units"
                )
        taken = {c: self._certainly_taken(c, modalities[modality_of(c)], architecture) for c in self.out}
        pick = {c: self._picker(t, c, modalities[modality_of(c)], architecture) for c, t in taken.items()}
        predictor.features = any(t.what in ("planes", "pooled") for t in taken.values())

        read, out = (
            {c: modalities[modality_of(c)] for c in columns}
            for columns in (filter(known.__contains__, self.in_), self.out)
        )
        return Asking(predictor, pick, self.gpus > 0, TagEnds.of(read, out))

    def _taken(self, column: str, modality: Any, offered: Offered) -> Taken | None:
        """What of a prediction `column` takes; None when the model has nothing for it."""
        if modality_of(column) in offered.tasks:
            return Taken("mean", modality_of(column))
        taken: Taken | None = modality.taken(offered)
        if taken is not None and taken.what == "spread":
            taken = Taken("spread", taken.task or self.spread_of or next(iter(offered.tasks), ""))
        if taken is not None and taken.what in ("mean", "spread") and taken.task not in offered.tasks:
            return None
        return taken

    def _certainly_taken(self, column: str, modality: Any, architecture: Architecture) -> Taken:
        """What of a prediction `column` takes. Raises RecipeError when the features have other sizes."""
        tasks, sizes = {t.name: t.modality for t in architecture.tasks}, architecture.trunk.sizes
        taken = self._taken(column, modality, Offered(tasks, sizes.planes, sizes.pooled))
        if taken is None:
            raise RecipeError(
                f"the model of {self.model!r} predicts {', '.join(tasks)}, nothing for {column} (its features have "
                f"{sizes.planes} channels, those of a whole sample {sizes.pooled})"
            )
        return taken

    def _picker(
        self, taken: Taken, column: str, modality: Any, architecture: Architecture
    ) -> Callable[[Prediction], np.ndarray]:
        """How a column's values are taken from a prediction."""
        from hyperloom.stages.network.predictor import PLANES, POOLED

        what, name = taken
        tasks = {t.name: t.modality for t in architecture.tasks}
        how = self._brought(taken, column, modality, tasks)
        if what == "spread" and self.as_ == "certainty":
            return certainty(next(t for t in architecture.tasks if t.name == name))
        if what == "spread":
            return lambda p: how.numbers(p.spread[name])
        if what != "mean":
            key = PLANES if what == "planes" else POOLED
            return lambda p: p.mean[key]
        own = tasks[name]  # it knows the vocabulary
        same = type(own) is type(modality)
        answering, brought = (own, own.translated) if same else (modality, own.mean_translated)
        if not how:
            return lambda p: p.mean.answer(name, answering)
        return lambda p: brought(p.mean.answer(name, answering), how)

    def _brought(self, taken: Taken, column: str, modality: Any, tasks: Mapping[str, Any]) -> Translation:
        """How what is taken of the model becomes the column's. Raises RecipeError where it says something else."""
        ours = modality.meaning
        if taken.what not in ("mean", "spread") or taken.task not in tasks:
            return Translation()
        theirs = tasks[taken.task].meaning
        if taken.what == "spread":
            unit = "" if self.as_ == "certainty" or tasks[taken.task].categorical else theirs.unit
            theirs, ours = Meaning(unit=unit if ours.unit else ""), Meaning(unit=ours.unit)
        try:
            return translation(theirs, ours, (f"the task {taken.task!r} of the model", column))
        except MeaningsDiffer as error:
            raise RecipeError(f"the model of {self.model!r} cannot give {column}: {error}") from error

    @staticmethod
    def _differs(one: Any, other: Any) -> bool:
        try:
            return bool(translation(one.meaning, other.meaning))
        except MeaningsDiffer:
            return True


class Asking(Steps):
    """A predictor's answers, of which each column takes something."""

    def __init__(
        self,
        predictor: Predictor | Together,
        pick: Mapping[str, Callable[[Prediction], Any]],
        device: bool,
        ends: TagEnds,
    ):
        self._predictor, self._pick, self.device, self._ends = predictor, pick, device, ends

    def compute(self, prepared: Batch) -> tuple[Prediction, np.ndarray, np.ndarray | None]:
        return self._predictor(prepared), self._predictor.answerable(prepared), self._ends.lengths(prepared)

    def finish(self, computed: tuple[Prediction, np.ndarray, np.ndarray | None]) -> Batch:
        prediction, answerable, lengths = computed
        columns = self._ends.cut({column: choose(prediction) for column, choose in self._pick.items()}, lengths)
        if answerable.all():
            return columns
        for _ in range(int((~answerable).sum())):
            remark(UNANSWERED)
        return {c: [v if a else None for v, a in zip(vs, answerable, strict=True)] for c, vs in columns.items()}  # type: ignore[misc]


def certainty(task: Task) -> Callable[[Prediction], np.ndarray]:
    """What makes of a task's spread a number in 0..1, (N, ..., 1) float32, to weigh a loss by."""
    if task.modality.categorical:
        return lambda p: np.clip(1 - 2 * p.spread[task.name] * np.sqrt(task.modality.channels / 2), 0, 1)
    deviation = np.float32(np.mean(task.scale.std) if task.scale.std else 1.0)
    return lambda p: 1 / (1 + (p.spread[task.name] / deviation) ** 2)
