"""The select stage: which samples are worth a person's minute, an expert's call, or an update, within a budget.

    choice:
      stage: select
      data: [frames, labels, audit]
      out: select@choice                         # 1 where chosen, 0 elsewhere: {type: scalar}
      n: 200
      where: {copy@audit: {above: 0.5}}          # candidates: all conditions are met
      order: {soft@student: highest}             # probabilities count by how uncertain they are
      coverage: clip@net                         # of the first `pool` x n of the order those that cover most
      balance: digit@student                     # as many of each class as can be
      plus: select@earlier                       # chosen before: stay chosen, and count beside the budget

Without `order` and `coverage` chance decides, by `seed`. The column acts in others: `keep:` of a shard step, `only:` of
an expert or of a training (0 holds a sample back), `confidence:` of a training. `worth` names a column with the order
for people.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, ClassVar, Literal

from pydantic import Field, field_validator, model_validator

from hyperloom.pipeline.commits.units import Record, Unit
from hyperloom.pipeline.config import StepName, as_tuple
from hyperloom.pipeline.errors import StepFailed
from hyperloom.pipeline.fingerprint import SHORT, fingerprint, payload
from hyperloom.pipeline.planning.check import StepCheck
from hyperloom.pipeline.stage import Stage, StepRun
from hyperloom.stages.audit.parts import AuditedData, audited
from hyperloom.stages.base import Producer, modality_of
from hyperloom.stages.lesson import inherited
from hyperloom.stages.results import Samples
from hyperloom.stages.schema import SamplesSchema, recheck
from hyperloom.stages.select.check import checked
from hyperloom.stages.select.condition import SampleCondition

ID_DIGITS = 16


class Select(Stage):
    """`data`: one shard step, or an ingest step with others over it, and a shard step that says the splits."""

    revision: ClassVar[int] = 2
    data: tuple[StepName, ...] = Field(min_length=1)
    out: str
    worth: str = ""
    """A column of numbers for `export --order`: 1 for the first that is chosen, less for each next, else missing."""
    n: int | None = Field(None, ge=1)
    """How many are chosen, or `share` of the candidates; without both, all candidates."""
    share: float | None = Field(None, gt=0, le=1)
    where: dict[str, SampleCondition] = {}
    order: dict[str, Literal["highest", "lowest"]] = {}
    """Columns of one number, or of probabilities (their uncertainty); of several the mean rank counts."""
    coverage: str = ""
    method: Literal["k-centre", "facility"] = "k-centre"
    pool: float = Field(5.0, ge=1)
    """Coverage chooses among the first so many times `n` of the order; without an order, among all."""
    balance: str = ""
    plus: str = ""
    split: Literal["train", "val", "test"] | None = None
    """Only samples of this split of a shard step."""
    seed: int = 0

    _list = field_validator("data", mode="before")(as_tuple)

    @model_validator(mode="after")
    def _one_way(self) -> Select:
        if self.n is not None and self.share is not None:
            raise ValueError("give either n or share")
        if self.coverage and self.balance:
            raise ValueError("coverage and balance both say who comes next: give one, or two select steps")
        if (self.order or self.coverage or self.balance) and self.n is None and self.share is None:
            raise ValueError("an order, coverage or balance chooses within a budget: give n or share")
        return self

    def revised_for(self, modalities: Mapping[str, Any]) -> dict[str, int]:
        """Borders were compared in more digits than numbers are stored in, and left out beside `known: true`; samples
        without features covered what lies around zero."""
        borders = any(condition.rounded or condition.several for condition in self.where.values())
        return {**({"borders": 2} if borders else {}), **({"coverage": 2} if self.coverage else {})}

    @property
    def read(self) -> tuple[str, ...]:
        """Columns that are read as one number a sample."""
        named = [*self.where, *self.order, self.balance, self.plus]
        return tuple(dict.fromkeys(c for c in named if c))

    def uses(self) -> set[str]:
        return {modality_of(c) for c in (*self.read, self.coverage, self.out, self.worth) if c}

    def check(self, step: StepCheck) -> SamplesSchema:
        return checked(self, step)

    def run(self, step: StepRun) -> Samples:
        recheck(step)
        data = audited([step.inputs[name] for name in self.data])
        if not data.parts:
            raise StepFailed(f"step {step.name!r}: there are no samples to choose from. Next: see its `data`")
        gathered = self._gathered(step, data)
        chosen = self._chosen(step, data, gathered)
        written = list(self._written(step, data, chosen))
        step.records = [*gathered, chosen, *written]
        about = chosen.meta
        step.events.emit("note", step.name, text=about["text"])
        step.events.metric(step.name, {"select.chosen": about["chosen"], "select.candidates": about["candidates"]})
        reads = {c: data.producers[c].about for c in (*self.read, self.coverage) if c in data.producers}
        producers = {}
        for column in filter(None, (self.out, self.worth)):
            about = {"kind": "expert", "expert": {"type": "select"}, "revision": self.revision, "inputs": sorted(reads)}
            known = {**about, **inherited(column, reads, [], False)}
            producers[column] = Producer(column, written[0].space, step.fingerprint, known)
        return Samples(producers, data.partitions())

    def _gathered(self, step: StepRun, data: AuditedData) -> list[Record]:
        from hyperloom.stages.select.gather import Gatherer

        columns = [c for c in (*self.read, self.coverage) if c]
        known = {name: step.modalities[name] for name in sorted({modality_of(c) for c in columns})}
        meaning = [self.read, self.coverage, {n: payload(m) for n, m in known.items()}, *([2] if self.coverage else [])]
        space = f"select/{fingerprint(meaning)[:SHORT]}"
        units = []
        for part in data.parts:
            id_ = fingerprint({"group": part.group, "content": list(part.content)})[:ID_DIGITS]
            files = {c: f for c, f in part.columns.items() if c in columns}
            units.append(Unit(space, id_, "gather", {"keys": part.keys, "columns": files}))
        return list(step.run_units(units, {"gather": Gatherer(self.read, self.coverage, known)}))

    def _chosen(self, step: StepRun, data: AuditedData, gathered: list[Record]) -> Record:
        from hyperloom.stages.select.choice import Chooser

        names = {c: tuple(step.modalities[modality_of(c)].counted) for c in self.read}
        splits = [part.split for part in data.parts]
        identity = [payload(self, lambda name: ""), [r.file.sha256 for r in gathered], splits]
        content = {"gathered": [r.file.path for r in gathered], "splits": splits}
        unit = Unit(f"select/{step.fingerprint[:SHORT]}", fingerprint(identity)[:ID_DIGITS], "choose", content)
        return next(iter(step.run_units([unit], {"choose": Chooser(self, names)})))

    def _written(self, step: StepRun, data: AuditedData, chosen: Record) -> Iterator[Record]:
        from hyperloom.stages.audit.scores import ScoreWriter

        out = {self.out: "chosen", **({self.worth: "worth"} if self.worth else {})}
        known: dict[str, Any] = {name: step.modalities[name] for name in sorted({modality_of(c) for c in out})}
        meaning = {"of": chosen.file.sha256, "out": out, "modalities": {n: payload(m) for n, m in known.items()}}
        space, first, units = f"select/{fingerprint(meaning)[:SHORT]}", 0, []
        for part in data.parts:
            for pid, rows in part.pids:
                units.append(Unit(space, pid, "scores", {"table": chosen.file.path, "first": first, "rows": rows}))
                first += rows
        yield from step.run_units(units, {"scores": ScoreWriter(out, known)})
