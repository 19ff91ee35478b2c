"""Rendering: a page as one HTML file that needs nothing else, within a size.

Everything is in the file: style, script, drawings (SVG) and pictures (data URIs); a policy in its head keeps a browser
from loading anything. All text is escaped by the template library. Where the file would be larger than `most` bytes,
samples are left out from the last on, then tables are cut, and the page says so.
"""

from __future__ import annotations

import base64
import math
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

from hyperloom.pipeline.errors import PluginError
from hyperloom.pipeline.secrets import blot
from hyperloom.stages.report.page import (
    Bars,
    Chart,
    Estimate,
    Gallery,
    Page,
    PageBlock,
    PageTable,
    Section,
    Verbatim,
    Words,
)
from hyperloom.stages.report.pictures import lightest
from hyperloom.stages.report.plot import drawing, plot

MOST_BYTES = 15_000_000
PICTURES = 0.6
"""The share of the size that pictures may take (as base64, which is a third longer than their bytes)."""
LONGEST_TEXT = 200_000
"""Characters of a text that is shown as it is."""
LONGEST_CELL = 400
CUTS = (1000, 100, 10)
"""Rows of each table that stay, tried one after the other where the page is too large."""


def html(page: Page, most: int = MOST_BYTES) -> bytes:
    """The file's bytes, no more than `most` of them (a page without anything takes 30 kB)."""
    page = _with_samples(page, int(most * PICTURES * 3 / 4))
    data = _rendered(page)
    for rows in CUTS:
        if len(data) <= most:
            return data
        page = _shortened(page, rows)
        data = _rendered(page)
    if len(data) > most:
        note = f"{len(page.sections)} sections are left out: the page would be larger than {most / 1e6:.0f} MB"
        data = _rendered(replace(page, sections=(), missing=[*page.missing[:20], note]))
    return data


def _rendered(page: Page) -> bytes:
    return bytes(_template().render(page=page).encode("utf-8", "replace"))


@cache
def _template() -> Any:
    try:
        import jinja2
    except ModuleNotFoundError as error:
        raise PluginError(
            "a report needs jinja2, which is not installed. Next: pip install 'hyperloom[look]'"
        ) from error
    folder = Path(__file__).parent
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(folder),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        finalize=_without_secrets,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(number=number, written=written, uri=uri, cell=cell, colour=colour)
    environment.globals.update(plot=plot, drawing=drawing, scales=scales, is_estimate=_is_estimate)
    return environment.get_template("page.html")


def _without_secrets(value: Any) -> Any:
    """Recipes and errors may hold credentials; pictures hold none, and would be spoilt. (What has `__html__` is what a
    macro has made of values that were here before.)"""
    plain = isinstance(value, str) and not hasattr(value, "__html__") and not value.startswith("data:")
    return blot(value) if plain else value


