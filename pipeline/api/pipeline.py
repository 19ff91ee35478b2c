"""A recipe as an object: plan it, run it, take its steps. The door for scripts and notebooks."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from hyperloom.pipeline.api import page
from hyperloom.pipeline.api.step import PipelineStep
from hyperloom.pipeline.errors import HyperloomError, RecipeError, StepFailed
from hyperloom.pipeline.recipes.recipe import RecipeFile
from hyperloom.pipeline.root.storage import Storage
from hyperloom.pipeline.spelling import near

if TYPE_CHECKING:
    from hyperloom.pipeline.api.model import Model


def load(recipe: str | os.PathLike[str] | Mapping[str, Any], root: str | os.PathLike[str] | None = None) -> Pipeline:
    """A recipe from its file, or from a mapping of the same form; `root` counts in place of the recipe's own.

    Every field is checked. Raises RecipeError with file, line and each mistake. What the recipe names (`mine:label`)
    may lie beside the file or in the working folder, which from here on are the last that Python searches.
    """
    from hyperloom.pipeline.commands import opening

    if isinstance(recipe, Mapping):
        text = json.dumps(recipe, indent=1, default=_plain)
        return Pipeline(*opening.parsed(text, os.fspath(root) if root is not None else None))
    given = SimpleNamespace(recipe=os.fspath(recipe), root=os.fspath(root) if root is not None else None)
    return Pipeline(*opening.load(given, begins=True))


def schema(recipe: Pipeline | None = None) -> dict[str, Any]:
    """The JSON Schema of recipes with all plug-ins that are installed, and those that `recipe` has of its own."""
    from hyperloom.pipeline.commands import schema as schemas

    return schemas.schema(recipe.loaded if recipe else None)


class Plan(Mapping[str, PipelineStep]):
    """The steps of a recipe in the order in which they run, each with its state and why; a table in a notebook."""

    def __init__(self, steps: list[PipelineStep]):
        self._steps = {step.name: step for step in steps}

    def __getitem__(self, name: str) -> PipelineStep:
        return self._steps[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._steps)

    def __len__(self) -> int:
        return len(self._steps)

    @property
    def fresh(self) -> bool:
        """Is there nothing to do?"""
        return all(step.state == "fresh" for step in self._steps.values())

    def __repr__(self) -> str:
        from hyperloom.pipeline.output.tables import table

        return table([step._row() for step in self._steps.values()])

    def _repr_html_(self) -> str:
        return page.table([step._row() for step in self._steps.values()])


class PipelineRun:
    """How a run ended: `id` (empty when everything was fresh), `states` step -> fresh, done, failed or blocked,
    `outcomes` what steps say of how they ended, `quarantined` samples that were left out, `report` where its page
    lies."""

    def __init__(self, outcome: Any, report: str):
        self.report = report
        self.id: str = outcome.run
        self.states: dict[str, str] = outcome.states
        self.outcomes: dict[str, str] = outcome.outcomes
        self.quarantined: int = outcome.quarantined

    def __repr__(self) -> str:
        states = ", ".join(f"{name} {state}" for name, state in self.states.items())
        return f"PipelineRun({self.id or 'nothing to do'}: {states})"

    def _repr_html_(self) -> str:
        rows = [{"step": n, "state": s, "outcome": self.outcomes.get(n, "")} for n, s in self.states.items()]
        return page.heading(f"run {self.id}" if self.id else "nothing to do") + page.table(rows)


class Pipeline:
    """A recipe and its root. `recipe["labels"]` is a step as it stands now, `list(recipe)` the names of the steps."""

    def __init__(self, loaded: RecipeFile, storage: Storage):
        self.loaded, self.storage = loaded, storage
        self.name, self.root = loaded.recipe.name, str(storage)

    @property
    def modalities(self) -> dict[str, Any]:
        """What the recipe defines: name -> modality."""
        return dict(self.loaded.recipe.modalities)

    def plan(self, *steps: str, rehash: bool = False) -> Plan:
        """Which steps would run, and why; `steps` alone and what they need. `rehash` reads all raw files anew. Raises
        RecipeError, SourceError."""
        planned = self._planned(steps, rehash)
        return Plan([PipelineStep(self.loaded, self.storage, planned, step.name) for step in planned])

    def run(
        self,
        *steps: str,
        progress: bool = True,
        ray: bool = True,
        mlflow: bool = True,
        report: bool = True,
        wait: float = 3600.0,
    ) -> PipelineRun:
        """Run the steps that are not fresh, or `steps` alone and what they need; the same call goes on after any
        interruption.

        `ray=False` runs all in this process, one unit after the other; `mlflow=False` leaves MLflow for a later run
        to catch up with; `report=False` writes no page on the run; `wait` is how many seconds to wait
        for another driver that does the same step. Raises StepFailed, or what stopped the run, where a step did not
        end; what was committed is kept.
        """
        from hyperloom.pipeline.commands import opening
        from hyperloom.pipeline.output.progress import Progress
        from hyperloom.pipeline.running import runner

        only, view = list(steps) or None, Progress(quiet=not progress)
        connect = opening.connect(self.loaded) if ray else None
        outcome = runner.run(self.loaded, connect, self.root, only, wait, view, mlflow, paged=report)
        if not outcome.ok:
            problems = "\n".join(f"{name}: {problem}" for name, problem in outcome.problems.items())
            raise StepFailed(problems) from outcome.error
        return PipelineRun(outcome, self.storage.full(outcome.page) if outcome.page else "")

    def champion(self, name: str | None = None) -> Model:
        """The present champion; `name` of the registered model where the root has several. Raises
        RecipeError where there is none."""
        from hyperloom.pipeline.api.model import model_of
        from hyperloom.pipeline.commits import manifest
        from hyperloom.stages import champion

        names = champion.names(self.storage)
        if name is None and len(names) != 1:
            known = f"names: {', '.join(names)}. Next: champion(NAME)" if names else "Next: run a release step"
            raise RecipeError(f"which champion? {known}")
        chosen = name or names[0]
        present = champion.current(self.storage, chosen)
        body = present and manifest.load(self.storage, "release", present.release)
        if not body:
            raise RecipeError(f"{chosen!r} has no champion under {self.root}{near(chosen, names)}")
        return model_of(self.storage, body, {}, "single", chosen)

    def __getitem__(self, name: str) -> PipelineStep:
        if name not in self.loaded.recipe.steps:
            known = ", ".join(self.loaded.recipe.steps)
            raise KeyError(f"there is no step {name!r}{near(name, self.loaded.recipe.steps)}; steps: {known}")
        return PipelineStep(self.loaded, self.storage, self._planned((name,), False), name)

    def __iter__(self) -> Iterator[str]:
        return iter(self.loaded.recipe.steps)

    def __len__(self) -> int:
        return len(self.loaded.recipe.steps)

    def _planned(self, steps: tuple[str, ...], rehash: bool) -> list[Any]:
        from hyperloom.pipeline.planning.plan import plan
        from hyperloom.pipeline.root.digests import Digests

        return plan(self.loaded, self.storage, Digests(self.storage, rehash), list(steps) or None)

    def __repr__(self) -> str:
        return f"Pipeline({self.name!r}, {len(self)} steps, root {self.root!r})"

    def _repr_html_(self) -> str:
        try:
            return page.heading(repr(self)) + self.plan()._repr_html_()
        except HyperloomError as error:  # files that are not there: the recipe is shown all the same
            return page.heading(repr(self)) + page.heading(str(error))


def _plain(value: Any) -> Any:
    """What JSON does not know and a recipe may hold from Python: paths, NumPy's numbers."""
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if hasattr(value, "item"):
        return value.item()
    raise TypeError(f"{value!r} is nothing that a recipe can write")
