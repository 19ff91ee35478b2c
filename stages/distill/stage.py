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
more file: `student.onnx`, which holds the whole way from raw pixels to predictions and was compared with torch.
"""

from __future__ import annotations

from typing import Any, ClassVar

from pipeline.config import StepName
from pipeline.stage import StepRun
from stages.train.job import Job
from stages.train.stage import Train


class Distill(Train):
    """The train stage plus `teacher`, the step whose labels teach, and an ONNX file."""

    revision: ClassVar[int] = 1
    teacher: StepName

    def collect(self, step: StepRun, job: Job) -> dict[str, Any]:
        from stages.distill import export
        from stages.train.model import load_model

        body = super().collect(step, job)
        exported = export.to_onnx(load_model(step.storage, job.folder))
        step.write(export.STUDENT_ONNX, exported.data)
        return {**body, "onnx": exported.about}
