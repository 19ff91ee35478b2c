"""Dense maps: one or more numbers a pixel, with unit, range, and a mark for pixels that have none."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from pydantic import Field, model_validator

from hyperloom.stages import picture
from hyperloom.stages.meaning import Meaning
from hyperloom.stages.modality.formats import decode_array
from hyperloom.stages.modality.prediction import Offered, Taken
from hyperloom.stages.modality.raster import Raster

if TYPE_CHECKING:
    import torch


class Dense(Raster):
    """(H, W, channels) float32 numbers: depth, flow, edges. `range` is what `check` accepts and `fit` clips to.

    `unknown` is the number by which files say that a pixel has no value (0 in many depth files): it becomes NaN, which
    losses, measures and statistics leave out; without it NaN is refused. `direction: true` marks unit vectors (surface
    normals): compared by angle, made of length one by `fit`. `fit` resizes linearly and leaves the numbers alone:
    displacements in pixels are the caller's to rescale. `storage` is what is kept of a number: float32 all, float16
    three digits, uint8 one of 255 and uint16 one of 65,535 even steps over the range.
    """

    channels_: int = Field(1, alias="channels", ge=1)
    unit: str = ""
    range: tuple[float, float] | None = None
    direction: bool = False
    storage: Literal["float16", "float32", "uint8", "uint16"] = "float16"
    unknown: float | None = None

    @model_validator(mode="after")
    def _steps_have_a_range(self) -> Dense:
        if self.range and not self.range[0] < self.range[1]:
            raise ValueError(f"range: expected two numbers, the smaller first, got {list(self.range)}")
        if self.steps and self.range is None:
            raise ValueError(f"storage: {self.storage} divides a range in steps, so give range: [lowest, highest]")
        return self

    @property
    def shape(self) -> tuple[int, ...]:
        return (*self.height_width, self.channels_)

    @property
    def channels(self) -> int:
        return self.channels_

    @property
    def stored(self) -> np.dtype[Any]:
        return np.dtype(self.storage)

    @property
    def steps(self) -> int:
        """Steps between the ends of the range where integers are stored, else 0. The integer after them is NaN."""
        return {"uint8": 2**8 - 2, "uint16": 2**16 - 2}.get(self.storage, 0)

    @property
    def scale(self) -> float:
        return (self.range[1] - self.range[0]) / self.steps if self.range and self.steps else 1.0

    @property
    def offset(self) -> float:
        return self.range[0] if self.range and self.steps else 0.0

    @property
    def meaning(self) -> Meaning:
        return Meaning(unit=self.unit, range=self.range, further=(("direction", self.direction),))

    @property
    def limits(self) -> tuple[float, float] | None:
        return self.range

    @property
    def standardised(self) -> bool:
        return not self.direction

    @property
    def unit_vectors(self) -> bool:
        return self.direction

    @property
    def holes(self) -> bool:
        return self.unknown is not None

    def mirrored(self, values: torch.Tensor) -> torch.Tensor:
        """The first channel changes its sign in directions and in displacements (unit px)."""
        values = super().mirrored(values)
        if self.direction or self.unit == "px":
            values[..., 0] *= -1
        return values

    @property
    def loss(self) -> str:
        return "cosine" if self.direction else "l1"

    @property
    def metric(self) -> str:
        return "angle" if self.direction else "mae"

    @property
    def measure(self) -> str:
        return "angles" if self.direction else "numbers"

    def _check_values(self, array: np.ndarray) -> None:
        if self.unknown is not None:
            array = array[~np.isnan(array)]
        super()._check_values(array)
        if not array.size:
            return
        lo, hi = float(array.min()), float(array.max())
        limit = float(np.finfo(self.stored).max) if self.stored.kind == "f" else 0.0
        allowed = self.range or (-limit, limit)
        slack = 1e-3 * (allowed[1] - allowed[0]) if self.range else 0.0
        if lo < allowed[0] - slack or hi > allowed[1] + slack:
            why = "range" if self.range else f"what {self.storage} holds (storage: float32 holds more)"
            raise ValueError(f"expected values within {allowed} ({why}), got {lo:.6g} to {hi:.6g}")

    def fit(self, value: Any) -> np.ndarray:
        array = np.asarray(value, np.float32)
        if array.ndim == 2:
            array = array[..., None]
        if array.ndim != 3 or array.shape[-1] != self.channels_:
            raise ValueError(f"expected (H, W, {self.channels_}), got {np.shape(value)}")
        if self.unknown is None:
            array = self._resized(array).reshape(self.shape)
        else:
            array = self._around_holes(np.where(array == np.float32(self.unknown), np.float32("nan"), array))
        if self.direction:
            array = array / np.maximum(np.linalg.norm(array, axis=-1, keepdims=True), 1e-6)
        return np.clip(array, *self.range) if self.range else array

    def read(self, data: bytes, name: str) -> Any:
        if name.lower().endswith((".npy", ".npz")):
            return self.fit(decode_array(data, "", name))
        return self.fit(self.numbers(data, name))

    def _around_holes(self, array: np.ndarray) -> np.ndarray:
        """Resized linearly over the known numbers alone; unknown where these weigh less than half."""
        known = np.isfinite(array)
        if known.all() or array.shape == self.shape:
            return self._resized(array).reshape(self.shape)
        weight = self._resized(known.astype(np.float32)).reshape(self.shape)
        total = self._resized(np.where(known, array, np.float32(0))).reshape(self.shape)
        return np.where(weight >= 0.5, total / np.maximum(weight, 0.5), np.float32("nan"))

    def to_stored(self, value: np.ndarray) -> np.ndarray:
        if not self.steps:
            return value
        steps = np.rint((np.asarray(value, np.float64) - self.offset) / self.scale)
        return np.where(np.isnan(steps), self.steps + 1, np.clip(steps, 0, self.steps))

    def to_memory(self, rows: np.ndarray) -> np.ndarray:
        values = super().to_memory(rows)
        if self.steps and self.unknown is not None:
            values[rows == self.steps + 1] = np.nan
        return values

    def example(self, random: np.random.Generator, mean: Sequence[float] = (), std: Sequence[float] = ()) -> Any:
        values = random.normal(mean or 0.0, std or 1.0, self.shape)
        if self.direction:
            values = values / np.linalg.norm(values, axis=-1, keepdims=True)
        if self.range is not None:
            values = values.clip(*self.range)
        if self.unknown is not None:
            values[random.random(values.shape) < 0.1] = np.nan
        return values

    def taken(self, offered: Offered) -> Taken | None:
        """The spread of a task, or the features of pixels where it has as many channels."""
        if self.channels == 1:
            return Taken("spread")
        return Taken("planes") if self.channels == offered.planes else None

    def span(self, value: np.ndarray) -> tuple[float, float] | None:
        if self.channels != 1 or not np.isfinite(value).any():
            return None
        low, high = (float(q) for q in np.nanpercentile(value, (1, 99)))
        return low, max(high, low + 1e-6)

    def picture_within(self, value: np.ndarray, span: tuple[float, float]) -> np.ndarray:
        return self.model_copy(update={"range": span}).picture(value)

    def picture(self, value: np.ndarray) -> np.ndarray:
        return picture.direction_to_rgb(value) if self.direction else picture.maps_to_rgb(value, self.range)
