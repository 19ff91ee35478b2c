"""The picture of a trade-off: quality against parameters, milliseconds and minutes, what else was judged as lines."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from hyperloom.pipeline.counting import placed
from hyperloom.stages.plot import blank, png

if TYPE_CHECKING:
    from hyperloom.stages.evaluate.tradeoff import Tradeoff

AXES = {
    "parameters": "parameters",
    "milliseconds": "milliseconds a sample",
    "minutes": "minutes of one training",
}
"""What quality is drawn against, and how that is called."""
WIDTH, HEIGHT, SPACE = 5.6, 2.9, 0.9
"""Inches of the picture, of each axis, and of title and legend: one axis below the other, so that a phone shows it."""
NEAR = 0.05
"""Of the length of an axis: numbers below it that are as close hide each other."""
LINES = 9
"""So many rivals have a line, the best ones; the table has all."""


def plot(tradeoff: Tradeoff) -> bytes:
    """A PNG. An axis of which no point has a value is left out. Raises SourceError without matplotlib."""
    axes = [axis for axis in AXES if any(getattr(p, axis) for p in tradeoff.points)]
    figure = blank(WIDTH, HEIGHT * len(axes) + SPACE)
    panels = figure.subplots(len(axes), 1, sharey=True, squeeze=False)[:, 0]
    for drawn, axis in zip(panels, axes, strict=True):
        _panel(drawn, tradeoff, axis)
    figure.supylabel(tradeoff.figure, fontsize=11)
    seeds = max(p.seeds for p in tradeoff.points)
    means = f", means of {seeds} seeds" if seeds > 1 else ""
    figure.suptitle(f"{tradeoff.step}: {tradeoff.samples} samples of {tradeoff.split}{means}", fontsize=11)
    if tradeoff.rivals:
        handles, labels = panels[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=3, fontsize=9, frameon=False)
    return png(figure)


def _panel(drawn: Any, tradeoff: Tradeoff, axis: str) -> None:
    points = sorted((p for p in tradeoff.points if getattr(p, axis)), key=lambda p: getattr(p, axis))
    x, y = [getattr(p, axis) for p in points], [p.figure for p in points]
    drawn.set_xscale("log")
    drawn.plot(x, y, "o-", color="tab:blue", zorder=3)
    for point, at in zip(points, x, strict=True):
        if point.bounds:
            drawn.plot([at, at], point.bounds, color="tab:blue", alpha=0.5, linewidth=2)
        label = point.name.removeprefix(f"{tradeoff.step}-")
        drawn.annotate(label, (at, point.figure), textcoords="offset points", xytext=(4, 5), fontsize=8)
    best_first = sorted(tradeoff.rivals.items(), key=lambda item: item[1], reverse=tradeoff.higher)
    for number, (name, value) in enumerate(best_first[:LINES]):
        dash = ("--", "-.", ":")[number % 3]
        drawn.axhline(
            value, linestyle=dash, linewidth=1, color=f"C{number % 9 + 1}", label=f"{name} {placed(value, 3)}"
        )
    shown = ticks(x)
    drawn.set_xticks(shown, [_short(value) for value in shown], minor=False, rotation=30)
    drawn.set_xticks([], minor=True)
    drawn.margins(x=0.12)
    runtimes = dict.fromkeys(p.runtime for p in points if p.runtime) if axis == "milliseconds" else ()
    drawn.set_xlabel(AXES[axis] + (f" ({' or '.join(runtimes)})" if runtimes else ""))
    drawn.grid(alpha=0.25)


def ticks(values: Sequence[float]) -> list[float]:
    """Those of rising values that have a number below the axis: where two would lie over each other, the first."""
    reach = NEAR * math.log(values[-1] / values[0])
    shown = list(values[:1])
    for value in values[1:]:
        if math.log(value / shown[-1]) > reach:
            shown.append(value)
    return shown


def _short(value: float) -> str:
    return f"{value / 1000:.0f}k" if value >= 10_000 else f"{value:.0f}" if value >= 100 else f"{value:.2g}"
