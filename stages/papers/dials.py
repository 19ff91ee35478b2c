"""The curves of a paper: what turning a dial buys, drawn from its record beside the page of papers.

A claim `grows` names subjects and what was turned up. Where each of them has a claim `keeps` of its own, the curve is
the share that it keeps, with its interval and the share that was asked; else it is its figure. The picture is no part
of what `papers check` compares: its bytes are those of the drawing library.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hyperloom.stages.plot import blank, png

if TYPE_CHECKING:
    from hyperloom.stages.papers.shelf import PaperRecipe

FEWEST = 3
"""Places of a dial from which a line is a curve."""


@dataclass(frozen=True)
class DialCurve:
    """One dial: its subjects with their `places`, `values`, and `intervals` (None for figures, which have none)."""

    name: str
    subjects: tuple[str, ...]
    places: tuple[float, ...]
    values: tuple[float, ...]
    intervals: tuple[tuple[float, float] | None, ...]
    border: float | None
    """The share that was asked."""


def curves(one: PaperRecipe) -> list[DialCurve]:
    """Those that a paper's record has, in the order of the recipe; none without a record."""
    record = one.record
    if record is None:
        return []
    concluded, kinds = {**record.claims, **record.beside}, {**one.step.claims, **one.step.beside}
    shares = {kind.ours: concluded[name] for name, kind in kinds.items() if kind.is_ == "keeps" and name in concluded}
    return [
        _curve(name, kind.dial, concluded[name]["sides"], shares)
        for name, kind in kinds.items()
        if kind.is_ == "grows" and name in concluded and len(set(kind.dial.values())) >= FEWEST
    ]


def _curve(
    name: str, dial: Mapping[str, float], sides: Mapping[str, float], shares: Mapping[str, Mapping[str, Any]]
) -> DialCurve:
    subjects = sorted(dial, key=lambda who: dial[who])
    known = [shares[who] for who in subjects if who in shares]
    places = tuple(dial[who] for who in subjects)
    if len(known) < len(subjects):
        figures = tuple(float(sides[who]) for who in subjects)
        return DialCurve(name, tuple(subjects), places, figures, (None,) * len(subjects), None)
    intervals = tuple(tuple(share["interval"]) if share["interval"] else None for share in known)
    values = tuple(float(share["value"]) for share in known)
    return DialCurve(name, tuple(subjects), places, values, intervals, float(known[0]["border"]))


def picture_of(one: PaperRecipe) -> str:
    """Where a paper's picture lies, seen from the page."""
    return f"papers/{one.name}.png"


def draw(folder: Path, one: PaperRecipe) -> bool:
    """Put the picture of a paper's curves below `folder`; False where it has none. Raises SourceError without
    matplotlib."""
    drawn = curves(one)
    if not drawn:
        return False
    figure = blank(3.4 * len(drawn), 3.2)
    for panel, curve in zip(figure.subplots(1, len(drawn), squeeze=False)[0], drawn, strict=True):
        panel.plot(curve.places, curve.values, "o-", color="tab:blue")
        for place, interval in zip(curve.places, curve.intervals, strict=True):
            if interval is not None:
                panel.plot([place, place], interval, color="tab:blue", alpha=0.5, linewidth=3)
        if curve.border is not None:
            panel.axhline(curve.border, color="black", linestyle="--", linewidth=0.8)
        panel.set_xticks(curve.places, curve.subjects, rotation=30)
        panel.set_title(f"{curve.name}: {'figure' if curve.border is None else 'share kept'}", fontsize=9)
        panel.grid(alpha=0.25)
    path = folder / picture_of(one)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(png(figure))
    return True
