"""Pictures for people: numbers turned into (H, W, 3) uint8 RGB, for collages and reports.

Colours are for looking, never for measuring: maps are stretched to the shown values unless a range is given.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from hyperloom.stages.base import UNKNOWN


class Mark(NamedTuple):
    """Something named that lies in a picture, in shares of its width and height: a box, or a point where both corners
    are one."""

    name: str
    colour: tuple[int, int, int]
    x0: float
    y0: float
    x1: float
    y1: float


def palette(classes: int) -> np.ndarray:
    """(classes, 3) uint8 colours that differ well: hues by the golden ratio, brightness in turns. There are 180 hues;
    from 144 classes on paler ones follow, and then darker; up to 1728 no two are the same."""
    import cv2

    index = np.arange(classes)
    hue = (index * 0.61803398875 % 1.0) * 179
    pale, dark = index // 144 % 3, index // 432 % 4
    hsv = np.stack([hue, 190 - 60 * pale, np.where(index % 2, 170, 240) - 17 * dark], -1).astype(np.uint8)
    return cv2.cvtColor(hsv[None], cv2.COLOR_HSV2RGB)[0]


def classes_to_rgb(ids: np.ndarray, classes: int, colours: Sequence[Sequence[int]] | None = None) -> np.ndarray:
    """(H, W) class ids as colours."""
    table = np.zeros((256, 3), np.uint8)
    table[:classes] = np.asarray(colours, np.uint8) if colours else palette(classes)
    table[UNKNOWN] = 0
    return table[ids]


def scalar_to_rgb(values: np.ndarray, limits: tuple[float, float] | None = None) -> np.ndarray:
    """(H, W) numbers through the Turbo colour map, between `limits` or the 2nd and 98th percentile; NaN is black."""
    import cv2

    known = np.isfinite(values)
    if not known.any():
        return np.zeros((*values.shape, 3), np.uint8)
    lo, hi = limits or tuple(float(q) for q in np.percentile(values[known], (2, 98)))
    scaled = np.clip((np.where(known, values, lo).astype(np.float32) - lo) / ((hi - lo) or 1.0), 0, 1)
    shown = cv2.cvtColor(cv2.applyColorMap((scaled * 255).astype(np.uint8), cv2.COLORMAP_TURBO), cv2.COLOR_BGR2RGB)
    return shown * known[..., None]


def flow_to_rgb(flow: np.ndarray) -> np.ndarray:
    """(H, W, 2) displacements: direction is hue, length is saturation (full at the 98th percentile); NaN is white."""
    import cv2

    known = np.isfinite(flow).all(-1, keepdims=True)
    flow = np.where(known, flow, 0)
    length, angle = cv2.cartToPolar(
        np.ascontiguousarray(flow[..., 0], np.float32), np.ascontiguousarray(flow[..., 1], np.float32)
    )
    full = (float(np.percentile(length[known[..., 0]], 98)) if known.any() else 0.0) or 1.0
    hsv = np.stack([angle * (179 / (2 * np.pi)), np.clip(length / full, 0, 1) * 255, np.full_like(length, 255)], -1)
    return cv2.cvtColor(hsv.astype(np.uint8), cv2.COLOR_HSV2RGB)


def direction_to_rgb(vectors: np.ndarray) -> np.ndarray:
    """(H, W, 3) components in -1..1 as red, green and blue; NaN is black."""
    return np.nan_to_num(np.clip((vectors + 1) * 0.5, 0, 1) * 255).astype(np.uint8)


def bars_to_rgb(values: np.ndarray, height: int = 64) -> np.ndarray:
    """(L,) numbers as L bars of two pixels, scaled to the largest magnitude."""
    level = np.abs(values) / (float(np.abs(values).max(initial=0.0)) or 1.0)
    filled = np.arange(height, 0, -1)[:, None] <= level[None, :] * height
    return np.repeat(np.repeat(filled[..., None] * np.uint8(255), 2, axis=1), 3, axis=2).astype(np.uint8)


def maps_to_rgb(values: np.ndarray, limits: tuple[float, float] | None = None) -> np.ndarray:
    """(H, W, C) maps without a meaning of their own: one as a colour map, two as flow, more as their first three."""
    channels: Any = values.shape[-1]
    if channels == 1:
        return scalar_to_rgb(values[..., 0], limits)
    return flow_to_rgb(values) if channels == 2 else channels_to_rgb(values[..., :3], limits)


def channel_colours(channels: int) -> np.ndarray:
    """(channels, 3) uint8: red, green and blue, which mix to any other; of more channels those of classes."""
    return np.eye(3, dtype=np.uint8)[:channels] * np.uint8(255) if channels <= 3 else palette(channels)


def channels_to_rgb(values: np.ndarray, limits: tuple[float, float] | None = None) -> np.ndarray:
    """(H, W, C) maps, each as light of its colour between `limits`, or the smallest and the largest number; NaN is
    black."""
    finite = values[np.isfinite(values)]
    lo, hi = limits or ((float(finite.min()), float(finite.max())) if finite.size else (0.0, 1.0))
    level = np.nan_to_num(np.clip((values - lo) / ((hi - lo) or 1.0), 0, 1))
    light = level @ channel_colours(values.shape[-1]).astype(np.float32)
    return np.clip(light, 0, 255).astype(np.uint8)


def text_to_rgb(text: str, width: int = 192) -> np.ndarray:
    """Text in lines of `width` pixels, black on white, at most eight lines; what OpenCV has no letters for is `?`."""
    import textwrap

    import cv2

    lines = textwrap.wrap(text.encode("ascii", "replace").decode(), width // 7)[:8] or [""]
    paper = np.full((4 + 14 * len(lines), width, 3), 255, np.uint8)
    for i, line in enumerate(lines):
        cv2.putText(paper, line, (3, 13 + 14 * i), cv2.FONT_HERSHEY_SIMPLEX, 0.38, (0, 0, 0), 1, cv2.LINE_AA)
    return paper


def boxes_to_rgb(corners: np.ndarray, colours: np.ndarray, size: int = 128) -> np.ndarray:
    """(n, 4) corners x0, y0, x1, y1 in 0..1 as outlines of (n, 3) colours on a square."""
    import cv2

    paper = np.full((size, size, 3), 24, np.uint8)
    for (x0, y0, x1, y1), colour in zip(np.rint(corners * (size - 1)).astype(int).tolist(), colours.tolist()):
        cv2.rectangle(paper, (x0, y0), (x1, y1), colour, 1)
    return paper


def points_to_rgb(points: np.ndarray, colours: np.ndarray, size: int = 128) -> np.ndarray:
    """(n, 2) points in 0..1 as dots of (n, 3) colours on a square."""
    import cv2

    paper = np.full((size, size, 3), 24, np.uint8)
    for (x, y), colour in zip(np.rint(points * (size - 1)).astype(int).tolist(), colours.tolist()):
        cv2.circle(paper, (x, y), 3, colour, -1)
    return paper


def lines_to_rgb(values: np.ndarray, height: int = 64, width: int = 192) -> np.ndarray:
    """(T, C) numbers as C curves over time, between their smallest and their largest."""
    import cv2

    paper = np.full((height, width, 3), 24, np.uint8)
    if len(values) == 0:
        return paper
    lo, hi = float(values.min()), float(values.max())
    y = np.rint((height - 1) * (1 - (values - lo) / ((hi - lo) or 1.0))).astype(np.int32)
    x = np.rint(np.linspace(0, width - 1, len(values))).astype(np.int32)
    for channel, colour in enumerate(palette(values.shape[1]).tolist()):
        cv2.polylines(paper, [np.stack([x, y[:, channel]], -1)[:, None]], False, colour, 1)
    return paper


def wave_to_rgb(samples: np.ndarray, height: int = 64, width: int = 192) -> np.ndarray:
    """(n,) samples in -1..1 as the span between the smallest and the largest of each piece of time."""
    edges = np.linspace(0, len(samples), min(width, len(samples)) + 1).astype(int)
    low, high = np.minimum.reduceat(samples, edges[:-1]), np.maximum.reduceat(samples, edges[:-1])
    level = np.linspace(1, -1, height)[:, None]
    inside = (level <= high[None] + 1 / height) & (level >= low[None] - 1 / height)
    return np.where(inside[..., None], (90, 200, 250), 24).astype(np.uint8)


def pairs_to_rgb(pairs: np.ndarray, nodes: int) -> np.ndarray:
    """(n, 2) node numbers as white cells of a nodes x nodes table, from down, to across."""
    table = np.full((nodes, nodes, 3), 24, np.uint8)
    table[pairs[:, 0], pairs[:, 1]] = 255
    return table
