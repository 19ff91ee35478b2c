"""Vectors: a fixed number of numbers for a whole sample: a pose, one scalar, an embedding."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
from pydantic import Field, field_validator, model_validator

from hyperloom.pipeline.counting import figure
from hyperloom.stages import picture
from hyperloom.stages.meaning import Meaning
from hyperloom.stages.modality.base import Defaults, Modality
from hyperloom.stages.modality.choice import Category, distinct, real
from hyperloom.stages.modality.digits import say_what_sinks
from hyperloom.stages.modality.formats import parse
from hyperloom.stages.modality.geometry import SignedNumbers, Symmetry, mirrored_places
from hyperloom.stages.modality.prediction import Offered, Taken
from hyperloom.stages.modality.sides import exchange, without
from hyperloom.stages.remarks import remark

if TYPE_CHECKING:
    import torch

EXACT = 2**24
"""Whole numbers below it are exact in float32."""


def say_what_is_lost(value: Any, array: np.ndarray) -> None:
    """Remark on whole numbers of `value` that the float32 `array` made of it does not hold."""
    if array.size and np.nan_to_num(np.abs(array)).max() >= EXACT:
        given, kept = np.asarray(value, np.float64).reshape(-1), array.astype(np.float64).reshape(-1)
        if ((given != kept) & (given == given)).any():
            remark(f"numbers beyond {EXACT} lose their last digits (they are kept as float32)")


class Vector(SignedNumbers, Modality):
    """(length,) float32 numbers, such as a pose. `range` is what `check` accepts."""

    defaults: ClassVar[Defaults] = Defaults("regress", "huber", "mae")
    plain_numbers: ClassVar[bool] = True
    readable_numbers: ClassVar[bool] = True
    length: int = Field(ge=1)
    unit: str = ""
    range: tuple[float, float] | None = None
    mirror: tuple[int, ...] | None = None
    """Which numbers change their sign when the picture is mirrored, by place from 0; [] for none. Left out: nobody
    knows, and a flip is refused. Numbers whose names differ in left and right alone change places."""
    classes: tuple[str, ...] = ()
    """Names of the numbers, where each has one: the classes whose probabilities they are, the joints of an arm."""

    @model_validator(mode="after")
    def _lowest_first(self) -> Vector:
        if self.range and not self.range[0] < self.range[1]:
            raise ValueError(f"range: expected two numbers, the smaller first, got {list(self.range)}")
        if self.mirror and self.range and self.range[0] != -self.range[1]:
            raise ValueError(f"mirror: a number that changes its sign would leave the range {list(self.range)}")
        if self.classes and len(self.classes) != self.length:
            raise ValueError(f"classes: expected {self.length} names, one a number, got {len(self.classes)}")
        return mirrored_places(self, self.length)

    _distinct = field_validator("classes")(distinct)

    @property
    def shape(self) -> tuple[int, ...]:
        return (self.length,)

    @property
    def meaning(self) -> Meaning:
        return Meaning(self.classes, unit=self.unit, range=self.range)

    @property
    def output_names(self) -> tuple[str, ...]:
        return self.classes

    @property
    def sides(self) -> Symmetry:
        known = super().sides
        return "unknown" if without(self.classes) else "known" if known == "none" and self.exchanged else known

    @property
    def sideless(self) -> str:
        return super().sideless if self.mirror is None else without(self.classes)

    @property
    def exchanged(self) -> tuple[int, ...]:
        """For each number the place of the one that it becomes in a mirror, by their names; empty where all stay."""
        order = exchange(self.classes)
        return () if order == tuple(range(len(order))) else order

    def mirrored(self, values: torch.Tensor) -> torch.Tensor:
        return super().mirrored(values[:, list(self.exchanged)] if self.exchanged else values)

    @property
    def limits(self) -> tuple[float, float] | None:
        return self.range

    @property
    def standardised(self) -> bool:
        return True

    def known(self, values: Any) -> Any:
        present = self.given(values)
        if self.range is None:
            return present
        low, high = self.range
        rounding = 1e-6 * max(abs(low), abs(high))
        return present & ((values >= low - rounding) & (values <= high + rounding)).all(-1)

    def _check_values(self, array: np.ndarray) -> None:
        super()._check_values(array)
        if self.range and (array.min() < self.range[0] or array.max() > self.range[1]):
            raise ValueError(f"expected values within {self.range}, got {array.min():.6g} to {array.max():.6g}")

    def numbers(self, data: bytes, name: str) -> np.ndarray:
        """(n,) float64 of a .json or .txt, with the digits that float32 would not hold. Raises ValueError."""
        if not name.endswith((".json", ".txt")):
            return super().numbers(data, name)
        return self._array(parse(data, name), "float64")

    def _array(self, value: Any, kind: str) -> np.ndarray:
        try:
            value = list(map(real, re.split(r"[\s,;]+", value.strip()))) if isinstance(value, str) else value
            return np.asarray(value, kind).reshape(-1)
        except (TypeError, ValueError) as error:
            raise ValueError(f"expected {self.length} numbers, got {value!r}") from error

    def fit(self, value: Any) -> np.ndarray:
        """From numbers, or from a string of them with spaces, commas or semicolons between."""
        array = self._array(value, "float32")
        if array.shape != self.shape:
            raise ValueError(f"expected {self.length} numbers, got {array.size}")
        say_what_is_lost(self._array(value, "float64") if isinstance(value, str) else value, array)
        return array

    def teaches(self, predicted: Modality) -> bool:
        """Vectors teach each other; one as long as a category has classes is its probabilities."""
        if isinstance(predicted, Category):
            return self.channels == predicted.channels
        return isinstance(predicted, Vector) and self.shape == predicted.shape

    def loss_against(self, predicted: Modality) -> str:
        return "kl" if isinstance(predicted, Category) else self.loss

    def taken(self, offered: Offered) -> Taken | None:
        """The probabilities of the one task whose classes its numbers are called by."""
        single = {n: m for n, m in offered.tasks.items() if m.categorical and m.shape == ()}
        named = [n for n, m in single.items() if self.classes and sorted(m.counted) == sorted(self.classes)]
        return Taken("mean", named[0]) if len(named) == 1 else None

    def picture(self, value: np.ndarray) -> np.ndarray:
        return picture.bars_to_rgb(value)

    def words(self, value: np.ndarray) -> str:
        shown = " ".join(map(figure, value[:4].tolist()))
        return f"{shown} ... ({self.length})" if self.length > 4 else shown


class Scalar(Vector):
    """(1,) float32: one number, a plain float column on disk."""

    length: Literal[1] = 1

    @property
    def codec(self) -> str:
        return "native"

    def picture(self, value: np.ndarray) -> np.ndarray:
        return picture.text_to_rgb(f"{self.words(value)} {self.unit}")

    def arrow(self) -> Any:
        import pyarrow as pa

        return pa.float32()

    def pack(self, rows: np.ndarray, valid: np.ndarray) -> Any:
        import pyarrow as pa

        return pa.array(rows[:, 0], pa.float32(), mask=~valid)

    def unpacked(self, array: Any, valid: np.ndarray) -> np.ndarray:
        rows = array.fill_null(self.missing) if array.null_count else array
        return rows.to_numpy(zero_copy_only=False)[:, None]


class Embedding(Vector):
    """(length,) float32: a point in a space where directions mean something, compared by the angle between them."""

    defaults: ClassVar[Defaults] = Defaults("embed", "cosine", "cosine", "embeddings")
    storage: Literal["float16", "float32"] = "float32"

    @property
    def stored(self) -> np.dtype[Any]:
        return np.dtype(self.storage)

    @property
    def standardised(self) -> bool:
        return False

    def _check_values(self, array: np.ndarray) -> None:
        super()._check_values(array)
        most = float(np.abs(array).max())
        if most > float(np.finfo(self.stored).max):
            raise ValueError(f"expected numbers that {self.storage} holds (float32 holds more), got {most:.6g}")
        say_what_sinks(array, self.stored)

    def given(self, values: Any) -> Any:
        return super().given(values) & (values != 0).any(-1)  # no direction, no meaning

    def taken(self, offered: Offered) -> Taken | None:
        """The features of a whole sample, where it is as long."""
        return Taken("pooled") if self.length == offered.pooled else None
