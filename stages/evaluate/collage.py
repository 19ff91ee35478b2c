"""Collages: one row a sample, one column a `modality@source`, so that the eye compares sources side by side.

Numbers of one modality share one colour range in a row (that of the truth), so that a wrong scale shows as a wrong
colour. A missing value is a grey panel.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from hyperloom.stages.base import modality_of
from hyperloom.stages.legend import legends
from hyperloom.stages.modality import Modality

WIDTH, CAPTION, GAP = 160, 16, 2
"""Pixels: of a panel, of a line of text, between panels."""
GREY, PAPER, INK = 96, 255, 0

ColumnValues = Mapping[str, np.ndarray | None]


def collage(
    rows: Sequence[tuple[str, ColumnValues]], columns: Sequence[str], modalities: Mapping[str, Modality]
) -> bytes:
    """PNG bytes of `rows` [(key, {column: value or None})], with captions, and a legend of the classes shown."""
    import cv2

    width = len(columns) * (WIDTH + GAP)
    drawn = [np.concatenate([caption(c, WIDTH + GAP) for c in columns], axis=1)]
    for key, values in rows:
        ranges = _ranges(values, columns, modalities)
        panels = [_panel(values.get(c), c, modalities[modality_of(c)], ranges) for c in columns]
        drawn += [caption(key, width), np.concatenate(_level(panels), axis=1)]
    picture = np.concatenate(drawn, axis=0)
    for meant in legends(modalities, [{c: values.get(c) for c in columns} for _, values in rows]).values():
        picture = np.concatenate([picture, legend(meant, picture.shape[1])], axis=0)
    return cv2.imencode(".png", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))[1].tobytes()


def _ranges(
    values: ColumnValues, columns: Sequence[str], modalities: Mapping[str, Modality]
) -> dict[str, tuple[float, float]]:
    """The range of each numeric modality: that of its first column with a value, which is the truth."""
    spans: dict[str, tuple[float, float]] = {}
    for column in columns:
        name, value = modality_of(column), values.get(column)
        span = None if value is None or name in spans else modalities[name].span(value)
        if span is not None:
            spans[name] = span
    return spans


def _panel(
    value: np.ndarray | None, column: str, modality: Modality, ranges: Mapping[str, tuple[float, float]]
) -> np.ndarray:
    import cv2

    name = modality_of(column)
    if value is None:
        height, width = modality.height_width or (3, 4)
        shown = np.full((height, width, 3), GREY, np.uint8)
    else:
        shown = modality.picture_within(value, ranges[name]) if name in ranges else modality.picture(value)
    height = max(1, round(shown.shape[0] * WIDTH / shown.shape[1]))
    classes = modality.soft or (bool(modality.legend) and modality.dtype.kind != "f")
    how = cv2.INTER_NEAREST_EXACT if classes else cv2.INTER_AREA  # no mixture of classes is a class
    shown = cv2.resize(shown, (WIDTH, height), interpolation=how)
    framed = np.full((height + GAP, WIDTH + GAP, 3), PAPER, np.uint8)
    framed[:height, :WIDTH] = shown
    return framed


def _level(panels: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Panels of one height: paper below the shorter ones."""
    height = max(len(panel) for panel in panels)
    return [np.pad(p, ((0, height - len(p)), (0, 0), (0, 0)), constant_values=PAPER) for p in panels]


def caption(text: str, width: int) -> np.ndarray:
    """A line of text, cut to `width` pixels."""
    import cv2

    line = np.full((CAPTION, width, 3), PAPER, np.uint8)
    return cv2.putText(line, text, (2, CAPTION - 5), cv2.FONT_HERSHEY_SIMPLEX, 0.38, (INK,) * 3, 1, cv2.LINE_AA)


def legend(classes: Sequence[tuple[str, tuple[int, ...]]], width: int) -> np.ndarray:
    """A strip with each class's colour and name, wrapped to `width`."""
    cell = 110
    a_line = max(1, width // cell)
    lines = -(-len(classes) // a_line)
    strip: Any = np.full((lines * (CAPTION + 4), width, 3), PAPER, np.uint8)
    for i, (name, colour) in enumerate(classes):
        x, y = i % a_line * cell + 2, i // a_line * (CAPTION + 4) + 2
        strip[y : y + CAPTION - 2, x : x + CAPTION - 2] = colour
        end = min(width, x + cell - 4)
        strip[y : y + CAPTION, x + CAPTION : end] = caption(name, end - x - CAPTION)
    return strip
