"""Where the marks of a chart or a graph go: points, ticks and paths of SVG, from the page's data. Draws nothing."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from hyperloom.stages.report.page import Chart, StepGraph

WIDTH, HEIGHT = 420, 250
LEFT, RIGHT, TOP, BOTTOM = 52, 10, 12, 34
LETTER = 7
"""About the width of a digit."""
BOX, ROW, ACROSS, DOWN = 186, 66, 208, 88
"""Of the graph: a box's width and height, and from one to the next."""


@dataclass(frozen=True)
class AxisTick:
    """Where a number stands; `side`: start, middle or end of its text is there, so that none is cut at an edge."""

    at: float
    text: str
    side: str = "middle"


@dataclass(frozen=True)
class Plot:
    """A chart in pixels: `lines` are (name, path, points (x, y, what the point says))."""

    width: int
    height: int
    box: tuple[int, int, int, int]
    across: Sequence[AxisTick]
    up: Sequence[AxisTick]
    lines: Sequence[tuple[str, str, Sequence[tuple[float, float, str]]]]
    diagonal: tuple[float, float, float, float] | None = None


@dataclass(frozen=True)
class Drawing:
    """A graph in pixels: `boxes` are (place in the graph, x, y), `edges` are paths."""

    width: int
    height: int
    boxes: Sequence[tuple[int, int, int]]
    edges: Sequence[str]


def plot(chart: Chart) -> Plot | None:
    """Geometry of a chart; None where no point has two finite numbers."""
    lines = [(line.name, _finite(line.points, chart.log)) for line in chart.lines]
    lines = [(name, points) for name, points in lines if points]
    if not lines:
        return None
    xs = [x for _, points in lines for x, _ in points]
    ys = [y for _, points in lines for _, y in points]
    if chart.diagonal:
        xs, ys = [0.0, 1.0], [0.0, 1.0]
    span_x = _log_span(xs) if chart.log else _span(xs, 0.06 if chart.marks else 0.0)
    span_y = _span(ys, 0.06)
    left, right, top, bottom = LEFT, WIDTH - RIGHT, TOP, HEIGHT - BOTTOM

    def px(x: float) -> float:
        return round(left + (right - left) * _share(x, span_x, chart.log), 1)

    def py(y: float) -> float:
        return round(bottom - (bottom - top) * _share(y, span_y, False), 1)

    drawn = []
    for name, points in lines:
        marks = [(px(x), py(y), f"{_said(x)}, {_said(y)}") for x, y in points]
        drawn.append((name, "M" + " L".join(f"{x} {y}" for x, y, _ in marks), marks))
    xticks = _labelled(_decades(span_x) if chart.log else _ticks(span_x, 5))
    across = [_below(px(x), text) for x, text in xticks]
    up = [AxisTick(py(y), text) for y, text in _labelled(_ticks(span_y, 4))]
    line = (px(0), py(0), px(1), py(1)) if chart.diagonal else None
    return Plot(WIDTH, HEIGHT, (left, top, right, bottom), across, up, drawn, line)


def drawing(graph: StepGraph) -> Drawing:
    """Steps in rows from the top: each below all that it reads, beside those of the same row."""
    names = {box.name: i for i, box in enumerate(graph.boxes)}
    rank: dict[str, int] = {}
    for box in graph.boxes:  # a plan lists what is read before who reads it
        rank[box.name] = 1 + max((rank[r] for r in box.reads if r in rank), default=-1)
    rows: dict[int, list[str]] = {}
    for name, row in rank.items():
        rows.setdefault(row, []).append(name)
    widest = max((len(row) for row in rows.values()), default=1)
    width = widest * ACROSS
    place: dict[str, tuple[int, int]] = {}
    for row, members in rows.items():
        first = (width - len(members) * ACROSS) // 2 + (ACROSS - BOX) // 2
        place |= {name: (first + i * ACROSS, 8 + row * DOWN) for i, name in enumerate(members)}
    edges = [
        _edge(place[read], place[box.name], rank[box.name] - rank[read])
        for box in graph.boxes
        for read in box.reads
        if read in place
    ]
    return Drawing(width + 24, len(rows) * DOWN, [(names[n], x + 12, y) for n, (x, y) in place.items()], edges)


