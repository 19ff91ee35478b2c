"""The model card: what a released student is, how good it is, and what it was made of, in Markdown.

Everything in it follows from manifests, so the same release has the same card. Its tables are narrow, one for each
modality, since MLflow cuts a wide one, and so does a phone.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from hyperloom.pipeline.counting import counted, share
from hyperloom.stages import licence
from hyperloom.stages.distill import teachers
from hyperloom.stages.measure.measure import figures_known
from hyperloom.stages.release.lineage import snapshot
from hyperloom.stages.release.proof import seen
from hyperloom.stages.results import Judged, Trained

COVERAGE = "coverage"
"""The figure that says of how much of what the truth knows somebody answered."""


def card(
    name: str,
    model: Trained,
    report: Judged,
    fingerprints: tuple[str, str],
    student: Mapping[str, Any],
    decided: Sequence[str],
    champion: bool,
    subject: str = "",
) -> str:
    """`fingerprints` are those of the steps that made `model` and `report`; `student` is student.json; `subject`: what
    the report calls the model."""
    height, width = student["size"]
    learned = teachers.sentence(model.taught) if model.taught else ""
    return "\n".join(
        [
            f"# {name}",
            f"{'The champion' if champion else 'Not the champion, see its gate'}. "
            f"{counted(model.parameters or 0, 'parameter')}, RGB images {height} pixels high and {width} wide, ONNX.",
            "",
            "## What it tells",
            *[_task(task, about) for task, about in student["tasks"].items()],
            "",
            f"## How good it is: {counted(report.samples, 'sample')} of the split `{report.split}`, "
            f"{seen(report, subject)}",
            *_figures(report, subject),
            *[f"- {sentence}" for sentence in report.said if not (learned and sentence.endswith(learned))],
            *_suspicious(report.remarks),
            "## Gate",
            *([f"- {sentence}" for sentence in decided] or ["- none was asked for"]),
            "",
            "## What it was made of",
            f"- model `{fingerprints[0][:12]}`, report `{fingerprints[1][:12]}`, shards `{report.lineage.shards[:12]}`",
            *[f"- {text}" for text in [learned] if text],
            f"- source snapshot `{snapshot()[:12]}`",
            *[f"- `{column}`: {_producer(about)}" for column, about in sorted(report.lineage.columns.items())],
            *_origins(model),
            "",
        ]
    )


def _suspicious(remarks: Sequence[str]) -> list[str]:
    """Between two parts of the card: an empty line, or another part."""
    return ["", "## What looks suspicious in its data", *[f"- {text}" for text in remarks], ""] if remarks else [""]


def _origins(model: Trained) -> list[str]:
    """Whose weights it began with, and under which terms these and the networks stand that labelled what it learned
    from."""
    starts = [f"- {one.by} (weights sha256 {one.shards[:12]})" for one in model.learned or () if one.how == "start"]
    named = licence.sentences(model.learned or ())
    heading = "## Licences of the networks that labelled it or that it began with"
    return [*starts, *(["", heading, *[f"- {text}" for text in named]] if named else [])]


def _task(name: str, about: Mapping[str, Any]) -> str:
    if about["type"] == "segmentation":
        return f"- `{name}`: class ids, in order: {', '.join(about['classes'])}"
    unit = f" in {about['unit']}" if about.get("unit") else ""
    if about["type"] == "dense":
        numbers, names = counted(about.get("channels", 1), "number"), ", ".join(about.get("names", ()))
        return f"- `{name}`: a map, {numbers} a pixel{unit}{f': {names}' if names else ''}"
    named = next((about[k] for k in ("classes", "levels", "tags", "points") if about.get(k)), ())
    return f"- `{name}`: {about['type']}{unit}{': ' if named else ''}{', '.join(named)}"


def _producer(about: Mapping[str, Any]) -> str:
    expert = about.get("expert") or {}
    weights = ", ".join(f"weights sha256 {digest[:12]}" for digest in about.get("weights") or ())
    what = f"{about.get('kind', 'raw')} {expert.get('type', '')} revision {about['revision']}" if expert else "raw data"
    return f"{what}{f' ({weights})' if weights else ''}"


def _figures(report: Judged, subject: str) -> Iterator[str]:
    """A table for each modality of those who have figures of it, one of what the models cost; the released in bold."""
    columns = [c for c in dict.fromkeys(c for row in report.table for c in row) if c not in ("who", "kind")]
    columns.sort(key=lambda c: c.endswith(COVERAGE))
    own = {c.rpartition(".")[0] for row in report.table for c in row if row["who"] == subject and row[c] is not None}
    names = dict.fromkeys(c.rpartition(".")[0] for c in columns)
    if report.bounds and report.intervals and (level := report.intervals.get("level")):
        yield from (f"In brackets: {100 * level:g}% intervals, resampled over {report.intervals['over']}.", "")
    for name in sorted(names, key=lambda n: (not n, n not in own)):  # what it tells first, what they cost last
        mine = [c for c in columns if c.rpartition(".")[0] == name]
        rows = [row for row in report.table if any(row.get(c) is not None for c in mine)]
        if not rows:
            continue
        heading = ["who", *(_heading(c.rpartition(".")[2]) for c in mine), "kind"]  # what is narrow shows the figure
        lines = [heading, ["---"] * len(heading)]
        lines += [[row["who"], *(_cell(report, row, c) for c in mine), str(row.get("kind", ""))] for row in rows]
        bold = ([f"**{cell}**" if cell and line[0] == subject else cell for cell in line] for line in lines)
        yield from (f"**{name or 'What they cost'}**", "")
        yield from ("\n".join("| " + " | ".join(line) + " |" for line in bold), "")


def _heading(figure: str) -> str:
    """A figure's name, and which way is better."""
    if figure == "megaflops":
        return "MFLOPs a sample"
    up = figures_known().get(figure)
    return figure if up is None or figure == COVERAGE else f"{figure} {'↑' if up else '↓'}"


def _cell(report: Judged, row: Mapping[str, Any], column: str) -> str:
    value = row.get(column)
    if value is None or isinstance(value, str):
        return value or ""
    if column.endswith(f".{COVERAGE}"):
        return share(value, 0)
    low, high = ((report.bounds or {}).get(row["who"]) or {}).get(column) or (None, None)
    text = f"{value:,}" if isinstance(value, int) else f"{value:.4g}"
    return text if low is None or high is None else f"{text} ({low:.3g} to {high:.3g})"
