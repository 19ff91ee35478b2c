"""The expert `model`: a model that this pipeline trained, used like any other expert.

    {type: model, model: teacher, out: [semantic@teacher, soft@teacher], ensemble: {type: masks, members: 16}}

An ensemble of masks asks the one network along many hyper-edges (random subsets of its inputs) and averages the answers
(PHG-MAE 2025); an ensemble of models asks several that were trained apart. `pool` says how answers become one. An
output column is a task's prediction (classes by the highest mean probability), or the probabilities of a task with
classes (a `soft` modality), or, for any other dense modality of one channel, how much the members differ (`spread_of`
a task), which can weigh a student's loss as `certainty`. A dense modality of several channels that is no task gets the
features at full resolution, and an embedding those of the whole sample: targets for a student, whose head for them is
the projector (FitNets, Romero et al. 2015). Inputs default to the model's own; missing ones are hidden.
Imports torch only in a worker.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Self

import numpy as np
from pydantic import Field, field_validator

from pipeline.config import StepName, placement
from pipeline.errors import RecipeError
from pipeline.manifest import Manifest
from pipeline.plugins import Plugin, of
from pipeline.storage import Storage
from stages.base import modality_of
from stages.label.expert import CPU_BATCH, Batch, Expert, Function
from stages.modality import Dense, Embedding, Segmentation, Soft
from stages.train.answers import answer
from stages.train.masks import ModalityMask

if TYPE_CHECKING:
    from stages.train.architecture import Architecture, Task
    from stages.train.predictor import Prediction, Predictor, Together


class Ensemble(Plugin):
    """Base of ensembles: which inputs each member may see, and how their answers become one."""

    pool: Literal["mean", "median", "vote"] = "mean"
    """mean of the answers; their median; or, for classes, the share of the members that chose each."""

    def bind(self, inputs: Mapping[str, Manifest]) -> Self:
        """This ensemble with what it needs of the steps it names. Raises RecipeError."""
        return self

    def predictor(self, storage: Storage, folder: str, visible: Sequence[str]) -> Predictor | Together:
        """The model in `folder`, ready to be asked; `visible` are the columns that it may see at all."""
        from stages.train.model import load_model
        from stages.train.predictor import Predictor

        model = load_model(storage, folder)
        columns = model.architecture.columns
        place = {c: i for i, c in enumerate(visible)}
        seen = [[c in place and member[place[c]] for c in columns] for member in self.members(visible)]
        return Predictor(model, seen, self.pool)

    def members(self, columns: Sequence[str]) -> list[list[bool]]:
        """One row a member, one bool an input."""
        raise TypeError(f"the ensemble {self.type!r} has no members()")


class Single(Ensemble):
    """One pass over everything that is there."""

    revision: ClassVar[int] = 1

    def members(self, columns: Sequence[str]) -> list[list[bool]]:
        return [[True] * len(columns)]


class Masks(Ensemble):
    """`count` random subsets of the inputs, the same for every sample; with `full` the first sees everything."""

    revision: ClassVar[int] = 1
    count: int = Field(16, alias="members", ge=1, le=1024)
    seed: int = Field(0, ge=0)
    full: bool = True
    mask: ModalityMask = ModalityMask(type="modality")

    def members(self, columns: Sequence[str]) -> list[list[bool]]:
        import torch

        generator = torch.Generator().manual_seed(self.seed)
        drawn = self.mask.sample(columns, self.count, generator)
        if self.full:
            drawn[0] = ~torch.tensor(self.mask.hidden_inputs(columns))
        return drawn.tolist()


class Models(Ensemble):
    """The model and the further `models`, trained by steps of their own (other seeds, other data), each asked `each`
    way (by default once). They have the same inputs and tasks."""

    revision: ClassVar[int] = 1
    others: tuple[StepName, ...] = Field(alias="models", min_length=1)
    each: Annotated[Any, of("ensemble")] = Single(type="single")
    folders: tuple[str, ...] = placement(())
    """Filled in by `bind`."""

    @field_validator("folders")
    @classmethod
    def _unset(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if value:
            raise ValueError("the models' folders follow from their steps; leave them out")
        return value

    def bind(self, inputs: Mapping[str, Manifest]) -> Self:
        for name in self.others:
            if "columns_in" not in inputs[name].body:
                raise RecipeError(f"ensemble: {name!r} is a {inputs[name].stage} step and holds no model")
        return self.model_copy(update={"folders": tuple(inputs[name].folder for name in self.others)})

    def predictor(self, storage: Storage, folder: str, visible: Sequence[str]) -> Predictor | Together:
        from stages.train.predictor import Predictor, Together

        made = [self.each.predictor(storage, each, visible) for each in (folder, *self.folders)]
        first = made[0].model.architecture
        for where, one in zip(self.folders, made[1:], strict=True):
            other = one.model.architecture
            if (other.columns, [t.name for t in other.tasks]) != (first.columns, [t.name for t in first.tasks]):
                raise RecipeError(f"ensemble: the model in {where} has other inputs or tasks than the first")
        return Together([p for p in made if isinstance(p, Predictor)], self.pool)


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
    folder: str = placement("")
    """Filled in by `bind`."""

    @field_validator("folder")
    @classmethod
    def _unset(cls, value: str) -> str:
        if value:
            raise ValueError("the model's folder follows from its step; leave it out")
        return value

    def bind(self, inputs: Mapping[str, Manifest]) -> Self:
        """Raises RecipeError when the step is no training or `in` names other columns than the model has."""
        made = inputs[self.model]
        known = made.body.get("columns_in")
        if known is None:
            raise RecipeError(
                f"the expert `model` reads {self.model!r}, which is a {made.stage} step and holds no model"
            )
        unknown = [c for c in self.in_ if c not in known]
        if unknown:
            raise RecipeError(
                f"the model of {self.model!r} has no input {', '.join(unknown)}; it has {', '.join(known)}"
            )
        visible = tuple(c for c in known if c not in made.body.get("hidden", ()))
        bound = {"in_": self.in_ or visible, "folder": made.folder, "ensemble": self.ensemble.bind(inputs)}
        return self.model_copy(update=bound)

    @property
    def usual_batch(self) -> int | None:
        return None if self.gpus else CPU_BATCH

    def build(self, modalities: dict[str, Any], storage: Storage) -> Function:
        predictor = self.ensemble.predictor(storage, self.folder, self.in_)
        pick = {c: self._picker(c, modalities[modality_of(c)], predictor.model.architecture) for c in self.out}
        predictor.features = any(
            features_of(c, modalities[modality_of(c)], predictor.model.architecture) for c in self.out
        )

        def run(batch: Batch) -> Batch:
            prediction = predictor(batch)
            return {column: choose(prediction) for column, choose in pick.items()}

        return run

    def _picker(self, column: str, modality: Any, architecture: Architecture) -> Callable[[Prediction], np.ndarray]:
        """How `column` is taken from a prediction. Raises RecipeError when the model has nothing for it."""
        tasks = {t.name: t.modality for t in architecture.tasks}
        name = modality_of(column)
        if name in tasks:
            return lambda p: answer(modality, p.mean[name])
        if isinstance(modality, Soft):
            classed = [t for t, m in tasks.items() if isinstance(m, Segmentation) and m.classes == modality.classes]
            of = modality.of if modality.of in tasks else next(iter(classed), "")
            if of:
                return lambda p: p.mean[of]
        elif isinstance(modality, Dense) and modality.channels == 1:
            task = self.spread_of or next(iter(tasks))
            if task in tasks and self.as_ == "spread":
                return lambda p: p.spread[task]
            if task in tasks:
                return certainty(next(t for t in architecture.tasks if t.name == task))
        sizes = architecture.trunk.sizes
        if key := features_of(column, modality, architecture):
            return lambda p: p.mean[key]
        raise RecipeError(
            f"the model of {self.model!r} predicts {', '.join(tasks)}, nothing for {column} (its features have "
            f"{sizes.planes} channels, those of a whole sample {sizes.pooled})"
        )


def features_of(column: str, modality: Any, architecture: Architecture) -> str:
    """Which of the features the column holds, as the answers call them; empty when it is a task or fits none."""
    from stages.train.predictor import PLANES, POOLED

    if modality_of(column) in {t.name for t in architecture.tasks}:
        return ""
    sizes = architecture.trunk.sizes
    if isinstance(modality, Dense) and modality.channels == sizes.planes > 1:
        return PLANES
    return POOLED if isinstance(modality, Embedding) and modality.length == sizes.pooled else ""


def certainty(task: Task) -> Callable[[Prediction], np.ndarray]:
    """What makes of a task's spread a number in 0..1, (N, ..., 1) float32, to weigh a loss by."""
    if isinstance(task.modality, Segmentation):
        return lambda p: np.clip(1 - 2 * p.spread[task.name] * np.sqrt(task.modality.channels / 2), 0, 1)
    deviation = np.float32(np.mean(task.scale.std) if task.scale.std else 1.0)
    return lambda p: 1 / (1 + (p.spread[task.name] / deviation) ** 2)


def predictor(storage: Storage, manifest: Manifest, ensemble: Ensemble | None = None) -> Predictor | Together:
    """The model of a train or distill step, ready to be called with a batch: {column: (N, *shape)} and, where samples
    may miss it, {column?: (N,) bool}. Returns a `Prediction` with the `mean` and `spread` of each task."""
    hidden = manifest.body.get("hidden", ())
    visible = [c for c in manifest.body["columns_in"] if c not in hidden]
    return (ensemble or Single(type="single")).predictor(storage, manifest.folder, visible)
