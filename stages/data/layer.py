"""Layers: one value of a column as a person sees it, beside others or laid over the picture of its sample.

What lies in the picture pixel by pixel (masks, depth) becomes a PNG that is clear where nothing is known, or nothing is
there; boxes and keypoints become SVG, sharp at any size, with names; a camera's picture becomes a JPEG; series and
sounds are drawn as curves; what has no shape is words. Colours are those of `Modality.picture`. Class names are users'
and are escaped.
"""

from __future__ import annotations

from dataclasses import dataclass
from html import escape
from typing import Any

import numpy as np

from hyperloom.stages import picture

PNG, JPEG, SVG = "image/png", "image/jpeg", "image/svg+xml"
QUALITY = 88
LONGEST = 2000
"""Characters of a text that are shown."""
MOST_MARKS = 300


@dataclass(frozen=True)
class Layer:
    """A picture (`mime`, `data`), to be laid over the sample's own where `over`, or `words`; `scale` are the numbers at
    the ends of its colours."""

    mime: str = ""
    data: bytes = b""
    words: str = ""
    over: bool = False
    scale: tuple[float, float] | None = None


def layer(value: Any, modality: Any, span: tuple[float, float] | None = None, widest: int = 640) -> Layer:
    """One value of `modality`, numbers on the scale of colours `span` if that is given, no wider than `widest`."""
    marks = modality.marks(value)
    if marks is not None:
        words = modality.words(value)
        more = f" ({MOST_MARKS} of {len(marks)} are drawn)" if len(marks) > MOST_MARKS else ""
        return Layer(SVG, _drawn(marks[:MOST_MARKS]), words + more, True)
    drawn = modality.overlay(value)
    if drawn is not None:
        return Layer(PNG, encoded(drawn, PNG), modality.words(value), True)
    if modality.rgb:
        return Layer(JPEG, encoded(_narrow(modality.picture(value), widest), JPEG))
    if modality.height_width is not None and modality.times == 1:
        return _map(value, modality, span, widest)
    if modality.textual or value.ndim == 0 or (value.dtype.kind in "iu" and value.ndim == 1):
        return Layer(words=modality.words(value)[:LONGEST])
    shown = _narrow(modality.picture(value), widest)
    return Layer(PNG, encoded(shown, PNG), modality.words(value)[:LONGEST])


def scale(value: Any, modality: Any) -> tuple[float, float] | None:
    """The numbers at the ends of the colours that `value` alone would get."""
    return None if modality.height_width is None or modality.rgb else modality.span(value)


def encoded(rgb: np.ndarray, mime: str) -> bytes:
    """(H, W, 3 or 4) uint8 as the bytes of a file."""
    import cv2

    turned = cv2.cvtColor(rgb, cv2.COLOR_RGBA2BGRA if rgb.shape[-1] == 4 else cv2.COLOR_RGB2BGR)
    if mime == JPEG:
        return bytes(cv2.imencode(".jpg", turned, [cv2.IMWRITE_JPEG_QUALITY, QUALITY])[1].tobytes())
    return bytes(cv2.imencode(".png", turned)[1].tobytes())


def _map(value: Any, modality: Any, span: tuple[float, float] | None, widest: int) -> Layer:
    import cv2

    ends = span or scale(value, modality)
    shown = modality.picture_within(value, ends) if ends else modality.picture(value)
    known: Any = np.asarray(modality.known(value[None])[0])
    known = known.all(-1) if known.ndim == 3 else known
    presence = modality.presence(value)
    clear = (255 * known * (1 if presence is None else presence)).astype(np.uint8)[..., None]
    if presence is not None:  # how strong it is shows in how much it covers, so colours are full
        shown = np.clip(shown / np.maximum(presence, 1e-3)[..., None], 0, 255).astype(np.uint8)
    if shown.shape[1] > widest:
        size = widest, max(1, round(shown.shape[0] * widest / shown.shape[1]))
        shown = cv2.resize(shown, size, interpolation=cv2.INTER_NEAREST_EXACT)
        clear = cv2.resize(clear, size, interpolation=cv2.INTER_NEAREST_EXACT)[..., None]
    data = encoded(np.concatenate([shown, clear], -1), PNG)
    return Layer(PNG, data, over=True, scale=ends if modality.channels == 1 and not modality.categorical else None)


def _narrow(rgb: np.ndarray, widest: int) -> np.ndarray:
    import cv2

    if rgb.shape[1] <= widest:
        return np.ascontiguousarray(rgb)
    size = widest, max(1, round(rgb.shape[0] * widest / rgb.shape[1]))
    return np.ascontiguousarray(cv2.resize(rgb, size, interpolation=cv2.INTER_AREA))


def _drawn(marks: list[picture.Mark]) -> bytes:
    """Corners are shares of the picture, so the drawing is a square that is stretched over it; lines stay thin."""
    parts = ['<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 1 1" preserveAspectRatio="none">']
    for mark in marks:
        colour = "rgb({},{},{})".format(*mark.colour)
        thin = f'stroke="{colour}" vector-effect="non-scaling-stroke"'
        title = f"<title>{escape(mark.name)}</title>"
        if (mark.x0, mark.y0) == (mark.x1, mark.y1):
            ends = f'x1="{mark.x0:.4f}" y1="{mark.y0:.4f}" x2="{mark.x0:.4f}" y2="{mark.y0:.4f}"'
            parts.append(f'<line {ends} {thin} stroke-width="9" stroke-linecap="round">{title}</line>')
        else:
            size = f'width="{mark.x1 - mark.x0:.4f}" height="{mark.y1 - mark.y0:.4f}"'
            place = f'x="{mark.x0:.4f}" y="{mark.y0:.4f}" {size}'
            parts.append(f'<rect {place} fill="{colour}" fill-opacity="0.12" {thin} stroke-width="2">{title}</rect>')
    return "".join([*parts, "</svg>"]).encode()
