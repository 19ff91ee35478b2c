"""What the steps of a run took: the graph of steps, and the table with time, units, bytes and paid calls."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hyperloom.pipeline.planning.plan import PlannedStep
from hyperloom.stages.report.page import Box, PageTable, Section, StepGraph, Words
from hyperloom.stages.report.root import ReportedRoot
from hyperloom.stages.results import Labels

COLUMNS = (
    "step", "stage", "state", "time", "share", "units", "reused", "failed", "rows", "left out", "MB", "calls",
)  # fmt: skip
CALLS_LOOKED_AT = 256
"""Folders of stored answers that are counted; of more an expert has so many that nobody reads the number."""


def steps(root: ReportedRoot) -> Section | None:
    """Each step with its state and its price."""
    total = sum(root.history(s).worked or 0 for s in root.steps)
    boxes = [_box(root, step, total) for step in root.steps]
    blocks: list[Any] = [StepGraph(boxes), _table(root, total)]
    undone = [f"{s.name}: {line}" for s in root.steps if s.manifest is None for line in _reasons(root, s)]
    if undone:
        blocks.insert(0, Words(undone, "bad"))
    return Section("steps", "Steps", blocks, _note(root)) if boxes else None


def paid_calls(root: ReportedRoot, fingerprint: str) -> int:
    """Answers of a paid endpoint that are stored under the root."""
    folder = f"calls/{fingerprint[:12]}"
    digits = root.storage.names(folder)[:CALLS_LOOKED_AT]
    names = (name for digit in digits for name in root.storage.names(f"{folder}/{digit}"))
    return sum(name.endswith(".json") for name in names)


def duration(seconds: float | None) -> str:
    if seconds is None:
        return ""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def _box(root: ReportedRoot, step: PlannedStep, total: float) -> Box:
    history = root.history(step)
    rows = f"{step.manifest.rows:,} rows" if step.manifest and step.manifest.rows else ""
    lines = [" · ".join(filter(None, (duration(history.worked), rows)))]
    return Box(step.name, step.stage.stage, state(root, step), lines, step.reads, (history.worked or 0) / (total or 1))


def state(root: ReportedRoot, step: PlannedStep) -> str:
    """A word: done, reused, failed, running, waiting, damaged."""
    if step.state == "damaged" and step.name not in root.run.work:
        return "damaged"
    if step.manifest is not None:
        return "reused" if step.name in root.run.reused else "done"
    history = root.history(step)
    if history.status in ("failed", "running"):
        return history.status
    return "waiting"


def _table(root: ReportedRoot, total: float) -> PageTable:
    calls = _calls(root)
    rows: list[list[Any]] = [_row(root, step, total, calls.get(step.name)) for step in root.steps]
    kept = [i for i in range(len(COLUMNS)) if any(row[i] not in (None, "") for row in rows)]
    note = f"{duration(total)} in all" if total else ""
    return PageTable([COLUMNS[i] for i in kept], [[row[i] for i in kept] for row in rows], note=note)


def _row(root: ReportedRoot, step: PlannedStep, total: float, calls: int | None) -> list[Any]:
    history, manifest = root.history(step), step.manifest
    units, reused, failed = history.units
    seconds = history.worked
    return [
        step.name,
        step.stage.stage,
        state(root, step),
        duration(seconds),
        f"{seconds / total:.0%}" if seconds and total else "",
        len(manifest.records) if manifest else units or None,
        reused or None,
        failed or None,
        manifest.rows or None if manifest else None,
        manifest.quarantined or None if manifest else None,
        manifest.total_bytes / 1e6 if manifest else None,
        calls,
    ]


def _calls(root: ReportedRoot) -> dict[str, int]:
    if not root.storage.names("calls"):
        return {}
    counted: dict[str, int] = {}
    for step, labels in root.results(Labels):
        own = {p.fingerprint for c, p in labels.columns.items()}
        counted[step.name] = sum(paid_calls(root, f) for f in own)
    return {name: count for name, count in counted.items() if count}


def _reasons(root: ReportedRoot, step: PlannedStep) -> Sequence[str]:
    history = root.history(step)
    return [history.error, *history.failures[:5]] if history.error else step.why


def _note(root: ReportedRoot) -> str:
    run = root.run
    if not run.run:
        return "Nothing is known of the runs: the events of this root are gone, or it was filled by another recipe."
    took = f", {duration(run.seconds)}" if run.seconds is not None else ""
    return f"Run {run.run}: {run.status}{took}."