def _edge(above: tuple[int, int], below: tuple[int, int], rows: int) -> str:
    """From the lower side of one box to the upper side of another; past the boxes between where they are far apart."""
    x0, y0 = above[0] + 12 + BOX // 2, above[1] + ROW
    x1, y1 = below[0] + 12 + BOX // 2, below[1]
    if rows > 1 and abs(x0 - x1) < BOX:
        side = max(x0, x1) + BOX // 2 + 10
        y0, y1 = y0 - ROW // 2, y1 + ROW // 2
        return f"M{x0 + BOX // 2} {y0} C{side} {y0} {side} {y1} {x1 + BOX // 2} {y1}"
    middle = (y0 + y1) // 2
    return f"M{x0} {y0} C{x0} {middle} {x1} {middle} {x1} {y1}"


def _below(at: float, text: str) -> AxisTick:
    """A number below the axis, within the picture: one near its right edge ends there."""
    return AxisTick(at, text, "middle" if at + LETTER * len(text) / 2 <= WIDTH else "end")


def _finite(points: Sequence[tuple[float, float]], log: bool) -> list[tuple[float, float]]:
    return [(x, y) for x, y in points if math.isfinite(x) and math.isfinite(y) and (x > 0 or not log)]


def _span(values: Sequence[float], margin: float) -> tuple[float, float]:
    low, high = min(values), max(values)
    extra = (high - low) * margin or (abs(high) * 0.1 or 1.0) * (high == low)
    return low - extra, high + extra


def _log_span(values: Sequence[float]) -> tuple[float, float]:
    return min(values) / 1.6, max(values) * 1.6


def _share(value: float, span: tuple[float, float], log: bool) -> float:
    low, high = span
    if log:
        return (math.log(value) - math.log(low)) / (math.log(high) - math.log(low))
    return (value - low) / (high - low)


def _ticks(span: tuple[float, float], count: int) -> list[float]:
    """Round numbers within the span, about `count`."""
    low, high = span
    step = 10 ** math.floor(math.log10((high - low) / count))
    step *= next((m for m in (1, 2, 5, 10) if (high - low) / (step * m) <= count), 10)
    first = math.ceil(low / step)
    return [float(f"{i * step:.12g}") for i in range(first, math.floor(high / step) + 1)]


def _decades(span: tuple[float, float]) -> list[float]:
    low, high = span
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    return [m * 10.0**p for p in powers for m in (1, 2, 5) if low <= m * 10.0**p <= high]


def _labelled(ticks: Sequence[float]) -> list[tuple[float, str]]:
    """Each tick with its number, in as many digits as it takes to tell all apart."""
    for digits in range(2, 13):
        texts = [_short(tick, digits) for tick in ticks]
        if len(set(texts)) == len(texts) and all(_near(tick, text, ticks) for tick, text in zip(ticks, texts)):
            break
    return list(zip(ticks, texts)) if ticks else []


def _near(tick: float, text: str, ticks: Sequence[float]) -> bool:
    """Is the number that is written the tick's, as far as anybody sees?"""
    return abs(float(text) - tick) <= 0.01 * (max(ticks) - min(ticks)) / len(ticks) if len(ticks) > 1 else True


def _short(value: float, digits: int) -> str:
    plain = not value or 1e-3 <= abs(value) < 1e6
    return f"{value:.{max(digits, 6)}g}" if plain else f"{value:.{digits}g}"


def _said(value: float) -> str:
    """A coordinate of a point: whole numbers as they are (updates), four digits of others."""
    return f"{value:.0f}" if value == int(value) and abs(value) < 1e15 else f"{value:.4g}"