# -- what the template asks for ------------------------------------------------------------------------------------
def number(value: Any) -> str:
    """A number for people: four digits, thousands apart."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:,.1f}" if abs(value) >= 1000 else f"{value:.4g}"


def brief(value: float) -> str:
    """An end of an interval: three digits."""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def written(estimate: Estimate) -> tuple[str, str, str]:
    """A figure and the ends of its interval (empty without one): four digits and three, and more where the interval is
    so narrow that they would be the same, or the figure outside."""
    value, low, high = estimate.value, estimate.low, estimate.high
    if value is None or low is None or high is None:
        return number(value), "", ""
    texts = number(value), brief(low), brief(high)
    shown = [float(text.replace(",", "")) for text in texts]
    width, between = high - low, shown[1] <= shown[0] <= shown[2] or not low <= value <= high
    if not width > 0 or (between and 0.9 * width <= shown[2] - shown[1] <= 1.1 * width):
        return texts
    places = max(0, 1 - math.floor(math.log10(width)))
    if places > 12:  # of a small unit: as many digits of its own
        digits = min(17, 1 + places + math.floor(math.log10(max(abs(low), abs(high)))))
        return f"{value:.{digits}g}", f"{low:.{digits}g}", f"{high:.{digits}g}"
    return f"{value:,.{places}f}", f"{low:,.{places}f}", f"{high:,.{places}f}"


def cell(value: Any) -> str:
    text = value if isinstance(value, str) else number(value)
    return text if len(text) <= LONGEST_CELL else text[: LONGEST_CELL - 1] + "…"


def uri(data: bytes, mime: str) -> str:
    """Bytes of a picture as a `data:` URI."""
    return f"data:{mime};base64,{base64.b64encode(data).decode()}"


def colour(value: float | None, values: Any) -> str:
    """How strongly a cell of a matrix is tinted, 0 to 1, by where it lies between the smallest and the largest."""
    known = [v for row in values for v in row if v is not None]
    if value is None or not known:
        return "0"
    low, high = min(known), max(known)
    return f"{0.1 + 0.75 * (value - low) / (high - low):.2f}" if high > low else "0.4"


def scales(table: PageTable) -> list[Callable[[float], float] | None]:
    """For each column of estimates, where a number lies on its scale in per cent; None for other columns."""
    out: list[Callable[[float], float] | None] = []
    for place in range(len(table.columns)):
        cells = [row[place] for row in table.rows if isinstance(row[place], Estimate)]
        ends = [v for c in cells if isinstance(c, Estimate) for v in (c.low, c.value, c.high) if v is not None]
        bounded = any(isinstance(c, Estimate) and c.low is not None for c in cells)
        out.append(_scale(min(ends), max(ends)) if ends and bounded and max(ends) > min(ends) else None)
    return out


def _scale(low: float, high: float) -> Callable[[float], float]:
    return lambda value: round(100 * (value - low) / (high - low), 1)


def _is_estimate(value: Any) -> bool:
    return isinstance(value, Estimate)


# -- the size ------------------------------------------------------------------------------------------------------
def _with_samples(page: Page, most: int) -> Page:
    """The page with as many samples as `most` bytes hold, in all galleries together."""
    missing, sections = list(page.missing), []
    for section in page.sections:
        blocks: list[PageBlock] = []
        for block in section.blocks:
            if isinstance(block, Gallery):
                kept = lightest(block.samples, most)
                most -= sum(sample.bytes for sample in kept)
                if len(kept) < len(block.samples):
                    missing.append(
                        f"{len(block.samples) - len(kept)} of {len(block.samples)} samples are left out: too large"
                    )
                block = replace(block, samples=kept)
            blocks.append(block)
        sections.append(replace(section, blocks=blocks))
    return replace(page, sections=sections, missing=missing)


def _shortened(page: Page, rows: int) -> Page:
    """The page with no more than `rows` rows in a table, lines in a chart or bars, and no long texts."""
    note = f"Long tables are cut to {rows} rows: the page would be too large."
    sections = [replace(s, blocks=[_short(b, rows) for b in s.blocks]) for s in page.sections]
    return replace(
        page, sections=sections, missing=[*(m for m in page.missing if not m.startswith("Long tables")), note]
    )


def _short(block: PageBlock, rows: int) -> PageBlock:
    if isinstance(block, PageTable):
        return replace(block, rows=block.rows[:rows], columns=block.columns)
    if isinstance(block, Chart):
        return replace(block, lines=block.lines[:rows])
    if isinstance(block, Bars):
        return replace(block, items=block.items[:rows])
    if isinstance(block, Verbatim):
        return replace(block, text=block.text[: LONGEST_TEXT // 1000 * rows])
    if isinstance(block, Words):
        return replace(block, lines=[line[: LONGEST_CELL * 5] for line in block.lines[:rows]])
    return block


def names(page: Page) -> list[str]:
    """The anchors of the sections, in order."""
    return [section.name for section in page.sections if isinstance(section, Section)]
