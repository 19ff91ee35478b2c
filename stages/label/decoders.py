"""From a network's output tensors to values of a modality: class maps, probabilities, dense maps.

A decoder reads one output tensor (`tensor`: its name or number) in two steps: `tile` turns the tensor of one tile into
a map (h, w) or (h, w, C) at the network's resolution, and `finish` turns the map of the whole frame into a value of
the modality, size included. Decoders are plug-ins of kind `decoder`. Detections, which are no maps, are in `boxes`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
from pydantic import Field

from hyperloom.pipeline.plugins import Plugin
from hyperloom.stages.base import UNKNOWN
from hyperloom.stages.label.preprocess import resize
from hyperloom.stages.modality import Size

if TYPE_CHECKING:
    import torch

BLOCK = 16384
"""Pixels of a block of rows that are voted on at once."""
ClassMap = tuple[str | int | None, ...] | dict[int, str | int | None]
"""For each class of the network the modality's class (name or id), null to abstain. What is left out abstains too."""


class Decoder(Plugin):
    """Base of every decoder."""

    spatial: ClassVar[bool] = True
    """Is the tensor a map, so that the maps of tiles can be put together?"""
    tensor: str | int = 0

    def ready(self, modality: Any, column: str) -> None:
        """Raise ValueError unless this decoder can make values of `modality`."""

    def tile(self, raw: np.ndarray, layout: str, size: Size) -> np.ndarray:
        """The map of one tile from its tensor without batch axis; `size` is the tile's height and width in pixels."""
        return as_map(raw, layout)

    def finish(self, whole: np.ndarray, modality: Any) -> np.ndarray:
        """A value of `modality` from the map of the whole frame. Raises ValueError where the map makes none."""
        raise TypeError(f"the decoder {self.type!r} has no finish()")

    def on_device(self, maps: torch.Tensor, modality: Any) -> torch.Tensor | None:
        """What `finish` makes, (N, *shape), of the maps (N, C, h, w) or (N, h, w) of N whole frames, where these are:
        the same up to rounding. None where this decoder works on the host alone. Probabilities may come as the
        integers that are kept of them."""
        return None


class ClassDecoder(Decoder):
    """Class ids: from a map of ids, or by argmax over a map of scores that is first brought to the modality's size.

    A network with one score a pixel gives a logit: positive is its class 1, else 0. With `threshold`, pixels whose
    softmax probability is lower abstain.
    """

    map: ClassMap | None = None
    threshold: float = Field(0.0, ge=0, lt=1)

    def ready(self, modality: Any, column: str) -> None:
        _need(modality.categorical and len(modality.shape) == 2, column, "a segmentation", modality)
        class_table(self.map, modality.classes)

    def finish(self, whole: np.ndarray, modality: Any) -> np.ndarray:
        if whole.dtype.kind == "f":
            scores = resize(np.atleast_3d(whole).astype(np.float32, copy=False), modality.shape[:2])
            whole = vote(_two_sided(scores), self.threshold)
        ids = whole[..., 0] if whole.ndim == 3 else whole
        if ids.dtype != np.uint8:
            ids = np.where((ids < 0) | (ids > UNKNOWN), UNKNOWN, ids).astype(np.uint8)
        sized = modality.fit(ids)
        return sized if self.map is None else class_table(self.map, modality.classes)[sized]

    def on_device(self, maps: torch.Tensor, modality: Any) -> torch.Tensor:
        from hyperloom.stages.label import tensors

        table = None if self.map is None else class_table(self.map, modality.classes)
        return tensors.classes(maps, modality.shape[:2], self.threshold, table)


class ProbabilityDecoder(Decoder):
    """Soft labels (H, W, K): softmax of a map of scores (or probabilities as they are), classes folded by `map`.

    What the network gives to classes that abstain is shared out over the others in proportion, and evenly where these
    have nothing.
    """

    map: ClassMap | None = None
    activation: Literal["softmax", "none"] = "softmax"
    temperature: float = Field(1.0, gt=0)

    def ready(self, modality: Any, column: str) -> None:
        _need(modality.soft, column, "a soft modality", modality)
        class_table(self.map, modality.classes)

    def finish(self, whole: np.ndarray, modality: Any) -> np.ndarray:
        scores = _two_sided(np.atleast_3d(whole).astype(np.float32))
        given = softmax(scores / self.temperature) if self.activation == "softmax" else scores
        table = class_table(self.map, modality.classes)
        folded = np.zeros((*given.shape[:2], len(modality.classes)), np.float32)
        for source in range(given.shape[-1]):
            if table[source] < len(modality.classes):
                folded[..., table[source]] += given[..., source]
        sized = modality.fit(folded) + np.float32(1e-6)
        return sized / sized.sum(-1, keepdims=True)

    def on_device(self, maps: torch.Tensor, modality: Any) -> torch.Tensor:
        from hyperloom.stages.label import tensors

        table = class_table(self.map, modality.classes)
        soft = self.activation == "softmax"
        return tensors.probabilities(maps, modality.shape, table, self.temperature if soft else None)


