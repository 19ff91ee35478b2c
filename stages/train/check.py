"""What a train or distill step reads and gives: are its columns in the shards, does each teach its task, can the
network read its inputs, are there rows enough. Values and statistics are the assembly's (`stages.train.assembly`)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from hyperloom.pipeline import plugins
from hyperloom.pipeline.errors import PluginError, RecipeError
from hyperloom.pipeline.planning.check import Listed, StepCheck
from hyperloom.pipeline.recipes.recipe import Where
from hyperloom.stages.augment.blends import Blend
from hyperloom.stages.base import modality_of
from hyperloom.stages.meaning import MeaningsDiffer, translation
from hyperloom.stages.network.architecture import Architecture, Input, Scale, Task, check_sizes
from hyperloom.stages.objective.base import Objective
from hyperloom.stages.objective.hints import hints
from hyperloom.stages.schema import ModelSchema, Offer, ShardsSchema, choosing, defined, offer

if TYPE_CHECKING:
    from hyperloom.stages.train.phases import Phase
    from hyperloom.stages.train.stage import Train


def checked(stage: Train, step: StepCheck) -> ModelSchema:
    """The model that will be trained."""
    data = (stage.data,) if isinstance(stage.data, str) else stage.data
    schemas = {name: step.read(("data", i), name, ShardsSchema) for i, name in enumerate(data)}
    offered = offer(schemas)
    if stage.model.start and stage.model.start.step:
        step.read(("model", "start"), stage.model.start.step, ModelSchema)
    _hints(stage, step, offered)
    known = _columns(stage, step, offered)
    for task in (t for t in stage.raw if t in step.modalities and not step.modalities[t].standardised):
        step.mistake(
            ("raw",), f"raw: {task!r} has no scale to leave out, being of the type {step.modalities[task].type}"
        )
    for task, columns in stage.targets.items():
        if task not in step.modalities:
            step.unknown(("targets", task), task, "no modality of the recipe is called", step.modalities)
            continue
        for column in (c for c in columns if c in known):
            _target(stage, step, task, column)
    for task, column in stage.validate_on.items():
        if column in known and task in step.modalities:
            _same(step, ("validate", task), column, task, "validate")
    _validation(stage, step, schemas)
    _samplers(stage, step, len(data))
    if not step.mistakes:
        _network(stage, step)
    if not step.mistakes:
        step.later(lambda listed: _rows(stage, step, schemas, listed))
    hidden = tuple(c for c, h in zip(stage.inputs, stage.mask.hidden_inputs(stage.inputs), strict=True) if h)
    return ModelSchema(step.name, stage.inputs, tuple(stage.targets), hidden, members=tuple(stage.family))


def _samplers(stage: Train, step: StepCheck, sets: int) -> None:
    """Each mixes so many data sets."""
    own = [(("phases", i, "sampler"), phase.sampler) for i, phase in enumerate(stage.phases) if phase.sampler]
    for where, sampler in [(("sampler",), stage.sampler), *own] if sets > 1 else ():
        try:
            sampler.check(sets)
        except RecipeError as error:
            step.mistake(where, str(error))


def _hints(stage: Train, step: StepCheck, offered: Offer) -> None:
    """Hints have a teacher to ask, whose inputs are in the shards."""
    for name, hint in hints(stage.extras).items():
        if not stage.guide:
            step.mistake(
                ("extras", name),
                f"{hint.type} asks a teacher in each update, and none is named. Next: stage: distill with teacher: a "
                "train or distill step",
            )
    for column in _asked(stage, step):
        offered.want(step, ("teacher",), column, f"teacher: {stage.guide} is asked in each update and reads {column}")


def _asked(stage: Train, step: StepCheck) -> tuple[str, ...]:
    """Columns that a teacher reads which is asked in each update."""
    teacher = step.read(("teacher",), stage.guide, ModelSchema) if stage.guide else None
    return tuple(c for c in teacher.inputs if c not in teacher.hidden) if teacher else ()


def objectives(stage: Train, task: str, column: str, phase: Phase | None = None) -> dict[str, Objective]:
    """The objectives that the recipe names for a target, by its column, modality or task, the closest first, and those
    of a phase before those of the step."""
    named = [losses for losses in (phase.losses if phase else {}, stage.losses) if losses]
    names = (column, modality_of(column), task)
    chosen: dict[str, Objective] = {}
    for losses in named:
        chosen |= {f"{n}": losses[n] for n in names if n in losses and n not in chosen}
    return chosen


def judged(stage: Train, modalities: Mapping[str, Any]) -> dict[str, str]:
    """Task -> the column it is validated against, for tasks that have one: named, or the first target that is hard, or
    the probabilities that teach it most."""
    hard = {t: next((c for c in cs if _validates(modalities, c, t)), "") for t, cs in stage.targets.items()}
    soft = fitted(stage, modalities)
    columns = {t: stage.validate_on.get(t) or hard[t] or soft.get(t, "") for t in stage.targets}
    return {t: c for t, c in columns.items() if c}


def looked_at(stage: Train, modalities: Mapping[str, Any]) -> dict[str, str]:
    """Task -> the figure it is judged by in validation, in the order of the tasks."""
    return {t: modalities[t].metric for t in judged(stage, modalities)}


def fitted(stage: Train, modalities: Mapping[str, Any]) -> dict[str, str]:
    """Task -> the column that teaches it most, for tasks whose answers can be compared with it, as they are or as what
    probabilities amount to."""
    most = {t: max(columns, key=columns.__getitem__) for t, columns in stage.targets.items()}
    return {
        t: c
        for t, c in most.items()
        if _validates(modalities, c, t) or _weighed(modalities[modality_of(c)], modalities[t])
    }


def _weighed(modality: Any, predicted: Any) -> bool:
    """Has a target a number for each class that its task answers with?"""
    return bool(predicted.counted) and modality.shape == (*predicted.shape, predicted.channels)


def _validates(modalities: Mapping[str, Any], column: str, task: str) -> bool:
    """Can predictions of a task be compared with a column, other than as probabilities that teach it?"""
    modality, predicted = modalities[modality_of(column)], modalities[task]
    alike = isinstance(modality, type(predicted)) or isinstance(predicted, type(modality))
    return alike and not modality.soft


def _columns(stage: Train, step: StepCheck, offered: Offer) -> set[str]:
    """The columns that the step reads, as far as they are there; others are noted."""
    mentions: list[tuple[Where, str]] = [(("in", i), c) for i, c in enumerate(stage.inputs)]
    mentions += [(("targets", task, c), c) for task, columns in stage.targets.items() for c in columns]
    mentions += [(("validate", task), c) for task, c in stage.validate_on.items()]
    mentions += [(("confidence", c, "column"), by.column) for c, by in stage.confidence.items()]
    if stage.only and offered.want(step, ("only",), stage.only, "only"):
        choosing(stage.only, step, ("only",), "only")
    return {c for where, c in mentions if offered.want(step, where, c, str(where[0])) and defined(c, step, where)}


def _target(stage: Train, step: StepCheck, task: str, column: str) -> None:
    where: Where = ("targets", task, column)
    modality, predicted = step.modalities[modality_of(column)], step.modalities[task]
    if task not in stage.model.heads:
        try:
            plugins.parse("head", predicted.head)
        except PluginError as error:
            step.mistake(where, f"{task!r} is of the type {predicted.type}, for which no head is known ({error})")
    _same(step, where, column, task, "teach")
    named = False
    for i, phase in enumerate((None, *stage.phases)):
        losses = objectives(stage, task, column, phase)
        named |= bool(losses)
        if losses and not any(objective.takes(modality) for objective in losses.values()):
            key, objective = next(iter(losses.items()))
            step.mistake(_written(phase, i, key), f"the objective {objective.type!r} does not fit {column}")
        for key, objective in losses.items():
            if (chances := _of_chances(objective)) and not (predicted.categorical or predicted.soft):
                why = f"{chances} compares probabilities of classes, and {task!r} predicts numbers"
                mend = f"Next: a category as the task, or the objective {modality.loss}"
                step.mistake(_written(phase, i, key), f"{why}. {mend}")
        if stage.micro and any(objective.of_sets for objective in losses.values()):
            why = "an objective over the whole batch cannot be worked out in parts of it"
            step.mistake(("micro",), f"micro: {why}. Next: leave micro out, or take the objective over: sample")
    if not named and not plugins.exists("objective", modality.loss_against(predicted)):
        step.mistake(where, f"{column} is of a type without an objective of its own. Next: name one under `losses:`")
    by = stage.confidence.get(column)
    if by and modality_of(by.column) in step.modalities and step.modalities[modality_of(by.column)].channels != 1:
        step.mistake(("confidence", column), f"{by.column} has several channels, confidence is one number")


def _written(phase: Phase | None, i: int, key: str) -> Where:
    """Where the recipe names a loss: in phase `i`, counted from 1, or for all."""
    return ("losses", key) if phase is None or key not in phase.losses else ("phases", i - 1, "losses", key)


def _of_chances(objective: Any) -> str:
    """The objective, or the one among those it is made of, that compares probabilities alone; empty for none."""
    parts = getattr(objective, "of", ())
    inner = map(_of_chances, parts if isinstance(parts, tuple) else (parts,))
    return objective.type if set(objective.fits) <= {"soft", "vector"} else next(filter(None, inner), "")


def _same(step: StepCheck, where: Where, column: str, task: str, verb: str) -> None:
    """Note where the values of a column do not say what those of the task do."""
    modality, predicted = step.modalities[modality_of(column)], step.modalities[task]
    try:
        translation(modality.meaning, predicted.meaning, (column, f"the task {task!r}"))
    except MeaningsDiffer as error:
        step.mistake(where, f"{column} cannot {verb} {task!r}: {error}")
    else:
        if not modality.teaches(predicted) or (verb == "validate" and not _validates(step.modalities, column, task)):
            step.mistake(where, f"{column} cannot {verb} {task!r}: their modalities differ in kind or channels")


def _validation(stage: Train, step: StepCheck, schemas: Mapping[str, ShardsSchema | None]) -> None:
    """Early stopping and validation need a split `val`, and what is looked at must be measured."""
    splits = [schema.splits if schema else None for schema in schemas.values()]
    missing = not any(names is None or "val" in names for names in splits)
    advice = f"give {' or '.join(map(repr, schemas))} a split val (split: {{val: 0.1}})"
    if missing and stage.validate_on:
        step.mistake(("validate",), f"validate: there is no split val. Next: {advice}")
    stop = stage.stop
    if stop is None or step.mistakes:
        return
    if (stop.task or next(iter(stage.targets), "")) not in judged(stage, step.modalities) and (
        stop.metric or not judged(stage, step.modalities)
    ):
        what = f"stop looks at {stop.metric or 'the first task'}, whose targets no answer can be compared with"
        step.mistake(("stop",), f"{what}. Next: validate: {{{stop.task or 'task'}: a column}}, or a number of updates")
    if not stop.metric or stop.task not in step.modalities:
        return
    measure = step.modalities[stop.task].metric
    if stop.measure != measure:
        step.mistake(("stop", "metric"), f"validation measures {stop.task}.{measure}; stop on that")


def _network(stage: Train, step: StepCheck) -> None:
    """Sizes agree, the trunk can read every input, augmentations and extras fit. Scales are not known yet."""
    inputs = stage.model.inputs({c: Input(c, step.modalities[modality_of(c)], Scale()) for c in stage.inputs})
    beside, field = _asked(stage, step), "model"
    read = {c: step.modalities[modality_of(c)] for c in (*_read(stage), *beside)}
    try:
        tasks = stage.model.tasks([Task(t, step.modalities[t], Scale()) for t in stage.targets], inputs)
        field = "in"
        check_sizes(Architecture(tuple(inputs), tuple(tasks), stage.model.trunk))
        stage.model.trunk.check(inputs, tasks)
    except ValueError as error:
        step.mistake((field,), str(error))
        return
    for i, augment in enumerate(stage.augment):
        try:
            augment.check(read)
            if isinstance(augment, Blend):
                answers = [*(c for columns in stage.targets.values() for c in columns)]
                answers += [c.column for c in stage.confidence.values()]
                augment.takes({c: read[c] for c in (*stage.inputs, *beside)}, {c: read[c] for c in answers})
        except ValueError as error:
            step.mistake(("augment", i), str(error))
    try:
        stage.batches.check(tuple(read), 1 if isinstance(stage.data, str) else len(stage.data))
    except ValueError as error:
        step.mistake(("batches",), f"batches: {error}")
    try:
        stage.learner.check({t: step.modalities[t] for t in stage.targets})
    except ValueError as error:
        step.mistake(("learner",), str(error))
    for name, extra in stage.extras.items():
        try:
            extra.fits(Architecture(inputs, tasks, stage.model.trunk))
        except ValueError as error:
            step.mistake(("extras", name), str(error))


def _read(stage: Train) -> Iterable[str]:
    targets = (c for columns in stage.targets.values() for c in columns)
    return [*stage.inputs, *targets, *(c.column for c in stage.confidence.values())]


def _rows(stage: Train, step: StepCheck, schemas: Mapping[str, ShardsSchema | None], listed: Listed) -> None:
    """A batch is no larger than all training samples that the sources promise; that of a rehearsal is cut to them."""
    if stage.rehearses is not None:
        return
    total = 0
    for schema in schemas.values():
        rows = schema.most(listed, "train", stage.batch - total) if schema else None
        if rows is None:
            return
        total += rows
        if total >= stage.batch:
            return
    step.mistake(("batch",), f"batch {stage.batch} is more than the {total} training samples. Next: batch: {total}")
