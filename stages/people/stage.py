"""The stage of people: what they said of samples, as columns like any other.

    people: {stage: people, data: [frames], columns: semantic@human}

`hyperloom export RECIPE STEP --to label-studio` sends samples out, `hyperloom import FILE --recipe RECIPE` brings back
what was changed; both keep it under the root (`stages.people.ledger`). The identity of the column is that of its
modality and does not follow the answers: a partition has a unit where somebody answered, named by the answers in it, so
a new answer does that partition again, here and in all that reads it, and no other. The step's own identity has the
digest of all answers among its facts. Who answered, and when, stand in the unit's file beside the values.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from pydantic import Field, field_validator

from hyperloom.pipeline.commits.units import Record, Unit, Worker
from hyperloom.pipeline.config import StepName, as_tuple
from hyperloom.pipeline.counting import counted
from hyperloom.pipeline.errors import RecipeError, StepFailed
from hyperloom.pipeline.fingerprint import SHORT, fingerprint, payload
from hyperloom.pipeline.planning.check import StepCheck
from hyperloom.pipeline.root.digests import Digests
from hyperloom.pipeline.stage import Forecast, Stage, StepRun
from hyperloom.stages import provenance
from hyperloom.stages.base import Partition, Producer, is_human, modality_of
from hyperloom.stages.catalogue import Catalogue, catalogue
from hyperloom.stages.lesson import inherited
from hyperloom.stages.people.ledger import DIGEST, PeopleEntry, PeopleLedger
from hyperloom.stages.people.placing import PlacedAnswers, placed
from hyperloom.stages.remarks import announce
from hyperloom.stages.results import Labels
from hyperloom.stages.schema import Column, SamplesSchema, inputs_of, made_by, recheck

REVISION = 1
Answered = list[tuple[Partition, list[PeopleEntry]]]


class People(Stage):
    """`data`: the steps whose samples people look at (an ingest step is among them). `columns`: of people, with the
    source `human`."""

    revision: ClassVar[int] = REVISION
    data: tuple[StepName, ...] = Field(min_length=1)
    columns: tuple[str, ...] = Field(min_length=1)

    _list = field_validator("data", "columns", mode="before")(as_tuple)

    @field_validator("columns")
    @classmethod
    def _of_people(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for column in value:
            try:
                modality_of(column)
            except RecipeError as error:
                raise ValueError(str(error)) from error
            if not is_human(column):
                raise ValueError(f"{column!r} is no column of people. Next: {column.partition('@')[0]}@human")
        return value

    def uses(self) -> set[str]:
        return {modality_of(column) for column in self.columns}

    def facts(self, digests: Digests) -> dict[str, Any]:
        answers = {c: PeopleLedger(digests.storage, c).state().get(DIGEST) for c in self.columns}
        known = {column: digest for column, digest in answers.items() if digest}
        return {"answers": known} if known else {}

    def check(self, step: StepCheck) -> SamplesSchema:
        offered, schemas = inputs_of(self.data, step)
        if offered.complete and not any(s.raw for s in schemas.values() if s):
            step.mistake(("data",), "data needs an ingest step, whose samples people look at")
        for i, column in enumerate(self.columns):
            if modality_of(column) not in step.modalities:
                what = f"{column}: the recipe defines no modality"
                step.unknown(("columns", i), modality_of(column), what, step.modalities)
        columns = {c: Column(c, "people", lambda c=c: _identity(c, step.modalities)) for c in self.columns}  # type: ignore[misc]
        return SamplesSchema(columns, tuple(listing for s in schemas.values() if s for listing in s.listings))

    def forecast(self, step: StepRun) -> Forecast:
        offered, answered = self._offered(step)
        units = [u for c in self.columns for u in _units(c, offered, answered[c].partitions, step.modalities)]
        step.records = [Record(u.space, u.id, 0, (), 0, {"pid": u.payload["pid"]}) for u in units]
        return Forecast(units, step.manifest(self._labels(step, offered, answered), {}))

    def run(self, step: StepRun) -> Labels:
        from hyperloom.stages.people.worker import PeopleWorker

        recheck(step)
        offered, answered = self._offered(step)
        units = [u for c in self.columns for u in _units(c, offered, answered[c].partitions, step.modalities)]
        workers: dict[str, Worker] = {
            c: PeopleWorker(c, {modality_of(c): step.modalities[modality_of(c)]}) for c in self.columns
        }
        step.records = step.run_units(units, workers)
        labels = self._labels(step, offered, answered)
        announce(step, labels.remarks)
        provenance.emit_tags(step, labels.columns)
        return labels

    def _offered(self, step: StepRun) -> tuple[Catalogue, dict[str, PlacedAnswers]]:
        """What the inputs offer, and by column the partitions that have answers, with these."""
        offered = catalogue([step.inputs[name] for name in self.data])
        answers = {c: PeopleLedger(step.storage, c).answers().values() for c in self.columns}
        return offered, {c: placed(step.storage, mine, offered) for c, mine in answers.items()}

    def _labels(self, step: StepRun, offered: Catalogue, answered: dict[str, PlacedAnswers]) -> Labels:
        columns, coverage, remarks = {}, {}, []
        total = sum(p.rows for p in offered.partitions)
        for column in self.columns:
            identity = _identity(column, step.modalities)
            about = {"kind": "people", "inputs": [], **inherited(column, {column: {}}, [], False)}
            columns[column] = Producer(column, _space(column, step.modalities), identity, about)
            records = [r for r in step.records if r.space == columns[column].space and "answered" in r.meta]
            given = sum(r.meta["answered"] for r in records)
            coverage[column] = {"rows": total, "missing": total - given}
            stale = sum(r.meta["stale"] for r in records)
            if stale:
                remarks.append(
                    f"{column}: {counted(stale, 'answer')} left out: another picture has the sample's name by now, or "
                    "the picture's size has changed. Next: export these samples again"
                )
            if gone := answered[column].gone:
                remarks.append(f"{column}: {counted(gone, 'answer')} left out, of samples that are gone")
            if records:
                _say(step, column, records, given)
            elif step.records is not None and not answered[column].partitions and not gone:
                remarks.append(f"{column}: nobody has answered yet. Next: hyperloom export, then hyperloom import")
        return Labels(columns, offered.partitions, dict.fromkeys(self.columns, 0), coverage, remarks)


def _say(step: StepRun, column: str, records: Sequence[Record], given: int) -> None:
    """Who answered how many, as a line, a table and a figure."""
    counts: dict[str, int] = {}
    for record in records:
        for who, count in record.meta["who"].items():
            counts[who] = counts.get(who, 0) + count
    rows = [{"who": who, "samples": count} for who, count in sorted(counts.items(), key=lambda pair: -pair[1])]
    named = ", ".join(f"{row['who'] or 'somebody'} {row['samples']}" for row in rows[:5])
    step.events.emit("note", step.name, text=f"{column}: people say {counted(given, 'sample')} ({named})")
    step.events.emit("table", step.name, name=f"people {column}", rows=rows)
    step.events.metric(step.name, {f"people/{column}": given})


def _identity(column: str, modalities: Any) -> str:
    """Of the column: its modality's, whatever people say."""
    return fingerprint({"people": column, "revision": REVISION, "modality": payload(modalities[modality_of(column)])})


