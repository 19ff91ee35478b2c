"""Modalities: what a column's values are, from the recipe's words down to the bytes in Parquet.

A recipe names its modalities (`depth: {type: dense, unit: m}`); a column `depth@midas` is that modality from a source.
A modality knows the shape and dtype in memory, checks and resizes values, encodes them, and names the defaults that
training takes from it. Its definition, for identity, is `pipeline.fingerprint.payload(modality)`.

Invariants: arrays are HWC; a missing value is null, never a number. Importing this module loads numpy and pydantic
only. How values lie in Arrow is `stages.column`, how columns lie in files `stages.table`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
from pydantic import Field, field_validator, model_validator

from pipeline.plugins import Plugin
from stages import column as columns
from stages import picture
from stages.picture import UNKNOWN

Size = tuple[int, int]
"""Height and width in pixels."""


class Modality(Plugin):
    """Base of every modality. `dtype` is that of memory, `stored` that of disk, `missing` fills the rows of nulls."""

    # What training takes when the recipe says nothing else.
    @property
    def channels(self) -> int:
        """Channels as a network's input and output: colours, values, or one per class."""
        return self.shape[-1]

    @property
    def loss(self) -> str:
        """Default objective: l1, cosine, cross-entropy or kl."""
        return "l1"

    @property
    def metric(self) -> str:
        """Default measure: mae, angle or miou."""
        return "mae"

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one value in memory. Raises ValueError while the size is unknown (see `completed`)."""
        raise TypeError(f"{type(self).__name__} has no shape")

    @property
    def dtype(self) -> np.dtype[Any]:
        return np.dtype(np.float32)

    @property
    def stored(self) -> np.dtype[Any]:
        return self.dtype

    @property
    def scale(self) -> float:
        """A number in memory is the number stored times this."""
        return 1.0

    @property
    def codec(self) -> str:
        """`raw` for fixed-size binary values, else the format of each value."""
        return "raw"

    @property
    def missing(self) -> int:
        return 0

    # -- values -----------------------------------------------------------------------------------------------------
    def check(self, value: Any) -> None:
        """Raise ValueError, saying what was expected and what came, unless `value` is one good sample."""
        array = np.asarray(value)
        if array.shape != self.shape:
            raise ValueError(f"expected shape {self.shape}, got {array.shape}")
        both_float = self.dtype.kind == "f" and array.dtype.kind == "f"
        if array.dtype != self.dtype and not both_float:
            raise ValueError(f"expected dtype {self.dtype}, got {array.dtype}")
        self._check_values(array)

    def _check_values(self, array: np.ndarray) -> None:
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            bad = int(array.size - np.isfinite(array).sum())
            raise ValueError(f"expected finite numbers, got {bad} NaN or infinite of {array.size}")

    def fit(self, value: Any) -> np.ndarray:
        """`value` in this modality's size and dtype. Raises ValueError when it has not even the right kind of shape."""
        return np.asarray(value, self.dtype)

    def picture(self, value: np.ndarray) -> np.ndarray:
        """(H, W, 3) uint8 RGB of one value, for people."""
        return picture.maps_to_rgb(np.atleast_3d(value))

    def completed(self, modalities: Mapping[str, Modality]) -> Modality:
        """This modality with everything that follows from the recipe's others filled in. Raises ValueError."""
        return self

    def to_recipe(self) -> dict[str, Any]:
        """What a recipe would write: `plugins.parse("modality", ...)` of it gives an equal modality."""
        written = self.model_dump(mode="json", by_alias=True, exclude_defaults=True)
        return {**written, "type": self.type or type(self).__name__.lower()}

    # -- columns ----------------------------------------------------------------------------------------------------
    def field(self, column: str) -> Any:
        """The `pa.Field` of `column`; its metadata let any reader of Parquet understand the bytes."""
        return columns.field(self, column)

    def encode(self, values: Sequence[np.ndarray | None] | np.ndarray) -> Any:
        """`values` (None for missing) as a `pa.Array`. Raises ValueError for a value of another shape."""
        return columns.encode(self, values)

    def unpack(self, array: Any) -> tuple[np.ndarray, np.ndarray]:
        """A column's values as (N, *shape) of the dtype on disk, and (N,) bool that tells which are there.

        Raw columns without nulls are views of Arrow's memory: no copy, read-only. Missing rows hold `missing`.
        """
        return columns.unpack(self, array)

    def decode(self, array: Any) -> tuple[np.ndarray, np.ndarray]:
        """Like `unpack`, in the dtype of memory."""
        rows, valid = self.unpack(array)
        return self.to_memory(rows), valid

    def to_memory(self, rows: np.ndarray) -> np.ndarray:
        """Rows of the dtype on disk in the dtype of memory (themselves where the two are one)."""
        rows = rows.astype(self.dtype, copy=False)
        return rows if self.scale == 1 else rows * rows.dtype.type(self.scale)

    def to_stored(self, value: np.ndarray) -> np.ndarray:
        """One value in the numbers of the disk."""
        return value