class DenseDecoder(Decoder):
    """Numbers: depth, disparity, edges. First activation, then `scale * x + offset`, normalisation by frame, inversion.

    `normalise: range` maps the frame's least to greatest value onto 0..1; `percentiles` does so with the 2nd and 98th
    percentile and clips. `invert: flip` is 1 - x, `reciprocal` is 1 / x (inverse depth to depth; not below 1e-6).
    """

    activation: Literal["none", "sigmoid"] = "none"
    scale: float = 1.0
    offset: float = 0.0
    normalise: Literal["none", "range", "percentiles"] = "none"
    invert: Literal["none", "flip", "reciprocal"] = "none"

    def ready(self, modality: Any, column: str) -> None:
        _need(len(modality.shape) == 3 and not modality.soft, column, "a dense modality", modality)

    def finish(self, whole: np.ndarray, modality: Any) -> np.ndarray:
        x: np.ndarray = np.atleast_3d(whole).astype(np.float32)
        if self.activation == "sigmoid":
            x = 1 / (1 + np.exp(-np.clip(x, -60, 60)))
        x = resize(x * np.float32(self.scale) + np.float32(self.offset), modality.shape[:2])
        x = modality.stretched(x, *(new / old for new, old in zip(modality.shape[:2], np.shape(whole), strict=False)))
        if self.normalise != "none":
            lo, hi = (x.min(), x.max()) if self.normalise == "range" else np.percentile(x, (2, 98))
            x = np.clip((x - lo) / max(float(hi - lo), 1e-6), 0, 1)
        if self.invert != "none":
            x = 1 - x if self.invert == "flip" else 1 / np.maximum(x, 1e-6)
        return modality.fit(x.astype(np.float32))

    def on_device(self, maps: torch.Tensor, modality: Any) -> torch.Tensor | None:
        from hyperloom.stages.label import tensors

        if modality.dtype.kind != "f" or modality.holes or modality.unit_vectors or modality.moves != "scalar":
            return None
        return tensors.numbers(maps, modality.shape, modality.limits, self)


def vote(scores: np.ndarray, threshold: float = 0.0) -> np.ndarray:
    """(h, w) uint8: the first class of the highest score of (h, w, C), at most 255; 255 where its softmax probability
    is below `threshold`. Goes plane by plane over some rows at a time, so that all stays in the cache."""
    planes = np.moveaxis(scores, -1, 0)
    if len(planes) > UNKNOWN or np.isnan(np.max(planes)):
        ids = scores.argmax(-1)
        if threshold:
            ids[softmax(scores).max(-1) < threshold] = UNKNOWN
        return np.where(ids > UNKNOWN, UNKNOWN, ids).astype(np.uint8)
    ids = np.zeros(planes.shape[1:], np.uint8)
    step = max(1, BLOCK // max(1, ids.shape[1]))
    for first in range(0, len(ids), step):
        _vote(planes[:, first : first + step], threshold, ids[first : first + step])
    return ids


def _vote(planes: np.ndarray, threshold: float, ids: np.ndarray) -> None:
    top = np.array(planes[0])
    better = np.empty(ids.shape, bool)
    mark = better.view(np.uint8)
    for number, plane in enumerate(planes[1:], 1):
        np.greater(plane, top, out=better)
        np.maximum(top, plane, out=top)
        np.maximum(ids, np.multiply(mark, np.uint8(number), out=mark), out=ids)
    if threshold:
        total = sum(np.exp(plane - top) for plane in planes)
        ids[1 / total < threshold] = UNKNOWN


def as_map(raw: np.ndarray, layout: str) -> np.ndarray:
    """(h, w) or (h, w, C) from a tensor without batch axis: (C, h, w) for `nchw`, (h, w, C) for `nhwc`."""
    if raw.ndim == 2:
        return raw
    if raw.ndim != 3:
        raise ValueError(f"expected a map with 2 or 3 axes beyond the batch, got shape {raw.shape}")
    return raw.transpose(1, 2, 0) if layout == "nchw" else raw


def class_table(map_: ClassMap | None, classes: tuple[str, ...]) -> np.ndarray:
    """(256,) uint8: the modality's class for each of the network's, 255 where it abstains.

    Raises ValueError for a class that the modality does not have.
    """
    table = np.full(UNKNOWN + 1, UNKNOWN, np.uint8)
    if map_ is None:
        table[: len(classes)] = np.arange(len(classes))
        return table
    items = map_.items() if isinstance(map_, Mapping) else enumerate(map_)
    for source, target in items:
        if not 0 <= source < UNKNOWN:
            raise ValueError(f"map: {source} is no class id of a network (0 to {UNKNOWN - 1})")
        table[source] = _class_id(target, classes)
    return table


def softmax(scores: np.ndarray) -> np.ndarray:
    """Softmax over the last axis."""
    shifted = np.exp(scores - scores.max(-1, keepdims=True))
    return shifted / shifted.sum(-1, keepdims=True)


def _class_id(target: str | int | None, classes: tuple[str, ...]) -> int:
    if target is None:
        return UNKNOWN
    if isinstance(target, str):
        if target not in classes:
            raise ValueError(f"map: {target!r} is no class of the modality; there are: {', '.join(classes)}")
        return classes.index(target)
    if not 0 <= target < len(classes):
        raise ValueError(f"map: {target} is no class id of the modality, which has {len(classes)} classes")
    return target


def _two_sided(scores: np.ndarray) -> np.ndarray:
    """One logit a pixel as the scores of two classes."""
    return scores if scores.shape[-1] > 1 else np.concatenate([np.zeros_like(scores), scores], -1)


def _need(good: bool, column: str, expected: str, modality: Any) -> None:
    if not good:
        type_ = modality.type or type(modality).__name__
        raise ValueError(f"{column}: this decoder makes {expected}, but the modality's type is {type_}")
