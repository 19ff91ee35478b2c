"""From a frame to what a network wants to see: resize, tiles, channel order, normalisation, layout.

A frame (H, W, 3) uint8 RGB is resized to `size`, cut into overlapping tiles where `tile` is smaller, and each tile
becomes `(x - mean) / std / divide` in the network's dtype. The results of tiles are put together by `stitch`, where
each pixel comes from the tile whose border is farthest away, along each axis.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal

import numpy as np
from pydantic import Field, model_validator

from hyperloom.pipeline.config import Config
from hyperloom.pipeline.errors import RecipeError
from hyperloom.stages.modality import Size

IMAGENET = {"mean": (123.675, 116.28, 103.53), "std": (58.395, 57.12, 57.375)}
"""Statistics of ImageNet for pixels in 0..255, RGB: `normalise: imagenet`."""


TileCell = tuple[slice, slice]
"""Rows and columns."""


@dataclass(frozen=True)
class TileGrid:
    """Tiles of `tile` pixels at `tops` x `lefts` of a frame of `size` pixels, row by row."""

    size: Size
    tile: Size
    tops: tuple[int, ...]
    lefts: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.tops) * len(self.lefts)

    def cut(self, frame: np.ndarray) -> list[np.ndarray]:
        """The tiles of an array (H, W, ...) of `size`."""
        height, width = self.tile
        return [frame[t : t + height, x : x + width] for t in self.tops for x in self.lefts]

    def stitch(self, parts: Sequence[np.ndarray]) -> np.ndarray:
        """One map of the whole frame from the tiles' maps (h, w) or (h, w, C), at the maps' own resolution."""
        if len(parts) == 1:
            return parts[0]
        size, cells = self.cells((parts[0].shape[0], parts[0].shape[1]))
        whole = np.empty((*size, *parts[0].shape[2:]), parts[0].dtype)
        for part, (here, own) in zip(parts, cells, strict=True):
            whole[here] = part[own]
        return whole

    def cells(self, mapped: Size) -> tuple[Size, list[tuple[TileCell, TileCell]]]:
        """Height and width of the whole map where tiles' maps are `mapped`; and for each tile, row by row, which part
        of the whole it gives, and which part of its own map that is."""
        rows = _owned(self.tops, self.tile[0], mapped[0], self.size[0])
        columns = _owned(self.lefts, self.tile[1], mapped[1], self.size[1])
        cells = [((r.here, c.here), (r.own, c.own)) for r in rows for c in columns]
        return (rows[-1].stop, columns[-1].stop), cells


class Preprocess(Config):
    """How a network wants its frames. What is left out follows from the network's own input where that is fixed.

    `mean` and `std` are in units of 0..255 and in the network's channel order; `divide: 255` is for networks that want
    0..1. Networks of 8 bits get their integers as they are.
    """

    size: Size | None = None
    """Height and width to which the whole frame is resized; by default the network's, else the frame's own."""
    tile: Size | None = None
    """Height and width of the network's view of the resized frame; by default all of it."""
    overlap: float = Field(0.0, ge=0, lt=1)
    """Share of a tile that neighbouring tiles overlap at least."""
    channels: Literal["rgb", "bgr", "grey"] = "rgb"
    """What the network sees of a colour frame; a network with one channel is given grey."""
    layout: Literal["nchw", "nhwc"] | None = None
    """Order of axes of the network's input, and of its maps; by default the usual one of the file's format."""
    normalise: Literal["imagenet"] | None = None
    mean: tuple[float, ...] = Field((0.0, 0.0, 0.0), min_length=1)
    std: tuple[float, ...] = Field((1.0, 1.0, 1.0), min_length=1)
    """One number for each channel, or one for all."""
    divide: float = Field(1.0, gt=0)

    @model_validator(mode="after")
    def _consistent(self) -> Preprocess:
        if self.normalise and self._given:
            raise ValueError("give either normalise or mean and std")
        if min(self.std) <= 0:
            raise ValueError(f"std: expected positive numbers, got {list(self.std)}")
        if self.tile and not self.size:
            raise ValueError("tile: give size as well, that of the resized frame that is cut into tiles")
        if self.tile and self.size and (self.tile[0] > self.size[0] or self.tile[1] > self.size[1]):
            raise ValueError(f"tile: {list(self.tile)} is larger than size {list(self.size)}")
        return self

    def grid(self, frame: Size, net: Size | None) -> TileGrid:
        """The tiles of frames of the height and width `frame` for a network whose input is `net` (None: any)."""
        size = self.size or net or frame
        tile = self.tile or size
        return TileGrid(size, tile, _starts(size[0], tile[0], self.overlap), _starts(size[1], tile[1], self.overlap))

    @property
    def _given(self) -> bool:
        return self.mean != (0, 0, 0) or self.std != (1, 1, 1)

    @property
    def arithmetic(self) -> str:
        """The field that asks for arithmetic on pixels; empty where none does."""
        if self.normalise:
            return "normalise"
        return "mean and std" if self._given else "divide" if self.divide != 1 else ""

    def seen(self, channels: int) -> int:
        """Channels that a network sees of frames of so many, unless it wants one."""
        return 1 if self.channels == "grey" else channels

    def tiles(
        self, frame: np.ndarray, grid: TileGrid, layout: str, dtype: np.dtype[Any], grey: bool = False
    ) -> list[np.ndarray]:
        """The network's inputs for one frame (H, W, C): (C, h, w) or (h, w, C) arrays of `dtype`. `grey`: it has one
        channel."""
        return [self._numbers(part, layout, dtype) for part in self.pixels(frame, grid, grey)]

    def pixels(self, frame: np.ndarray, grid: TileGrid, grey: bool = False) -> list[np.ndarray]:
        """The tiles of one frame (h, w, C) in the network's order of channels, before any arithmetic."""
        resized = resize(frame, grid.size)
        if (grey or self.channels == "grey") and resized.shape[-1] == 3:
            return grid.cut(greyed(resized))
        return grid.cut(resized[..., ::-1] if self.channels == "bgr" else resized)

    def statistics(self, channels: int = 3) -> tuple[np.ndarray, np.ndarray]:
        """What is taken from each channel, and what the rest is multiplied by: (channels,) float32 each. A grey frame
        has the average of the colours'. Raises RecipeError where their number is another."""
        mean, std = (IMAGENET["mean"], IMAGENET["std"]) if self.normalise else (self.mean, self.std)
        if self.normalise and self.channels == "bgr":
            mean, std = mean[::-1], std[::-1]
        scale = 1.0 / (np.asarray(_each(std, channels, "std")) * self.divide)
        return np.asarray(_each(mean, channels, "mean"), np.float32), scale.astype(np.float32)

    def _numbers(self, part: np.ndarray, layout: str, dtype: np.dtype[Any]) -> np.ndarray:
        if dtype == np.int8:  # quantised networks: the same steps as uint8, shifted
            part = (part.astype(np.int16) - 128).astype(np.int8)
        elif dtype.kind == "f" or part.dtype.kind == "f":
            return self._standardised(part, layout, dtype)
        return np.ascontiguousarray(part.transpose(2, 0, 1) if layout == "nchw" else part, dtype)

    def _standardised(self, part: np.ndarray, layout: str, dtype: np.dtype[Any]) -> np.ndarray:
        """One channel after the other, which is many times faster than all at once where channels are last."""
        planes = np.empty((part.shape[-1], *part.shape[:2]), np.float32)
        statistics = self.statistics(len(planes))
        for plane, pixels, mean, scale in zip(planes, _planes(part), *statistics, strict=True):
            np.copyto(plane, pixels)
            if mean != 0:
                plane -= mean
            if scale != 1:
                plane *= scale
        numbers = planes if layout == "nchw" else planes.transpose(1, 2, 0)
        return np.ascontiguousarray(numbers, dtype)


