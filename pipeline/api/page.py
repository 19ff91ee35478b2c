"""Small pieces of HTML for notebooks: tables and rows of pictures. Everything that is shown is escaped."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

_CELL = 'style="text-align:left;padding:2px 10px;vertical-align:top"'


def heading(text: str) -> str:
    return f'<div style="font-family:monospace;margin:4px 0">{html.escape(text)}</div>'


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Rows as an HTML table; numbers with up to four digits."""
    from hyperloom.pipeline.output.tables import cell

    columns = list(dict.fromkeys(key for row in rows for key in row))
    head = "".join(f"<th {_CELL}>{html.escape(str(c))}</th>" for c in columns)
    body = "".join(
        "<tr>" + "".join(f"<td {_CELL}>{html.escape(cell(row.get(c)))}</td>" for c in columns) + "</tr>" for row in rows
    )
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def pictures(named: Iterable[tuple[str, Any]]) -> str:
    """(H, W, 3) uint8 pictures side by side, each over its name."""
    from PIL import Image

    figures = []
    for name, picture in named:
        buffer = io.BytesIO()
        Image.fromarray(picture).save(buffer, "PNG")
        source = f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"
        label = html.escape(name)
        image = f'<img src="{source}" alt="{label}" style="max-height:160px;image-rendering:auto">'
        caption = f"<figcaption>{label}</figcaption>"
        figures.append(f'<figure style="display:inline-block;margin:4px">{image}{caption}</figure>')
    return f"<div>{''.join(figures)}</div>"
