"""The curves of trainings: losses, what is measured on the samples that taught (fit) against others (val)."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping
from typing import Any

from hyperloom.pipeline.output import remarking
from hyperloom.pipeline.planning.plan import PlannedStep
from hyperloom.stages.report.page import Chart, PageTable, PlotLine, Section, Words
from hyperloom.stages.report.root import ReportedRoot
from hyperloom.stages.results import Trained

Curves = Mapping[str, list[tuple[float, float]]]
MOST_LINES = 12
MOST_CHARTS = 8
"""Of one training; the others are in MLflow."""


def training(root: ReportedRoot) -> Section | None:
    """Every training: its losses, fit against val for the figure that decides, what it ended with."""
    blocks: list[Any] = []
    rows = []
    remarks: list[tuple[str, str]] = []
    for step in root.steps:
        curves = root.history(step).curves
        if curves:
            charts = [*_losses(step, curves), *_fit(step, curves, root.modalities)]
            blocks += charts[:MOST_CHARTS]
    for step, model in root.results(Trained):
        rows.append(_row(step, model))
        remarks += [(step.name, text) for text in model.remarks]
    blocks += [Words(remarking.lines(remarks), "bad")] if remarks else []
    if rows:
        names = ["step", "parameters", "updates", "inputs", "targets", "ended with"]
        blocks.append(PageTable(names, rows, "Models"))
    return Section("training", "Training", blocks) if blocks else None


def _losses(step: PlannedStep, curves: Curves) -> list[Chart]:
    """All loss terms in one chart; those of several seeds by the total alone."""
    terms = {n: p for n, p in curves.items() if n.partition("/")[0].partition(".")[0] == "loss"}
    if len(terms) > MOST_LINES:
        terms = {n: p for n, p in terms.items() if "." not in n.partition("/")[0]}
    by_member = Counter(name.partition("/")[2] for name in terms)
    alone = {m for m, count in by_member.items() if count == 2}  # the only term is the sum
    terms = {n: p for n, p in terms.items() if "." not in n.partition("/")[0] or n.partition("/")[2] not in alone}
    lines = [PlotLine(name, points) for name, points in list(terms.items())[:MOST_LINES]]
    return [Chart(f"{step.name}: loss", "update", lines)] if lines else []


def _fit(step: PlannedStep, curves: Curves, modalities: Mapping[str, Any]) -> list[Chart]:
    """By figure: on samples that taught, and on others."""
    pairs: dict[str, dict[str, list[tuple[float, float]]]] = defaultdict(dict)
    for name, points in curves.items():
        plain, _, member = name.partition("/")
        where, _, figure = plain.partition(".")
        if where in ("fit", "val") and figure.count(".") == 1:
            pairs[figure][f"{where} {member}".strip()] = points
    decisive = [f"{m}.{kind.metric}" for m, kind in modalities.items()]
    charts = []
    for figure in sorted(pairs, key=lambda f: (f not in decisive, f)):
        if figure in decisive or not any(f in pairs for f in decisive):
            lines = [PlotLine(who, points) for who, points in list(pairs[figure].items())[:MOST_LINES]]
            if any(len(line.points) > 1 for line in lines):  # a single one is said by the table
                charts.append(Chart(f"{step.name}: {figure}", "update", lines))
    return charts


def _row(step: PlannedStep, model: Trained) -> list[Any]:
    final = model.final if isinstance(model.final, dict) else {}
    shown = {k: v for k, v in final.items() if k.partition(".")[0] in ("loss", "fit", "val") and k.count(".") < 3}
    words = ", ".join(f"{k} {v:.3g}" for k, v in shown.items() if isinstance(v, int | float))
    targets = ", ".join(dict.fromkeys(c for weighted in model.targets.values() for c in weighted))
    return [step.name, model.parameters, model.updates, ", ".join(model.columns_in), targets, words]