class Raster(Modality):
    """Base of what has a height and a width. A size left out is that of the recipe's only image modality."""

    size: Size | None = None

    @field_validator("size")
    @classmethod
    def _positive(cls, value: Size | None) -> Size | None:
        if value is not None and min(value) < 1:
            raise ValueError(f"a size is [height, width] in pixels, got {list(value)}")
        return value

    @property
    def height_width(self) -> Size:
        if self.size is None:
            raise ValueError("the size is not known yet: give size: [height, width], or call completed() first")
        return self.size

    def completed(self, modalities: Mapping[str, Modality]) -> Modality:
        if self.size is not None:
            return self
        images = {n: m.size for n, m in modalities.items() if isinstance(m, Image) and m.size}
        if len(images) != 1:
            found = ", ".join(images) or "none"
            raise ValueError(f"no size given, and it follows only from a single image modality with a size ({found})")
        return self.model_copy(update={"size": next(iter(images.values()))})

    def _resized(self, value: np.ndarray, nearest: bool = False, area: bool = False) -> np.ndarray:
        import cv2

        height, width = self.height_width
        if value.shape[:2] == (height, width):
            return value
        shrinks = height < value.shape[0] and width < value.shape[1]
        how = cv2.INTER_NEAREST if nearest else cv2.INTER_AREA if area and shrinks else cv2.INTER_LINEAR
        return cv2.resize(np.ascontiguousarray(value), (width, height), interpolation=how)


class Image(Raster):
    """(H, W, 3) uint8 RGB, kept as it is or as JPEG or PNG bytes. JPEG is lossy: say so by choosing it."""

    format: Literal["raw", "jpeg", "png"] = Field("raw", alias="codec")
    quality: int = Field(95, ge=1, le=100)

    @property
    def shape(self) -> tuple[int, ...]:
        return (*self.height_width, 3)

    @property
    def dtype(self) -> np.dtype[Any]:
        return np.dtype(np.uint8)

    @property
    def codec(self) -> str:
        return self.format

    def fit(self, value: Any) -> np.ndarray:
        """Resize by area; grey becomes RGB, an alpha channel is dropped."""
        array = np.asarray(value)
        if array.dtype != np.uint8:
            raise ValueError(f"expected dtype uint8, got {array.dtype}")
        if array.ndim == 2 or (array.ndim == 3 and array.shape[-1] == 1):
            array = np.repeat(array.reshape(*array.shape[:2], 1), 3, axis=-1)
        if array.ndim != 3 or array.shape[-1] not in (3, 4):
            raise ValueError(f"expected (H, W), (H, W, 3) or (H, W, 4), got {array.shape}")
        return self._resized(array[..., :3], area=True)

    def picture(self, value: np.ndarray) -> np.ndarray:
        return value


class Dense(Raster):
    """(H, W, channels) float32 numbers: depth, flow, edges. `range` is what `check` accepts and `fit` clips to.

    `direction: true` marks unit vectors (surface normals): compared by angle, made of length one by `fit`.
    `fit` resizes linearly and leaves the numbers alone: displacements in pixels are the caller's to rescale.
    """

    channels_: int = Field(1, alias="channels", ge=1)
    unit: str = ""
    range: tuple[float, float] | None = None
    direction: bool = False
    storage: Literal["float16", "float32"] = "float16"

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
    def loss(self) -> str:
        return "cosine" if self.direction else "l1"

    @property
    def metric(self) -> str:
        return "angle" if self.direction else "mae"

    def _check_values(self, array: np.ndarray) -> None:
        super()._check_values(array)
        lo, hi = float(array.min()), float(array.max())
        limit = float(np.finfo(self.stored).max)
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
        array = self._resized(array).reshape(self.shape)
        if self.direction:
            array = array / np.maximum(np.linalg.norm(array, axis=-1, keepdims=True), 1e-6)
        return np.clip(array, *self.range) if self.range else array

    def picture(self, value: np.ndarray) -> np.ndarray:
        return picture.direction_to_rgb(value) if self.direction else picture.maps_to_rgb(value, self.range)


