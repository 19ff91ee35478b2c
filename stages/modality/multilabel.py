"""Multilabels: any number of classes for a whole sample, each yes, no or unknown."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from pydantic import Field, field_validator

from hyperloom.stages import picture
from hyperloom.stages.base import UNKNOWN
from hyperloom.stages.modality.base import Defaults, Modality
from hyperloom.stages.modality.choice import distinct, numbered, whole
from hyperloom.stages.modality.geometry import SidedClasses, Symmetry
from hyperloom.stages.modality.sides import exchange, without

if TYPE_CHECKING:
    import torch


class Multilabel(SidedClasses, Modality):
    """(K,) uint8: 1 where a class of `classes` (names, or how many) applies, 0 where not, 255 where nobody knows."""

    markup: ClassVar[str] = "marks"
    defaults: ClassVar[Defaults] = Defaults("classify", "bce", "f1", "labels")
    classes: tuple[str, ...] = Field(min_length=1)

    _numbered = field_validator("classes", mode="before", json_schema_input_type=tuple[str, ...] | int)(numbered)
    _distinct = field_validator("classes")(distinct)

    @property
    def shape(self) -> tuple[int, ...]:
        return (len(self.classes),)

    @property
    def dtype(self) -> np.dtype[Any]:
        return np.dtype(np.uint8)

    @property
    def missing(self) -> float:
        return UNKNOWN

    @property
    def place(self) -> Symmetry:
        return "none"

    @property
    def sides(self) -> Symmetry:
        order = exchange(self.classes)
        return "unknown" if without(self.classes) else "none" if order == tuple(range(len(order))) else "known"

    def mirrored(self, values: torch.Tensor) -> torch.Tensor:
        return values[:, list(exchange(self.classes))]

    def given(self, values: Any) -> Any:
        return values <= 1

    def _check_values(self, array: np.ndarray) -> None:
        wrong = array[(array > 1) & (array != UNKNOWN)]
        if wrong.size:
            raise ValueError(f"expected 0, 1 or {UNKNOWN} for each class, got {int(wrong[0])}")

    def fit(self, value: Any) -> np.ndarray:
        """From the names that apply (a list, or a string with `,`, `;` or `|` between), from {name: yes, no or None
        for unknown}, where a name left out is unknown, or from K numbers."""
        if isinstance(value, str):
            value = [name.strip() for name in re.split(r"[,;|]", value) if name.strip()]
            if len(value) == len(self.classes) and set(value) <= {"0", "1"}:
                value = self._marks(value)
        if isinstance(value, dict):
            return self._named({n: UNKNOWN if v is None else _mark(n, v) for n, v in value.items()}, UNKNOWN)
        if isinstance(value, list | tuple) and all(isinstance(v, str) for v in value):
            return self._named(dict.fromkeys(value, 1), 0)
        array = np.asarray(value)
        if array.shape != self.shape or array.dtype.kind not in "buif" or not np.isin(array, (0, 1, UNKNOWN)).all():
            expected = f"names of classes, or {len(self.classes)} times 0, 1 or {UNKNOWN}"
            raise ValueError(f"expected {expected}, got {value!r}")
        return array.astype(np.uint8)

    def _marks(self, value: list[str]) -> list[Any]:
        """As many 0 and 1 as there are classes: marks, or names where classes are called so. Raises ValueError where
        one would be named twice."""
        if not {"0", "1"} & {*self.classes}:
            return [int(mark) for mark in value]
        if len(set(value)) < len(value):
            what = "may be a mark for each class, or classes that are called so"
            raise ValueError(
                f"{','.join(value)} {what}. Next: write marks as JSON, [{', '.join(value)}], names once each"
            )
        return value

    def _named(self, marks: dict[str, int], otherwise: int) -> np.ndarray:
        foreign = [name for name in marks if name not in self.classes]
        if foreign:
            raise ValueError(f"expected some of {', '.join(self.classes)}, got {foreign[0]!r}")
        return np.array([marks.get(name, otherwise) for name in self.classes], np.uint8)

    def answer(self, mean: np.ndarray) -> np.ndarray:
        return (mean > 0.5).astype(np.uint8)

    def example(self, random: np.random.Generator, mean: Sequence[float] = (), std: Sequence[float] = ()) -> Any:
        return random.choice([0, 1, UNKNOWN], self.shape)

    def picture(self, value: np.ndarray) -> np.ndarray:
        return picture.text_to_rgb(self.words(value))

    def words(self, value: np.ndarray) -> str:
        """The classes that apply, and which nobody knows."""
        yes, open_ = (", ".join(n for n, v in zip(self.classes, value, strict=True) if v == m) for m in (1, UNKNOWN))
        if (value == UNKNOWN).all():
            return "unknown"
        return (yes or "none") + (f" (unknown: {open_})" if open_ else "")

    @property
    def counted(self) -> tuple[str, ...]:
        return self.classes

    def tallied(self, rows: np.ndarray) -> np.ndarray:
        return np.concatenate([np.nonzero(rows == 1)[1], np.full(int((rows == UNKNOWN).sum()), -1)])


MARKS = {"yes": 1, "true": 1, "1": 1, "no": 0, "false": 0, "0": 0}
"""What people write for yes and no."""


def _mark(name: str, value: Any) -> int:
    """1 or 0. Raises ValueError for what is neither yes nor no."""
    if isinstance(value, bool | np.bool_):
        return int(value)
    mark = MARKS.get(value.strip().casefold()) if isinstance(value, str) else whole(value)
    if mark not in (0, 1):
        raise ValueError(f"expected yes or no (true, false, 1, 0) for {name!r}, got {value!r}")
    return mark
