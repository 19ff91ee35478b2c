"""What figures hide when they are one number: classes, groups, how sure a model is, what speed costs in quality."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from hyperloom.pipeline.commits.manifest import Manifest
from hyperloom.pipeline.errors import HyperloomError
from hyperloom.pipeline.planning.plan import PlannedStep
from hyperloom.stages.base import modality_of, source_of
from hyperloom.stages.evaluate.members import short
from hyperloom.stages.measure.calibration import FINE
from hyperloom.stages.measure.scores import measures
from hyperloom.stages.measure.sheet import read_sheet, total
from hyperloom.stages.measure.sums import Sums, merged
from hyperloom.stages.report.outcome import metrics, speeds
from hyperloom.stages.report.page import Chart, Estimate, PageTable, PlotLine, Section, Words
from hyperloom.stages.report.root import ReportedRoot
from hyperloom.stages.results import Judged, Labels, Shards

MOST_GROUPS = 24
MOST_ROWS = 50_000
"""Samples of each subject whose statistics are read, for the figures of groups."""


def slices(root: ReportedRoot) -> Section | None:
    """Figures by class and by group of samples."""
    blocks: list[Any] = []
    for step, report in root.results(Judged):
        blocks += _sliced(root, report)
        blocks += _classes(root, report)
        blocks += _groups(root, step, report)
    return Section("slices", "Slices", blocks) if blocks else None


def differences(root: ReportedRoot) -> Section | None:
    """Who beats whom, with the interval of the difference itself."""
    blocks: list[Any] = []
    for _, report in root.results(Judged):
        decisive = {figure for figure, _ in metrics(root, report).values()}
        listed = [r for r in report.differences or () if r["figure"] in decisive]
        rows = [
            [r["who"], r["against"], r["figure"], Estimate(r["difference"], r["low"], r["high"]), _word(r)]
            for r in listed
        ]
        if rows:
            note = "The interval is that of the difference: both met the same resampled samples."
            blocks.append(PageTable(["who", "against", "figure", "difference", ""], rows, note=note))
        lacking = [
            f"{who} was judged without {c} on {n} samples" for who, m in report.lacking.items() for c, n in m.items()
        ]
        blocks += [Words(lacking)] if lacking else []
    return Section("differences", "Differences", blocks) if blocks else None


def _word(row: Mapping[str, Any]) -> str:
    """Of a difference."""
    if row.get("unproven"):
        return "not judged: rehearsal"
    return {True: "better", False: "worse", None: "open" if row["low"] is not None else "too few samples"}[
        row["better"]
    ]


def calibration(root: ReportedRoot) -> Section | None:
    """How often a model is right against how sure it says to be, for each task with probabilities."""
    charts: list[Any] = []
    for step, report in root.results(Judged):
        by_task: dict[str, list[PlotLine]] = defaultdict(list)
        for owner in owners(step.manifest, report, root.modalities).values():
            for modality, sums in owner["sums"].items():
                if sum(sums.get("sure", ())):
                    by_task[modality].append(PlotLine(owner["who"], _reliability(sums)))
        charts += [
            Chart(f"{m}: accuracy against confidence", "confidence", lines, "accuracy", diagonal=True)
            for m, lines in by_task.items()
        ]
    note = "On the diagonal a model is right as often as its confidence says; below it, it is overconfident."
    return Section("calibration", "Calibration", charts, note) if charts else None


def speed(root: ReportedRoot) -> Section | None:
    """Milliseconds a frame against the figure that decides."""
    charts: list[Any] = []
    for step, report in root.results(Judged):
        took = speeds(root, step)
        runtimes = {speed.runtime for speed in took.values()}
        for figure, up in metrics(root, report).values():
            lines = [
                PlotLine(f"{who} ({runtime})" if len(runtimes) > 1 else who, [(ms, report.figures[who][figure])])
                for who, (ms, runtime) in took.items()
                if figure in report.figures.get(who, {})
            ]
            if len(lines) > 1:  # one point says nothing that the table of results does not
                title = f"{figure} ({'higher' if up else 'lower'} is better)"
                axis = f"ms a frame ({next(iter(runtimes))})" if len(runtimes) == 1 else "ms a frame"
                charts.append(Chart(title, axis, lines, marks=True, log=True))
    note = "Time on the machine that judged, of each in the fastest runtime that is known, which is named."
    return Section("speed", "Latency against quality", charts, note) if charts else None


def _sliced(root: ReportedRoot, report: Judged) -> list[PageTable]:
    """The slices that the recipe names, by the figures that decide, the surest weakness first."""
    decisive = {figure for figure, _ in metrics(root, report).values()}
    listed = [row for row in report.slices or () if row["figure"] in decisive]
    listed.sort(key=lambda row: (row["p"] is None, row["p"], row["who"], row["slice"]))
    rows = [[row[k] for k in ("who", "slice", "samples", "figure", "value", "elsewhere", "p")] for row in listed]
    note = "p: how probable a weakness of this size is by chance, corrected for all looks."
    names = ["who", "slice", "samples", "figure", "there", "elsewhere", "p"]
    more = f", the first {MOST_GROUPS} of {len(rows)}" if len(rows) > MOST_GROUPS else ""
    return [PageTable(names, rows[:MOST_GROUPS], f"Slices{more}", note)] if rows else []


def _classes(root: ReportedRoot, report: Judged) -> list[PageTable]:
    """Classes down, in the order of their modality; of one subject all figures in a table, else a table for each."""
    by_modality: dict[str, list[Mapping[str, Any]]] = defaultdict(list)
    for row in report.classes:
        by_modality[row["modality"]].append(row)
    listed = []
    for modality, rows in by_modality.items():
        names = list(dict.fromkeys(k for row in rows for k in row if k not in ("who", "modality", "measure")))
        order = {name: i for i, name in enumerate(getattr(root.modalities.get(modality), "counted", ()))}
        names.sort(key=lambda name: order.get(name, len(order)))
        alone = len({row["who"] for row in rows}) == 1
        parts = (
            {rows[0]["who"]: rows} if alone else {m: [r for r in rows if r["measure"] == m] for m in _measures(rows)}
        )
        for part, mine in parts.items():
            heads = [row["measure" if alone else "who"] for row in mine]
            lines = [[name, *(row.get(name) for row in mine)] for name in names]
            nowhere = [name for name, *figures in lines if all(figure is None for figure in figures)]
            note = f"In no judged sample: {', '.join(map(str, nowhere))}." if nowhere else ""
            shown = [line for line in lines if line[0] not in nowhere]
            listed.append(PageTable(["class", *heads], shown, f"{modality} by class: {part}", note))
    return listed


def _measures(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    return list(dict.fromkeys(row["measure"] for row in rows))


def _groups(root: ReportedRoot, step: PlannedStep, report: Judged) -> list[PageTable]:
    """A table for each modality: groups down, subjects across, the group that is worst for the last subject first."""
    sums, cut = _sums_by_group(root, step, report)
    some = f", of the first {MOST_ROWS:,} samples" if cut else ""
    tables = []
    for modality, (figure, up) in metrics(root, report).items():
        kind, rows = root.modalities[modality], {}
        subjects = [w for w in report.figures if figure in report.figures[w]]
        for group, mine in sums.items():
            by = {w: mine.get((w, modality)) for w in subjects}
            values = {w: measures(kind, merged(s)).get(kind.metric) for w, s in by.items() if s}
            rows[group] = [values.get(w) for w in subjects]
        if len(rows) < 2 or not subjects:
            continue
        worst = sorted(rows, key=lambda g: (rows[g][-1] is None, (rows[g][-1] or 0) * (1 if up else -1), g))
        lines = [[g, *rows[g]] for g in worst[:MOST_GROUPS]]
        more = f"; the {MOST_GROUPS} worst of {len(rows)}" if len(rows) > MOST_GROUPS else ""
        tables.append(
            PageTable(["group", *subjects], lines, f"{figure} by group, the worst of {subjects[-1]} first{more}{some}")
        )
    return tables


def _sums_by_group(
    root: ReportedRoot, step: PlannedStep, report: Judged
) -> tuple[dict[str, dict[tuple[str, str], list[Sums]]], bool]:
    """Group -> (subject, modality) -> statistics of its samples, from the sheets of the evaluation; and whether there
    were more samples than are read. Of all subjects the same ones are: units are in the order of their shards."""
    sums: dict[str, dict[tuple[str, str], list[Sums]]] = defaultdict(lambda: defaultdict(list))
    read, cut = Counter[str](), False
    names_of = {space: o["who"] for space, o in owners(step.manifest, report, root.modalities).items()}
    for record in step.manifest.records if step.manifest else ():
        if record.id == "cost" or len(record.files) < 2:
            continue
        if read[record.space] >= MOST_ROWS:
            cut = True
            continue
        try:
            _, groups, sheet = read_sheet(root.storage, record.files[1].path)
        except (HyperloomError, OSError, ValueError):
            continue
        read[record.space] += len(groups)
        names = np.asarray(groups)
        for name, statistics in sheet.items():
            if (who := _subject(name, record.space, report, names_of)) is None:
                continue
            for group in dict.fromkeys(groups):
                of_group = {stat: total(v[names == group]) for stat, v in statistics.items()}
                sums[group][who].append(of_group)
    return sums, cut


def _subject(name: str, space: str, report: Judged, models: Mapping[str, str]) -> tuple[str, str] | None:
    """Whose statistics a sheet's name is of: a column's source, or the model whose unit it is."""
    if "@" not in name:
        return (models[space], name) if space in models else None
    source = source_of(name)
    who = source if source in report.kinds and report.kinds[source] != "model" else f"{source} labels"
    return (who, modality_of(name)) if who in report.figures else None


def owners(manifest: Manifest | None, report: Judged, modalities: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """By space of units the model that was judged there: `who`, and all its statistics by modality."""
    models = {space: who for who, space in report.sheets.items() if who != "columns"}
    parts: dict[str, list[Mapping[str, Sums]]] = defaultdict(list)
    for record in manifest.records if manifest else ():
        if record.space in models:
            parts[record.space].append(record.meta.get("sums", {}))
    return {
        space: {
            "who": models[space],
            "sums": {m: merged([p[m] for p in listed if m in p]) for m in listed[0] if m in modalities},
        }
        for space, listed in parts.items()
    }


def _reliability(sums: Mapping[str, Any]) -> list[tuple[float, float]]:
    sure, sureness, right = (np.asarray(sums[k], np.float64) for k in ("sure", "sureness", "right"))
    filled = sure > 0
    return list(zip((sureness[filled] / FINE / sure[filled]).tolist(), (right[filled] / sure[filled]).tolist()))


def spread(root: ReportedRoot) -> Section | None:
    """How far the members of ensembles and families differ, what more of them bring, and whether they err where they
    differ; and what ensembles' own spread is like in the labels that they made."""
    blocks: list[Any] = []
    for _, report in root.results(Judged):
        blocks += _ensembles(root, report)
        blocks += _seeds(report)
    rows = []
    for step, labels in root.results(Labels):
        for column, producer in labels.columns.items():
            ensemble = (producer.about.get("expert") or {}).get("ensemble")
            if ensemble:
                how = ", ".join(f"{k} {v}" for k, v in ensemble.items() if k not in ("type", "revision"))
                rows.append([step.name, column, ensemble.get("type", ""), how, _spread_of(root, column)])
    if rows:
        names = ["step", "column", "ensemble", "", "mean spread of its members"]
        blocks.append(PageTable(names, rows, "Labels by ensembles"))
    return Section("ensembles", "Ensembles", blocks) if blocks else None


