"""Temporal consistency: is a prediction the same for the same thing in consecutive frames?

What was predicted of the frame before is carried to a frame along dense optical flow between the two pictures (as Lai
et al., ECCV 2018, do with videos): DIS from the frame to the one before, checked by the flow back. Where both flows
agree, inside the picture, and both answers are known, classes are compared (`same` of `moved` pixels) and numbers give
their mean absolute change (`change` over `changes`; the angle in degrees for directions). No truth is needed. Only
frames whose indices are at most `gap` apart count: a second later the world is another.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from pydantic import Field

from hyperloom.pipeline.config import Config
from hyperloom.stages.measure.measure import measure_of
from hyperloom.stages.measure.sums import Sums
from hyperloom.stages.modality import Modality


class Temporal(Config):
    """`{gap: 2}`: consistency over frames whose indices differ by at most `gap`, seen in the column `image`."""

    gap: int = Field(1, ge=1)
    image: str = ""
    """By default the first image column of the shards, by name."""
    tolerance: float = Field(1.0, gt=0)
    """Pixels by which the way there and back may miss; beyond, something was hidden or the flow is wrong."""
    zoom: int = Field(2, ge=1, le=4)
    """The pictures are enlarged so much for the flow."""


class Motion:
    """Goes through the frames of one group in order and keeps the values of the one before."""

    def __init__(self, config: Temporal, modalities: Mapping[str, Modality]):
        from hyperloom.stages.label.algorithms.flow import dis_flow

        self._config, self._modalities = config, modalities
        self._flow = dis_flow("medium", config.zoom)
        self._before: tuple[str, int, np.ndarray, Mapping[str, np.ndarray]] | None = None

    def step(
        self, group: str, index: int, image: np.ndarray | None, values: Mapping[str, np.ndarray]
    ) -> dict[str, Sums]:
        """Statistics, by name of `values` (one each, absent where unanswered), against the frame before.

        `image` is (H, W, 3) uint8. Empty for the first frame, after a gap, and without a picture.
        """
        before, self._before = self._before, None if image is None else (group, index, image, dict(values))
        if before is None or image is None or before[0] != group or not 0 < index - before[1] <= self._config.gap:
            return {}
        both = [name for name in values if name in before[3]]
        if not both:
            return {}
        place, valid = self._places(image, before[2])
        return {
            name: compared(self._modalities[name], values[name], carried(before[3][name], place, valid))
            for name in both
        }

    def _places(self, now: np.ndarray, before: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Where each pixel was, (H, W, 2) int (x, y), and whether that can be trusted, (H, W) bool."""
        import cv2

        height, width = now.shape[:2]
        forward, back = self._flow(now, before), self._flow(before, now)
        grid = np.stack(np.meshgrid(np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32)), -1)
        exact = grid + forward
        returned = cv2.remap(back, exact[..., 0], exact[..., 1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        place = np.rint(exact).astype(np.int64)
        inside = ((place >= 0) & (place < (width, height))).all(-1)
        return place, inside & (np.linalg.norm(forward + returned, axis=-1) < self._config.tolerance)


def carried(before: np.ndarray, place: np.ndarray, valid: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """`before` (h, w, ...) taken at `place` (H, W, 2), pixel by pixel, with the shape of `before`; what is valid there.

    Where the value has another size than the picture, both are brought to the value's by the nearest pixel.
    """
    height, width = before.shape[:2]
    rows = (np.arange(height) * place.shape[0]) // height
    columns = (np.arange(width) * place.shape[1]) // width
    at, good = place[rows][:, columns], valid[rows][:, columns]
    x = np.clip(at[..., 0] * width // place.shape[1], 0, width - 1)
    y = np.clip(at[..., 1] * height // place.shape[0], 0, height - 1)
    return before[y, x], good


def compared(modality: Modality, now: np.ndarray, before: tuple[np.ndarray, np.ndarray]) -> Sums:
    """Statistics of one pair: `now` and the carried value of the frame before with its validity."""
    earlier, valid = before
    return measure_of(modality).change(modality, now, earlier, valid)
