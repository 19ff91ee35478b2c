"""Clips: several pictures that follow each other, as one value."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from pydantic import Field

from hyperloom.stages.modality.base import Defaults
from hyperloom.stages.modality.geometry import between
from hyperloom.stages.modality.raster import Image, Raster

if TYPE_CHECKING:
    import torch


class Clip(Raster):
    """(frames, H, W, 3) uint8 RGB. A size left out is that of the recipe's only image modality."""

    defaults: ClassVar[Defaults] = Defaults("dense", "l1", "mae")
    frames: int = Field(ge=1)

    @property
    def shape(self) -> tuple[int, ...]:
        return (self.frames, *self.height_width, 3)

    @property
    def dtype(self) -> np.dtype[Any]:
        return np.dtype(np.uint8)

    @property
    def limits(self) -> tuple[float, float]:
        return (0.0, 256.0)

    @property
    def times(self) -> int:
        return self.frames

    @property
    def planes(self) -> int:
        return self.frames * self.channels

    def mirrored(self, values: torch.Tensor) -> torch.Tensor:
        return values.flip(3)

    def sampled(self, values: torch.Tensor, places: torch.Tensor) -> torch.Tensor:
        frames = values.movedim(1, 3)
        return between(frames.flatten(3), places).unflatten(3, frames.shape[3:]).movedim(3, 1)

    def grid(self, patch: int) -> tuple[int, ...]:
        return (self.frames, *super().grid(patch))

    @property
    def regression(self) -> bool:
        return True

    @property
    def standardised(self) -> bool:
        return True

    def answer(self, mean: np.ndarray) -> np.ndarray:
        return np.rint(mean).clip(0, 255).astype(np.uint8)

    def example(self, random: np.random.Generator, mean: Sequence[float] = (), std: Sequence[float] = ()) -> Any:
        return random.integers(0, 256, self.shape)

    def fit(self, value: Any) -> np.ndarray:
        """Each frame as an image is; there must be `frames` of them."""
        if len(value) != self.frames:
            raise ValueError(f"expected {self.frames} frames, got {len(value)}")
        image = Image(type="image", size=self.size)
        return np.stack([image.fit(frame) for frame in value])

    def picture(self, value: np.ndarray) -> np.ndarray:
        return np.concatenate(list(value), axis=1)
