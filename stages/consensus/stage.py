"""The consensus stage: one column out of many sources of a modality, and a report of how far they agree.

    votes:
      stage: consensus
      data: labels
      out: semantic@consensus
      method: vote                     # or {type: vote, weights: {color: 2}}

    votes:
      stage: consensus
      data: [labels, teacher_labels]
      columns:
        semantic@consensus: {method: vote}
        depth@consensus: {method: median, of: [depth@motion, depth@net]}

Without `of`, all columns of the modality count that the inputs offer, except truth and what a consensus made. A method
is an expert over label columns: units, quarantine and nulls are the label stage's. It never looks at truth by itself.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

from pydantic import Field, field_validator, model_validator

from pipeline.config import Config, StepName
from pipeline.errors import RecipeError
from pipeline.manifest import Manifest
from pipeline.plugins import of as plugin_of
from pipeline.stage import Forecast, Stage, StepRun
from pipeline.units import Worker
from stages.base import TRUTH, catalogue, modality_of, source_of
from stages.consensus.methods import Method
from stages.label import graph

Columns = tuple[str, ...]


class Choice(Config):
    """How one column comes about: a plug-in of kind consensus; the columns it weighs, preferred ones first."""

    method: Annotated[Any, plugin_of("consensus")]
    of: Columns = ()


class ConsensusStage(Stage):
    """`data`: the steps whose columns count. Either `out`, `method`, `of` for one column, or `columns` for several."""

    revision: ClassVar[int] = 1
    data: tuple[StepName, ...] = Field(min_length=1)
    out: str = ""
    method: Annotated[Any, plugin_of("consensus")] = None
    of: Columns = ()
    columns: dict[str, Choice] = Field(default_factory=dict)

    @field_validator("data", mode="before")
    @classmethod
    def _list(cls, value: Any) -> Any:
        return (value,) if isinstance(value, str) else value

    @model_validator(mode="after")
    def _one_form(self) -> ConsensusStage:
        if bool(self.columns) == bool(self.out) or bool(self.out) != bool(self.method):
            raise ValueError("give either out and method, or columns: {modality@source: {method: ...}, ...}")
        if self.out in self.columns or (self.columns and self.of):
            raise ValueError("of belongs to out and method; with columns, each column has its own")
        for column in self.choices:
            modality_of(column)
        return self

    @property
    def choices(self) -> dict[str, Choice]:
        """What is to be made, by column."""
        return self.columns or {self.out: Choice(method=self.method, of=self.of)}

    def uses(self) -> set[str]:
        extra = [c for choice in self.choices.values() for c in choice.method.extra()]
        return {modality_of(column) for column in (*self.choices, *extra)}

    def units(self, step: StepRun) -> tuple[graph.Units, dict[str, Worker]]:
        drawn = self._drawn(step)
        return drawn.units(), drawn.workers(step.storage)

    def forecast(self, step: StepRun) -> Forecast:
        return self._drawn(step).forecast(step)

    def producers(self, manifest: Manifest) -> dict[str, str]:
        return graph.producers(manifest)

    def run(self, step: StepRun) -> dict[str, Any]:
        from stages.consensus.agreement import matrices

        drawn = self._drawn(step)
        step.records = step.run_units(drawn.units(), drawn.workers(step.storage))
        report = {}
        for node in drawn.nodes:
            made = node.expert.out[0]
            records = [r for r in step.records if r.space == node.space]
            report[made] = matrices(records, [*node.expert.in_, made])
            _show(step, made, report[made])
        return {**drawn.body(step.records), "agreement": report}

    def _drawn(self, step: StepRun) -> graph.Graph:
        offered = catalogue([step.inputs[name] for name in self.data]).producers
        methods: list[Method] = []
        for column, choice in self.choices.items():
            sources = choice.of or tuple(
                sorted(
                    c
                    for c, producer in offered.items()
                    if modality_of(c) == modality_of(column)
                    and c != column
                    and source_of(c) != TRUTH
                    and producer.about.get("kind") != "consensus"
                )
            )
            if not sources:
                known = ", ".join(sorted(offered))
                raise RecipeError(f"nothing to find a consensus of for {column!r}; the steps offer: {known}")
            methods.append(choice.method.over(sources, column, step.modalities))
        return graph.graph(step, methods, self.data, "consensus")


def _show(step: StepRun, made: str, report: dict[str, Any]) -> None:
    """The matrices as tables and each source's figure against the outcome as metrics."""
    columns = report["columns"]
    if len(columns) < 3:
        return  # one source and what was made of it agree by definition
    for measure in sorted(set(report) - {"columns"}):
        rows = [
            {"column": c, **dict(zip(columns, row, strict=True))}
            for c, row in zip(columns, report[measure], strict=True)
        ]
        step.events.emit("table", step.name, name=f"agreement {made} {measure}", rows=rows)
        against = {
            f"agreement/{c}/{measure}": v for c, v in zip(columns, report[measure][-1], strict=True) if v is not None
        }
        step.events.metric(step.name, against)
