"""What an audit reads, chosen where the recipe does not say it, and what is wrong with what it says."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from hyperloom.pipeline.planning.check import StepCheck
from hyperloom.stages.base import TRUTH, modality_of, source_of
from hyperloom.stages.schema import Column, Listing, Offer, SamplesSchema, ShardsSchema, defined, made_by, offer

if TYPE_CHECKING:
    from hyperloom.stages.audit.stage import Audit
    from hyperloom.stages.audit.survey import AuditQuestions


def inputs(data: tuple[str, ...], step: StepCheck) -> tuple[Offer, tuple[Listing, ...], bool]:
    """What the steps under `data` offer, the listings of their sources, and whether a shard step is among them, which
    beside an ingest step says the splits and gives no columns."""
    schemas = {name: step.inputs.get(name) for name in data}
    shards = [name for name, schema in schemas.items() if isinstance(schema, ShardsSchema)]
    over = any(isinstance(schema, SamplesSchema) and schema.raw for schema in schemas.values())
    if len(shards) > 1 or (shards and len(data) > 1 and not over and None not in schemas.values()):
        what = f"data: either one shard step ({shards[0]!r}), or an ingest step and what is over it"
        step.mistake(("data",), f"{what}, beside which one shard step says the splits")
    if over:
        schemas = {name: schema for name, schema in schemas.items() if name not in shards}
    read: dict[str, SamplesSchema | ShardsSchema | None] = {}
    for i, (name, schema) in enumerate(schemas.items()):
        read[name] = schema if isinstance(schema, SamplesSchema | ShardsSchema) else None
        if schema is not None and read[name] is None:
            step.read(("data", i), name, SamplesSchema)
    offered = offer(read)
    if offered.complete and not shards and not over and not step.mistakes:
        step.mistake(("data",), "data needs an ingest step, whose samples are looked at, or one shard step")
    listings = tuple(listing for s in read.values() if isinstance(s, SamplesSchema) for listing in s.listings)
    return offered, listings, bool(shards)


def checked(stage: Audit, step: StepCheck) -> SamplesSchema:
    """The columns that it makes."""
    offered, listings, _ = inputs(stage.data, step)
    named = [("labels", c) for c in stage.labels] + [("features", c) for c in stage.features]
    for where, column in [*named, *(("student", c) for pair in stage.student.items() for c in pair)]:
        if offered.want(step, (where,), column):
            defined(column, step, (where,))
    _outs(stage, step, offered)
    if offered.complete and not step.mistakes:
        _something(stage, step, offered)
    models = frozenset(model for c in offered.columns.values() for model in c.models)
    return SamplesSchema({c: Column(c, "expert", lambda: repr(stage), models) for c in stage.out}, listings)


def _outs(stage: Audit, step: StepCheck, offered: Offer) -> None:
    for column in stage.out:
        if not defined(column, step, ("out",)):
            continue
        if step.modalities[modality_of(column)].shape != (1,):
            what = f"out: {column} holds one number a sample"
            step.mistake(("out",), f"{what}. Next: {modality_of(column)}: {{type: scalar}} under `modalities`")
        if column in offered.columns:
            step.mistake(("out",), f"{column} is a column of the inputs already; give it another source name")


def _something(stage: Audit, step: StepCheck, offered: Offer) -> None:
    """Features can be made of what is named, labels are of classes."""
    from hyperloom.stages.audit.features import usable

    for column in stage.features:
        if not usable(step.modalities[modality_of(column)]):
            kind = step.modalities[modality_of(column)].type
            step.mistake(("features",), f"features: {column} is of the type {kind}, which gives none")
    for column in stage.labels:
        if not step.modalities[modality_of(column)].counted:
            step.mistake(("labels",), f"labels: {column} has no classes that could be wrong")


def questions_of(
    stage: Audit, makers: Mapping[str, Mapping[str, Any]], modalities: Mapping[str, Any]
) -> AuditQuestions:
    """What is looked at, of columns with what their makers say."""
    from hyperloom.stages.audit.survey import AuditQuestions
    from hyperloom.stages.shard.content import telling

    present = sorted(c for c in makers if modality_of(c) in modalities)
    raw = [c for c in present if made_by(makers[c]) == "raw"]
    labels = stage.labels or tuple(_labels(raw, modalities) or _labels(present, modalities))
    tells = tuple(telling(raw, modalities)) or tuple(c for c in raw if source_of(c) != TRUTH)
    tells = tuple(c for c in tells if c not in labels)
    pictures = [c for c in (*tells, *raw, *present) if modalities[modality_of(c)].rgb]
    features = stage.features or tuple(_features(present, tells, labels, modalities))
    beside: dict[str, tuple[str, ...]] = {}
    for column in present:
        name = modality_of(column)
        if made_by(makers[column]) in ("expert", "model") and column not in features:
            beside[name] = (*beside.get(name, ()), column)
    beside = {name: columns for name, columns in beside.items() if len(columns) > 1}
    return AuditQuestions(labels, features, pictures[0] if pictures else "", tells, beside, dict(stage.student))


def _labels(columns: Iterable[str], modalities: Mapping[str, Any]) -> list[str]:
    from hyperloom.stages.audit.features import boxed, marks

    def doubted(kind: Any) -> bool:
        return boxed(kind) or marks(kind) or (kind.categorical and (kind.shape == () or kind.height_width))

    return [c for c in columns if doubted(modalities[modality_of(c)])]


def _features(
    present: Iterable[str], tells: tuple[str, ...], labels: tuple[str, ...], modalities: Mapping[str, Any]
) -> list[str]:
    """An embedding, else what says what a sample is."""
    from hyperloom.stages.audit.features import embedding, usable

    present = list(present)
    embedded = [c for c in present if embedding(modalities[modality_of(c)]) and source_of(c) != TRUTH]
    if embedded:
        return [max(embedded, key=lambda c: math.prod(modalities[modality_of(c)].shape))]
    return [c for c in tells if c not in labels and usable(modalities[modality_of(c)])]
