"""Plots: what is drawn with matplotlib, as PNG."""

from __future__ import annotations

import io
from typing import Any

from hyperloom.pipeline.errors import SourceError


def blank(width: float, height: float) -> Any:
    """An empty figure of inches. Raises SourceError without matplotlib."""
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise SourceError("a plot needs matplotlib. Next: pip install 'hyperloom[plots]'") from error
    return Figure(figsize=(width, height), layout="constrained")


def png(figure: Any) -> bytes:
    """The figure as a file."""
    out = io.BytesIO()
    figure.savefig(out, format="png", dpi=130)
    return out.getvalue()
