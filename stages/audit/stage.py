"""The audit stage: which labels are likely wrong, which samples are copies, empty or alone, and how splits are filled.

    audit: {stage: audit, data: shards}                                  # a shard step: splits are looked at too
    audit: {stage: audit, data: [frames, labels], out: quality@audit}    # and a column that others can use
    audit: {stage: audit, data: shards, features: clip@net, labels: digit@truth, out: {copy@audit: copy}}

Three passes: each part of the samples is surveyed once, one unit judges all surveys, and where `out` names columns they
are written, a partition at a time. A finding is a line with what acts on it, never a failure. Nothing is changed, and
no model of the recipe is asked: what a student says of the labels may be named by `student`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, ClassVar, Literal

from pydantic import Field, field_validator, model_validator

from hyperloom.pipeline.commits.units import Record, Resources, Unit
from hyperloom.pipeline.config import StepName, as_tuple, placement
from hyperloom.pipeline.errors import StepFailed
from hyperloom.pipeline.fingerprint import SHORT, fingerprint, payload
from hyperloom.pipeline.planning.check import StepCheck
from hyperloom.pipeline.stage import Stage, StepRun
from hyperloom.stages.audit.check import checked, questions_of
from hyperloom.stages.audit.features import BYTE, boxed, counts_units, embedding
from hyperloom.stages.audit.parts import AuditedData, AuditPart, audited
from hyperloom.stages.audit.result import Audited
from hyperloom.stages.base import Producer, modality_of
from hyperloom.stages.lesson import inherited
from hyperloom.stages.remarks import announce
from hyperloom.stages.schema import SamplesSchema, recheck
from hyperloom.stages.shard import content

Score = Literal["quality", "label", "outlier", "agreement", "copy", "fault"]
ID_DIGITS = 16
PICTURE = "worst-{}.png"


class Audit(Stage):
    """`data`: one shard step, or an ingest step with label and consensus steps over it."""

    revision: ClassVar[int] = 2
    data: tuple[StepName, ...] = Field(min_length=1)
    labels: tuple[str, ...] = ()
    """Columns whose labels are doubted; by default all of classes, masks, marks and boxes that came as they are, else
    those that experts made."""
    features: tuple[str, ...] = ()
    """What samples are compared by: an embedding, if there is one, else what shows what a sample is."""
    student: dict[str, str] = {}
    """By label column a model's answer to the same (classes, or a `soft` one): it counts for half."""
    out: dict[str, Score] = {}
    """Columns of one number in 0..1, 1 where all is well, by what they say: quality (the lowest of all others), label,
    outlier, agreement, copy, fault. A column alone is `quality`."""
    rate: float = Field(0.02, ge=0, lt=1)
    """Labels that may be doubted in vain: where no larger share is, nothing is said of them."""
    pictures: int = placement(12, ge=0)
    """Samples that the picture of a finding shows."""
    cpus: float = placement(1.0, gt=0)
    """Of the process that judges."""

    _list = field_validator("data", "labels", "features", mode="before")(as_tuple)

    @model_validator(mode="before")
    @classmethod
    def _short(cls, value: Any) -> Any:
        if isinstance(value, dict) and isinstance(value.get("out"), str):
            return {**value, "out": {value["out"]: "quality"}}
        return value

    def revised_for(self, modalities: Mapping[str, Any]) -> dict[str, int]:
        """Samples without features, which pictures always have, were copies of each other, and of several columns the
        largest numbers decided."""
        named = [modalities.get(modality_of(column)) for column in self.features]
        pictures = [kind is not None and kind.rgb for kind in named or modalities.values()]
        concerned = any(map(embedding, modalities.values())) or not any(pictures)
        concerned = len(named) > 1 or (not all(pictures) if named else concerned)
        features = {"features": 2} if concerned else {}
        return _surveys_revised(modalities) | _courses_revised(modalities.values()) | features

    def uses(self) -> set[str]:
        return {modality_of(c) for c in (*self.labels, *self.features, *self.student.values(), *self.out)}

    def check(self, step: StepCheck) -> SamplesSchema:
        return checked(self, step)

    def run(self, step: StepRun) -> Audited:
        recheck(step)
        data = audited([step.inputs[name] for name in self.data])
        if not data.parts:
            raise StepFailed(f"step {step.name!r}: there are no samples to audit. Next: see the steps under `data`")
        surveys = self._surveyed(step, data)
        judged = self._judged(step, data, surveys)
        findings = [dict(finding) for finding in judged.meta["findings"]]
        written = list(self._written(step, data, judged)) if self.out else []
        step.records = [*surveys, judged, *written]
        self._tell(step, data, judged, findings)
        producers = self._producers(step, data, written)
        return Audited(producers, data.partitions(), findings, judged.file.path, judged.rows)

    def _surveyed(self, step: StepRun, data: AuditedData) -> list[Record]:
        from hyperloom.stages.audit.survey import Surveyor

        questions = questions_of(self, {c: p.about for c, p in data.producers.items()}, step.modalities)
        known = {name: step.modalities[name] for name in sorted({modality_of(c) for c in questions.columns})}
        meaning = {"revision": self.revision, "asked": repr(questions), "of": {n: payload(m) for n, m in known.items()}}
        things = (modality_of(column) for column in questions.labels if boxed(known[modality_of(column)]))
        looked = [known[modality_of(column)] for column in (*questions.features, *questions.telling)]
        revised = _surveys_revised({name: known[name] for name in (*questions.beside, *things)})
        if revised := revised | _courses_revised(looked):
            meaning["revised"] = revised
        space = f"audit/{fingerprint(meaning)[:SHORT]}"
        units = [self._unit(space, part, questions.columns) for part in data.parts]
        return list(step.run_units(units, {"survey": Surveyor(questions, known)}))

    def _unit(self, space: str, part: AuditPart, columns: list[str]) -> Unit:
        id_ = fingerprint({"group": part.group, "content": list(part.content)})[:ID_DIGITS]
        return Unit(
            space,
            id_,
            "survey",
            {"keys": part.keys, "columns": {c: f for c, f in part.columns.items() if c in columns}},
        )

    def _judged(self, step: StepRun, data: AuditedData, surveys: list[Record]) -> Record:
        from hyperloom.stages.audit.judge import AuditJudge

        questions = questions_of(self, {c: p.about for c, p in data.producers.items()}, step.modalities)
        known = {name: step.modalities[name] for name in sorted({modality_of(c) for c in questions.columns})}
        splits = [part.split for part in data.parts]
        files = [record.file for record in surveys]
        identity = [self.revision, self.rate, [f.sha256 for f in files], splits]
        content = {"surveys": [f.path for f in files], "splits": splits}
        unit = Unit(f"audit/{step.fingerprint[:SHORT]}", fingerprint(identity)[:ID_DIGITS], "judge", content)
        judge = AuditJudge(questions, known, self.rate, Resources(self.cpus))
        return next(iter(step.run_units([unit], {"judge": judge})))

    def _written(self, step: StepRun, data: AuditedData, judged: Record) -> Iterator[Record]:
        from hyperloom.stages.audit.scores import ScoreWriter

        known = {name: step.modalities[name] for name in sorted({modality_of(c) for c in self.out})}
        meaning = {"of": judged.file.sha256, "out": self.out, "modalities": {n: payload(m) for n, m in known.items()}}
        space, first, units = f"audit/{fingerprint(meaning)[:SHORT]}", 0, []
        for part in data.parts:
            for pid, rows in part.pids:
                units.append(Unit(space, pid, "scores", {"table": judged.file.path, "first": first, "rows": rows}))
                first += rows
        yield from step.run_units(units, {"scores": ScoreWriter(dict(self.out), known)})

    def _producers(self, step: StepRun, data: AuditedData, written: list[Record]) -> dict[str, Producer]:
        if not written:
            return {}
        questions = questions_of(self, {c: p.about for c, p in data.producers.items()}, step.modalities)
        reads = {c: data.producers[c].about for c in questions.columns if c in data.producers}
        about = {"kind": "expert", "expert": {"type": "audit"}, "revision": self.revision, "inputs": sorted(reads)}
        output = {}
        for column in self.out:
            more = inherited(column, reads, [], False)
            output[column] = Producer(column, written[0].space, step.fingerprint, {**about, **more})
        return output

    def _tell(self, step: StepRun, data: AuditedData, judged: Record, findings: list[dict[str, Any]]) -> None:
        """Each finding as a line and a tag; tables, figures, and pictures of the worst."""
        from hyperloom.stages.audit.finding import AuditFinding
        from hyperloom.stages.audit.pictures import worst

        stated = [AuditFinding(**row) for row in findings]
        announce(step, [f.sentence() for f in stated] or [f"nothing was found in {judged.rows} samples"])
        rows = [{"kind": f.kind, "of": f.subject, "samples": f.count, "total": f.total, "what": f.text} for f in stated]
        step.events.emit("table", step.name, name="findings", rows=rows)
        if judged.meta["balance"]:
            step.events.emit("table", step.name, name="balance", rows=judged.meta["balance"])
        step.events.metric(step.name, {f"audit.{f.kind}/{f.subject}": float(f.count) for f in stated})
        drawn = worst(step.storage, data, stated, step.modalities, self.pictures) if self.pictures else {}
        for name, png in drawn.items():
            file = step.write(PICTURE.format(name), png)
            step.events.emit("artifact", step.name, path=file.path, to="pictures")


def _surveys_revised(modalities: Mapping[str, Any]) -> dict[str, int]:
    """Of texts and tags of several experts only what stands in all was compared: one that begins as another was
    equal. Boxes of the class 300 counted as those of 44. Differences of numbers below 1 were taken for shares, and
    those of rounding counted."""
    kinds = modalities.values()
    tags = any(kind.ended and kind.categorical for kind in kinds)
    many = any(boxed(kind) and len(kind.counted) > BYTE for kind in kinds)
    changed = {"texts": any(kind.textual for kind in kinds), "tags": tags, "many classes": many}
    numbers = {"differences": 3} if any(map(counts_units, kinds)) else {}
    return {name: 2 for name, concerned in changed.items() if concerned} | numbers


def _courses_revised(kinds: Iterable[Any]) -> dict[str, int]:
    """Many numbers of a small unit were one value, and so were large ones that vary little."""
    courses = any(kind.dtype.kind == "f" and math.prod(kind.shape) >= content.LARGE for kind in kinds)
    return {"courses": 2} if courses else {}
