"""What an evaluation reads and gives: is the truth there, can each model be asked, does the split hold anything."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from hyperloom.pipeline.planning.check import StepCheck
from hyperloom.pipeline.recipes.recipe import Where
from hyperloom.stages.base import TRUTH, modality_of, source_of
from hyperloom.stages.evaluate import slices
from hyperloom.stages.evaluate.compare import BEST_EXPERT
from hyperloom.stages.evaluate.family import Candidate, candidates, families
from hyperloom.stages.evaluate.subject import judged, subjects
from hyperloom.stages.measure.measure import measure_of
from hyperloom.stages.schema import MadeBy, ModelSchema, Offer, ReportSchema, ShardsSchema, defined, offer

if TYPE_CHECKING:
    from hyperloom.stages.evaluate.stage import Evaluate

CHAMPION = "champion"


def checked(stage: Evaluate, step: StepCheck) -> ReportSchema:
    """Who will be judged, by which truth."""
    shards = step.read(("data",), stage.data, ShardsSchema)
    offered = offer({stage.data: shards})
    truth = _truth(stage, step, offered)
    for i, column in enumerate(stage.columns):
        offered.want(step, ("columns", i), column)
    if shards and shards.splits is not None and stage.split not in shards.splits:
        step.mistake(
            ("split",),
            f"the split {stage.split!r} of step {stage.data!r} is empty. Next: give the shard step a split that fills "
            "it, or evaluate on another one",
        )
    schemas = {name: _model(stage, step, name, offered) for name in stage.models}
    members = {stage.models[name].model: schema.members for name, schema in schemas.items() if schema}
    models = candidates(stage.models, lambda name: members.get(name, ()))
    if stage.temporal is not None and offered.complete:
        _motion(stage, step, offered)
    names = _names(stage, models, offered, truth) if all(schemas.values()) else None
    for i, name in enumerate(stage.against):
        if names is not None and name not in names:
            step.unknown(("against", i), name, "against: nobody is called", names)
    identities = {n: schema.identity if schema else stage.models[n].model for n, schema in schemas.items()}
    return ReportSchema(
        {who: identities[one.name] for who, one in models.items()},
        {who: one.member for who, one in models.items() if one.member},
        frozenset(truth) if offered.complete or stage.truth else None,
        names,
        _told(stage, offered, truth) if offered.complete else None,
        slices.check(stage.slices, step, offered),
        frozenset(who for who, one in models.items() if one.model.several),
    )


def truth_of(stage: Evaluate, offered: Mapping[str, object]) -> dict[str, str]:
    """Modality -> truth column: those that the recipe names, or all of the source `truth`."""
    return stage.truth or {modality_of(c): c for c in sorted(offered) if source_of(c) == TRUTH}


def _truth(stage: Evaluate, step: StepCheck, offered: Offer) -> dict[str, str]:
    truth = truth_of(stage, offered.columns)
    if not truth and offered.complete:
        step.mistake(
            (),
            f"the shards of {stage.data!r} hold no truth (*@truth); they have {', '.join(sorted(offered.columns))}. "
            "Next: name the truth's columns under `truth:`, and keep them in the shards",
        )
    for modality, column in truth.items():
        where: Where = ("truth", modality)
        if not (offered.want(step, where, column, "truth") and defined(column, step, where)):
            continue
        metric = step.modalities[modality].metric
        figures = measure_of(step.modalities[modality]).higher_is_better
        if metric not in figures:
            what = f"the metric {metric!r} of {modality!r} is no figure of its measure ({', '.join(figures)})"
            step.mistake(where, f"{what}. Next: leave it out of `truth:`")
    return truth


def _model(stage: Evaluate, step: StepCheck, name: str, offered: Offer) -> ModelSchema | None:
    """The schema of a judged model; note it where the shards have none of its inputs."""
    model, where = stage.models[name], ("models", name)
    schema = step.read((*where, "model"), model.model, ModelSchema)
    if model.ensemble is not None:
        model.ensemble.check(step, (*where, "ensemble"), schema)
    if schema and offered.complete and not any(c in offered.columns for c in schema.inputs):
        what = f"the shards of {stage.data!r} have no input of the model {name!r}"
        step.mistake(where, f"{what} ({', '.join(schema.inputs)})")
    return schema


def _motion(stage: Evaluate, step: StepCheck, offered: Offer) -> None:
    assert stage.temporal is not None
    images = [c for c in sorted(offered.columns) if getattr(step.modalities.get(modality_of(c)), "rgb", False)]
    column = stage.temporal.image or next(iter(images), "")
    if column not in images:
        step.mistake(
            ("temporal", "image"),
            f"temporal: the shards of {stage.data!r} have no image {column or 'column'} to see motion in (images: "
            f"{', '.join(images) or 'none'}). Next: keep the pictures in the shards",
        )


def _names(
    stage: Evaluate, models: Mapping[str, Candidate], offered: Offer, truth: Mapping[str, str]
) -> frozenset[str] | None:
    """Everybody whom the report knows; None where that is not known."""
    if not offered.complete:
        return None
    kinds = _kinds(stage, offered, truth)
    labels = [subject.name for subject in subjects(kinds, stage.models)]
    means = families(stage.models, stage.seeds, models)
    return frozenset([*labels, *models, *means, BEST_EXPERT, *([CHAMPION] if stage.champion else [])])


def _kinds(stage: Evaluate, offered: Offer, truth: Mapping[str, str]) -> dict[str, MadeBy]:
    """Who makes each label column that is judged."""
    columns = stage.columns or judged(offered.columns, truth)
    return {c: offered.columns[c].made_by for c in columns if c in offered.columns}


def _told(stage: Evaluate, offered: Offer, truth: Mapping[str, str]) -> frozenset[str]:
    """The modalities that an expert tells."""
    kinds = _kinds(stage, offered, truth)
    return frozenset(modality_of(c) for c, by in kinds.items() if by in ("raw", "expert"))
