"""Detections as the modality `boxes`: a detector's rows to (most, 6) x0, y0, x1, y1 in shares, class, score.

Rows come in one tensor (box, then perhaps objectness, then a score for each class: YOLO; or box, score, class, where
suppression is inside the network: `chosen`), or in two or three (`boxes`, `scores`, perhaps `labels`: SSD, DETR). Axes
are told by their lengths, so a transposed tensor needs no field. Non-maximum suppression is OpenCV's, class by class.
Boxes that cannot be (pixels called shares, x1 < x0) end the step with the field to set.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal, Self

import numpy as np
from pydantic import Field, model_validator

from hyperloom.pipeline.errors import RecipeError
from hyperloom.stages.label.decode.activation import SLACK, Activation, ScoreKind, hold, sigmoid, softmax
from hyperloom.stages.label.decode.decoders import Decoder, Raw, need
from hyperloom.stages.label.decode.scores import ClassMap, class_numbers
from hyperloom.stages.modality import Size
from hyperloom.stages.modality.boxes import PIXELS, padded, strongest
from hyperloom.stages.remarks import remark

FAR = 2.0
"""Pixels within which all corners of a frame's boxes can hardly lie."""


class DetectionDecoder(Decoder):
    """`{type: detections, boxes: dets, scores: probs, format: cxcywh, background: 0, map: [car, null, person]}`."""

    spatial: ClassVar[bool] = False
    boxes: str | int | None = None
    """The tensor of boxes, where these are not in `tensor` with all else."""
    scores: str | int | None = None
    labels: str | int | None = None
    """The tensor of class ids, where `scores` has one score a box."""
    format: Literal["xyxy", "yxyx", "cxcywh", "xywh"] = "xyxy"
    units: Literal["pixels", "shares"] = "pixels"
    """Pixels of the network's input, or shares of its sides."""
    objectness: bool = False
    """One tensor: has a row a score for "anything" after its box, by which the classes' are multiplied?"""
    chosen: bool = False
    """One tensor: are rows box, score, class?"""
    batched: bool = True
    """False where the tensors have no axis for frames, as exports with suppression inside often do; the network then
    sees one frame at a time."""
    background: int | None = Field(None, ge=0)
    """The channel of scores, or the id, that means "nothing"; `map` counts the others."""
    map: ClassMap | None = None
    activation: Activation = "auto"
    threshold: float = Field(0.25, ge=0, le=1)
    overlap: float = Field(0.45, gt=0, le=1)
    """Of two boxes of a class with a larger intersection over union, the weaker goes; 1 keeps all."""

    @model_validator(mode="after")
    def _tensors_given(self) -> Self:
        if (self.boxes is None) != (self.scores is None) or (self.labels is not None and self.boxes is None):
            raise ValueError("boxes and scores belong together, labels to both; tensor is for all in one")
        if self.boxes is not None and (self.objectness or self.chosen):
            raise ValueError("objectness and chosen are for detectors of one tensor")
        return self

    def revised(self) -> int:
        return super().revised() + (self.background is not None and self.identified)

    @property
    def identified(self) -> bool:
        """Does the network give a class id for each box?"""
        return self.labels is not None or self.chosen

    @property
    def whole(self) -> bool:
        return not self.batched

    @property
    def tensors(self) -> tuple[str | int, ...]:
        if self.boxes is None or self.scores is None:
            return (self.tensor,)
        return (self.boxes, self.scores) if self.labels is None else (self.boxes, self.scores, self.labels)

    def ready(self, modality: Any, column: str) -> None:
        need(modality.measure == "boxes", column, "boxes", modality)
        self._table(modality)

    def tried(self, whole: Raw, ending: ScoreKind | None, modality: Any) -> tuple[Decoder, str]:
        _, scores, ids = self._parts(whole, len(self._names(modality)))
        if self.activation != "auto":
            return self, ""
        if not scores.size or (scores.min() >= -SLACK and scores.max() <= 1 + SLACK):
            return self.model_copy(update={"activation": "none"}), ""
        kind: Activation = "softmax" if self.background is not None and ids is None else "sigmoid"
        why = f"its scores on a trial frame are {scores.min():.3g} to {scores.max():.3g}, so a {kind} is applied"
        return self.model_copy(
            update={"activation": kind}
        ), f"{why}. Next: activation: {kind} in decode says so for good"

    def tile(self, raw: Raw, layout: str, size: Size) -> Any:
        return raw, size

    def finish(self, whole: Any, modality: Any) -> np.ndarray:
        raw, size = whole
        corners, scores, ids = self._parts(raw, len(self._names(modality)))
        classes, given = self._likeliest(scores, ids, modality)
        keep = (given >= self.threshold) & (classes >= 0)
        boxes = self._placed(corners[keep], size)
        rows = np.concatenate([boxes, classes[keep, None], given[keep, None]], 1).astype(np.float32)
        rows = strongest(suppressed(rows, self.overlap), modality.most)
        return padded(rows, modality.most, "boxes", "most")

    def _likeliest(self, scores: np.ndarray, ids: np.ndarray | None, modality: Any) -> tuple[np.ndarray, np.ndarray]:
        """Each row's class of the modality, -1 for none, and its probability. Ids below 0 are padding."""
        given = self._probabilities(scores)
        if ids is None:
            ids, given = given.argmax(-1), given.max(-1, initial=0)
        else:
            ids = np.rint(ids)
            if self.background is not None:
                ids = np.where(ids == self.background, -1, ids - (ids > self.background))
        if not isinstance(self.map, Mapping) and (ids[given >= self.threshold] >= len(self._names(modality))).any():
            remark("the detector knows more classes than are listed, and boxes of those are left out (map in decode)")
        table = self._table(modality)
        return np.where(ids >= 0, table[np.clip(ids, 0, len(table) - 1).astype(np.int64)], -1), given

    def _names(self, modality: Any) -> ClassMap:
        """The classes of the network, as far as the recipe lists them."""
        return self.map if isinstance(self.map, tuple) else modality.classes

    def _table(self, modality: Any) -> np.ndarray:
        """(n,) int64: the modality's class for each of the network's, which may be more than maps hold; -1, as in the
        last place, where it abstains. Raises ValueError for a class that the modality does not have."""
        return class_numbers(self.map, modality.classes)

    def _parts(self, raw: Raw, classes: int) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
        """Boxes (n, 4), scores (n, C) or (n,), and ids (n,) where the network has chosen. Raises RecipeError."""
        if isinstance(raw, tuple):
            corners = _rows(raw[0], 4)
            if len(raw) == 3:
                return corners, raw[1].reshape(-1).astype(np.float32), raw[2].reshape(-1)
            return corners, self._classes(_beside(raw[1], len(corners)), classes), None
        width = 6 if self.chosen else 4 + self.objectness + classes + (self.background is not None)
        rows = _rows(raw, width)
        if self.chosen:
            return rows[:, :4], rows[:, 4], rows[:, 5]
        return rows[:, :4], rows[:, 4:], None

    def _classes(self, scores: np.ndarray, classes: int) -> np.ndarray:
        own = scores.shape[1] - (self.background is not None)
        if own != classes and not isinstance(self.map, dict):
            raise RecipeError(
                f"the network scores {own} classes, and {classes} are listed. Next: in decode, map: a class (or null) "
                "for each, or background: the channel that means nothing"
            )
        return scores

    def _probabilities(self, scores: np.ndarray) -> np.ndarray:
        """(n, C) or (n,) in 0..1, without the background, times objectness."""
        activation: Activation = "none" if self.activation == "auto" else self.activation
        hold(scores, activation)
        if activation == "none":
            given = scores.clip(0, 1)
        else:
            given = softmax(scores) if activation == "softmax" and scores.ndim == 2 else sigmoid(scores)
        if self.objectness:
            given = given[:, 1:] * given[:, :1]
        return np.delete(given, self.background, 1) if self.background is not None and given.ndim == 2 else given

    def _placed(self, boxes: np.ndarray, size: Size) -> np.ndarray:
        """(n, 4) x0, y0, x1, y1 in 0..1. Raises RecipeError for what cannot be boxes of this frame."""
        a, b, c, d = boxes.astype(np.float32).T
        if self.format == "yxyx":
            a, b, c, d = b, a, d, c
        elif self.format == "cxcywh":
            a, b, c, d = a - c / 2, b - d / 2, a + c / 2, b + d / 2
        elif self.format == "xywh":
            c, d = a + c, b + d
        corners = np.stack([a, b, c, d], 1)
        self._check_corners(corners, size)
        sides = np.array([size[1], size[0]] * 2 if self.units == "pixels" else [1] * 4, np.float32)
        return (corners / sides).clip(0, 1)

    def _check_corners(self, corners: np.ndarray, size: Size) -> None:
        if not len(corners):
            return
        most = float(np.abs(corners).max())
        if self.units == "shares" and most > PIXELS:
            raise RecipeError(f"a corner of {most:.4g} is no share of a frame. Next: in decode, units: pixels")
        if self.units == "pixels" and most <= FAR and min(size) > 8 * FAR:
            raise RecipeError(f"all corners are within {most:.4g} pixels of the edge. Next: in decode, units: shares")
        if ((corners[:, 0] > corners[:, 2]) | (corners[:, 1] > corners[:, 3])).mean() > 0.5:
            raise RecipeError(
                f"most boxes end before they begin, read as {self.format}: {corners[0].round(3).tolist()}. Next: in "
                "decode, format: cxcywh, xywh, xyxy or yxyx"
            )


