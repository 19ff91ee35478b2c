"""Dense maps: one or more numbers a pixel, with unit, range, and a mark for pixels that have none."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Literal

import numpy as np
from pydantic import Field, field_validator, model_validator

from hyperloom.pipeline.config import placement
from hyperloom.stages import picture
from hyperloom.stages.meaning import Meaning
from hyperloom.stages.modality.choice import distinct
from hyperloom.stages.modality.digits import say_what_sinks
from hyperloom.stages.modality.formats import decode_array
from hyperloom.stages.modality.knowledge import finite
from hyperloom.stages.modality.movement import Movement, Moving
from hyperloom.stages.modality.prediction import Offered, Taken

NO_LENGTH = 1e-3
"""A direction whose components are all below this has none."""


SAME = 1e-6
"""By how much, as a share, a number that stands for unknown may differ from it: what float32 leaves of a product."""


class Dense(Moving):
    """(H, W, channels) float32 numbers: depth, flow, edges. `range` is what `check` accepts and `fit` clips to.

    `unknown` is the number by which files say that a pixel has no value (0 in many depth files), in all its channels:
    then they become NaN, which losses, measures and statistics leave out; without it NaN is refused. `unknown: outside`
    says so of pixels with a number outside the range, which `fit` clips otherwise. A pixel with NaN in one channel is
    unknown. `direction: true` marks unit vectors of two or three channels (surface normals): compared by angle, made of
    length one by `fit`; one of length zero is unknown. `kind` is what numbers are to a picture that is moved (see
    `moves`): `fit` resizes linearly over what is known, angles to the nearest pixel, and scales
    displacements and disparities as it does. The `y` of directions and vectors grows downwards, as OpenCV's camera has
    it, or `up`. `storage` is what is kept of a number: float32 all, float16 three digits, uint8 one of 255 and uint16
    one of 65,535 even steps over the range. `names` says what the channels are called.
    """

    revision: ClassVar[int] = 2
    channels_: int = Field(1, alias="channels", ge=1)
    unit: str = ""
    range: tuple[float, float] | None = None
    direction: bool = False
    kind: Movement | None = None
    y: Literal["down", "up"] = "down"
    storage: Literal["float16", "float32", "uint8", "uint16"] = "float16"
    unknown: float | Literal["outside"] | None = None
    names: tuple[str, ...] = placement((), exclude=True)
    """What the channels are called, for people who look at them; it changes no number."""

    _distinct = field_validator("names")(distinct)

    @model_validator(mode="after")
    def _steps_have_a_range(self) -> Dense:
        if self.range and not self.range[0] < self.range[1]:
            raise ValueError(f"range: expected two numbers, the smaller first, got {list(self.range)}")
        if self.steps and self.range is None:
            raise ValueError(f"storage: {self.storage} divides a range in steps, so give range: [lowest, highest]")
        if self.kind == "displacement" and self.channels_ % 2:
            raise ValueError(f"kind: displacements are pairs of x and y, and there are {self.channels_} channels")
        if self.kind == "vector" and self.channels_ < 2:
            raise ValueError("kind: vectors have x and y first, and there is one channel")
        if self.y == "up" and not (self.direction or self.kind == "vector"):
            raise ValueError("y: only directions and vectors (kind: vector) have an axis of the camera")
        if self.kind is not None and self.direction:
            raise ValueError("kind: a direction is of its own kind already; leave out one of the two")
        if self.direction and self.channels_ not in (2, 3):
            raise ValueError(
                f"direction: a direction has channels: 2 (x, y) or 3 (x, y, z), and there are {self.channels_}. Next: "
                "give channels, or leave direction out where the numbers point nowhere"
            )
        if self.names and len(self.names) != self.channels_:
            raise ValueError(f"names: expected {self.channels_}, one a channel, got {len(self.names)}")
        if self.unknown == "outside" and self.range is None:
            raise ValueError("unknown: outside of which range? Give range: [lowest, highest]")
        return self

    def revised(self) -> int:
        """Pixels under other names than px were taken for numbers that no size changes, and angles were mixed."""
        in_pixels = self._pixels and self.unit != "px" and self.kind is None
        moved = in_pixels and self.moves in ("displacement", "disparity")
        return 3 if moved or self.moves == "angle" else super().revised()

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
        axes = (("y", self.y),) if self.moves in ("direction", "vector") else ()
        clipped = self.range is not None and self.unknown != "outside"
        return Meaning(
            unit=self.unit, range=self.range, clipped=clipped, further=(("direction", self.direction), *axes)
        )

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

    @property
    def allowed(self) -> tuple[float, float]:
        """What a number may be: the range, with what rounding to the stored numbers does to its ends; without a range
        what these hold."""
        limit = float(np.finfo(self.stored).max) if self.stored.kind == "f" else 0.0
        if self.range is None:
            return (-limit, limit)
        step = 2.0**-11 * max(abs(self.range[0]), abs(self.range[1])) if self.storage == "float16" else 0.0
        slack = max(1e-3 * (self.range[1] - self.range[0]), step)
        return (self.range[0] - slack, self.range[1] + slack)

    def given(self, values: Any) -> Any:
        return self._given(self._numbers(values))

    def known(self, values: Any) -> Any:
        values = self._numbers(values)
        if self.range is None:
            return self._given(values)
        low, high = self.allowed
        return self._given(values) & ((values >= low) & (values <= high)).all(-1)

    def _given(self, values: Any) -> Any:
        present = finite(values).all(-1)
        return present & (abs(values) > NO_LENGTH).any(-1) if self.direction else present

    def _numbers(self, values: Any) -> Any:
        stored = isinstance(values, np.ndarray) and values.dtype.kind == "u"
        return self.to_memory(values) if stored else values

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
        if lo < self.allowed[0] or hi > self.allowed[1]:
            why = "range" if self.range else f"what {self.storage} holds (storage: float32 holds more)"
            raise ValueError(f"expected values within {self.range or self.allowed} ({why}), got {lo:.6g} to {hi:.6g}")
        say_what_sinks(array, self.stored)

    def fit(self, value: Any) -> np.ndarray:
        array = np.asarray(value, np.float32)
        if array.ndim == 2:
            array = array[..., None]
        if array.ndim != 3 or array.shape[-1] != self.channels_:
            raise ValueError(f"expected (H, W, {self.channels_}), got {np.shape(value)}")
        array = self.around(array, self.silent(array))
        if self.direction:
            array = array / np.maximum(np.linalg.norm(array, axis=-1, keepdims=True), 1e-6)
        return np.clip(array, *self.range) if self.range else array

    def read(self, data: bytes, name: str) -> Any:
        if name.lower().endswith((".npy", ".npz")):
            return self.fit(decode_array(data, "", name))
        return self.fit(self.numbers(data, name))

    def silent(self, array: np.ndarray) -> np.ndarray:
        """(h, w) bool: the pixels of (h, w, C) numbers, as a file has them, that are unknown. What is outside of the
        range is so in this modality's own size, in which lengths in pixels are others."""
        holes = np.zeros(array.shape[:2], bool)
        if self.direction:
            holes |= (abs(array) <= np.float32(1e-6)).all(-1)
        if self.unknown is not None:
            holes |= ~np.isfinite(array).all(-1)
        if self.unknown == "outside":
            low, high = self.allowed
            sides = (new / old for new, old in zip(self.height_width, array.shape[:2], strict=True))
            array = self.stretched(array, *sides)
            holes |= ~((array >= low) & (array <= high)).all(-1)
        elif self.unknown is not None:
            holes |= (np.abs(array - self.unknown) <= SAME * abs(self.unknown)).all(-1)  # a scale leaves a last digit
        return holes

    def around(self, array: np.ndarray, holes: np.ndarray) -> np.ndarray:
        """(h, w, C) numbers in this modality's size, linearly over the pixels that are no holes, (h, w) bool; unknown
        where these weigh less than half: NaN, or a direction of length zero where there is to be no NaN."""
        array = self.stretched(array, *(new / old for new, old in zip(self.height_width, array.shape[:2], strict=True)))
        if self.moves == "angle":  # between 359 and 1 degrees there is none of 180
            array = self._resized(array, nearest=True).reshape(self.shape)
            holes = self._resized(holes.astype(np.uint8), nearest=True) > 0
        if not holes.any():
            return self._resized(array).reshape(self.shape)
        nothing = np.float32("nan" if self.unknown is not None else 0)
        if array.shape == self.shape:
            return np.where(holes[..., None], nothing, array)
        weight = self._resized((~holes).astype(np.float32)).reshape(*self.height_width, 1)
        total = self._resized(np.where(holes[..., None], np.float32(0), array)).reshape(self.shape)
        return np.where(weight >= 0.5, total / np.maximum(weight, 0.5), nothing)

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
            values[random.random(self.height_width) < 0.1] = np.nan
        return values

    def taken(self, offered: Offered) -> Taken | None:
        """The spread of a task, or the features of pixels where it has as many channels."""
        if self.channels == 1:
            return Taken("spread")
        return Taken("planes") if self.channels == offered.planes else None

    def span(self, value: np.ndarray) -> tuple[float, float] | None:
        if self.channels != 1 or not np.isfinite(value).any():
            return None
        low, high = (float(q) for q in np.percentile(value[np.isfinite(value)], (1, 99)))
        return low, max(high, low + 1e-6)

    @property
    def _wheel(self) -> bool:
        """Is it drawn as what points somewhere in the picture, by hue and saturation?"""
        return self.channels == 2 and self.moves != "scalar"

    @property
    def _amounts(self) -> bool:
        """Are its channels amounts of several things, from none on?"""
        several = self.channels > 1 and self.moves == "scalar"
        return several and self.range is not None and self.range[0] == 0

    def presence(self, value: np.ndarray) -> np.ndarray | None:
        """Of several maps from nothing on, such as one for each kind of thing, the strongest."""
        if not self._amounts or self.range is None:
            return None
        return np.clip(np.nan_to_num(value).max(-1) / self.range[1], 0, 1)

    def picture_within(self, value: np.ndarray, span: tuple[float, float]) -> np.ndarray:
        return self.model_copy(update={"range": span}).picture(value)

    def picture(self, value: np.ndarray) -> np.ndarray:
        known = self.known(value[None])[0]
        if not known.any():
            return np.zeros((*known.shape, 3), np.uint8)
        value = np.where(known[..., None], value, np.float32(np.nan))
        return self._painted(value) * known[..., None]

    def _painted(self, value: np.ndarray) -> np.ndarray:
        if self.channels == 1 or self._wheel:
            return picture.maps_to_rgb(value, self.range)
        if self.direction:
            return picture.direction_to_rgb(value)
        limits = self.range
        if limits is None and self._signed:  # a motion to the left is as far from none as one to the right
            most = max(float(np.nanmax(np.abs(value[..., : self._drawn]))), 1e-6)
            limits = (-most, most)
        return picture.channels_to_rgb(value[..., : self._drawn], limits)

    @property
    def _drawn(self) -> int:
        """How many channels a picture has a colour for: numbers of either sign mix in none but three."""
        return self.channels if self._amounts else min(self.channels, 3)

    @property
    def legend(self) -> tuple[tuple[str, tuple[int, ...]], ...]:
        if self.channels == 1:
            return ()
        if self._wheel:
            ends = np.array([[[1, 0], [0, 1], [-1, 0], [0, -1]]], np.float32)
            names: tuple[str, ...] = (
                "right",
                *(("down", "left", "up") if self.y == "down" else ("up", "left", "down")),
            )
            colours = self._painted(ends)[0]
        else:
            names, colours = self.channel_names, self._painted(self._ends)[0]
        shown: list[tuple[str, tuple[int, ...]]]
        shown = [(name, tuple(map(int, colour))) for name, colour in zip(names, colours, strict=False)]
        left = 0 if self._wheel else self.channels - self._drawn
        return (*shown, *([(f"{left} more, not shown", (0, 0, 0))] if left else []))

    @property
    def _ends(self) -> np.ndarray:
        """(1, drawn, channels) each channel at its most, the others at zero; at their lowest where there is no zero, or
        where one that is nearer to the most would leave all colours alike."""
        low, high = (-1.0, 1.0) if self._signed else (0.0, 1.0)
        if self.range is not None and not self.direction:
            low, high = self.range
        rest = 0.0 if -high <= low <= 0 else low
        return np.where(np.eye(self._drawn, self.channels) > 0, high, rest).astype(np.float32)[None]

    @property
    def channel_names(self) -> tuple[str, ...]:
        """Where they have none, their axes or numbers, from 1."""
        if self.names:
            return self.names
        axes = self._wheel or (self.channels == 3 and self.moves in ("direction", "vector"))
        return ("x", "y", "z")[: self.channels] if axes else tuple(f"channel {i + 1}" for i in range(self.channels))
