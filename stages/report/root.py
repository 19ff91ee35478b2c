"""A root as a report reads it: the planned steps, the results of those that are done, and the history of all."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from hyperloom.pipeline.planning.plan import PlannedStep
from hyperloom.pipeline.recipes.recipe import RecipeFile
from hyperloom.pipeline.result import Result
from hyperloom.pipeline.root.storage import Storage
from hyperloom.stages.report.history import RunHistory, StepHistory, histories
from hyperloom.stages.results import Judged, Released

R = TypeVar("R", bound=Result)


@dataclass
class ReportedRoot:
    """`steps` are planned, in the order in which they run; `run` is the newest run of this recipe in this state."""

    loaded: RecipeFile
    storage: Storage
    steps: list[PlannedStep]
    run: RunHistory = field(default_factory=lambda: RunHistory(""))
    work: Mapping[str, StepHistory] = field(default_factory=dict)
    """How each step was made, by fingerprint."""

    @property
    def modalities(self) -> dict[str, Any]:
        return self.loaded.recipe.modalities

    def results(self, kind: type[R]) -> Iterator[tuple[PlannedStep, R]]:
        """Steps that are done and hold a result of this kind. One that cannot be read is passed over."""
        for step in self.steps:
            if step.manifest is None:
                continue
            try:
                result = kind.of(step.manifest)
            except (TypeError, ValueError, KeyError, AttributeError):
                continue
            if result is not None:
                yield step, result

    def history(self, step: PlannedStep) -> StepHistory:
        return self.work.get(step.fingerprint, StepHistory())

    def judged(self) -> tuple[PlannedStep, Judged] | None:
        """The report that counts: the one that a release decided by, else the last."""
        every = list(self.results(Judged))
        named = {getattr(step.stage, "report", None) for step, _ in self.results(Released)}
        return next((pair for pair in reversed(every) if pair[0].name in named), every[-1] if every else None)

    def step(self, name: str) -> PlannedStep | None:
        return next((s for s in self.steps if s.name == name), None)


def opened(loaded: RecipeFile, storage: Storage, steps: list[PlannedStep]) -> ReportedRoot:
    """The root with its history; without one where nothing can be read of it."""
    work, run = histories(storage, {s.fingerprint for s in steps}, loaded.recipe.name)
    return ReportedRoot(loaded, storage, steps, run, work)
