"""The distill stage: a small student that learns from a teacher's labels.

    student:
      stage: distill
      data: shards                      # they hold the teacher's columns, made by a label step with `type: model`
      teacher: teacher
      in: rgb@camera
      targets: {semantic: {soft@teacher: 1.0, semantic@consensus: 0.3}, depth: depth@teacher}
      losses: {soft: {type: kl, temperature: 2}}
      epochs: 40

It is the train stage with the teacher's outputs among the targets (Hinton, Vinyals & Dean 2015), and it ends in one
more file: `student.onnx`, which holds the whole way from raw pixels to predictions and was compared with torch. How
long one sample takes in ONNX Runtime and in torch goes to MLflow; the manifest has the operations, which do not depend
on the machine. Hard labels, soft ones, regressions and features mix freely as targets: a column of the teacher's
features is a dense modality that the student predicts through a head of its own, which is the projector.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar

from pydantic import field_validator, model_validator

from hyperloom.pipeline.config import StepName
from hyperloom.pipeline.planning.check import StepCheck
from hyperloom.pipeline.stage import StepRun
from hyperloom.stages.base import defined, modality_of
from hyperloom.stages.distill import int8
from hyperloom.stages.distill.int8 import Int8
from hyperloom.stages.distill.teachers import check, hinted_by, sentence, taught_by
from hyperloom.stages.distill.width import measured
from hyperloom.stages.distill.worker import exports
from hyperloom.stages.network.processors import processor_of
from hyperloom.stages.objective.hints import hints
from hyperloom.stages.results import Shards, Trained
from hyperloom.stages.schema import ModelSchema, ShardsSchema, offer
from hyperloom.stages.train.fitted import Fitted
from hyperloom.stages.train.job import Job, Member
from hyperloom.stages.train.stage import Train

PADDING = "padding in 8 bits"


class Distill(Train):
    """The train stage plus `teacher`, the step whose labels teach, and an ONNX file. The result and the log say what
    taught it."""

    revision: ClassVar[int] = 3
    exported: ClassVar[bool] = True
    teacher: StepName | None = None
    """The model whose answers are among the targets, by itself or through a consensus or another label step; left out
    for a student that learns from labels alone."""

    int8: Int8 | None = None
    """Also the student in 8 bits, `student.int8.onnx`, unless that costs more than its margin."""

    @field_validator("int8", mode="before")
    @classmethod
    def _wanted(cls, value: Any) -> Any:
        if isinstance(value, bool):
            return {} if value else None
        if isinstance(value, int | float):
            return {"margin": value}
        if not isinstance(value, dict | Int8 | None):
            raise ValueError("int8: true, or what it may cost, as in {margin: 0.02}")
        return value

    @field_validator("model", mode="before")
    @classmethod
    def _preset(cls, value: Any) -> Any:
        """`model: 150k` is short for `{parameters: 150k}`."""
        return {"parameters": value} if isinstance(value, str | int) else value

    @model_validator(mode="after")
    def _learning(self) -> Distill:
        if not self.targets:
            raise ValueError("targets: a student learns from its teacher's columns, or labels; name some")
        return self

    def check(self, step: StepCheck) -> ModelSchema:
        if self.teacher is not None and not self.guide:
            offered = offer({name: step.read(("data", i), name, ShardsSchema) for i, name in enumerate(self.sources)})
            check(step, self.teacher, (c for columns in self.targets.values() for c in columns), offered)
        for i, column in enumerate(self.inputs):
            modality = step.modalities.get(modality_of(column))
            if modality is not None and (why := processor_of(modality).not_in_graph):
                step.mistake(("in", i), f"student.onnx cannot take {column}: {why}")
        return replace(super().check(step), exported=True)

    def revised_for(self, modalities: Mapping[str, Any]) -> dict[str, int]:
        """The file took inputs that training and evaluation never show, and answered by them; in 8 bits scales were
        infinite where tokens are padding."""
        hidden = any(self.mask.hidden_inputs(self.inputs))
        padded = self.int8 and any(map(_padded, defined(modalities, self.inputs)))
        changed = {"hidden inputs": hidden, PADDING: padded}
        return {**super().revised_for(modalities), **{name: 2 for name, concerned in changed.items() if concerned}}

    def collect(self, step: StepRun, job: Job, members: Sequence[Member], done: Sequence[Fitted]) -> Trained:
        trained = super().collect(step, job, members, done)
        units, workers = exports(step, job, members, self.int8, PADDING in self.revised_for(step.modalities))
        records = step.run_units(units, workers)
        step.records = [*step.records, *records]
        producers = {c: p for name in self.sources for c, p in Shards.from_manifest(step.inputs[name]).columns.items()}
        teacher = (self.teacher, step.inputs[self.teacher].fingerprint) if self.teacher else ("", "")
        taught = taught_by(teacher, self.targets, producers) | hinted_by(teacher, hints(self.extras))
        step.events.emit("note", step.name, text=f"{step.name}: {sentence(taught)}")
        for member, record in zip(members, records, strict=True) if self.int8 else ():
            text = f"{' '.join(filter(None, (step.name, member.name)))}: {int8.sentence(record.meta['int8'])}"
            step.events.emit("note", step.name, text=text)
        step.events.emit("tag", step.name, values={f"learned_from.{c}": who for c, who in taught.items()})
        return replace(trained, onnx=records[0].meta, taught=taught)

    def job(self, step: StepRun) -> Job:
        job = super().job(step)
        if self.model.latency_ms is None:
            return job
        architecture, record = measured(step, self, job.architecture, self.model.latency_ms)
        step.records = [*step.records, record]
        return replace(job, architecture=architecture)

    @property
    def training(self) -> Distill:
        return self.model_copy(update={"int8": None}) if self.int8 else self

    @property
    def guide(self) -> str:
        return self.teacher if self.teacher and hints(self.extras) else ""

    @property
    def sources(self) -> tuple[str, ...]:
        """The shard steps that it reads."""
        return (self.data,) if isinstance(self.data, str) else tuple(self.data)


def _padded(modality: Any) -> bool:
    """Is it read as tokens of which some are padding: words, tags, things?"""
    return modality.markup in ("boxes", "masks") or (modality.dtype.kind == "i" and bool(modality.shape))
