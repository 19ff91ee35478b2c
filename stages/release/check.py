"""What a release reads: a student that was exported, and a report that judged it and knows what the gate asks for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hyperloom.pipeline.check import StepCheck
from hyperloom.stages.base import modality_of
from hyperloom.stages.release.gate import BEST_EXPERT, CHAMPION, parse
from hyperloom.stages.schema import ModelSchema, ReportSchema

if TYPE_CHECKING:
    from hyperloom.stages.release.stage import Release


def checked(stage: Release, step: StepCheck) -> None:
    """A release gives nothing that another step could read."""
    model = step.read(("model",), stage.model, ModelSchema)
    report = step.read(("report",), stage.report, ReportSchema)
    if model is not None:
        _student(stage, step, model)
    if report is None:
        return
    names = [n for n, identity in report.models.items() if model is None or identity == model.identity]
    if not names or (stage.subject and stage.subject not in names):
        step.mistake(
            ("subject",) if stage.subject else ("report",),
            f"{stage.report!r} did not judge {stage.model!r}{f' as {stage.subject!r}' if stage.subject else ''} (it "
            f"judged {', '.join(report.models) or 'no model'}). Next: add it to `models:` of {stage.report!r}, or mend "
            "`subject:`",
        )
    for figure, texts in stage.gate.items():
        modality = figure.rpartition(".")[0]
        if report.judged is not None and modality not in report.judged:
            step.unknown(("gate", figure), modality, f"gate: {stage.report!r} judges no modality", report.judged)
        for i, condition in enumerate(parse(figure, text) for text in texts):
            known = {*(report.subjects or ()), CHAMPION, BEST_EXPERT}
            if condition.who and report.subjects is not None and condition.who not in known:
                step.unknown(("gate", figure, i), condition.who, f"gate: {stage.report!r} knows no", known)


def _student(stage: Release, step: StepCheck, model: ModelSchema) -> None:
    if not model.exported:
        step.mistake(("model",), f"{stage.model!r} makes no ONNX file. Next: name a distill step as `model:`")
    pictures = [c for c in model.inputs if getattr(step.modalities.get(modality_of(c)), "rgb", False)]
    if len(model.inputs) > 1 or not pictures:
        step.mistake(
            ("model",),
            f"a release takes one picture, and this student takes {', '.join(model.inputs)}. Next: distil one with an "
            "image as `in`, or use the ONNX file of the distill step as it is",
        )
