"""A page as plain text, for the terminal."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from hyperloom.pipeline.progress import table
from hyperloom.stages.report.page import Estimate, Page, PageBlock, PageTable, Words
from hyperloom.stages.report.render import brief, number

WIDEST = 100
"""Characters of a cell."""


def text(page: Page) -> str:
    """The page's words and tables, section by section."""
    lines = [f"{name}: {value}" for name, value in page.facts]
    lines += [page.outcome] if page.outcome else []
    for section in page.sections:
        lines += ["", section.title]
        for block in section.blocks:
            lines += _lines(block)
    return "\n".join([*lines, *([""] if page.missing else []), *page.missing])


def values(page: Page) -> dict[str, Any]:
    """The page's words and tables as plain JSON, for programs."""
    sections = {
        section.name: [
            {
                "title": block.title,
                "rows": [dict(zip(block.columns, map(_plain, row), strict=False)) for row in block.rows],
            }
            if isinstance(block, PageTable)
            else list(block.lines)
            for block in section.blocks
            if isinstance(block, PageTable | Words)
        ]
        for section in page.sections
    }
    return {**dict(page.facts), "outcome": page.outcome, "sections": sections, "missing": list(page.missing)}


def _plain(value: Any) -> Any:
    return {"value": value.value, "low": value.low, "high": value.high} if isinstance(value, Estimate) else value


def _lines(block: PageBlock) -> Iterator[str]:
    if isinstance(block, Words):
        yield from (f"  {line}" for line in block.lines)
    if isinstance(block, PageTable):
        if block.title:
            yield block.title
        names = [name + " " * list(block.columns)[:i].count(name) for i, name in enumerate(block.columns)]
        yield table([{n: _cell(v) for n, v in zip(names, row, strict=True)} for row in block.rows])


def _cell(value: Any) -> Any:
    if isinstance(value, Estimate):
        if value.low is None or value.high is None:
            return number(value.value)
        return f"{number(value.value)} ({brief(value.low)} to {brief(value.high)})"
    shown = value if isinstance(value, str) else number(value)
    return shown if len(shown) <= WIDEST else shown[: WIDEST - 1] + "…"
