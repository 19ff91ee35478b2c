"""What a training learns from: its shards, whoever made its columns, and the weights that it starts from."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from hyperloom.pipeline.commits import manifest as manifests
from hyperloom.pipeline.commits.manifest import Manifest
from hyperloom.pipeline.root.storage import Storage
from hyperloom.pipeline.stage import StepRun
from hyperloom.stages.lesson import Lesson, handed_on, merged, of_column, truths
from hyperloom.stages.results import Shards, lessons_of

if TYPE_CHECKING:
    from hyperloom.stages.train.stage import Train


def learned(stage: Train, step: StepRun) -> list[Lesson]:
    """All lessons of the models of a step."""
    own: list[Lesson] = []
    for name in _data(stage):
        manifest = step.inputs[name]
        shards, key = Shards.from_manifest(manifest), f"{manifest.stage}/{manifest.fingerprint}"
        own.append(Lesson(key, "train", "trained"))
        if (stage.stop or stage.seeds > 1) and shards.rows("val"):
            own.append(Lesson(key, "val", "chosen"))
        for column in _columns(stage):
            own += of_column(column, shards.columns[column].about if column in shards.columns else {})
        own += handed_on(_choosing(step.storage, manifest), name)
    if stage.guide:
        own += handed_on(lessons_of(step.inputs[stage.guide]), f"its teacher {stage.guide}")
    if stage.model.start:
        own += stage.model.start.lessons(step)
    return merged(own)


def showing(stage: Train, step: StepRun) -> dict[str, list[str]]:
    """By input the truth that it goes back to; inputs without any are left out."""
    shown: dict[str, list[str]] = {}
    for name in _data(stage):
        columns = Shards.from_manifest(step.inputs[name]).columns
        for column in stage.inputs:
            if behind := truths(column, columns[column].about if column in columns else {}):
                shown[column] = sorted({*shown.get(column, ()), *behind})
    return shown


def _data(stage: Train) -> tuple[str, ...]:
    return (stage.data,) if isinstance(stage.data, str) else stage.data


def _columns(stage: Train) -> list[str]:
    """What a training looks at."""
    targets = [column for columns in stage.targets.values() for column in columns]
    beside = [*(c.column for c in stage.confidence.values()), *([stage.only] if stage.only else [])]
    return [*stage.inputs, *targets, *beside, *stage.validate_on.values()]


def _choosing(storage: Storage, shards: Manifest) -> Iterator[Lesson]:
    """Lessons of the models that a step of one's own asked when it chose or made the samples. (What a shard step joins
    says so of itself, column by column.)"""
    for ref in manifests.refs(shards.payload) if shards.stage != "shard" else ():
        manifest = manifests.anywhere(storage, ref)
        yield from lessons_of(manifest) if manifest else ()