class Segmentation(Raster):
    """(H, W) uint8 class ids; 255 is unknown."""

    classes: tuple[str, ...] = Field(min_length=1, max_length=UNKNOWN)
    palette: tuple[tuple[int, int, int], ...] | None = None

    @model_validator(mode="after")
    def _one_colour_a_class(self) -> Segmentation:
        if self.palette is not None and len(self.palette) != len(self.classes):
            raise ValueError(f"palette: expected {len(self.classes)} colours, one a class, got {len(self.palette)}")
        return self

    @property
    def shape(self) -> tuple[int, ...]:
        return self.height_width

    @property
    def dtype(self) -> np.dtype[Any]:
        return np.dtype(np.uint8)

    @property
    def missing(self) -> int:
        return UNKNOWN

    @property
    def channels(self) -> int:
        return len(self.classes)

    @property
    def loss(self) -> str:
        return "cross-entropy"

    @property
    def metric(self) -> str:
        return "miou"

    def _check_values(self, array: np.ndarray) -> None:
        bad = array[(array >= len(self.classes)) & (array != UNKNOWN)]
        if bad.size:
            raise ValueError(f"expected class ids below {len(self.classes)} or {UNKNOWN}, got {int(bad[0])}")

    def fit(self, value: Any) -> np.ndarray:
        array = np.asarray(value)
        if array.ndim == 3 and array.shape[-1] == 1:
            array = array[..., 0]
        if array.ndim != 2 or array.dtype.kind not in "ui":
            raise ValueError(f"expected (H, W) class ids, got {array.shape} {array.dtype}")
        if array.size and (array.min() < 0 or array.max() > UNKNOWN):
            raise ValueError(f"expected class ids in 0..{UNKNOWN}, got {array.min()}..{array.max()}")
        return self._resized(array.astype(np.uint8), nearest=True)

    def picture(self, value: np.ndarray) -> np.ndarray:
        return picture.classes_to_rgb(value, len(self.classes), self.palette)


class Soft(Raster):
    """(H, W, K) float32 class probabilities, kept in steps of 1/255. `of` takes the classes of a segmentation."""

    classes: tuple[str, ...] = ()
    of: str = ""

    @property
    def shape(self) -> tuple[int, ...]:
        if not self.classes:
            raise ValueError("the classes are not known yet: give classes, or of: and call completed() first")
        return (*self.height_width, len(self.classes))

    @property
    def stored(self) -> np.dtype[Any]:
        return np.dtype(np.uint8)

    @property
    def loss(self) -> str:
        return "kl"

    @property
    def metric(self) -> str:
        return "miou"

    def completed(self, modalities: Mapping[str, Modality]) -> Modality:
        if self.classes:
            return super().completed(modalities)
        of = modalities.get(self.of)
        if not isinstance(of, Segmentation):
            known = ", ".join(n for n, m in modalities.items() if isinstance(m, Segmentation)) or "none"
            raise ValueError(f"of: expected the name of a segmentation modality ({known}), got {self.of!r}")
        return super().completed(modalities).model_copy(update={"classes": of.classes})

    def _check_values(self, array: np.ndarray) -> None:
        super()._check_values(array)
        if array.min() < -1e-3 or array.max() > 1 + 1e-3:
            raise ValueError(f"expected probabilities in 0..1, got {array.min():.6g} to {array.max():.6g}")

    def fit(self, value: Any) -> np.ndarray:
        array = np.asarray(value, np.float32)
        if array.ndim != 3 or array.shape[-1] != len(self.classes):
            raise ValueError(f"expected (H, W, {len(self.classes)}), got {array.shape}")
        return self._resized(array).reshape(self.shape)

    def picture(self, value: np.ndarray) -> np.ndarray:
        return picture.classes_to_rgb(value.argmax(-1).astype(np.uint8), len(self.classes))

    @property
    def scale(self) -> float:
        return 1 / 255

    def to_stored(self, value: np.ndarray) -> np.ndarray:
        return np.rint(np.clip(value, 0, 1) * 255)


class Vector(Modality):
    """(length,) float32 numbers: a pose, an embedding, a scalar."""

    length: int = Field(ge=1)
    unit: str = ""

    @property
    def shape(self) -> tuple[int, ...]:
        return (self.length,)

    def fit(self, value: Any) -> np.ndarray:
        array = np.asarray(value, np.float32).reshape(-1)
        if array.shape != self.shape:
            raise ValueError(f"expected {self.length} numbers, got {array.size}")
        return array

    def picture(self, value: np.ndarray) -> np.ndarray:
        return picture.bars_to_rgb(value)
