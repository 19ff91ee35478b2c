"""A page as plain text, for the terminal."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from hyperloom.pipeline.output.replies import SectionReply, TableReply
from hyperloom.pipeline.output.tables import table
from hyperloom.stages.report.page import Estimate, Page, PageBlock, PageTable, Section, Words
from hyperloom.stages.report.render import number, written

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


def sections(page: Page) -> dict[str, SectionReply]:
    """The page's words and tables by section, for programs."""
    return {section.name: _section(section) for section in page.sections}


def _section(section: Section) -> SectionReply:
    tables: list[TableReply] = [
        {
            "title": block.title,
            "rows": [dict(zip(_distinct(block.columns), map(_plain, row), strict=True)) for row in block.rows],
        }
        for block in section.blocks
        if isinstance(block, PageTable)
    ]
    words = [block.lines for block in section.blocks if isinstance(block, Words)]
    return {"title": section.title, "tables": tables, "sentences": [line for lines in words for line in lines]}


def _plain(value: Any) -> Any:
    return {"value": value.value, "low": value.low, "high": value.high} if isinstance(value, Estimate) else value


def _lines(block: PageBlock) -> Iterator[str]:
    if isinstance(block, Words):
        yield from (f"  {line}" for line in block.lines)
    if isinstance(block, PageTable):
        if block.title:
            yield block.title
        names = _distinct(block.columns)
        yield table([{n: _cell(v) for n, v in zip(names, row, strict=True)} for row in block.rows])


def _distinct(columns: Sequence[str]) -> list[str]:
    """The names of columns, where two are the same with a blank behind the second."""
    return [name + " " * list(columns)[:i].count(name) for i, name in enumerate(columns)]


def _cell(value: Any) -> Any:
    if isinstance(value, Estimate):
        text, low, high = written(value)
        return f"{text} ({low} to {high})" if low else text
    shown = value if isinstance(value, str) else number(value)
    return shown if len(shown) <= WIDEST else shown[: WIDEST - 1] + "…"
