"""Series: numbers over time, of any length up to a limit."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
from pydantic import Field, model_validator

from hyperloom.stages import picture
from hyperloom.stages.meaning import Meaning
from hyperloom.stages.modality.base import Defaults, Modality
from hyperloom.stages.modality.boxes import padded, used_rows
from hyperloom.stages.modality.digits import say_what_sinks
from hyperloom.stages.modality.geometry import SignedNumbers, mirrored_places
from hyperloom.stages.modality.layout import steps_a_token
from hyperloom.stages.modality.padding import some
from hyperloom.stages.modality.vector import say_what_is_lost

if TYPE_CHECKING:
    pass


class Series(SignedNumbers, Modality):
    """(steps, channels) float32: measurements at even times; a shorter series ends in rows of NaN."""

    defaults: ClassVar[Defaults] = Defaults("series", "huber", "mae")
    readable_numbers: ClassVar[bool] = True
    ended: ClassVar[bool] = True
    steps: int = Field(ge=1)
    channels_: int = Field(1, alias="channels", ge=1)
    unit: str = ""
    storage: Literal["float16", "float32"] = "float32"
    mirror: tuple[int, ...] | None = None
    """Which channels change their sign when the picture is mirrored, by place from 0; [] for none. Left out: nobody
    knows, and a flip is refused."""

    @model_validator(mode="after")
    def _places_of_channels(self) -> Series:
        return mirrored_places(self, self.channels_)

    @property
    def channels(self) -> int:
        return self.channels_

    @property
    def shape(self) -> tuple[int, ...]:
        return (self.steps, self.channels_)

    @property
    def stored(self) -> np.dtype[Any]:
        return np.dtype(self.storage)

    @property
    def meaning(self) -> Meaning:
        return Meaning(unit=self.unit)

    @property
    def missing(self) -> float:
        return float("nan")

    def grid(self, patch: int) -> tuple[int, ...]:
        return (-(-self.steps // steps_a_token(self.steps)),)

    @property
    def standardised(self) -> bool:
        return True

    def _check_values(self, array: np.ndarray) -> None:
        used = used_rows(array, "steps")
        limit = float(np.finfo(self.stored).max)
        if used.size and np.abs(used).max() > limit:
            raise ValueError(f"expected numbers that {self.storage} holds, got {np.abs(used).max():.6g}")
        say_what_sinks(used, self.stored)

    def fit(self, value: Any) -> np.ndarray:
        """From up to `steps` rows of `channels` numbers, or as many numbers if there is one channel."""
        array = np.asarray(value, np.float32)
        say_what_is_lost(value, array)
        if array.ndim == 1 and self.channels_ == 1:
            array = array[:, None]
        array = array.reshape(0, self.channels_) if not array.size else array
        if array.ndim != 2 or array.shape[1] != self.channels_:
            raise ValueError(f"expected (steps, {self.channels_}) numbers, got {np.shape(value)}")
        return padded(array, self.steps, "steps", "steps")

    def example(self, random: np.random.Generator, mean: Sequence[float] = (), std: Sequence[float] = ()) -> Any:
        values = random.normal(mean or 0.0, std or 1.0, self.shape)
        values[some(random, self.steps) :] = np.nan
        return values

    def picture(self, value: np.ndarray) -> np.ndarray:
        return picture.lines_to_rgb(value[~np.isnan(value).any(1)])

    def words(self, value: np.ndarray) -> str:
        return f"{int((~np.isnan(value).any(1)).sum())} steps of {self.channels_}"
