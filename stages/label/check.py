"""What a label step reads and gives: do its experts have their columns, and does each column have one maker."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hyperloom.pipeline.check import StepCheck
from hyperloom.pipeline.recipe import Where
from hyperloom.stages.base import modality_of
from hyperloom.stages.label.expert import Expert
from hyperloom.stages.schema import Column, MadeBy, Offer, SamplesSchema, identity, offer

if TYPE_CHECKING:
    from hyperloom.stages.label.stage import Label


def checked(stage: Label, step: StepCheck) -> SamplesSchema:
    """The columns that the experts make."""
    inputs = inputs_of(stage.data, step)
    experts = [expert.checked(step, ("experts", i)) for i, expert in enumerate(stage.experts)]
    made = [column for expert in experts for column in expert.out]
    for i, expert in enumerate(experts):
        where: Where = ("experts", i)
        reads(expert, inputs[0], step, where, made)
        twice = [c for c in expert.out if c in inputs[0].columns]
        for column in twice:
            step.mistake((*where, "out"), f"{column} is a column of the inputs already; give it another source name")
        if expert.offsets() and inputs[0].complete and not any(s and s.raw for s in inputs[1].values()):
            what = f"the expert {expert.type!r} reads neighbouring frames, whose order only an ingest step knows"
            step.mistake(where, f"{what}: add that step to `data`")
    columns: dict[str, Column] = {}
    for expert in experts:
        by: MadeBy = "model" if expert.type == "model" else "expert"
        own = [columns.get(c) or inputs[0].columns.get(c) for c in sorted(expert.in_)]
        made_here = {c: Column(c, by, identity(expert, step.modalities.get(modality_of(c)), own)) for c in expert.out}
        columns |= made_here
    return SamplesSchema(columns, tuple(listing for s in inputs[1].values() if s for listing in s.listings))


def inputs_of(data: tuple[str, ...], step: StepCheck) -> tuple[Offer, dict[str, SamplesSchema | None]]:
    """What the steps under `data` offer, and each one's schema."""
    wrong = len(step.mistakes)
    schemas = {name: step.read(("data", i), name, SamplesSchema) for i, name in enumerate(data)}
    offered = offer(schemas)
    if len(step.mistakes) > wrong:  # what a step of another kind should have offered is not missed once more
        offered = Offer(offered.columns, offered.steps, False)
    return offered, schemas


def reads(expert: Expert, offered: Offer, step: StepCheck, where: Where, made: list[str]) -> None:
    """Note columns that nobody offers to `expert`, and modalities that the recipe does not define."""
    for i, column in enumerate(expert.in_):
        field = (*where, "in", i)
        if offered.want(step, field, column, f"the expert {expert.type!r}", made):
            defined(column, step, field)
    for i, column in enumerate(expert.out):
        defined(column, step, (*where, "out", i))


def defined(column: str, step: StepCheck, where: Where) -> bool:
    """Does the recipe define the column's modality?"""
    name = modality_of(column)
    if name not in step.modalities:
        step.unknown(where, name, f"{column}: the recipe defines no modality", step.modalities)
    return name in step.modalities
