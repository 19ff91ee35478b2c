"""Keypoints: a fixed set of named points in a picture, such as the joints of a body."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from pydantic import Field, field_validator, model_validator

from hyperloom.stages import picture
from hyperloom.stages.meaning import Translation
from hyperloom.stages.modality.base import Defaults, Modality
from hyperloom.stages.modality.choice import distinct, numbered
from hyperloom.stages.modality.geometry import Symmetry, carried
from hyperloom.stages.modality.knowledge import finite
from hyperloom.stages.modality.sides import exchange, without
from hyperloom.stages.picture import Mark

if TYPE_CHECKING:
    import torch


class Keypoints(Modality):
    """(K, 3) float32: x and y in shares of width and height, and 1 where the point is visible, else 0 (and x = y = 0).

    `points` are their names, or how many. `fit` takes K rows of x, y, visible, or {name: [x, y]}, where points left out
    are not visible. `swap` are the pairs that change places in a mirror, by default those whose names differ in left
    and right alone; `swap: []` says that there are none.
    """

    markup: ClassVar[str] = "points"
    readable_numbers: ClassVar[bool] = True
    defaults: ClassVar[Defaults] = Defaults("regress", "keypoints", "pck", "points")
    points: tuple[str, ...] = Field(min_length=1)
    swap: tuple[tuple[str, str], ...] | None = None

    _numbered = field_validator("points", mode="before", json_schema_input_type=tuple[str, ...] | int)(numbered)
    _distinct = field_validator("points")(distinct)

    @model_validator(mode="after")
    def _pairs_of_points(self) -> Keypoints:
        names = [name for pair in self.swap or () for name in pair]
        wrong = [name for name in names if name not in self.points or names.count(name) > 1]
        if wrong:
            raise ValueError(f"swap: each name is one of the points, once; {wrong[0]!r} is not")
        return self

    @property
    def order(self) -> tuple[int, ...]:
        """For each point the one that it becomes in a mirror."""
        if self.swap is None:
            return exchange(self.points)
        pairs = dict(self.swap) | {b: a for a, b in self.swap}
        return tuple(self.points.index(pairs.get(name, name)) for name in self.points)

    @property
    def sides(self) -> Symmetry:
        return "unknown" if self.sideless else "known"

    @property
    def sideless(self) -> str:
        if self.swap is not None:
            return ""
        mend = "Next: swap: [[a, b]] on the modality names the pairs that change places, swap: [] says that none do"
        if why := without(self.points):
            return f"{why}. {mend}"
        if len(self.points) > 1 and self.order == tuple(range(len(self.points))):
            return f"the names of its points tell no left and right. {mend}"
        return ""

    def mirrored(self, values: torch.Tensor) -> torch.Tensor:
        values = values[:, list(self.order)]
        values[..., 0] = (1 - values[..., 0]).where(values[..., 2] > 0, values[..., 0])
        return values

    @property
    def place(self) -> Symmetry:
        return "known"

    def windowed(self, values: torch.Tensor, windows: torch.Tensor) -> torch.Tensor:
        return self._shown(values, (values[..., :2] - windows[:, None, [1, 0]]) / windows[:, None, 2:])

    def turned(self, values: torch.Tensor, angles: torch.Tensor, aspect: float) -> torch.Tensor:
        return self._shown(values, carried(values[..., :2] - 0.5, angles, aspect) + 0.5)

    def _shown(self, values: torch.Tensor, places: torch.Tensor) -> torch.Tensor:
        """Points at other places; those outside the picture are hidden."""
        values[..., :2] = places
        inside = ((values[..., :2] >= 0) & (values[..., :2] <= 1)).all(-1) & (values[..., 2] > 0)
        return values.where(inside[..., None], 0.0)

    @property
    def shape(self) -> tuple[int, ...]:
        return (len(self.points), 3)

    @property
    def limits(self) -> tuple[float, float]:
        return (0.0, 1.0)

    @property
    def planes(self) -> int:
        return len(self.points) * 3

    @property
    def averaged(self) -> bool:
        return False

    def grid(self, patch: int) -> tuple[int, ...]:
        return (len(self.points),)

    def given(self, values: Any) -> Any:
        return finite(values).all(-1) & (values[..., 2] > 0)

    def teaching(self, values: Any) -> Any:
        return finite(values).all(-1)

    def _check_values(self, array: np.ndarray) -> None:
        super()._check_values(array)
        if not np.isin(array[:, 2], (0, 1)).all():
            raise ValueError("expected visible as 0 or 1 (COCO's 2 is 1 here, and its 1, a hidden point, 0)")
        places = array[:, :2]
        if places.min() < 0 or places.max() > 1:
            pixels = "; these look like pixels: divide by the picture's width and height" if places.max() > 2 else ""
            got = f"got {places.min():.6g} to {places.max():.6g}{pixels}"
            raise ValueError(f"expected x and y in 0..1 of the picture, {got}")

    def fit(self, value: Any) -> np.ndarray:
        if isinstance(value, dict):
            foreign = sorted(set(value) - set(self.points))
            if foreign:
                raise ValueError(f"expected points among {', '.join(self.points)}, got {foreign[0]!r}")
            value = [[*value[name], 1] if value.get(name) is not None else [0, 0, 0] for name in self.points]
        array = np.asarray(value, np.float32)
        if array.shape != self.shape:
            raise ValueError(f"expected {len(self.points)} times x, y, visible, got {array.shape}")
        hidden = (array[:, 2] == 0) | np.isnan(array).any(1)
        return np.where(hidden[:, None], np.float32(0), array)

    def compared(self, values: np.ndarray) -> np.ndarray:
        return values[..., :2]

    def answer(self, mean: np.ndarray) -> np.ndarray:
        visible = mean[..., 2:] > 0.5
        return np.where(visible, np.concatenate([mean[..., :2], visible], -1), 0).astype(np.float32)

    def example(self, random: np.random.Generator, mean: Sequence[float] = (), std: Sequence[float] = ()) -> Any:
        visible = random.random((self.shape[0], 1)) < 0.7
        return np.concatenate([random.random((self.shape[0], 2)) * visible, visible], 1)

    @property
    def output_names(self) -> tuple[str, ...]:
        return self.points

    def mean_translated(self, mean: Any, how: Translation) -> Any:
        return how.channels(mean, -2)

    def pictured(self, value: np.ndarray) -> np.ndarray:
        return np.flatnonzero(value[:, 2] > 0)

    def picture(self, value: np.ndarray) -> np.ndarray:
        visible = self.pictured(value)
        return picture.points_to_rgb(value[visible, :2], picture.palette(len(self.points))[visible])

    def marks(self, value: np.ndarray) -> list[Mark]:
        colours = [(int(r), int(g), int(b)) for r, g, b in picture.palette(len(self.points))]
        rows = zip(self.points, colours, value.tolist(), strict=True)
        return [Mark(name, colour, x, y, x, y) for name, colour, (x, y, shown) in rows if shown > 0.5]

    @property
    def legend(self) -> tuple[tuple[str, tuple[int, ...]], ...]:
        colours = picture.palette(len(self.points)).tolist()
        return tuple((name, tuple(colour)) for name, colour in zip(self.points, colours, strict=True))

    def words(self, value: np.ndarray) -> str:
        return f"{int((value[:, 2] > 0).sum())} of {len(self.points)} points"

    def tallied(self, rows: np.ndarray) -> np.ndarray:
        return np.where(self.known(rows)[..., None], rows[..., :2], np.nan).reshape(-1, 2)