def _space(column: str, modalities: Any) -> str:
    return f"human/{_identity(column, modalities)[:SHORT]}"


def _units(column: str, offered: Catalogue, answered: Answered, modalities: Any) -> list[Unit]:
    """A unit for each partition with answers, named by them."""
    units = []
    for partition, entries in answered:
        keys = offered.ingested(partition.pid)
        if keys is None:
            continue
        pictures, drawn = {}, []
        for name in sorted({e.column for e in entries}):
            if name not in offered.producers:
                raise StepFailed(
                    f"people looked at {name}, which no step under `data` offers. Next: list its step there"
                )
            record = offered.record(name, partition.pid)
            pictures[name] = record.file.path if record is not None and record.files else ""
            if record is not None and made_by(offered.producer(name).about) != "raw":
                drawn.append([name, record.space, record.id])  # their partition does not say which pictures they are
        given = [[e.key, e.picture, e.digest, e.who, e.when] for e in entries]
        id_ = fingerprint([partition.pid, given, *([drawn] if drawn else [])])[:16]
        rows = [[e.path, e.row, e.key, e.picture, e.column, e.who, e.when, e.digest] for e in entries]
        path = keys.file.path if keys.files else ""
        body = {"pid": partition.pid, "keys": path, "pictures": pictures, "answers": rows}
        units.append(Unit(_space(column, modalities), id_, column, body))
    return units
