"""What a person lands on in MLflow: the runs of an experiment with the columns that matter, and the page of a run.

MLflow keeps the columns of a table in the browser, or in a tag of the experiment that a URL names (its "share" button
makes such a tag); the tag `mlflow.sharedViewState.hyperloom` is ours, and `hyperloom ui` gives its URL. A run's
description is Markdown; a picture in it is an artifact of a run. Nothing here imports MLflow.
"""

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from typing import Any
from urllib.parse import quote

from hyperloom.pipeline.counting import figure
from hyperloom.pipeline.root import events
from hyperloom.pipeline.root.storage import Storage
from hyperloom.pipeline.secrets import blot
from hyperloom.pipeline.tracking.wording import markdown

KEY = "hyperloom"
VIEW = f"mlflow.sharedViewState.{KEY}"
NOTE = "mlflow.note.content"
TRAINING = "workflowType=machine_learning"
"""Says to MLflow's pages that this is no chat: without it they open on traces and judges."""
MOST_FIGURES = 5
LONGEST = 5000
"""Characters of an experiment's tag."""
REPORT, RESULTS, PICTURE, CARD, RECIPE = (
    "1-report.html",
    "2-results.json",
    "3-picture",
    "4-model-card.md",
    "5-recipe.yaml",
)
"""What the page of a run has under *Artifacts*, in the order in which MLflow lists them: by name."""
PREVIEW = "page/preview.png"
"""The picture as the description shows it: MLflow shows it as wide as it is, and moves all else out of sight."""
WIDEST, LETTERS, GRAPH = 540, 68, 64
"""Pixels of a preview, letters of a table's row and of a line of code in a description, so that all fits beside what
MLflow says of a run."""
PICTURES = (".png", ".jpg", ".webp")
ORDER = ("collage", "results")
"""Beginnings of names of what is shown first among pictures and tables."""


def view(figures: Iterable[str]) -> str:
    """The columns of the experiment's table: how a run ended, what kind it is, and `figures` (names of metrics)."""
    columns = ["tags.`verdict`", "tags.`kind`"]
    columns += [f"metrics.`{name}`" for name in list(dict.fromkeys(figures))[:MOST_FIGURES]]
    widths = {"tags.`verdict`": 220, "tags.`kind`": 90, **dict.fromkeys(columns[2:], 130)}
    state = {"selectedColumns": columns, "columnOrder": columns, "columnWidths": widths, "runListHidden": False}
    return json.dumps({**state, "orderByKey": "attributes.start_time", "orderByAsc": False, "searchFilter": ""})


def experiment_page(server: str, experiment: str) -> str:
    """The URL of the experiment's runs, in our columns."""
    return f"{server}/#/experiments/{experiment}/runs?viewStateShareKey={KEY}&{TRAINING}"


def run_page(server: str, experiment: str, run: str) -> str:
    """The URL of a run."""
    return f"{server}/#/experiments/{experiment}/runs/{run}?{TRAINING}"


def pages(storage: Storage, recipe: str, uri: str, server: str) -> dict[str, str]:
    """Where the last run of a recipe, or its pilot, is shown in the store `uri`, all its runs, and the model that it
    registered; read from what its trackers noted, so that MLflow need not be asked."""
    from hyperloom.pipeline.planning.estimate import PILOT

    for run in reversed(storage.names("events")):
        position = events.tracked(storage, run)
        about = position.get("about", {})
        ours = about.get("name") in (recipe, recipe + PILOT) and about.get("experiment")
        if position.get("uri") != blot(uri) or not ours:
            continue
        experiment = about["experiment"]
        places = {
            "last run": run_page(server, experiment, position["parent"]),
            "all runs": experiment_page(server, experiment),
        }
        return places | {
            f"model {name}": f"{server}/#/models/{quote(name)}?{TRAINING}" for name in about.get("models", {})
        }
    return {}


def about_experiment(name: str, models: Iterable[str]) -> str:
    """The description of an experiment, as Markdown."""
    links = ", ".join(f"[{model}](#/models/{quote(model)})" for model in dict.fromkeys(models))
    registered = f" Registered: {links}." if links else ""
    return (
        f"Runs of the recipe **{name}**; each holds one run for every step. *verdict* says how a run ended, *kind* "
        "whether it is a whole run or which stage; the figures are those of its models on the data that the report "
        f"judged.{registered}"
    )


def description(run: str, about: Mapping[str, Any], steps: Mapping[str, Mapping[str, Any]], root: str) -> str:
    """The description of the parent run, as Markdown: verdict, picture, results, models, steps; what comes last is cut
    where MLflow takes no more."""
    sentences = list(about.get("verdicts", ()))
    verdict = about.get("verdict") or (sentences.pop(0) if sentences else "")
    parts = [f"**{about.get('status', '')}**{f': {verdict}' if verdict else ''}{_linked(about)}"]
    parts += [_picture(about)] if about.get("picture") else []
    tables = sorted(about.get("tables", {}).items(), key=lambda item: not item[0].startswith(ORDER))
    parts += [f"**{name}**\n\n{text}" for name, text in tables[:1]]
    parts += ["\n".join(f"- {sentence}" for sentence in sentences), _graph(steps)]
    rows = [[n, s.get("stage"), _reads(s), s.get("status"), s.get("seconds")] for n, s in steps.items()]
    parts.append(markdown(["step", "stage", "reads", "status", "seconds"], rows))
    parts += [f"**{name}**\n\n{text}" for name, text in tables[1:]]
    parts.append(
        f"Run `{run}` of {about.get('name', '')} in `{root}`, which holds the truth: `hyperloom status` reads it."
    )
    return "\n\n".join(filter(None, parts))


