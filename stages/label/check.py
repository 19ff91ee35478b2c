"""What a label step reads and gives: do its experts have their columns, and does each column have one maker."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from hyperloom.pipeline.planning.check import StepCheck
from hyperloom.pipeline.recipes.recipe import Where
from hyperloom.stages.base import modality_of
from hyperloom.stages.label.expert import Expert
from hyperloom.stages.schema import (
    Column,
    MadeBy,
    Offer,
    SamplesSchema,
    choosing,
    defined,
    identity,
    inputs_of,
    models_behind,
)

if TYPE_CHECKING:
    from hyperloom.stages.label.stage import Label


def checked(stage: Label, step: StepCheck) -> SamplesSchema:
    """The columns that the experts make."""
    offered, schemas = inputs_of(stage.data, step)
    experts = [expert.checked(step, ("experts", i)) for i, expert in enumerate(stage.experts)]
    for i, (written, expert) in enumerate(zip(stage.experts, experts, strict=True)):
        where: Where = ("experts", i)
        others = [column for other in experts if other is not expert for column in other.out]
        if written.in_:
            reads(expert, offered, step, where, others)
        elif missing := [c for c in expert.in_ if offered.complete and c not in {*offered.columns, *others}]:
            what = f"{expert.type!r} reads all inputs of its model, and {offered.named} has no {', '.join(missing)}"
            step.mistake((*where, "model"), f"the expert {what}")
        for k, column in enumerate(expert.out):
            defined(column, step, (*where, "out", k))
            if column in offered.columns:
                step.mistake(
                    (*where, "out", k), f"{column} is a column of the inputs already; give it another source name"
                )
        if wrong := [c for c in expert.offsets() if c not in expert.in_]:
            step.mistake(
                where, f"the expert {expert.type!r} has offsets of {', '.join(wrong)}, which `in` does not name"
            )
        if expert.offsets() and offered.complete and not any(schema and schema.raw for schema in schemas.values()):
            what = f"the expert {expert.type!r} reads neighbouring frames, whose order only an ingest step knows"
            step.mistake(where, f"{what}: add that step to `data`")
    listings = tuple(listing for schema in schemas.values() if schema for listing in schema.listings)
    return SamplesSchema(_made(experts, offered, step), listings)


def _made(experts: Iterable[Expert], offered: Offer, step: StepCheck) -> dict[str, Column]:
    """The columns that the experts make, with their identities."""
    columns: dict[str, Column] = {}
    for expert in experts:
        by: MadeBy = "model" if expert.type == "model" else "expert"
        own = [columns.get(c) or offered.columns.get(c) for c in sorted(expert.in_)]
        models = models_behind(step, expert, own)
        for c in expert.out:
            columns[c] = Column(c, by, identity(expert, step.modalities.get(modality_of(c)), own), models)
    return columns


def _gated(expert: Expert, offered: Offer, step: StepCheck, where: Where, produced: list[str]) -> None:
    """Note what is wrong with the column that says which samples an expert is asked about."""
    column = expert.only
    if column and offered.want(step, where, column, f"the expert {expert.type!r}", produced):
        choosing(column, step, where, "only")


def reads(expert: Expert, offered: Offer, step: StepCheck, where: Where, produced: list[str]) -> None:
    """Note columns that nobody offers to `expert`, and modalities of those that the recipe does not define."""
    for i, column in enumerate(expert.in_):
        field = (*where, "in", i)
        if offered.want(step, field, column, f"the expert {expert.type!r}", produced):
            defined(column, step, field)
    _gated(expert, offered, step, (*where, "only"), produced)
