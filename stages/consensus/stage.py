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
        normals@consensus: {method: inverse-variance, truth: normals@truth}

Without `of`, all columns of the modality count that the inputs offer, except truth and what a consensus made. A method
is an expert over label columns: units, quarantine and nulls are the label stage's. A method that learns how reliable
the sources are goes over the data once more before (see stages.consensus.tally). Truth is looked at only where `truth`
names it, and then only for the report: how often sources and outcome are right.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar

from pydantic import Field, field_validator, model_validator

from hyperloom.pipeline.commits.manifest import Manifest
from hyperloom.pipeline.config import Config, StepName, as_tuple
from hyperloom.pipeline.planning.check import StepCheck
from hyperloom.pipeline.plugins import of as plugin_of
from hyperloom.pipeline.stage import Forecast, Stage, StepRun
from hyperloom.stages.base import is_human, modality_of
from hyperloom.stages.catalogue import catalogue
from hyperloom.stages.consensus.check import checked, sources
from hyperloom.stages.consensus.methods import Method
from hyperloom.stages.label import graph
from hyperloom.stages.remarks import announce
from hyperloom.stages.results import Consensus
from hyperloom.stages.schema import SamplesSchema, made_by, recheck

ColumnNames = tuple[str, ...]


class MethodChoice(Config):
    """How one column comes about: a plug-in of kind consensus; the columns it weighs, preferred ones first."""

    method: Annotated[Any, plugin_of("consensus")]
    of: ColumnNames = ()
    truth: str = ""


class ConsensusStage(Stage):
    """`data`: the steps whose columns count. Either `out`, `method`, `of`, `truth` for one column, or `columns` for
    several."""

    revision: ClassVar[int] = 2
    data: tuple[StepName, ...] = Field(min_length=1)
    out: str = ""
    method: Annotated[Any, plugin_of("consensus")] = None
    of: ColumnNames = ()
    truth: str = ""
    columns: dict[str, MethodChoice] = Field(default_factory=dict)

    _list = field_validator("data", mode="before")(as_tuple)

    @model_validator(mode="after")
    def _one_form(self) -> ConsensusStage:
        if bool(self.columns) == bool(self.out) or bool(self.out) != bool(self.method):
            raise ValueError("give either out and method, or columns: {modality@source: {method: ...}, ...}")
        if self.out in self.columns or (self.columns and (self.of or self.truth)):
            raise ValueError("of and truth belong to out and method; with columns, each column has its own")
        for column, choice in self.choices.items():
            if choice.truth and modality_of(choice.truth) != modality_of(column):
                raise ValueError(f"truth: {choice.truth!r} is no column of the modality of {column!r}")
        return self

    @property
    def choices(self) -> dict[str, MethodChoice]:
        """What is to be made, by column."""
        return self.columns or {self.out: MethodChoice(method=self.method, of=self.of, truth=self.truth)}

    def uses(self) -> set[str]:
        extra = [c for choice in self.choices.values() for c in choice.method.extra()]
        return {modality_of(column) for column in (*self.choices, *extra)}

    def revised_for(self, modalities: Mapping[str, Any]) -> dict[str, int]:
        changed: dict[str, int] = {}
        for column, choice in self.choices.items():
            people = not choice.of or any(map(is_human, choice.of))
            changed |= choice.method.changed(modalities.get(modality_of(column)), people)
        return changed

    def check(self, step: StepCheck) -> SamplesSchema:
        return checked(self, step)

    def forecast(self, step: StepRun) -> Forecast | None:
        if any(choice.method.learns for choice in self.choices.values()):
            return None  # its identity follows from estimates that only a run makes
        return self._drawn(step).forecast(step)

    def producers(self, manifest: Manifest) -> dict[str, str]:
        return graph.producers(manifest)

    def run(self, step: StepRun) -> Consensus:
        from hyperloom.stages.consensus.agreement import matrices
        from hyperloom.stages.consensus.tally import learned

        drawn = self._drawn(step)
        methods, tallies = learned(step, drawn)
        if tallies:
            drawn = graph.graph(step, methods, self.data, "consensus")
        step.records = step.run_units(drawn.units(), drawn.workers(step.storage, step.gpus))
        report, reliability = {}, {}
        for node in drawn.nodes:
            method: Any = node.expert
            out, truth = method.out[0], [method.truth] if method.truth else []
            records = [r for r in step.records if r.space == node.space]
            report[out] = matrices(records, [*method.sources, *method.human, *truth, out])
            if method.source_reliability():
                reliability[out] = method.source_reliability()
            _show(step, out, report[out], method.source_reliability())
            _people(step, out, report[out], method.human)
        labels = drawn.labels(step.records)
        announce(step, labels.remarks)
        step.records = [*step.records, *tallies]  # verify re-reads the tallies too, and gc knows them
        return Consensus(
            labels.columns,
            labels.partitions,
            labels.quarantined,
            labels.coverage,
            labels.remarks,
            agreement=report,
            reliability=reliability if tallies else None,
        )

    def _drawn(self, step: StepRun) -> graph.ExpertGraph:
        recheck(step)
        offered = {c: made_by(p.about) for c, p in catalogue([step.inputs[n] for n in self.data]).producers.items()}
        methods: list[Method] = [
            choice.method.over(sources(column, choice, offered), column, step.modalities, choice.truth)
            for column, choice in self.choices.items()
        ]
        return graph.graph(step, methods, self.data, "consensus")


def _people(step: StepRun, out: str, report: dict[str, Any], human: Sequence[str]) -> None:
    """How far each source agrees with people, as lines, a table and metrics."""
    columns, rows = report["columns"], []
    for measure in sorted(set(report) - {"columns"}):
        for person in human:
            figures = report[measure][columns.index(person)]
            rows += [
                {"people": person, "source": c, "measure": measure, "figure": value}
                for c, value in zip(columns, figures, strict=True)
                if value is not None and c not in (person, out)
            ]
    if not rows:
        return
    step.events.emit("table", step.name, name=f"people and experts {out}", rows=rows)
    step.events.metric(step.name, {f"people/{r['source']}/{r['measure']}": r["figure"] for r in rows})
    named = ", ".join(f"{r['source']} {r['figure']:.3g}" for r in rows if r["measure"] == rows[0]["measure"])
    step.events.emit("note", step.name, text=f"{out}: agreement with people ({rows[0]['measure']}): {named}")


def _show(step: StepRun, out: str, report: dict[str, Any], reliability: dict[str, float]) -> None:
    """The matrices as tables and pictures; each source's figure against the outcome and its reliability as metrics."""
    from hyperloom.stages.consensus.picture import heat_map

    columns = report["columns"]
    step.events.metric(step.name, {f"reliability/{c}": v for c, v in reliability.items()})
    if len(columns) < 3:
        return  # one source and what was made of it agree by definition
    for measure in sorted(set(report) - {"columns"}):
        rows = [
            {"column": c, **dict(zip(columns, row, strict=True))}
            for c, row in zip(columns, report[measure], strict=True)
        ]
        name = f"agreement {out} {measure}"
        step.events.emit("table", step.name, name=name, rows=rows)
        picture = step.write(f"{name.replace(' ', '-')}.png", heat_map(columns, report[measure], name))
        step.events.emit("artifact", step.name, path=picture.path, to="pictures")
        against = {
            f"agreement/{c}/{measure}": v for c, v in zip(columns, report[measure][-1], strict=True) if v is not None
        }
        step.events.metric(step.name, against)