def _ensembles(root: ReportedRoot, report: Judged) -> list[Any]:
    """Of each judged ensemble and task."""
    listed = [(who, m, row) for who, mine in (report.ensembles or {}).items() for m, row in mine.items()]
    if not listed:
        return []
    rows = []
    for who, m, row in listed:
        members, apart, _, *figures = short(row).values()
        rows.append([who, m, members, apart, _unit(root, m), *figures])
    names = ["who", "task", "members", "spread", "in", "one member", "all", "where they agree", "where they differ"]
    note = (
        "Spread: the standard deviation over members, a mean over all samples. The last two are the figure on the "
        "quarter of the samples on which members differ least, and most: if the second is much worse, the spread "
        "tells where not to trust the model."
    )
    blocks: list[Any] = [PageTable(names, rows, "How far members differ", note)]
    for modality in dict.fromkeys(m for _, m, _ in listed):
        mine = [(who, row) for who, m, row in listed if m == modality]
        figure = f"{modality}.{mine[0][1]['measure']}"
        for key, x, log in (("by_members", "members", True), ("by_spread", "spread of the members", False)):
            lines = [PlotLine(who, [(x, y) for x, y in row[key]]) for who, row in mine if len(row[key]) > 1]
            if lines:
                blocks.append(Chart(f"{figure} by {x}", x, lines, log=log))
    return blocks


def _unit(root: ReportedRoot, modality: str) -> str:
    kind = root.modalities.get(modality)
    return "probability" if kind is not None and kind.categorical else getattr(kind, "unit", "") or ""


def _seeds(report: Judged) -> list[PageTable]:
    """Figures over the seeds of each family."""
    rows = []
    for family, mine in (report.seeds or {}).items():
        for figure, row in mine.items():
            interval = row.get("interval") or (None, None)
            each = ", ".join(f"{v:.4g}" for v in row["values"])
            rows.append([family, figure, Estimate(row["mean"], *interval), row["sd"], each])
    return [PageTable(["family", "figure", "mean", "deviation", "each seed"], rows, "Over seeds")] if rows else []


def _spread_of(root: ReportedRoot, column: str) -> float | None:
    """The mean of a column of spread (a dense column of one channel that is no task, see stages.label.model), where
    shards counted it."""
    for _, shards in root.results(Shards):
        kind = root.modalities.get(modality_of(column))
        if column in shards.statistics and kind is not None and "spread" in modality_of(column):
            mean = shards.statistics[column].get("mean") or [None]
            return mean[0] if isinstance(mean, list) else mean
    return None
