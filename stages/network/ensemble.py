"""Ensembles: the ways to ask trained networks more than once, as a recipe names them.

    ensemble: {type: masks, members: 16}        one network, asked along random subsets of its inputs (PHG-MAE 2025)
    ensemble: {type: models, models: [a, b]}    several that were trained apart, each asked `each` way

`pool` says how the members' answers become one. Imports torch only when a network is asked.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, field_validator

from hyperloom.pipeline.commits.manifest import Manifest
from hyperloom.pipeline.config import StepName, placement
from hyperloom.pipeline.errors import RecipeError
from hyperloom.pipeline.plugins import Plugin, of
from hyperloom.pipeline.root.storage import Storage
from hyperloom.stages.network.masks import ModalityMask
from hyperloom.stages.results import Trained
from hyperloom.stages.schema import ModelSchema

if TYPE_CHECKING:
    from hyperloom.pipeline.planning.check import StepCheck
    from hyperloom.pipeline.recipes.recipe import Where
    from hyperloom.stages.network.predictor import Predictor, Together


class Ensemble(Plugin):
    """Base of ensembles: which inputs each member may see, and how their answers become one. Of a family of models
    (`seeds: 3`) every one is asked in this way."""

    together: ClassVar[bool] = False
    """Is it meant to make one of several models, also where each could be judged by itself?"""
    pool: Literal["mean", "median", "vote"] = "mean"
    """mean of the answers; their median; or, for classes, the share of the members that chose each."""

    def check(self, step: StepCheck, where: Where, model: ModelSchema | None) -> None:
        """Note in `step`, below `where`, what keeps `model` (None where nobody knows it) from being asked so."""

    def bind(self, inputs: Mapping[str, Manifest]) -> Self:
        """This ensemble with what it needs of the steps it names."""
        return self

    def predictor(self, storage: Storage, folders: Sequence[str], visible: Sequence[str]) -> Predictor | Together:
        """The models in `folders`, ready to be asked as one; `visible` are the columns that they may see at all."""
        from hyperloom.stages.network.predictor import Together

        predictors = [self.one(storage, folder, visible) for folder in folders]
        return predictors[0] if len(predictors) == 1 else Together(predictors, self.pool)

    def one(self, storage: Storage, folder: str, visible: Sequence[str]) -> Predictor:
        """The model in `folder` alone."""
        from hyperloom.stages.network.model import load_model
        from hyperloom.stages.network.predictor import Predictor

        model = load_model(storage, folder)
        columns = model.architecture.columns
        place = {c: i for i, c in enumerate(visible)}
        seen = [[c in place and member[place[c]] for c in columns] for member in self.members(visible)]
        return Predictor(model, seen, self.pool)

    def members(self, columns: Sequence[str]) -> list[list[bool]]:
        """One row a member, one bool an input."""
        raise TypeError(f"the ensemble {self.type!r} has no members()")

    def hidden_inputs(self, columns: Sequence[str]) -> list[bool]:
        """Which of the columns no member may see, as far as the ensemble says so without drawing any."""
        return [False] * len(columns)


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

    def hidden_inputs(self, columns: Sequence[str]) -> list[bool]:
        return self.mask.hidden_inputs(columns)


class Models(Ensemble):
    """The model and the further `models`, trained by steps of their own (other seeds, other data), each asked `each`
    way (by default once). They have the same inputs and tasks. A family needs no further ones."""

    revision: ClassVar[int] = 1
    together: ClassVar[bool] = True
    others: tuple[StepName, ...] = Field((), alias="models")
    each: Annotated[Any, of("ensemble")] = Single(type="single")
    folders: tuple[str, ...] = placement(())
    """Filled in by `bind`, as is what the models cannot do without."""
    needs: tuple[str, ...] = placement(())

    @field_validator("folders", "needs")
    @classmethod
    def _unset(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if value:
            raise ValueError("the models' folders and needs follow from their steps; leave them out")
        return value

    def check(self, step: StepCheck, where: Where, model: ModelSchema | None) -> None:
        if model and not model.members and not self.others:
            step.mistake(where, "ensemble: it has one model. Next: name further `models:`, or train with `seeds: 3`")
        for i, name in enumerate(self.others):
            other = step.read((*where, "models", i), name, ModelSchema)
            if model and other and (other.inputs, other.tasks) != (model.inputs, model.tasks):
                what = f"the model of {name!r} has other inputs or tasks than {model.identity!r}"
                step.mistake((*where, "models", i), f"ensemble: {what}")
        self.each.check(step, (*where, "each"), model)

    def bind(self, inputs: Mapping[str, Manifest]) -> Self:
        others = {name: Trained.from_manifest(inputs[name]) for name in self.others}
        folders = [f for name, one in others.items() for f in one.folders(inputs[name])]
        needs = sorted({column for one in others.values() for column in one.needs or ()})
        return self.model_copy(update={"folders": tuple(folders), "needs": tuple(needs)})

    def hidden_inputs(self, columns: Sequence[str]) -> list[bool]:
        hidden: list[bool] = self.each.hidden_inputs(columns)
        return hidden

    def predictor(self, storage: Storage, folders: Sequence[str], visible: Sequence[str]) -> Predictor | Together:
        from hyperloom.stages.network.predictor import Together

        every = [*folders, *self.folders]
        predictors = [self.each.one(storage, folder, visible) for folder in every]
        first = predictors[0].model.architecture
        for where, one in zip(every[1:], predictors[1:], strict=True):
            other = one.model.architecture
            mine, theirs = ({t.name: t.modality.meaning for t in a.tasks} for a in (first, other))
            if (other.columns, list(theirs)) != (first.columns, list(mine)):
                raise RecipeError(f"ensemble: the model in {where} has other inputs or tasks than the first")
            if changed := [name for name in mine if mine[name] != theirs[name]]:
                raise RecipeError(f"ensemble: {changed[0]!r} has other classes or units in the model in {where}")
        together = Together(predictors, self.pool)
        together.needs = frozenset(self.needs)
        return together


def predictor(
    storage: Storage, manifest: Manifest, ensemble: Ensemble | None = None, member: str = ""
) -> Predictor | Together:
    """The model of a train or distill step, ready to be called with a batch: {column: (N, *shape)} and, where samples
    may miss it, {column?: (N,) bool}. Returns a `Prediction` with the `mean` and `spread` of each task. Of a family all
    are asked, or the one `member`."""
    trained = Trained.from_manifest(manifest)
    how = ensemble or Single(type="single")
    predictor = how.predictor(storage, trained.folders(manifest, member), trained.visible)
    predictor.needs |= frozenset(trained.needs or ())
    return predictor
