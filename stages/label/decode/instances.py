"""Instances from a network's outputs alone: detections with a mask each, or queries with one each.

Three forms. Boxes and a tensor of masks, one a box: `cut: box` where a mask shows its box alone (Mask R-CNN), `frame`
where it shows the frame. One tensor of boxes whose rows end in coefficients, and `prototypes` that these weigh
(YOLACT, YOLO's segment heads). Scores and masks of queries without boxes (`boxes` left out: MaskFormer, Mask2Former).
What `stages.label.decode.detections` says of boxes, scores, classes and suppression holds here too.
"""

from __future__ import annotations

from typing import Any, ClassVar, Literal, Self

import numpy as np
from pydantic import Field, model_validator

from hyperloom.pipeline.errors import RecipeError
from hyperloom.stages.label.decode.activation import ScoreKind, sigmoid
from hyperloom.stages.label.decode.decoders import Decoder, Raw, need
from hyperloom.stages.label.decode.detections import DetectionDecoder, suppressed
from hyperloom.stages.modality.boxes import strongest

BOX = 4
ROUNDING = 1e-3
"""Pixels that arithmetic may leave beside an edge."""


class InstanceDecoder(DetectionDecoder):
    """`{type: instances, boxes: boxes, scores: scores, labels: labels, masks: masks, cut: box, map: [car, person]}`."""

    spatial: ClassVar[bool] = False
    masks: str | int | None = None
    """The tensor with a mask for each box or query: (n, h, w) or (n, 1, h, w)."""
    prototypes: str | int | None = None
    """The tensor (k, h, w) that the last k numbers of each box's row weigh."""
    cut: Literal["frame", "box"] = "frame"
    mask_activation: Literal["auto", "none", "sigmoid"] = "auto"
    level: float = Field(0.5, gt=0, lt=1)
    """A pixel of this chance and more is the thing's."""

    @model_validator(mode="after")
    def _tensors_given(self) -> Self:
        if (self.masks is None) == (self.prototypes is None):
            raise ValueError("give masks (one a box or query) or prototypes (which the boxes' rows weigh)")
        if self.prototypes is not None and (self.boxes is not None or self.chosen):
            raise ValueError("prototypes go with one tensor of boxes, scores and coefficients")
        if self.boxes is not None and self.scores is None:
            raise ValueError("boxes need scores, and perhaps labels")
        if self.boxes is None and self.scores is not None and self.cut == "box":
            raise ValueError("queries without boxes have masks of the frame: cut: frame")
        return self

    def revised(self) -> int:
        return type(self).revision + self.identified

    @property
    def tensors(self) -> tuple[str | int, ...]:
        first: tuple[str | int, ...] = (self.tensor,)
        if self.boxes is None and self.scores is not None:
            first = (self.scores,) if self.labels is None else (self.scores, self.labels)
        elif self.boxes is not None:
            first = super().tensors
        last = self.masks if self.prototypes is None else self.prototypes
        assert last is not None
        return (*first, last)

    def ready(self, modality: Any, column: str) -> None:
        need(modality.measure == "instances", column, "instances", modality)
        self._table(modality)

    def tried(self, whole: Raw, ending: ScoreKind | None, modality: Any) -> tuple[Decoder, str]:
        raw, _ = whole
        tried, sentence = super().tried(self._detections(raw, modality)[0], ending, modality)
        assert isinstance(tried, InstanceDecoder)
        if self.mask_activation != "auto":
            return tried, sentence
        given = raw[-1] if self.prototypes is None else None
        logits = given is None or not given.size or given.min() < -0.01 or given.max() > 1.01
        return tried.model_copy(update={"mask_activation": "sigmoid" if logits else "none"}), sentence

    def finish(self, whole: Any, modality: Any) -> np.ndarray:
        raw, size = whole
        detections, weights = self._detections(raw, modality)
        corners, scores, ids = self._parts(detections, len(self._names(modality)))
        classes, given = self._likeliest(scores, ids, modality)
        keep = np.flatnonzero((given >= self.threshold) & (classes >= 0))
        boxes = self._placed(corners[keep], size) if len(corners) else np.tile([0.0, 0, 1, 1], (len(keep), 1))
        columns = [boxes, classes[keep, None], given[keep, None], keep[:, None]]
        rows = np.concatenate(columns, 1).astype(np.float64)
        rows = suppressed(rows, self.overlap) if len(corners) else rows[np.argsort(-rows[:, 5], kind="stable")]
        value = []
        for row in strongest(rows, modality.most):
            mask = self._mask(raw[-1], int(row[6]), weights, row[:BOX], modality.sides_in_pixels)
            if mask.any():
                value.append({"mask": mask, "class": int(row[4]), "score": float(min(row[5], 1.0))})
        return np.asarray(modality.fit(value))

    def _detections(self, raw: Any, modality: Any) -> tuple[Any, np.ndarray | None]:
        """What `stages.label.decode.detections` takes, and the rows' coefficients. Raises RecipeError."""
        first = raw[:-1]
        if self.prototypes is not None:
            count = raw[-1].shape[0]
            width = BOX + self.objectness + len(self._names(modality)) + (self.background is not None)
            rows = np.asarray(first[0], np.float32)
            rows = rows.T if rows.ndim == 2 and rows.shape[0] == width + count else rows
            if rows.shape[-1] != width + count:
                raise RecipeError(
                    f"the tensor {np.shape(first[0])} has no rows of {width} numbers and {count} more. Next: in "
                    "decode, map: a class (or null) for each of the network's, or objectness: true, as it has it"
                )
            rows = rows.reshape(-1, width + count)
            return rows[:, :width], rows[:, width:]
        if self.boxes is None and self.scores is not None:
            return (np.zeros((len(first[0]), 0), np.float32), *first), None
        return (first[0] if len(first) == 1 else first), None

    def _parts(self, raw: Raw, classes: int) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
        if isinstance(raw, tuple) and raw[0].ndim == 2 and raw[0].shape[1] == 0:  # queries
            scores = np.asarray(raw[1], np.float32)
            if len(raw) == 3:
                return np.zeros((0, BOX)), scores.reshape(-1), raw[2].reshape(-1)
            rows = scores.reshape(len(scores), int(np.prod(scores.shape[1:])))  # also of none
            return np.zeros((0, BOX)), self._classes(rows, classes), None
        return super()._parts(raw, classes)

    def _mask(
        self, masks: np.ndarray, place: int, weights: np.ndarray | None, box: np.ndarray, size: tuple[int, int]
    ) -> np.ndarray:
        """(H, W) bool of one thing, whose box is in shares of the frame."""
        import cv2

        height, width = size
        one = np.tensordot(weights[place], masks, 1) if weights is not None else masks[place]
        one = np.asarray(one, np.float32)
        one = one.reshape(one.shape[-2:]) if one.ndim == 3 and one.shape[0] == 1 else one
        if one.ndim != 2:
            raise RecipeError(
                f"masks of the shape {masks.shape} are not one a thing. Next: in decode, masks: its tensor"
            )
        chance = one if self.mask_activation == "none" else sigmoid(one)
        left, top, right, low = _pixels(box, size)
        if self.cut == "frame":
            mask = cv2.resize(chance, (width, height), interpolation=cv2.INTER_LINEAR) >= self.level
            inside = np.ones(size, bool) if weights is None else np.zeros(size, bool)
            inside[top:low, left:right] = True
            return np.asarray(mask & inside)
        mask = np.zeros(size, bool)
        if right > left and low > top:
            part = cv2.resize(chance, (right - left, low - top), interpolation=cv2.INTER_LINEAR)
            mask[top:low, left:right] = part >= self.level
        return mask


def _pixels(box: np.ndarray, size: tuple[int, int]) -> tuple[int, int, int, int]:
    """Left, top, right and lower edge of a box in shares, as pixels that it touches."""
    x0, y0, x1, y1 = box * np.array([size[1], size[0]] * 2)
    left, top = int(np.floor(x0 + ROUNDING)), int(np.floor(y0 + ROUNDING))
    return left, top, min(size[1], int(np.ceil(x1 - ROUNDING))), min(size[0], int(np.ceil(y1 - ROUNDING)))
