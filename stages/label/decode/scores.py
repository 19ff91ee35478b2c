"""Scores of classes, one channel each: to class ids or to probabilities. What the scores are is `activation`'s to say.

Both decoders resize scores or probabilities first and choose afterwards, so that borders of classes fall between
pixels of the network's map. Ids are never averaged.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from pydantic import Field

from hyperloom.pipeline.counting import counted
from hyperloom.pipeline.errors import RecipeError
from hyperloom.stages.base import UNKNOWN
from hyperloom.stages.label.decode.activation import (
    FIELD,
    Activation,
    ScoreKind,
    check_axes,
    hold,
    hold_span,
    judge,
    judged,
    looks_like_probabilities,
    probabilities,
    sigmoid,
    softmax,
    two_sided,
)  # fmt: skip
from hyperloom.stages.label.decode.decoders import Decoder, need
from hyperloom.stages.label.runtimes.preprocess import resize
from hyperloom.stages.remarks import remark

if TYPE_CHECKING:
    import torch

BLOCK = 1 << 17
"""Pixels of a block of rows that are voted on at once, about: more would leave the cache, and fewer cost calls."""
ClassMap = tuple[str | int | None, ...] | dict[int, str | int | None]
"""For each class of the network the modality's class (name or id), null to abstain. What is left out abstains too."""


class Scores(Decoder):
    """Base of the decoders of scores of classes. `activation` says what the scores are
    (`stages.label.decode.activation`); `divide: 255` is for probabilities and scores that come as 0..255."""

    revision: ClassVar[int] = 2
    spanned: ClassVar[bool] = True
    map: ClassMap | None = None
    activation: Activation = "auto"
    divide: float = Field(1.0, gt=0)

    def scores(self, whole: np.ndarray) -> np.ndarray:
        """(h, w, C) float32."""
        scores: np.ndarray = np.atleast_3d(whole).astype(np.float32, copy=False)
        return scores if self.divide == 1 else scores / np.float32(self.divide)

    def within(self, low: float, high: float) -> None:
        hold_span(low / self.divide, high / self.divide, self.activation)
        if self.activation == "ids" and high > UNKNOWN:
            raise ValueError(f"the network gives the class id {high:g}, and ids end at {UNKNOWN}")

    def tried(self, whole: np.ndarray, ending: ScoreKind | None, modality: Any) -> tuple[Decoder, str]:
        channels = 1 if whole.ndim == 2 else whole.shape[-1]
        if channels == 1 and whole.dtype.kind != "f" and self.activation == "auto" and self.divide == 1:
            self._check_ids(whole, modality)
            return self.model_copy(update={"activation": "ids"}), ""
        self._count(channels, modality)
        scores = self.scores(whole)
        check_axes(scores)
        if self.activation == "auto":
            shown, why = judge(scores, ending) if self._matters(channels) else ("logit", "")
            if shown == "ids":
                self._check_ids(scores, modality)
            return self.model_copy(update={"activation": shown}), why
        hold(scores, self.activation)
        twice = self.activation in ("softmax", "sigmoid", "logit") and looks_like_probabilities(scores, ending)
        if not twice or not self._matters(channels):
            return self, ""
        what = f"activation: {self.activation} is applied to what looks like probabilities already"
        return self, f"{what}; activation: none takes them as they are"

    def _check_ids(self, ids: np.ndarray, modality: Any) -> None:
        """Raise RecipeError for numbers that are no class ids."""
        values, classes = np.unique(ids), len(modality.classes)
        strange = values[(values < 0) | (values >= classes)]
        unknown = UNKNOWN in strange and ((values > 0) & (values < classes)).any()
        if self.map is None and len(strange) and not (unknown and len(strange) == 1):
            raise RecipeError(
                f"the network gives {strange[0]:g} on a trial frame, which is no id of {classes} classes. Next: in "
                f"decode, divide: {UNKNOWN} with activation: none for scores in 0..{UNKNOWN}, or map for other ids"
            )

    def _matters(self, channels: int) -> bool:
        """Does it matter what the scores are? Not for the highest of several."""
        return True

    def _count(self, channels: int, modality: Any) -> None:
        """Raise RecipeError where the channels cannot be the classes."""
        classes = len(modality.classes)
        if isinstance(self.map, tuple) and channels > 1 and len(self.map) > channels:
            raise RecipeError(f"map names {len(self.map)} classes, the network has {channels}")
        if self.map is None and max(channels, 2) > classes:
            what = f"{channels} channels" if channels > 1 else "one score a pixel, which tells two classes apart,"
            raise RecipeError(
                f"the network gives {what} for {classes} classes ({', '.join(modality.classes)}). Next: in "
                "decode, map: a class (or null) for each of the network's"
            )


