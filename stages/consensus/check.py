"""What a consensus step reads and gives: are there columns to find a consensus of, and can the method do them?"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from hyperloom.pipeline.errors import RecipeError
from hyperloom.pipeline.planning.check import StepCheck
from hyperloom.pipeline.recipes.recipe import Where
from hyperloom.stages.base import TRUTH, modality_of, source_of
from hyperloom.stages.label.check import reads
from hyperloom.stages.schema import Column, MadeBy, Offer, SamplesSchema, defined, identity, inputs_of, models_behind

if TYPE_CHECKING:
    from hyperloom.stages.consensus.methods import Method
    from hyperloom.stages.consensus.stage import ConsensusStage, MethodChoice


def checked(stage: ConsensusStage, step: StepCheck) -> SamplesSchema:
    """The columns that the methods make."""
    offered, schemas = inputs_of(stage.data, step)
    columns: dict[str, Column] = {}
    for column, choice in stage.choices.items():
        where: Where = ("columns", column) if stage.columns else ()
        method = _method(column, choice, offered, step, where)
        for out in method.out if method else (column, *choice.method.extra()):
            modality = step.modalities.get(modality_of(out))
            known = [offered.columns.get(c) for c in method.in_] if method else []
            own = identity(method or choice.method, modality, known)
            columns[out] = Column(out, "consensus", own, models_behind(step, choice.method, known))
    return SamplesSchema(columns, tuple(listing for s in schemas.values() if s for listing in s.listings))


def sources(column: str, choice: MethodChoice, offered: Mapping[str, MadeBy]) -> tuple[str, ...]:
    """The columns that count: those named, or all of the modality that are neither truth nor of a consensus."""
    return choice.of or tuple(
        sorted(
            name
            for name, by in offered.items()
            if modality_of(name) == modality_of(column)
            and name not in (column, choice.truth)
            and source_of(name) != TRUTH
            and by != "consensus"
        )
    )


def _method(column: str, choice: MethodChoice, offered: Offer, step: StepCheck, where: Where) -> Method | None:
    """The method with its columns filled in; None where that is not possible, or not yet known."""
    named = {(*where, "of", i): name for i, name in enumerate(choice.of)}
    named |= {(*where, "truth"): choice.truth} if choice.truth else {}
    fitting = True
    for place, name in named.items():
        fitting &= offered.want(step, place, name, column)
    if not (defined(column, step, where) and fitting):
        return None
    columns = sources(column, choice, {name: c.made_by for name, c in offered.columns.items()})
    if not columns:
        if offered.complete:
            known = ", ".join(sorted(offered.columns))
            step.mistake(where, f"nothing to find a consensus of for {column!r}; the steps offer: {known}")
        return None
    if not (offered.complete or choice.of):
        return None
    try:
        method = choice.method.over(columns, column, dict(step.modalities), choice.truth)
    except RecipeError as error:
        step.mistake((*where, "method"), str(error))
        return None
    reads(method, offered, step, (*where, "method"), [])
    for extra in method.out[1:]:
        defined(extra, step, (*where, "method"))
    return method
