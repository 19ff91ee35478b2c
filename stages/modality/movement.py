"""Movement: what the numbers of a dense map are to a picture that is mirrored, cropped, turned or resized."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from hyperloom.stages import quantity
from hyperloom.stages.modality.geometry import Symmetry, between, carried, negated
from hyperloom.stages.modality.raster import Raster
from hyperloom.stages.modality.sides import exchange

if TYPE_CHECKING:
    import torch

Movement = Literal["scalar", "displacement", "disparity", "angle", "vector"]
POINTING = ("length", "speed", "acceleration")
"""Kinds of units of which several channels may point somewhere."""
MEND = "Next: kind: scalar on the modality says that {} changes no number"


class Moving(Raster):
    """The part of a dense map that moves."""

    if TYPE_CHECKING:
        unit: str
        range: tuple[float, float] | None
        direction: bool
        kind: Movement | None
        y: Literal["down", "up"]
        names: tuple[str, ...]
        unknown: float | str | None

    @property
    def moves(self) -> Movement | Literal["direction", ""]:
        """What its numbers are to a picture that is moved; empty where nobody knows.

        A scalar stays as it is (depth in m, edges). A displacement has pairs of x and y in pixels, or in pixels
        per something, which a mirror and a resize change by their axes. A disparity, one channel in px, is scaled by
        the width alone and keeps its sign; one in px/s may be that or an amount, and nobody knows. A
        direction and a vector have x and y first, in the camera's axes; no resize changes them. An angle in the picture
        changes, and nobody knows from where it is measured. Several lengths that can be negative may be a place or a
        motion in the scene (a vector), or several depths (a scalar).
        """
        if self.direction:
            return "direction"
        if self.kind is not None:
            return self.kind
        kind = quantity.kind(self.unit)
        if kind == "angle":
            return "angle"
        positive = self.range is not None and self.range[0] >= 0
        if kind in POINTING and self.channels > 1 and not positive:
            return ""
        if not self._pixels:
            return "scalar"
        if self.channels == 1:
            return "disparity" if quantity.symbol(self.unit) == "px" else ""
        if positive:
            return "scalar"
        return "displacement" if self.channels % 2 == 0 else ""

    @property
    def _pixels(self) -> bool:
        """Are its numbers in pixels, or in pixels per something, however that is spelled?"""
        return quantity.counted(self.unit) == "px"

    @property
    def _signed(self) -> bool:
        return self.moves in ("direction", "displacement", "vector")

    @property
    def _pairs(self) -> int:
        """Channels that are pairs of x and y."""
        return self.channels if self.moves == "displacement" else 2

    @property
    def sides(self) -> Symmetry:
        return "unknown" if self.sideless else "known"

    @property
    def sideless(self) -> str:
        if exchange(self.names) != tuple(range(len(self.names))):
            return (
                f"its channels are called by their sides ({', '.join(self.names)}), and names are for people and move "
                "no number. Next: other names where sides are not meant, or no flip"
            )
        return self._unclear("a mirror")

    def _unclear(self, what: str) -> str:
        mend = MEND.format(what)
        if self.moves == "angle" and what == "a crop":
            return f"between two angles of 359 and 1 {self.unit} there is none of 180. {mend}"
        if self.moves == "angle":
            return f"its angles in {self.unit} change in {what}; from where are they measured? {mend}"
        if not self.moves and self._pixels and self.channels == 1:
            return f"is its number in {self.unit} one along the rows (kind: disparity), or an amount? {mend}"
        if not self.moves and self._pixels:
            return f"which of its {self.channels} channels in {self.unit} are displacements? {mend}"
        if not self.moves:
            return (
                f"do its {self.channels} channels in {self.unit} point somewhere? {mend}, kind: vector that x and y "
                "come first, range: [0, highest] that they are lengths"
            )
        if self._signed and self.range is not None and self.range[0] != -self.range[1]:
            return f"a displacement to the left would leave its range {list(self.range)}. {mend}"
        return ""

    def mirrored(self, values: torch.Tensor) -> torch.Tensor:
        """The x of directions, vectors and displacements changes its sign."""
        values = super().mirrored(values)
        return negated(values, tuple(range(0, self._pairs, 2))) if self._signed else values

    @property
    def place(self) -> Symmetry:
        return "known" if self.moves not in ("", "angle") else "unknown"

    @property
    def placeless(self) -> str:
        return self._unclear("a crop")

    def windowed(self, values: torch.Tensor, windows: torch.Tensor) -> torch.Tensor:
        """What is in pixels grows as the window does."""
        numbers = super().windowed(values, windows)
        return numbers / windows[:, 2].view(-1, 1, 1, 1) if self.moves in ("displacement", "disparity") else numbers

    def sampled(self, values: torch.Tensor, places: torch.Tensor) -> torch.Tensor:
        """Over what is known alone, as `fit` resizes. What is unknown then is a direction of length zero, or NaN, also
        where files may hold none."""
        known = self.given(values)[..., None]
        weight = between(known, places)
        numbers = between(values.where(known, 0), places) / weight.clamp(min=0.5)
        if self.direction:
            numbers = numbers / numbers.norm(dim=-1, keepdim=True).clamp(min=1e-6)
        return numbers.where(weight >= 0.5, 0.0 if self.direction and self.unknown is None else float("nan"))

    @property
    def unturned(self) -> str:
        what = "a turn"
        if self.moves == "disparity":
            return f"a disparity lies along the rows of the picture as it was taken. {MEND.format(what)}"
        return self._unclear(what)

    def turned(self, values: torch.Tensor, angles: torch.Tensor, aspect: float) -> torch.Tensor:
        """The x and y of directions, vectors and displacements turn. A number that leaves the range by that is unknown,
        as one outside always is."""
        import torch

        numbers = super().turned(values, angles, aspect)
        if not self._signed:
            return numbers
        pairs = numbers[..., : self._pairs].unflatten(-1, (-1, 2))
        pointing = carried(pairs, angles if self.y == "down" else -angles).flatten(-2)
        return torch.cat([pointing, numbers[..., self._pairs :]], -1)

    def stretched(self, array: np.ndarray, height: float, width: float) -> np.ndarray:
        """(h, w, C) numbers of a picture that becomes so many times as high and as wide."""
        if self.moves == "disparity":
            return array * np.float32(width)
        if self.moves != "displacement":
            return array
        return array * np.tile(np.array([width, height], np.float32), array.shape[-1] // 2)

    def given(self, values: Any) -> Any:
        raise TypeError(f"{type(self).__name__} does not say which of its numbers are known")