class ClassDecoder(Scores):
    """Class ids: from a map of ids, or by the highest of a map of scores that is first brought to the modality's size.

    With `threshold`, pixels whose probability is lower abstain. `background` names the class of pixels where no channel
    reaches one half, for networks that have no channel for it; the channels are then the other classes, in order.
    """

    threshold: float = Field(0.0, ge=0, lt=1)
    background: str | None = None

    def ready(self, modality: Any, column: str) -> None:
        need(modality.categorical and len(modality.shape) == 2, column, "a segmentation", modality)
        class_table(self.map, modality.classes)
        if self.background is not None:
            if self.map is not None:
                raise ValueError(f"{column}: give either background or map")
            _class_id(self.background, modality.classes)

    def revised(self) -> int:
        """Maps of ids of another size came to lie up to half a pixel beside their picture."""
        return 3 if self.activation == "ids" else super().revised()

    def finish(self, whole: np.ndarray, modality: Any) -> np.ndarray:
        channels = 1 if whole.ndim == 2 else whole.shape[-1]
        if self.activation != "ids" and (whole.dtype.kind == "f" or channels > 1 or self.divide != 1):
            whole = self._chosen(self.scores(whole), modality)
        ids = whole[..., 0] if whole.ndim == 3 else whole
        if ids.dtype != np.uint8:
            ids = whole_ids(ids) if ids.dtype.kind == "f" else ids
            if ids.size and ids.max() > UNKNOWN:
                raise ValueError(f"the network gives the class id {ids.max():g}, and ids end at {UNKNOWN}")
            ids = np.where(ids < 0, UNKNOWN, ids).astype(np.uint8)
        return self.landed(modality.fit(ids), modality)

    def landed(self, value: np.ndarray, modality: Any) -> np.ndarray:
        if isinstance(self.map, tuple) and ((value >= len(self.map)) & (value != UNKNOWN)).any():
            remark("the network gives class ids beyond its map, which are unknown (map in decode lists each)")
        return value if self.map is None else class_table(self.map, modality.classes)[value]

    def _matters(self, channels: int) -> bool:
        return channels == 1 or bool(self.threshold or self.background)

    def _chosen(self, scores: np.ndarray, modality: Any) -> np.ndarray:
        """(H, W) uint8 of scores (h, w, C)."""
        activation = self.activation
        if activation == "auto":
            activation = judged(scores) if self._matters(scores.shape[-1]) else "logit"
        if activation == "ids":
            return scores
        plain = activation in ("logit", "softmax") and self.background is None
        if plain and scores.shape[:2] == modality.shape[:2]:
            return vote(two_sided(scores), self.threshold, lambda: hold(scores, activation))
        hold(scores, activation)
        scores = resize(scores, modality.shape[:2])
        if self.background is not None:
            return self._with_background(scores, activation, modality)
        if activation in ("logit", "softmax") or (activation == "sigmoid" and scores.shape[-1] == 1):
            return vote(two_sided(scores), self.threshold)
        given = probabilities(scores, activation)
        ids = vote(given)
        if self.threshold:
            ids[given.max(-1) < self.threshold] = UNKNOWN
        return ids

    def _with_background(self, scores: np.ndarray, activation: Activation, modality: Any) -> np.ndarray:
        given = scores if activation == "none" else sigmoid(scores)
        own = class_table(None, modality.classes)[: len(modality.classes)]
        others = np.delete(own, modality.classes.index(self.background))
        ids = others[given.argmax(-1)]
        ids[given.max(-1) < max(0.5, self.threshold)] = modality.classes.index(self.background)
        return ids

    def _count(self, channels: int, modality: Any) -> None:
        if self.background is None:
            super()._count(channels, modality)
            if self.map is None and 1 < channels == len(modality.classes) - 1:
                raise RecipeError(
                    f"the network gives {channels} channels for {channels + 1} classes. Next: in decode, "
                    f"background: {modality.classes[0]} (where no channel reaches one half), or map: a class for each"
                )
        elif channels != len(modality.classes) - 1:
            what = f"{counted(channels, 'channel')} beside the background"
            raise RecipeError(f"the network gives {what}, and the modality has {len(modality.classes)} classes")

    def on_device(self, maps: torch.Tensor, modality: Any) -> torch.Tensor | None:
        from hyperloom.stages.label.decode import tensors

        channels = 1 if maps.ndim == 3 else maps.shape[1]
        unsettled = self.activation == "auto" and self._matters(channels)
        if unsettled or self.background is not None or (self.activation == "ids" and channels > 1):
            return None
        maps = maps / self.divide if self.divide != 1 else maps
        return tensors.classes(maps, modality.shape[:2], self.threshold, self.activation)


