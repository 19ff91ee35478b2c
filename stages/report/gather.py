"""Gathering: everything that a root holds of a recipe becomes a page. A part that cannot be read is said, and left out:
a report of a damaged or half-done root has fewer sections, and never fails."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

from hyperloom.pipeline.secrets import blot
from hyperloom.stages.report import experts, figures, material, origin, outcome, pictures, training, work
from hyperloom.stages.report.page import Page, Section, Tone
from hyperloom.stages.report.root import ReportedRoot

SECTIONS: tuple[tuple[str, Callable[[ReportedRoot], Section | None]], ...] = (
    ("the results", outcome.results),
    ("the steps", work.steps),
    ("the samples", pictures.samples),
    ("the experts", experts.experts),
    ("the trainings", training.training),
    ("the differences", figures.differences),
    ("the slices", figures.slices),
    ("the calibration", figures.calibration),
    ("the ensembles", figures.spread),
    ("the speed", figures.speed),
    ("the quarantine", material.quarantine),
    ("the data", material.data),
    ("the lineage", origin.lineage),
)
"""In the order of the page; the first three a person looks at first."""
T = TypeVar("T")


def page(root: ReportedRoot) -> Page:
    """The report of a root, as data."""
    missing: list[str] = []
    parts = [_part(missing, name, partial(make, root), None) for name, make in SECTIONS]
    sections = [s for s in parts if s is not None]
    if _part(missing, "what is of use first", lambda: outcome.rehearsed(root), False):  # the labels, no model yet
        sections.sort(key=lambda s: s.name != "samples")
    nothing: tuple[str, Tone] = ("", "plain")
    text, tone = _part(missing, "the outcome", lambda: outcome.sentence(root), nothing)
    return Page(
        name=root.loaded.recipe.name,
        task=_part(missing, "the task", lambda: outcome.task(root), ""),
        outcome=text,
        tone=tone,
        facts=_part(missing, "the facts", lambda: _facts(root), ()),
        sections=sections,
        doubts=_part(missing, "the doubts", lambda: outcome.doubts(root), ()),
        missing=missing,
    )


def _part(missing: list[str], name: str, make: Callable[[], T], otherwise: T) -> T:
    """What `make` gives; where it fails, `otherwise`, and a word on why."""
    try:
        return make()
    except Exception as error:  # whatever a damaged file, an older format or a plug-in of one's own brings
        why = f"{type(error).__name__}: {error}".partition("\n")[0]
        missing.append(blot(f"{name} cannot be shown: {why}"))
        return otherwise


def _facts(root: ReportedRoot) -> list[tuple[str, Any]]:
    run = root.run
    facts = [("root", blot(str(root.storage))), ("recipe", root.loaded.path or root.loaded.recipe.name)]
    if run.run:
        facts.append(("run", run.run))
    if run.began:
        facts.append(("began", time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(run.began))))
    if run.seconds is not None:
        facts.append(("took", work.duration(run.seconds)))
    return facts
