"""Outcome: what a training amounts to: the result of the step, and what is to be said of it. Imports no torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from hyperloom.pipeline.stage import StepRun
from hyperloom.stages.results import Seeded, Trained
from hyperloom.stages.train.diagnosis import clipped, sentences
from hyperloom.stages.train.family import best
from hyperloom.stages.train.fitted import Fitted
from hyperloom.stages.train.job import Job, Member
from hyperloom.stages.train.lessons import learned, showing

if TYPE_CHECKING:
    from hyperloom.stages.train.stage import Train


def outcome(stage: Train, step: StepRun, job: Job, members: Sequence[Member], done: Sequence[Fitted]) -> Trained:
    """The result: what the model is and how it ended; of a family, how the best of it did."""
    place, by = best([one.about["final"] for one in done], {t: step.modalities[t] for t in stage.targets}, job.stop)
    about = done[place].about
    step.events.metric(step.name, {"parameters": about["parameters"]})
    remarks = sentences(about["final"], job.architecture.tasks, step.modalities, about["updates"], job.balancer)
    for sentence in remarks:
        step.events.emit("note", step.name, text=f"{step.name}: {sentence}")
    remarks += [*clipped(about["final"]), *stage.notices(step.storage)]  # said when they were seen
    if remarks:
        step.events.emit("table", step.name, name="remarks", rows=[{"remark": sentence} for sentence in remarks])
    trained = Trained(
        columns_in=list(stage.inputs),
        tasks=list(stage.targets),
        targets=stage.targets,
        hidden=[c for c, h in zip(stage.inputs, stage.mask.hidden_inputs(stage.inputs), strict=True) if h],
        needs=list(job.needs) or None,
        learned=learned(stage, step),
        shows=showing(stage, step) or None,
        remarks=remarks,
        rehearsal=_rehearsal(stage.rehearses, about["updates"]),
        folder=members[0].folder if members[0].folder != step.folder else None,
        **{k: about[k] for k in ("parameters", "updates", "kept", "final") if k in about},
    )
    if len(done) == 1:
        return trained
    seeded = [
        Seeded(m.name, m.seed, m.folder, **{k: v for k, v in one.about.items() if k != "parameters"})
        for m, one in zip(members, done, strict=True)
    ]
    step.events.emit("note", step.name, text=f"{step.name}: best is {members[place].name} ({by or 'unmeasured'})")
    return replace(trained, members=seeded, best=members[place].name, best_by=by)


def _rehearsal(of: int | None, updates: int) -> str:
    """How far a pilot's training went; empty of any other."""
    if of is None:
        return ""
    return f"{updates:,} updates" + (f" of {of:,}" if of else "")
