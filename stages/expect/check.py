"""What of an expectation can be known before anything runs: columns that the step does not give, classes there are none
of, measures that do not fit."""

from __future__ import annotations

from typing import Any

from hyperloom.pipeline.planning.check import Schema, StepCheck
from hyperloom.pipeline.recipes.recipe import Where
from hyperloom.stages.base import modality_of
from hyperloom.stages.expect.expectation import EACH_GROUP, Expectation, columns
from hyperloom.stages.schema import Column, Offer, SamplesSchema, ShardsSchema, defined


def checked(step: StepCheck, schema: Schema | None) -> None:
    """Note the mistakes of a step's `expect`; `schema` is what the step gives, None where nobody knows it."""
    expected = step.stage.expect
    if schema is not None and not isinstance(schema, SamplesSchema | ShardsSchema):
        for name in [n for n in expected if n != "figures"]:
            what = f"expect: {name}: it gives {schema.noun}, no columns"
            step.mistake(("expect", name), f"{what}. Next: `figures: {{name: [lowest, highest]}}`")
        return
    if schema is None:
        return
    if "figures" in expected:
        step.mistake(("expect", "figures"), "expect: figures: only models and reports have any")
    if isinstance(schema, SamplesSchema):
        _without_splits(step)
    offered = Offer(schema.columns, (step.name,), schema.complete)
    for column, one in columns(expected).items():
        where = ("expect", column)
        if offered.want(step, where, column) and defined(column, step, where):
            _fits(step, where, column, one, step.modalities[modality_of(column)], schema.columns.get(column))
            _other(step, where, column, one)


def _without_splits(step: StepCheck) -> None:
    for name in ("samples", "groups"):
        if wrong := [split for split in step.stage.expect.get(name, {}) if split]:
            what = f"expect: {name}: only shards have the split {wrong[0]!r}"
            step.mistake(("expect", name), f"{what}. Next: `{name}: {step.stage.expect[name][wrong[0]]}`")
    if EACH_GROUP in step.stage.expect and not isinstance(step.stage.expect[EACH_GROUP], tuple):
        step.mistake(("expect", EACH_GROUP), f"expect: {EACH_GROUP}: expected [lowest, highest]")


def _fits(step: StepCheck, where: Where, column: str, one: Expectation, kind: Any, given: Column | None) -> None:
    for name in (*one.classes, *one.share):
        if name not in kind.counted:
            step.unknown(where, name, f"expect: {column} has no class", kind.counted)
    if kind.counted and (one.mean or one.range):
        step.mistake(where, f"expect: {column} has classes, no numbers. Next: `share: {{class: [lowest, highest]}}`")
    if kind.counted and one.drift and one.drift.measure == "shift":
        step.mistake(where, f"expect: {column} has classes, no mean that shifts. Next: `measure: js`")
    if one.agreement and given is not None and given.made_by != "consensus":
        step.mistake(where, f"expect: {column}: agreement is of a consensus; it is made by: {given.made_by}")


def _other(step: StepCheck, where: Where, column: str, one: Expectation) -> None:
    """The column that it is compared with: is it there, and does it mean the same?"""
    schema = step.inputs.get(one.drift.step) if one.drift else None
    if one.drift is None or schema is None:
        return
    if not isinstance(schema, SamplesSchema | ShardsSchema):
        step.mistake((*where, "drift"), f"expect: {column}: {one.drift.step!r} gives {schema.noun}, no columns")
        return
    other = one.drift.column or column
    if Offer(schema.columns, (one.drift.step,), schema.complete).want(step, (*where, "drift"), other):
        mine, its = (step.modalities.get(modality_of(c)) for c in (column, other))
        if mine is not None and its is not None and mine.to_recipe() != its.to_recipe():
            step.mistake((*where, "drift"), f"expect: {column} and {other} are of two modalities that say other things")
