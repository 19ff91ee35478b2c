"""What a release reads: a student that was exported, and a report that judged it and knows what the gate asks for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hyperloom.pipeline.planning.check import StepCheck
from hyperloom.pipeline.recipes.recipe import Where
from hyperloom.stages.base import modality_of
from hyperloom.stages.evaluate.slices import named
from hyperloom.stages.measure.measure import directions
from hyperloom.stages.release.gate import BEST_EXPERT, CHAMPION, check_direction, parse
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
    elif not [n for n in names if n not in report.several and stage.subject in ("", n)]:
        step.mistake(
            ("subject",) if stage.subject else ("report",),
            f"{stage.report!r} judged {stage.subject or names[0]!r} by several pooled answers, and what is released "
            f"gives one. Next: list {stage.model!r} once more under `models:` of {stage.report!r}, without an ensemble",
        )
    for figure, texts in stage.gate.items():
        _condition(stage, step, report, figure, texts)


def _condition(stage: Release, step: StepCheck, report: ReportSchema, figure: str, texts: tuple[str, ...]) -> None:
    """Note what the report will not be able to answer: a modality that it does not judge, a measure that this modality
    has not, a direction that is worse for it, and whom nobody is called like."""
    whole, part = named(figure)
    modality, _, measure = whole.rpartition(".")
    if part:
        _slice(stage, step, report, figure, part)
    if report.judged is not None and modality not in report.judged:
        step.unknown(("gate", figure), modality, f"gate: {stage.report!r} judges no modality", report.judged)
        return
    measured = directions(step.modalities[modality]) if modality in step.modalities else None
    if measured is not None and measure not in measured:
        step.unknown(("gate", figure), measure, f"gate: {modality!r} is not measured by", measured)
        return
    names = None if report.subjects is None else {*report.subjects, CHAMPION, BEST_EXPERT}
    for i, text in enumerate(texts):
        condition = parse(figure, text).meant(names or ())
        where: Where = ("gate", figure, i)
        try:
            if measured is not None:
                check_direction(figure, text, condition.op, measured[measure])
        except ValueError as error:
            step.mistake(where, f"gate: {error}")
        if condition.who and names is not None and condition.who not in names:
            step.unknown(where, condition.who, f"gate: {stage.report!r} knows no", names)
        if condition.who and condition.who == stage.subject:
            step.mistake(where, f"gate: {condition} compares {stage.subject!r} with itself")
        if condition.who == BEST_EXPERT and report.experts is not None and modality not in report.experts:
            what = f"gate: {condition}: no expert of {stage.report!r} tells {modality!r}"
            step.mistake(where, f"{what}. Next: keep an expert's column in the shards, or compare with another")


def _slice(stage: Release, step: StepCheck, report: ReportSchema, figure: str, part: str) -> None:
    """Note a slice that the report will not have."""
    column, _, value = part.partition("=")
    if column not in report.slices:
        step.unknown(("gate", figure), column, f"gate: {stage.report!r} has no slices by", report.slices)
    elif (values := report.slices[column]) is not None and value not in values:
        step.unknown(("gate", figure), value, f"gate: no slice of {column} is called", values)


def _student(stage: Release, step: StepCheck, model: ModelSchema) -> None:
    if not model.exported:
        step.mistake(("model",), f"{stage.model!r} makes no ONNX file. Next: name a distill step as `model:`")
    inputs = [c for c in model.inputs if c not in model.hidden]
    pictures = [c for c in inputs if getattr(step.modalities.get(modality_of(c)), "rgb", False)]
    if len(inputs) > 1 or not pictures:
        step.mistake(
            ("model",),
            f"a release takes one picture, and this student takes {', '.join(inputs)}. Next: distil one with an "
            "image as `in`, or use the ONNX file of the distill step as it is",
        )
