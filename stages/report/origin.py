"""Where a released version comes from: step by step down to the raw columns, with identities, experts and weights."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hyperloom.pipeline.fingerprint import SHORT
from hyperloom.pipeline.planning.plan import PlannedStep
from hyperloom.stages.report.page import PageTable, Section, Verbatim, Words
from hyperloom.stages.report.root import ReportedRoot
from hyperloom.stages.results import Released, Samples, Shards, Trained


def lineage(root: ReportedRoot) -> Section | None:
    """From the release (else from what nobody reads) to the pixels."""
    read = {name for step in root.steps for name in step.reads}
    released = [step for step, _ in root.results(Released)]
    ends = released or [step for step in root.steps if step.name not in read and step.manifest]
    rows: list[list[Any]] = []
    for end in ends:
        rows += [_row(root, step) for step in _down(root, end) if _row(root, step) not in rows]
    makers = [_maker(column, about) for column, about in sorted(_columns(root).items())]
    blocks: list[Any] = [PageTable(["step", "stage", "fingerprint", "what it is"], rows)] if rows else []
    if makers:
        blocks.append(PageTable(["column", "made by", "from", "goes back to", "weights"], makers, "Columns"))
    blocks += [Words([f"source: {where}"], folded="Raw data") for where in _sources(root)]
    blocks.append(Verbatim("The recipe", root.run.recipe or root.loaded.text))
    return Section("lineage", "Lineage", blocks)


def _down(root: ReportedRoot, end: PlannedStep) -> list[PlannedStep]:
    """The step and all that it reads, those nearest first."""
    names, queue = {end.name: end}, [end]
    while queue:
        for name in queue.pop(0).reads:
            step = root.step(name)
            if step is not None and name not in names:
                names[name] = step
                queue.append(step)
    return list(names.values())


def _row(root: ReportedRoot, step: PlannedStep) -> list[Any]:
    return [step.name, step.stage.stage, step.fingerprint[:SHORT], _what(root, step)]


def _what(root: ReportedRoot, step: PlannedStep) -> str:
    if step.manifest is None:
        return "not done"
    if released := next((r for s, r in root.results(Released) if s is step), None):
        return f"{released.name}, the model {released.subject}{' ' + released.member if released.member else ''}"
    if trained := next((r for s, r in root.results(Trained) if s is step), None):
        return f"a model of {trained.parameters or 0:,} parameters for {', '.join(trained.tasks)}"
    if shards := next((r for s, r in root.results(Shards) if s is step), None):
        return ", ".join(f"{size.rows:,} {name}" for name, size in shards.splits.items() if size.rows)
    if samples := next((r for s, r in root.results(Samples) if s is step), None):
        return ", ".join(samples.columns)
    return ""


def _columns(root: ReportedRoot) -> dict[str, Mapping[str, Any]]:
    """Every column with what its maker says of it."""
    return {c: producer.about for _, samples in root.results(Samples) for c, producer in samples.columns.items()}


def _maker(column: str, about: Mapping[str, Any]) -> list[Any]:
    expert = about.get("expert") or {}
    who = f"{about.get('kind', 'expert')} {expert.get('type', '')}" if expert else f"raw data ({about.get('type', '')})"
    weights = ", ".join(str(digest)[:SHORT] for digest in about.get("weights") or ())
    models = ", ".join(f"model {str(model)[:SHORT]}" for model in about.get("models") or ())
    back = ", ".join(about.get("origins") or ())
    return [column, who, ", ".join(about.get("inputs") or ()), back, ", ".join(filter(None, (weights, models)))]


def _sources(root: ReportedRoot) -> list[str]:
    """The source of each ingest step as the recipe writes it, without what the environment gives."""
    sources = [
        s.payload.get("config", {}).get("source") for s in root.steps if s.is_source or s.stage.stage == "ingest"
    ]
    return [", ".join(f"{k} {v}" for k, v in source.items() if k != "revision") for source in sources if source]