def greyed(frame: np.ndarray) -> np.ndarray:
    """(h, w, 3) uint8 RGB -> (h, w, 1), by the weights of ITU-R BT.601."""
    import cv2

    grey: np.ndarray = cv2.cvtColor(np.ascontiguousarray(frame), cv2.COLOR_RGB2GRAY)[..., None]
    return grey


def _planes(part: np.ndarray) -> Sequence[np.ndarray]:
    """The channels (h, w) of (h, w, C), in their own memory where that is quick."""
    import cv2

    if part.dtype != np.uint8 or part.shape[-1] not in (3, 4):
        return list(np.moveaxis(part, -1, 0))
    return cv2.split(np.ascontiguousarray(part))


def _each(values: Sequence[float], channels: int, field: str) -> Sequence[float]:
    """One value for each channel."""
    if len(values) == channels:
        return values
    if channels == 1 and len(values) == 3:
        return (sum(values) / 3,)
    if len(set(values)) == 1:
        return tuple(values[:1]) * channels
    raise RecipeError(f"preprocess.{field}: {len(values)} numbers for {channels} channels")


def resize(image: np.ndarray, size: Size) -> np.ndarray:
    """`image` (H, W) or (H, W, C) in another height and width: by area where it shrinks, else linearly."""
    import cv2

    if image.shape[:2] == tuple(size):
        return image
    shrinks = size[0] <= image.shape[0] and size[1] <= image.shape[1]
    how = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    planes = np.atleast_3d(image)
    if planes.shape[2] > 4 and planes[..., 0].flags.c_contiguous:  # channels first, seen as last
        each = [cv2.resize(plane, (size[1], size[0]), interpolation=how) for plane in np.moveaxis(planes, -1, 0)]
        return np.moveaxis(np.stack(each), 0, -1)
    resized = np.empty((*size, planes.shape[2]), image.dtype)
    for first in range(0, planes.shape[2], 4):  # OpenCV's area interpolation takes four channels at most
        part = np.ascontiguousarray(planes[..., first : first + 4])
        resized[..., first : first + 4] = np.atleast_3d(cv2.resize(part, (size[1], size[0]), interpolation=how))
    return resized.reshape(*size, *image.shape[2:])


@dataclass(frozen=True)
class _Span:
    """What a tile owns of the whole map along one axis; `offset` is where the tile's own map starts."""

    start: int
    stop: int
    offset: int

    @property
    def here(self) -> slice:
        return slice(self.start, self.stop)

    @property
    def own(self) -> slice:
        return slice(self.start - self.offset, self.stop - self.offset)


def _starts(length: int, tile: int, overlap: float) -> tuple[int, ...]:
    if tile >= length:
        return (0,)
    count = 1 + math.ceil((length - tile) / (tile * (1 - overlap)))
    return tuple(round(i * (length - tile) / (count - 1)) for i in range(count))


def _owned(starts: tuple[int, ...], tile: int, mapped: int, length: int) -> list[_Span]:
    """Spans in the maps' pixels; `mapped` is the length of a tile's map."""
    ratio = mapped / tile
    cuts = [0.0] + [(a + tile + b) / 2 for a, b in pairwise(starts)] + [float(length)]
    offsets = [round(s * ratio) for s in starts]
    edges = [round(c * ratio) for c in cuts[:-1]] + [offsets[-1] + mapped]
    return [_Span(a, b, o) for a, b, o in zip(edges, edges[1:], offsets)]
