"""Rows as aligned text, for terminals and logs. On a terminal a table is no wider than the terminal is: texts are cut
first, then whole columns, and the last line says so."""

from __future__ import annotations

import os
import shutil
import sys
from typing import Any

from hyperloom.pipeline.counting import figure

LEAST = 12
"""Characters that are left of a text, at least."""
GAP = 2


def table(rows: list[dict[str, Any]], width: int | None = None, rest: str = "--json shows all") -> str:
    """Rows as aligned text; numbers to the right with up to four digits. `width`: characters of a line (those of the
    terminal, where standard output is one); where something had to be cut, `rest` says who has it."""
    if not rows:
        return "(empty)"
    columns = list(dict.fromkeys(k for row in rows for k in row))
    cells = [[cell(row.get(c)) for c in columns] for row in rows]
    numeric = [all(isinstance(row.get(c), int | float | None) for row in rows) for c in columns]
    full = [max(len(c), *(len(r[i]) for r in cells)) for i, c in enumerate(columns)]
    widths = _fitted(full, numeric, _width() if width is None else width)

    def line(values: list[str]) -> str:
        texts = (_cut(v, w).rjust(w) if n else _cut(v, w).ljust(w) for v, w, n in zip(values, widths, numeric))
        return (" " * GAP).join(texts).rstrip()

    lines = [line(columns), line(["-" * w for w in widths]), *(line(r) for r in cells)]
    dropped = columns[len(widths) :]
    if dropped or widths != full:
        without = f" and without {', '.join(dropped)}" if dropped else ""
        lines.append(f"(cut to the terminal{without}: {rest})")
    return "\n".join(lines)


def cell(value: Any) -> str:
    """A value in a cell of a table, in one line."""
    if value is None:
        return ""
    return figure(value) if isinstance(value, float) else " ".join(str(value).splitlines())


def _width() -> int:
    """Characters of a line of the terminal; 0 where standard output is none."""
    try:
        on_terminal = sys.stdout.isatty() and os.environ.get("TERM") != "dumb"
    except ValueError:  # a closed stream
        return 0
    return shutil.get_terminal_size().columns if on_terminal else 0


def _fitted(widths: list[int], numeric: list[bool], width: int) -> list[int]:
    """Widths of the columns that fit into a line: the widest texts give first, then the last columns go."""
    fitted = list(widths)
    while width and sum(fitted) + GAP * (len(fitted) - 1) > width:
        over = sum(fitted) + GAP * (len(fitted) - 1) - width
        texts = [i for i in range(len(fitted)) if not numeric[i] and fitted[i] > LEAST]
        if texts:
            widest = max(texts, key=lambda i: fitted[i])
            others = sorted((fitted[i] for i in texts if i != widest), reverse=True)
            fitted[widest] = max(LEAST, fitted[widest] - over, min(fitted[widest] - 1, others[0] if others else 0))
        elif len(fitted) > 1:
            fitted = [max(f, w) if n else f for f, w, n in zip(fitted[:-1], widths, numeric)]
        else:
            break
    return fitted


def _cut(text: str, width: int) -> str:
    return text if len(text) <= width else text[: width - 1] + "…"
