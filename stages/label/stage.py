"""The label stage: experts turn the columns of other steps into new ones, partition by partition.

    labels:
      stage: label
      data: frames
      experts:
        - {type: flow, in: rgb@camera, out: flow@dis}
        - {type: depth-from-flow, in: [flow@dis, pose@telemetry], out: depth@motion}

Experts may read each other; a sample that an expert cannot do is in quarantine for that expert only and a null in its
columns. The stage makes no choice among sources (see consensus) and joins nothing (see shard).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Annotated, Any, ClassVar

from pydantic import Field, field_validator, model_validator

from hyperloom.pipeline.commits.manifest import Manifest
from hyperloom.pipeline.commits.units import Worker
from hyperloom.pipeline.config import StepName, as_tuple
from hyperloom.pipeline.errors import RecipeError, SourceError
from hyperloom.pipeline.planning.check import StepCheck
from hyperloom.pipeline.plugins import of
from hyperloom.pipeline.root.digests import Digests
from hyperloom.pipeline.root.storage import Storage
from hyperloom.pipeline.stage import Forecast, Stage, StepRun
from hyperloom.stages import provenance
from hyperloom.stages.label import graph
from hyperloom.stages.label.check import checked
from hyperloom.stages.label.neighbours import apart
from hyperloom.stages.remarks import announce
from hyperloom.stages.results import Labels
from hyperloom.stages.schema import SamplesSchema, recheck


class Label(Stage):
    """`data`: the steps whose columns the experts may read. `experts`: plug-ins of kind expert, in any order."""

    revision: ClassVar[int] = 1
    data: tuple[StepName, ...] = Field(min_length=1)
    experts: tuple[Annotated[Any, of("expert")], ...] = Field(min_length=1)

    _list = field_validator("data", mode="before")(as_tuple)

    @model_validator(mode="after")
    def _drawable(self) -> Label:
        """What is wrong whatever the inputs offer is said when the recipe is read."""
        try:
            graph.ordered(self.experts)
        except RecipeError as error:
            raise ValueError(str(error)) from error
        return self

    def uses(self) -> set[str]:
        return graph.modalities_of(self.experts)

    def revised_for(self, modalities: Mapping[str, Any]) -> dict[str, int]:
        return {name: number for e in self.experts for name, number in e.revised_for(modalities).items()}

    def check(self, step: StepCheck) -> SamplesSchema:
        return checked(self, step)

    def facts(self, digests: Digests) -> dict[str, Any]:
        weights = graph.weights_of(self.experts, digests)
        return {"weights": weights} if weights else {}

    def notices(self, storage: Storage) -> list[str]:
        return list(dict.fromkeys(text for expert in self.experts for text in expert.remarks(storage)))

    def units(self, step: StepRun) -> tuple[graph.Units, dict[str, Worker]]:
        drawn = self._drawn(step)
        return drawn.units(), drawn.workers(step.storage, step.gpus)

    def forecast(self, step: StepRun) -> Forecast:
        return self._drawn(step).forecast(step)

    def producers(self, manifest: Manifest) -> dict[str, str]:
        return graph.producers(manifest)

    def run(self, step: StepRun) -> Labels:
        licences = self.notices(step.storage)
        for text in licences:
            step.events.emit("note", step.name, text=text)
        self._as_planned(step)
        drawn = self._drawn(step)
        step.records = step.run_units(drawn.units(), drawn.workers(step.storage, step.gpus))
        labels = drawn.labels(step.records)
        labels = replace(labels, remarks=[*labels.remarks, *apart(drawn), *licences])
        announce(step, labels.remarks, licences)
        provenance.emit_tags(step, labels.columns)
        return labels

    def _as_planned(self, step: StepRun) -> None:
        """Raise SourceError where weights are others than those in the step's identity: it may begin hours after."""
        planned = step.meaning.get("facts", {}).get("weights", {})
        now = self.facts(Digests(step.storage)).get("weights", {}) if step.meaning else planned
        if moved := [columns for columns in now if now[columns] != planned.get(columns)]:
            what = f"the weights or code of {', '.join(moved)} are others than when the run began"
            raise SourceError(f"step {step.name!r}: {what}. Next: run the same command again")

    def _drawn(self, step: StepRun) -> graph.ExpertGraph:
        recheck(step)
        return graph.graph(step, self.experts, self.data, "expert")
