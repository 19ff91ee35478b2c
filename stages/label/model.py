"""The expert `model`: a model that this pipeline trained, used like any other expert.

    {type: model, model: teacher, out: [semantic@teacher, soft@teacher], ensemble: {type: masks, members: 16}}

An ensemble of masks asks the one network along many hyper-edges (random subsets of its inputs) and averages the answers
(PHG-MAE 2025). An output column is a task's prediction (classes by the highest mean probability), or the probabilities
of a task with classes (a `soft` modality), or, for any other dense modality of one channel, how much the members differ
(`spread_of` a task). Inputs default to the model's own; missing ones are hidden. Imports torch only in a worker.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Self

import numpy as np
from pydantic import Field, field_validator

from pipeline.config import StepName, placement
from pipeline.errors import RecipeError
from pipeline.manifest import Manifest
from pipeline.plugins import Plugin, of
from pipeline.storage import Storage
from stages.base import modality_of
from stages.label.expert import CPU_BATCH, Batch, Expert, Function
from stages.modality import Dense, Segmentation, Soft
from stages.train.answers import answer
from stages.train.masks import ModalityMask

if TYPE_CHECKING:
    from stages.train.architecture import Architecture
    from stages.train.predictor import Prediction, Predictor


class Ensemble(Plugin):
    """Base of ensembles: which inputs each member may see."""

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


class Model(Expert):
    """`model` names the train or distill step; `in` may be fewer columns than it was trained with."""

    revision: ClassVar[int] = 1
    accepts_missing: ClassVar[bool] = True

    in_: tuple[str, ...] = Field((), alias="in")
    model: StepName
    ensemble: Annotated[Any, of("ensemble")] = Single(type="single")
    spread_of: str = ""
    """The task whose spread a dense column that is no task shows; by default the first."""
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
        return self.model_copy(update={"in_": self.in_ or visible, "folder": made.folder})

    @property
    def usual_batch(self) -> int | None:
        return None if self.gpus else CPU_BATCH

    def build(self, modalities: dict[str, Any], storage: Storage) -> Function:
        predictor = _predictor(storage, self.folder, self.ensemble, self.in_)
        pick = {c: self._picker(c, modalities[modality_of(c)], predictor.model.architecture) for c in self.out}

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
            if task in tasks:
                return lambda p: p.spread[task]
        raise RecipeError(f"the model of {self.model!r} predicts {', '.join(tasks)}, nothing for {column}")


def predictor(storage: Storage, manifest: Manifest, ensemble: Ensemble | None = None) -> Predictor:
    """The model of a train or distill step, ready to be called with a batch: {column: (N, *shape)} and, where samples
    may miss it, {column?: (N,) bool}. Returns a `Prediction` with the `mean` and `spread` of each task."""
    hidden = manifest.body.get("hidden", ())
    visible = [c for c in manifest.body["columns_in"] if c not in hidden]
    return _predictor(storage, manifest.folder, ensemble or Single(type="single"), visible)


def _predictor(storage: Storage, folder: str, ensemble: Ensemble, visible: Sequence[str]) -> Predictor:
    from stages.train.model import load_model
    from stages.train.predictor import Predictor

    model = load_model(storage, folder)
    columns = model.architecture.columns
    members = ensemble.members(visible)
    place = {c: i for i, c in enumerate(visible)}
    return Predictor(model, [[c in place and member[place[c]] for c in columns] for member in members])