def first_picture(present: list[str] | None, run: str, path: str) -> list[str] | None:
    """Which picture the description shows, as [run, path]: the collage before any other, else the first."""
    if not path.endswith(PICTURES):
        return present
    better = present is None or (_ranked(path) < _ranked(present[1]))
    return [run, path] if better else present


def on_the_run(path: str, step: str, to: str) -> str:
    """Under which name the file `path` of a step (empty: of the run) stands among the artifacts of the whole run; empty
    where it stays with its step."""
    name = path.rpartition("/")[2]
    if not step:
        return REPORT if name.endswith(".html") else f"{to}/{name}".lstrip("/")
    return CARD if name == "card.md" and not to else ""


def _ranked(path: str) -> bool:
    return not path.rpartition("/")[2].startswith(ORDER)


def _linked(about: Mapping[str, Any]) -> str:
    """Links to the registered versions, and to the report."""
    links = [
        f"[{name} version {v}](#/models/{quote(name)}/versions/{v})" for name, v in about.get("models", {}).items()
    ]
    if about.get("report"):
        links.append(
            f"[report](#/experiments/{about['experiment']}/runs/{about['parent']}/artifacts/{about['report']})"
        )
    return f" ({', '.join(links)})" if links else ""


def in_short(columns: Sequence[str], rows: Sequence[Sequence[Any]], figures: Iterable[str] = ()) -> str:
    """As much of a table as a description has room for, as Markdown, and how many columns are left out. Where there are
    `figures` (names of metrics, `student.semantic.miou`) who it is and what decides; else the first columns."""
    decisive = [c for c in columns if any(figure.endswith(f".{c}") for figure in figures)]
    first = [c for c in columns if c in ("who", "kind")]
    shown, left = list(dict.fromkeys([*first, *decisive])) if decisive else list(columns), LETTERS
    at = [columns.index(column) for column in shown]
    for number, column in enumerate(at):
        lines = markdown([columns[column]], [[row[column]] for row in rows]).splitlines()
        left -= max(len(line.strip("| ")) for line in lines) + 2  # and the room between columns
        if left < 0:
            at = at[: max(number, 1)]
            break
    table = markdown([columns[i] for i in at], [[row[i] for i in at] for row in rows])
    more = len(shown) - len(at)
    return f"{table}\n\nand {more} more column{'s' * (more > 1)}" if more else table


def step_description(name: str, about: Mapping[str, Any], step: Mapping[str, Any]) -> str:
    """The description of the run of the step `name`, as Markdown: what it is and was made of, how it ended and where
    the whole run is, then what came of it."""
    whole = f"[{about.get('name', 'the run')}](#/experiments/{about.get('experiment')}/runs/{about.get('parent')})"
    reads = f", reads {_reads(step)}" if step.get("reads") else ""
    seconds = step.get("seconds")
    took = f" in {figure(seconds)} s" if isinstance(seconds, int | float) else ""
    parts = [f"**{step.get('status', '')}**{took}: step `{name}` ({step.get('stage')}{reads}) of {whole}"]
    parts.append("\n".join(f"- {sentence}" for sentence in step.get("sentences", ())))
    if others := step.get("others"):
        parts.append(f"It began with other parameters, which MLflow keeps. By now: {'; '.join(others)}")
    shown = ((table, about.get("tables", {}).get(table)) for table in step.get("tables", ()))
    parts += [f"**{table}**\n\n{text}" for table, text in shown if text]
    return "\n\n".join(filter(None, parts))


def preview(data: bytes) -> bytes:
    """A picture as PNG, no wider than a description has room for; as it is where it cannot be read."""
    import io

    try:
        from PIL import Image

        picture = Image.open(io.BytesIO(data))
        picture.thumbnail((WIDEST, 10 * WIDEST))
        picture.save(target := io.BytesIO(), "PNG")
    except (ImportError, OSError, ValueError):
        return data
    return target.getvalue()


def _picture(about: Mapping[str, Any]) -> str:
    """The preview, which leads to the picture itself."""
    run, path = about["picture"]
    name, parent = path.rpartition("/")[2], about["parent"]
    full = f"#/experiments/{about['experiment']}/runs/{run}/artifacts/{quote(path)}"
    return f"[![{name}](get-artifact?path={quote(PREVIEW)}&run_uuid={parent})]({full})"


def _reads(step: Mapping[str, Any]) -> str:
    return ", ".join(step.get("reads", ()))


def _graph(steps: Mapping[str, Mapping[str, Any]]) -> str:
    """The steps in layers, as text: each after all that it reads."""
    if not any(step.get("reads") for step in steps.values()):
        return ""
    layer: dict[str, int] = {}
    drawn = {name for name, step in steps.items() if step.get("reads")}
    drawn |= {read for step in steps.values() for read in step.get("reads", ())}
    for name, step in ((n, s) for n, s in steps.items() if n in drawn):  # they begin after what they read
        layer[name] = 1 + max((layer.get(read, 0) for read in step.get("reads", ())), default=-1)
    rows = [" + ".join(n for n, at in layer.items() if at == number) for number in range(max(layer.values()) + 1)]
    return "```\n" + "\n".join(textwrap.wrap("  →  ".join(r.replace(" ", "\xa0") for r in rows), GRAPH)) + "\n```"
