"""The model card: what a released student is, how good it is, and what it was made of, in Markdown.

Everything in it follows from manifests, so the same release has the same card.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from hyperloom.stages import licence
from hyperloom.stages.distill import teachers
from hyperloom.stages.release.lineage import snapshot
from hyperloom.stages.release.proof import seen
from hyperloom.stages.results import Judged, Trained


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
    tasks = [_task(task, about) for task, about in student["tasks"].items()]
    size = "{} x {}".format(*student["size"])
    return "\n".join(
        [
            f"# {name}",
            f"{'The champion' if champion else 'Not the champion, see its gate'}. "
            f"{model.parameters or 0:,} parameters, RGB images of {size} pixels (height x width), ONNX.",
            "",
            "## What it tells",
            *tasks,
            "",
            f"## How good it is: {report.samples} samples of the split `{report.split}`, {seen(report, subject)}",
            _table(report.table),
            "",
            *[f"- {sentence}" for sentence in report.said],
            *_suspicious(report.remarks),
            "## Gate",
            *([f"- {sentence}" for sentence in decided] or ["- none was asked for"]),
            "",
            "## What it was made of",
            f"- model `{fingerprints[0][:12]}`, report `{fingerprints[1][:12]}`, shards `{report.lineage.shards[:12]}`",
            *([f"- {teachers.sentence(model.taught)}"] if model.taught else []),
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
        return f"- `{name}`: {about.get('channels', 1)} channel(s){unit}"
    named = next((about[k] for k in ("classes", "levels", "tags", "points") if about.get(k)), ())
    return f"- `{name}`: {about['type']}{unit}{': ' if named else ''}{', '.join(named)}"


def _producer(about: Mapping[str, Any]) -> str:
    expert = about.get("expert") or {}
    weights = ", ".join(f"weights sha256 {digest[:12]}" for digest in about.get("weights") or ())
    what = f"{about.get('kind', 'raw')} {expert.get('type', '')} revision {about['revision']}" if expert else "raw data"
    return f"{what}{f' ({weights})' if weights else ''}"


def _table(rows: Sequence[Mapping[str, Any]]) -> str:
    columns = sorted(rows[0], key=lambda c: (c != "who", c != "kind", "." not in c, c)) if rows else []

    def cell(value: Any) -> str:
        return "" if value is None else f"{value:.4g}" if isinstance(value, float) else str(value)

    lines = [columns, ["---"] * len(columns), *([cell(row.get(c)) for c in columns] for row in rows)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
