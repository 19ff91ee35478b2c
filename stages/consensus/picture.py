"""A matrix of figures as a picture: the eye finds who agrees with whom."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

CELL, LINE, LETTER = 64, 22, 8
"""Pixels: of a cell, of a line of text, and of a letter's width."""


def heat_map(names: Sequence[str], matrix: Sequence[Sequence[float | None]], title: str) -> bytes:
    """PNG bytes: one row and one column a name, light where the figure is high, white where there is none."""
    import cv2

    values = np.array([[np.nan if v is None else v for v in row] for row in matrix], np.float64)
    known = values[np.isfinite(values)]
    low, high = (float(known.min()), float(known.max())) if known.size else (0.0, 1.0)
    shade = np.nan_to_num((values - low) / ((high - low) or 1.0))
    colours = cv2.applyColorMap(np.uint8(np.rint(40 + 200 * shade)), cv2.COLORMAP_VIRIDIS)  # type: ignore[call-overload]
    colours[~np.isfinite(values)] = 255
    margin = LETTER * max(map(len, names)) + 8
    picture: Any = np.full((LINE * (2 + len(names)) + CELL * len(names), margin + CELL * len(names), 3), 255, np.uint8)
    top = LINE * (1 + len(names))
    cells = np.kron(colours, np.ones((CELL, CELL, 1), np.uint8))
    picture[top : top + cells.shape[0], margin:] = cells
    _text(picture, title, (4, LINE - 6), 0)
    for i, name in enumerate(names):
        _text(picture, name, (4, top + CELL * i + CELL // 2 + 4), 0)
        _text(picture, name, (min(margin + CELL * i, picture.shape[1] - LETTER * len(name)), LINE * (2 + i) - 6), 0)
        for j, value in enumerate(values[i]):
            if np.isfinite(value):
                ink = 255 if shade[i, j] < 0.5 else 0
                _text(picture, f"{value:.3g}", (margin + CELL * j + 8, top + CELL * i + CELL // 2 + 4), ink)
    return cv2.imencode(".png", picture)[1].tobytes()


def _text(picture: Any, text: str, at: tuple[int, int], ink: int) -> None:
    import cv2

    cv2.putText(picture, text, at, cv2.FONT_HERSHEY_SIMPLEX, 0.4, (ink,) * 3, 1, cv2.LINE_AA)
