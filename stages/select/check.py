"""What a choice reads and gives."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hyperloom.pipeline.planning.check import StepCheck
from hyperloom.stages.audit.check import inputs
from hyperloom.stages.base import modality_of
from hyperloom.stages.schema import Column, SamplesSchema, defined

if TYPE_CHECKING:
    from hyperloom.stages.select.stage import Select


def checked(stage: Select, step: StepCheck) -> SamplesSchema:
    """The column of the choice."""
    from hyperloom.stages.audit.features import usable
    from hyperloom.stages.select.gather import fits

    offered, listings, shards = inputs(stage.data, step)
    fields = [("where", c) for c in stage.where] + [("order", c) for c in stage.order]
    fields += [(name, c) for name in ("balance", "plus", "coverage") if (c := getattr(stage, name))]
    for where, column in fields:
        if not (offered.want(step, (where,), column) and defined(column, step, (where,))):
            continue
        modality = step.modalities[modality_of(column)]
        if where == "coverage" and not usable(modality):
            step.mistake((where,), f"coverage: {column} gives no features to be covered by")
        elif where == "balance" and not (modality.categorical and modality.shape == ()):
            step.mistake((where,), f"balance: {column} has no one class for a sample")
        elif where in ("where", "plus", "order") and not fits(modality):
            what = f"{where}: {column} has neither one number nor probabilities for a sample"
            hint = f". Next: classes: [...] under {modality_of(column)!r}, if its numbers are those of classes"
            step.mistake((where,), what + hint * modality.plain_numbers)
        if where == "where" and (wrong := [n for n in stage.where[column].among if n not in modality.counted]):
            step.unknown(("where", column), wrong[0], f"where: {column} has no class", modality.counted)
    for where, column in (("out", stage.out), ("worth", stage.worth)):
        if column and defined(column, step, (where,)) and step.modalities[modality_of(column)].shape != (1,):
            what = f"{where}: {column} holds one number a sample"
            step.mistake((where,), f"{what}. Next: {modality_of(column)}: {{type: scalar}} under `modalities`")
        if column and column in offered.columns:
            step.mistake((where,), f"{column} is a column of the inputs already; give it another source name")
    if stage.split and not shards:
        step.mistake(("split",), "split: only samples of a shard step are in splits")
    made_by_models = frozenset(model for c in offered.columns.values() for model in c.models)
    outs = [c for c in (stage.out, stage.worth) if c]
    return SamplesSchema({c: Column(c, "expert", lambda: repr(stage), made_by_models) for c in outs}, listings)
