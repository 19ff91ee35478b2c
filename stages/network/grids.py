"""Grids: the sites of an input that can be shown, hidden or made a token on their own; its planes. Imports no torch."""

from __future__ import annotations

import math
from typing import Any

from hyperloom.stages.modality import Audio, Boxes, Clip, Graph, Keypoints, Raster, Series, Tags, Text

BYTES_A_TOKEN = 4
MOST_TOKENS = 64
"""Of a sound or a series."""


def grid_of(modality: Any, patch: int) -> tuple[int, ...]:
    """Tokens along each axis: squares of `patch` pixels of a raster, windows of a sound; (1,) for whole samples."""
    if isinstance(modality, Raster):
        squares = tuple(-(-n // patch) for n in modality.height_width)
        return (modality.frames, *squares) if isinstance(modality, Clip) else squares
    if isinstance(modality, Audio):
        _, _, count, join = frames_of(modality)
        return (-(-count // join),)
    if isinstance(modality, Series):
        return (-(-modality.steps // steps_of(modality)),)
    if isinstance(modality, Text):
        return (-(-modality.length // BYTES_A_TOKEN),)
    if isinstance(modality, Tags):
        return (modality.length,)
    if isinstance(modality, Keypoints):
        return (len(modality.points),)
    if isinstance(modality, Boxes):
        return (modality.most,)
    return (modality.nodes,) if isinstance(modality, Graph) else (1,)


def frames_of(modality: Audio) -> tuple[int, int, int, int]:
    """Of a sound's spectrogram: samples a window, samples between windows, windows, windows a token."""
    window, hop = max(8, round(modality.rate * 0.025)), max(1, round(modality.rate * 0.01))
    count = 1 + max(0, modality.samples - window) // hop
    return window, hop, count, max(1, math.ceil(count / MOST_TOKENS))


def steps_of(modality: Series) -> int:
    """Steps of a series in one token."""
    return max(1, math.ceil(modality.steps / MOST_TOKENS))


def planes_of(modality: Any) -> int:
    """Channels of a modality as planes of a picture, numbers of whole samples being one plane each."""
    if isinstance(modality, Clip):
        return modality.frames * modality.channels
    return len(modality.points) * 3 if isinstance(modality, Keypoints) else modality.channels