class ProbabilityDecoder(Scores):
    """Soft labels (H, W, K): probabilities of a map of scores, classes folded by `map`.

    What the network gives to classes that abstain is shared out over the others in proportion, and evenly where these
    have nothing. `temperature` divides logits.
    """

    temperature: float = Field(1.0, gt=0)

    def ready(self, modality: Any, column: str) -> None:
        need(modality.soft, column, "a soft modality", modality)
        class_table(self.map, modality.classes)

    def finish(self, whole: np.ndarray, modality: Any) -> np.ndarray:
        scores = self.scores(whole)
        activation = judged(scores) if self.activation == "auto" else self.activation
        if activation == "ids":
            raise RecipeError(f"class ids make no probabilities. {FIELD}")
        hold(scores, activation)
        given = probabilities(scores if activation == "none" else scores / np.float32(self.temperature), activation)
        table = class_table(self.map, modality.classes)
        folded = np.zeros((*given.shape[:2], len(modality.classes)), np.float32)
        for source in range(given.shape[-1]):
            if table[source] < len(modality.classes):
                folded[..., table[source]] += given[..., source]
        sized = modality.fit(folded) + np.float32(1e-6)
        return sized / sized.sum(-1, keepdims=True)

    def on_device(self, maps: torch.Tensor, modality: Any) -> torch.Tensor | None:
        from hyperloom.stages.label.decode import tensors

        if self.activation in ("auto", "ids"):
            return None
        table = class_table(self.map, modality.classes)
        maps = maps / self.divide if self.divide != 1 else maps
        return tensors.probabilities(maps, modality.shape, table, self.temperature, self.activation)


def whole_ids(ids: np.ndarray) -> np.ndarray:
    """Class ids that come as floats. Raises ValueError for what is none."""
    if (bad := ids[~(ids == np.rint(ids))]).size:
        raise ValueError(f"the network gives {bad[0]:g} where class ids are expected")
    return ids


def vote(scores: np.ndarray, threshold: float = 0.0, wrong: Callable[[], None] = lambda: None) -> np.ndarray:
    """(h, w) uint8: the first class of the highest score of (h, w, C), at most 255; 255 where its softmax probability
    is below `threshold`. Goes plane by plane over some rows at a time, so that all stays in the cache. `wrong` is
    called where a score may be no number."""
    planes = np.moveaxis(scores, -1, 0)
    ids: np.ndarray = np.zeros(planes.shape[1:], np.uint8)
    step = max(1, -(-len(ids) // max(1, -(-ids.size // BLOCK))))
    blocks = (slice(first, first + step) for first in range(0, len(ids), step))
    if len(planes) <= UNKNOWN and all(_vote(planes[:, rows], threshold, ids[rows]) for rows in blocks):
        return ids
    wrong()
    chosen = scores.argmax(-1)
    if threshold:
        chosen[softmax(scores).max(-1) < threshold] = UNKNOWN
    return np.where(chosen > UNKNOWN, UNKNOWN, chosen).astype(np.uint8)


def _vote(planes: np.ndarray, threshold: float, ids: np.ndarray) -> bool:
    """Are all scores numbers? Only then is it done."""
    if not ids.size:
        return True
    top = np.array(planes[0])
    better = np.empty(ids.shape, bool)
    mark = better.view(np.uint8)
    for number, plane in enumerate(planes[1:], 1):
        np.greater(plane, top, out=better)
        np.maximum(top, plane, out=top)
        np.maximum(ids, np.multiply(mark, np.uint8(number), out=mark), out=ids)
    if np.isnan(top.max()):  # the highest of some of which one is no number is none
        return False
    if threshold:
        total = sum(np.exp(plane - top) for plane in planes)
        ids[1 / total < threshold] = UNKNOWN
    return True


def class_table(map_: ClassMap | None, classes: tuple[str, ...]) -> np.ndarray:
    """(256,) uint8: the modality's class for each of the network's, 255 where it abstains.

    Raises ValueError for a class that the modality does not have.
    """
    own = class_numbers(map_, classes)[:-1]
    if len(own) > UNKNOWN and (own[UNKNOWN:] >= 0).any():
        raise ValueError(f"map: {len(own) - 1} is no class id of a map (0 to {UNKNOWN - 1})")
    table = np.full(UNKNOWN + 1, UNKNOWN, np.uint8)
    table[: min(len(own), UNKNOWN)] = np.where(own < 0, UNKNOWN, own)[:UNKNOWN]
    return table


def class_numbers(map_: ClassMap | None, classes: tuple[str, ...]) -> np.ndarray:
    """(n + 1,) int64: the modality's class for each of the network's n, -1 where it abstains, and at the end.

    Raises ValueError for a class that the modality does not have.
    """
    if map_ is None:
        return np.append(np.arange(len(classes)), -1)
    items = dict(map_.items() if isinstance(map_, Mapping) else enumerate(map_))
    if items and min(items) < 0:
        raise ValueError(f"map: {min(items)} is no class id of a network")
    table = np.full(max(items, default=-1) + 2, -1)
    for source, target in items.items():
        table[source] = _class_id(target, classes)
    return table


def _class_id(target: str | int | None, classes: tuple[str, ...]) -> int:
    if target is None:
        return -1
    if isinstance(target, str):
        if target not in classes:
            raise ValueError(f"map: {target!r} is no class of the modality; there are: {', '.join(classes)}")
        return classes.index(target)
    if not 0 <= target < len(classes):
        raise ValueError(f"map: {target} is no class id of the modality, which has {len(classes)} classes")
    return target
