"""`hyperloom report` and `hyperloom diff`. Opening the recipe and its root is the command line's, which hands in `load`
and `steps`; nothing here knows Ray or MLflow."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from hyperloom.pipeline.errors import HyperloomError, StorageError
from hyperloom.stages.data.command import Load, StepResolver

if TYPE_CHECKING:
    from hyperloom.pipeline.output.replies import DiffReply, ReportReply
    from hyperloom.stages.report.page import Page


def add(command: Callable[..., Any], commands: Any, load: Load, steps: StepResolver) -> None:
    """Add the commands to a parser."""

    def run(given: Any) -> int:
        loaded, storage = load(given)
        return report(given, loaded, storage, steps(loaded, storage))

    sub = command(commands, "report", run, "one HTML page on what a root holds of a recipe, made anew")
    sub.add_argument("--to", metavar="FILE", help="write it here instead of below the root")
    sub.add_argument("--open", action="store_true", help="open it in the browser")

    help_ = "what changed between two runs, recipes or roots, and what it did to samples, labels and figures"
    sub = commands.add_parser("diff", help=help_, description=help_)
    for name in ("before", "after"):
        sub.add_argument(name, help="a recipe, RECIPE@RUN (or RECIPE@-2, the last run but one), or a root")
    sub.add_argument("--root", help="use this root instead of the recipes'")
    sub.add_argument("--to", metavar="FILE", help="write an HTML page")

    def compare(given: Any) -> int:
        return diff(given, load, steps)

    sub.set_defaults(command=compare)


def diff(given: Any, load: Load, steps: StepResolver) -> int:
    """Print what changed; 0 where something did or did not."""
    import argparse

    from hyperloom.pipeline.root.storage import Storage
    from hyperloom.stages.report import plain_text, render
    from hyperloom.stages.report.diff import diff as compare
    from hyperloom.stages.report.side import side

    given.notes = set()  # of both sides, each said once

    def plan(path: str) -> tuple[Any, Any, list[Any]]:
        loaded, storage = load(argparse.Namespace(**{**vars(given), "recipe": path}))
        return loaded, storage, steps(loaded, storage)

    before, after = side(given.before, plan), side(given.after, plan)
    page = compare(before, after)
    where = os.path.abspath(given.to) if given.to else None
    given.answer = _compared(page, before.fingerprints == after.fingerprints, where)
    print(plain_text.text(page))
    if where:
        Storage(os.path.dirname(where)).write(os.path.basename(where), render.html(page))
        print(where)
    return 0


def _compared(page: Page, same: bool, where: str | None) -> DiffReply:
    from hyperloom.stages.report import plain_text

    facts = dict(page.facts)
    return {
        "before": facts["before"],
        "after": facts["after"],
        "same": same,
        "outcome": page.outcome,
        "sections": plain_text.sections(page),
        "missing": page.missing,
        "path": where,
    }


def report(given: Any, loaded: Any, storage: Any, steps: list[Any]) -> int:
    """Write the page and say where it is."""
    from hyperloom.pipeline.root.storage import Storage
    from hyperloom.stages.report import render, writing

    page = writing.gathered(loaded, storage, steps)
    if given.to:
        where = os.path.abspath(given.to)
        Storage(os.path.dirname(where)).write(os.path.basename(where), render.html(page))
    else:
        path = writing.place(loaded, steps)
        try:
            storage.write(path, render.html(page))
        except StorageError as error:
            raise StorageError(f"{error}. Next: --to FILE writes the report elsewhere", error.transient) from error
        where = storage.full(path)
    given.answer = _reported(page, where)
    if given.open:
        _open(where)
    print(where)
    return 0


def _reported(page: Page, where: str) -> ReportReply:
    from hyperloom.stages.report import plain_text

    return {
        "path": where,
        "recipe": page.name,
        "outcome": page.outcome,
        "verdict": page.tone,
        "doubts": page.doubts,
        "facts": dict(page.facts),
        "sections": plain_text.sections(page),
        "missing": page.missing,
    }


def _open(where: str) -> None:
    import webbrowser
    from pathlib import Path

    if "://" in where:
        raise HyperloomError(f"{where} lies on a store that no browser opens. Next: --to FILE --open")
    if not webbrowser.open(Path(where).as_uri()):
        print("no browser could be started here; open this file:")
