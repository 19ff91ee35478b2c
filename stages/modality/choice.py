"""Choices: one of several named classes for a whole sample, without an order (category) or with one (ordinal).

In memory an id, in the column the name, so that any reader of Parquet sees words. -1, unknown, is a null.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from pydantic import Field, field_validator

from hyperloom.pipeline.spelling import near
from hyperloom.stages import picture
from hyperloom.stages.meaning import Meaning
from hyperloom.stages.modality.base import Defaults, Ids
from hyperloom.stages.modality.formats import parse
from hyperloom.stages.modality.geometry import Symmetry, exchanged
from hyperloom.stages.modality.sides import exchange, named, without

if TYPE_CHECKING:
    import torch

NAMELESS = -1
"""The id that says unknown."""
INTEGER = re.compile(r"[+-]?\d{1,30}", re.ASCII)
EXACT = 2**53
"""Whole numbers below it are exact as floats."""


def numbered(value: Any) -> Any:
    """A count as names "0", "1", ...; anything else as it is."""
    return tuple(map(str, range(value))) if isinstance(value, int) and not isinstance(value, bool) else value


def distinct(names: tuple[str, ...]) -> tuple[str, ...]:
    """Raises ValueError when two names are the same."""
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(f"names differ from each other, but {', '.join(map(repr, twice))} is there twice")
    return names


class Choice(Ids):
    """Base of both: () int64, the id of one of `names`; -1 is unknown."""

    markup: ClassVar[str] = "choice"
    categorical: ClassVar[bool] = True
    voted: ClassVar[bool] = True

    def revised(self) -> int:
        """A class `-1` written as `-1.0` was unknown, and of names with more than 15 digits the last were lost."""
        numbers = [number for name in self.names if (number := whole(name)) is not None]
        return super().revised() + any(n == NAMELESS or abs(n) >= EXACT for n in numbers)

    @property
    def names(self) -> tuple[str, ...]:
        raise TypeError(f"{type(self).__name__} has no names")

    @property
    def channels(self) -> int:
        return len(self.names)

    @property
    def shape(self) -> tuple[int, ...]:
        return ()

    @property
    def place(self) -> Symmetry:
        return "none"

    @property
    def sides(self) -> Symmetry:
        order = exchange(self.names)
        return "unknown" if without(self.names) else "none" if order == tuple(range(len(order))) else "known"

    @property
    def sideless(self) -> str:
        return without(self.names)

    @property
    def sided(self) -> bool:
        return named(self.names)

    def mirrored(self, values: torch.Tensor) -> torch.Tensor:
        return exchanged(values, exchange(self.names))

    def known(self, values: Any) -> Any:
        return (values >= 0) & (values < len(self.names))

    def _check_values(self, array: np.ndarray) -> None:
        if not NAMELESS <= int(array) < len(self.names):
            raise ValueError(f"expected an id below {len(self.names)}, or {NAMELESS} for unknown, got {int(array)}")

    def fit(self, value: Any) -> np.ndarray:
        """From a name, or an id, also one in letters (`3`, `3.0`) where no name is a numeral."""
        if isinstance(value, str):
            return np.array(self._named(value), np.int64)
        array = np.asarray(value)
        if array.size != 1 or array.dtype.kind not in "iuf" or (number := whole(array.item())) is None:
            raise ValueError(f"expected a name or an id, got {value!r}")
        return np.array(number, np.int64)

    def cell(self, value: Any) -> Any:
        """A number of a table or of JSON as its letters: so it means the same as in CSV, the name where names are
        numerals, else the id."""
        return lettered(value, self.names)

    def read(self, data: bytes, name: str) -> Any:
        return self.fit(self.cell(parse(data, name)))

    def _named(self, text: str) -> int:
        if text in self.names:
            return self.names.index(text)
        number, numbers = whole(text), [whole(name) for name in self.names]
        if number is not None and number in numbers:
            return numbers.index(number)
        if number == NAMELESS or (number is not None and not numerals(self.names)):
            return number
        folded = {name.casefold(): name for name in self.names}
        raise ValueError(f"expected one of {', '.join(self.names)}, got {text!r}{_near(text, folded)}")

    def answer(self, mean: np.ndarray) -> np.ndarray:
        return mean.argmax(-1).astype(self.dtype)

    def example(self, random: np.random.Generator, mean: Sequence[float] = (), std: Sequence[float] = ()) -> Any:
        return random.integers(-1, self.channels, self.shape)

    def picture(self, value: np.ndarray) -> np.ndarray:
        return picture.text_to_rgb(self.words(value))

    def words(self, value: np.ndarray) -> str:
        return self.names[int(value)] if value >= 0 else "unknown"

    @property
    def counted(self) -> tuple[str, ...]:
        return self.names

    def tallied(self, rows: np.ndarray) -> np.ndarray:
        return rows

    def arrow(self) -> Any:
        import pyarrow as pa

        return pa.string()

    def pack(self, rows: np.ndarray, valid: np.ndarray) -> Any:
        import pyarrow as pa

        if (rows[valid] >= len(self.names)).any():
            raise ValueError(f"expected ids below {len(self.names)}, got {int(rows[valid].max())}")
        return pa.array(self.names, pa.string()).take(pa.array(rows, pa.int64(), mask=~valid | (rows < 0)))

    def unpacked(self, array: Any, valid: np.ndarray) -> np.ndarray:
        return ids_of(array, self.names)


class Category(Choice):
    """() int64: one of `classes` (names, or how many); -1 is unknown."""

    defaults: ClassVar[Defaults] = Defaults("classify", "cross-entropy", "accuracy", "classes")
    classes: tuple[str, ...] = Field(min_length=1)

    _numbered = field_validator("classes", mode="before", json_schema_input_type=tuple[str, ...] | int)(numbered)
    _distinct = field_validator("classes")(distinct)

    @property
    def names(self) -> tuple[str, ...]:
        return self.classes


class Ordinal(Choice):
    """() int64: one of `levels` (names from the lowest up, or how many); -1 is unknown. Its error counts levels."""

    defaults: ClassVar[Defaults] = Defaults("ordinal", "cumulative", "mae", "levels")
    levels: tuple[str, ...] = Field(min_length=2)

    _numbered = field_validator("levels", mode="before", json_schema_input_type=tuple[str, ...] | int)(numbered)
    _distinct = field_validator("levels")(distinct)

    @property
    def names(self) -> tuple[str, ...]:
        return self.levels

    @property
    def meaning(self) -> Meaning:
        return Meaning(self.levels, ordered=True)

    def answer(self, mean: np.ndarray) -> np.ndarray:
        return (mean.cumsum(-1) < 0.5).sum(-1).clip(0, self.channels - 1).astype(np.int64)


def ids_of(array: Any, names: tuple[str, ...]) -> np.ndarray:
    """(N,) int64 ids of a `pa.StringArray`, -1 for null. Raises ValueError for a string that is none of `names`."""
    import pyarrow as pa
    import pyarrow.compute as pc

    ids = pc.index_in(array, value_set=pa.array(names, pa.string()))
    if ids.null_count > array.null_count:
        foreign = array.filter(pc.and_(pc.is_null(ids), pc.is_valid(array)))[0].as_py()
        raise ValueError(f"expected one of {', '.join(names)}, got {foreign!r}")
    return pc.fill_null(ids, NAMELESS).to_numpy(zero_copy_only=False).astype(np.int64)


def real(text: str) -> float:
    """A number from its letters. Raises ValueError for what only Python takes for one (`1_000`)."""
    if "_" in text:
        raise ValueError(f"{text!r} is no number")
    return float(text)


def whole(value: Any) -> int | None:
    """A whole number of at most 64 bits, or its letters (`3`, ` 3`, `3.0`), as an int; None for anything else."""
    if isinstance(value, str) and "_" in value:
        return None  # to Python `1_000` is a number; to others it is a name
    try:
        exact = isinstance(value, int | np.integer) or (isinstance(value, str) and INTEGER.fullmatch(value.strip()))
        number = int(value) if exact else float(value)  # a float has no digits left for the last of an id of 64 bits
    except (TypeError, ValueError, OverflowError):
        return None
    if isinstance(value, bool | np.bool_) or not abs(number) < 2**63 or number != int(number):
        return None
    return int(number)


def lettered(value: Any, names: Sequence[str]) -> Any:
    """A number or a truth value of a table or of JSON as its letters; others, and what is no name then, as it is."""
    if isinstance(value, bool | np.bool_):
        return next((name for name in names if name.casefold() == str(value).casefold()), value)
    if isinstance(value, str) or (number := whole(value)) is None:
        return str(value) if not isinstance(value, str) and str(value) in names else value
    return str(number)


def id_of(value: Any, names: Sequence[str]) -> int:
    """The id that a name, or a whole number, stands for. Raises ValueError for anything else."""
    if isinstance(value, str) and value in names:
        return names.index(value)
    number = None if isinstance(value, str) else whole(value)
    if number is None:
        raise ValueError(f"expected one of {', '.join(names)}, or an id, got {value!r}")
    return number


def numerals(names: Sequence[str]) -> bool:
    """Is one of the names a number, so that a number may be meant as a name?"""
    return any(whole(name) is not None for name in names)


def _near(text: str, names: Mapping[str, str]) -> str:
    """A name that differs in blanks, in capitals or a little."""
    same = names.get(text.strip().casefold())
    return f"; did you mean {same!r}?" if same else near(text, names.values())