def suppressed(rows: np.ndarray, overlap: float) -> np.ndarray:
    """Non-maximum suppression within each class: the rows kept, best first."""
    import cv2

    rows = rows[np.argsort(-rows[:, 5], kind="stable")]
    if overlap >= 1 or len(rows) < 2:
        return rows
    sides = np.concatenate([rows[:, :2], rows[:, 2:4] - rows[:, :2]], 1).astype(np.float64)
    kept = cv2.dnn.NMSBoxesBatched(sides.tolist(), rows[:, 5].tolist(), rows[:, 4].astype(int).tolist(), 0.0, overlap)
    return rows[np.sort(np.asarray(kept, np.int64).reshape(-1))]


def _rows(raw: np.ndarray, width: int) -> np.ndarray:
    """(n, width) float32 of a tensor whose last axis, or else first, has this length. Raises RecipeError."""
    array = np.asarray(raw, np.float32)
    if array.shape[-1] == width:
        return array.reshape(-1, width)
    if array.ndim >= 2 and array.shape[0] == width:
        return array.reshape(width, -1).T
    raise RecipeError(
        f"no axis of the tensor {array.shape} has {width} numbers a box. Next: in decode, map: a class (or null) for "
        "each of the network's, objectness: true, or chosen: true (box, score, class), as the network has it"
    )


def _beside(raw: np.ndarray, count: int) -> np.ndarray:
    """(count, C) float32 scores of so many boxes. Raises RecipeError."""
    array = np.asarray(raw, np.float32)
    if array.ndim >= 2 and array.shape[0] == count:
        return array.reshape(count, int(np.prod(array.shape[1:])))
    if array.ndim == 2 and array.shape[1] == count:
        return array.T
    if array.size == count:
        return array.reshape(count, 1)
    raise RecipeError(
        f"scores of the shape {array.shape} belong to no {count} boxes. Next: in decode, scores: its tensor"
    )
