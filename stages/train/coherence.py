"""Coherence: does what a recipe says of a training go together? Imports no torch."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from hyperloom.pipeline.spelling import near
from hyperloom.stages.augment.blends import Blend
from hyperloom.stages.train import length, phases

if TYPE_CHECKING:
    from hyperloom.stages.train.stage import Train


def check(stage: Train) -> None:
    """Raises ValueError, naming the field, when two things that a recipe says do not go together."""
    length.check(stage)
    named = [("in", c) for c in stage.inputs] + [("validate", c) for c in stage.validate_on.values()]
    named += [("only", stage.only)] if stage.only else []
    for field, column in [*named, *(("targets", c) for columns in stage.targets.values() for c in columns)]:
        if not re.fullmatch(r"[^@\s]+@[^@\s]+", column):
            raise ValueError(f"{field}: {column!r} is no column: write modality@source, as in rgb@camera")
    if not isinstance(stage.data, str) and len(set(stage.data)) < max(1, len(stage.data)):
        raise ValueError("data: one shard step, or several different ones")
    if len(set(stage.inputs)) < len(stage.inputs):
        raise ValueError("an input column is listed twice")
    least, most = stage.scale
    if not 1 <= least <= most:
        raise ValueError("workers: give a number from 1, or [least, most]")
    if most > stage.batch:
        raise ValueError(f"batch: {stage.batch} samples cannot be shared by {most} workers")
    if stage.stop and stage.stop.metric and stage.stop.task not in stage.targets:
        hint = near(stage.stop.task, stage.targets)
        raise ValueError(f"stop: {stage.stop.task!r} is no task{hint}; they are {', '.join(stage.targets)}")
    if unknown := sorted(set(stage.validate_on) - set(stage.targets)):
        raise ValueError(f"validate: {', '.join(unknown)} is no task{near(unknown[0], stage.targets)}")
    if any(weight <= 0 for columns in stage.targets.values() for weight in columns.values()):
        raise ValueError("targets: a weight is a number above 0; leave a column out instead")
    if stage.parallel == "fsdp" and stage.balancer.per_task:
        raise ValueError(f"parallel: the balancer {stage.balancer.type!r} needs whole gradients; use ddp")
    taught = [c for columns in stage.targets.values() for c in columns]
    if wrong := sorted(set(stage.confidence) - set(taught)):
        hint = near(wrong[0], taught)
        raise ValueError(f"confidence: {', '.join(wrong)} is no target{hint}; they are {', '.join(taught)}")
    if both := sorted(set(stage.extras) & set(stage.targets)):
        raise ValueError(f"extras: {', '.join(both)} is the name of a task already")
    stage.model.check_parts(stage.inputs, stage.targets)
    stage.model.check(stage.inputs, stage.targets)
    _check_plugins(stage)
    phases.check(stage)


def _check_plugins(stage: Train) -> None:
    """Raises ValueError, naming the field, when a plug-in names what is no input or task, or does not go with
    something else here."""
    if stage.parallel == "fsdp" and stage.learner.copies:
        raise ValueError(f"parallel: the learner {stage.learner.type!r} holds a whole network; use ddp")
    if stage.model.latency_ms is not None and not stage.exported:
        raise ValueError(
            "model: latency_ms is measured on an ONNX file, and a train step makes none. Next: parameters: 430k, "
            "or stage: distill"
        )
    if len(blends := [a.type for a in stage.augment if isinstance(a, Blend)]) > 1:
        raise ValueError(f"augment: one blend, or {{type: one-of, of: [{', '.join(blends)}]}}")
    checks = [("mask", stage.mask, stage.inputs), ("balancer", stage.balancer, stage.losing)]
    for field, plugin, names in [*checks, *(("extras", extra, stage.inputs) for extra in stage.extras.values())]:
        try:
            plugin.check(names)
        except ValueError as error:
            raise ValueError(f"{field}: {error}") from error
