"""Who agrees with whom: matrices of agreement, how reliable each source is taken to be, and what sources leave out."""

from __future__ import annotations

from typing import Any

from hyperloom.pipeline.counting import share
from hyperloom.stages.base import source_of
from hyperloom.stages.report.page import Bars, Matrix, PageTable, Section
from hyperloom.stages.report.root import ReportedRoot
from hyperloom.stages.results import Consensus, Labels

WORDS = {
    "equal": "share of sites with the same answer",
    "mae": "mean absolute difference",
    "correlation": "correlation",
    "angle": "mean angle, degrees",
}


def experts(root: ReportedRoot) -> Section | None:
    """Agreement and reliability of the sources of each consensus, and how much each column covers."""
    blocks: list[Any] = []
    for _, votes in root.results(Consensus):
        for column, matrices in votes.agreement.items():
            names = list(matrices["columns"])
            if len(names) < 3:
                continue  # one source and what was made of it agree by definition
            for measure in sorted(set(matrices) - {"columns"}):
                title = f"{column}: {WORDS.get(measure, measure)}"
                blocks.append(Matrix(title, [source_of(c) for c in names], matrices[measure]))
        for column, weights in (votes.reliability or {}).items():
            items = [(name, float(v), f"{v:.3g}") for name, v in sorted(weights.items(), key=lambda i: -i[1])]
            blocks.append(Bars(f"{column}: how reliable each source is taken to be", items))
    rows = [row for _, labels in root.results(Labels) for row in _coverage(labels)]
    if any(row[2] not in ("0.0%", "") or row[3] for row in rows):
        blocks.append(PageTable(["column", "samples", "missing", "in quarantine"], rows, "What each column covers"))
    return Section("experts", "Experts", blocks) if blocks else None


def _coverage(labels: Labels) -> list[list[Any]]:
    return [
        [column, c["rows"], share(c["missing"] / c["rows"]) if c["rows"] else "", labels.quarantined.get(column, 0)]
        for column, c in labels.coverage.items()
    ]
