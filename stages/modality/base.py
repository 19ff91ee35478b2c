"""The base of every modality, and all that a type of one's own may override.

Invariants: one value in memory is one NumPy array of `shape` and `dtype`; batches have a leading N; a missing value is
null, never a number. A type says its shape, what `check` refuses and what `fit` accepts, and gets raw fixed-size values
on disk for nothing; one with a native Arrow form overrides `arrow`, `pack` and `unpacked`, one that may stay compressed
`compress` and `decompress`. How values lie in Arrow is `stages.column`, how columns lie in files `stages.table`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, NamedTuple, Self

import numpy as np
from pydantic import model_validator

from hyperloom.pipeline import plugins
from hyperloom.pipeline.plugins import Plugin
from hyperloom.stages import column as columns
from hyperloom.stages import picture
from hyperloom.stages.meaning import Meaning, Translation
from hyperloom.stages.modality.geometry import Geometry
from hyperloom.stages.modality.knowledge import Knowledge
from hyperloom.stages.modality.layout import Layout
from hyperloom.stages.modality.prediction import Predicted
from hyperloom.stages.picture import Mark


class Defaults(NamedTuple):
    """Names of a type's head, objective and measure, each a registered name or `module:Class`; and `metric`, that
    figure of the measure which decides who is better."""

    head: str
    loss: str
    metric: str
    measure: str = "numbers"


class Modality(Plugin, Layout, Geometry, Knowledge, Predicted):
    """Base of every modality. `dtype` is that of memory, `stored` that of disk, `missing` fills the rows of nulls."""

    defaults: ClassVar[Defaults] = Defaults("dense", "l1", "mae")
    markup: ClassVar[str] = ""
    """How people mark a value: map (a mask a class), masks (one a thing), choice (one class), marks (any classes),
    boxes, points, text; nothing where no tool has a form for it (`stages.people.markup`)."""

    @model_validator(mode="after")
    def _measure_is_there(self) -> Self:
        """A measure of one's own is loaded with the modality: its figures are known wherever a recipe names it."""
        if ":" in self.measure:
            plugins.load("measure", self.measure)
        return self

    # What training and evaluation take when the recipe says nothing else.
    @property
    def head(self) -> str:
        """The kind of prediction: dense, classify, ordinal, regress, boxes, tokens, tag, embed, series or pair."""
        return self.defaults.head

    @property
    def loss(self) -> str:
        """Default objective."""
        return self.defaults.loss

    @property
    def metric(self) -> str:
        """The figure that decides who is better, one of those its measure gives."""
        return self.defaults.metric

    @property
    def measure(self) -> str:
        """What compares predictions with the truth: a plug-in of kind `measure` (`stages.measure.measure`)."""
        return self.defaults.measure

    @property
    def channels(self) -> int:
        """Channels as a network's input and output: colours, values, or one per class."""
        return self.shape[-1] if self.shape else 1

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
        """A number in memory is the number stored times this, plus `offset`."""
        return 1.0

    @property
    def offset(self) -> float:
        return 0.0

    @property
    def codec(self) -> str:
        """`raw` for fixed-size binary values, `native` for an Arrow type, else the format of each value's bytes."""
        return "raw"

    @property
    def missing(self) -> float:
        """A number of the disk. What it means in memory is nothing: masks say which rows are there."""
        return 0

    # -- values -----------------------------------------------------------------------------------------------------
    def check(self, value: Any) -> None:
        """Raise ValueError, saying what was expected and what came, unless `value` is one good sample.

        A type that may stay compressed also takes the bytes of a file.
        """
        if isinstance(value, bytes):
            value = self.decompress(value)
        array = np.asarray(value)
        if array.shape != self.shape:
            raise ValueError(f"expected shape {self.shape}, got {array.shape}")
        both_float = self.dtype.kind == "f" and array.dtype.kind == "f"
        if array.dtype != self.dtype and not both_float:
            numbers = f" {array.min():g}..{array.max():g}" if array.size and array.dtype.kind in "biuf" else ""
            raise ValueError(f"expected dtype {self.dtype}, got {array.dtype}{numbers}")
        self._check_values(array)

    def _check_values(self, array: np.ndarray) -> None:
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            bad = int(array.size - np.isfinite(array).sum())
            raise ValueError(f"expected finite numbers, got {bad} NaN or infinite of {array.size}")

    def fit(self, value: Any) -> Any:
        """`value`, as people and files write it, in this modality's size and dtype. Raises ValueError when it cannot
        be one."""
        return np.asarray(value, self.dtype)

    def read(self, data: bytes, name: str) -> Any:
        """The value in a file's bytes; `name` says the format (.npy, .npz, .json, .txt, and what the type adds).

        An array, or the bytes themselves where the modality keeps files as they came. Raises ValueError.
        """
        from hyperloom.stages.modality.formats import parse

        return self.fit(parse(data, name))

    def cell(self, value: Any) -> Any:
        """What a cell of a table holds as what `fit` takes: itself, unless a type says otherwise."""
        return value

    def numbers(self, data: bytes, name: str) -> np.ndarray:
        """(H, W) or (H, W, C) numbers as an image file stores them. Raises ValueError."""
        from hyperloom.stages.modality import imagefile

        return imagefile.numbers(data, name)

    def picture(self, value: np.ndarray) -> np.ndarray:
        """(H, W, 3) uint8 RGB of one value, for people."""
        return picture.maps_to_rgb(np.atleast_3d(value))

    def marks(self, value: np.ndarray) -> list[Mark] | None:
        """What one value names in the picture of its sample; None of types that name no places."""
        return None

    def overlay(self, value: np.ndarray) -> np.ndarray | None:
        """(H, W, 4) uint8 RGB and opacity, to be laid over the picture of its sample; None of types that are drawn by
        their `marks`, or pixel by pixel."""
        return None

    def presence(self, value: np.ndarray) -> np.ndarray | None:
        """(H, W) in 0..1: how much of something there is in a pixel, by which it covers the picture that it is laid
        over; None where each pixel tells as much."""
        return None

    def span(self, value: np.ndarray) -> tuple[float, float] | None:
        """The numbers that the picture of `value` goes from and to, where it has one scale of colours; else None."""
        return None

    def picture_within(self, value: np.ndarray, span: tuple[float, float]) -> np.ndarray:
        """`picture`, on the scale of colours of another value of this modality."""
        return self.picture(value)

    @property
    def legend(self) -> tuple[tuple[str, tuple[int, ...]], ...]:
        """Name and RGB of each colour that means something in pictures of this modality, pixel by pixel."""
        return ()

    def pictured(self, value: np.ndarray) -> np.ndarray:
        """The entries of `legend`, by number, that the picture of one value shows: its classes, else all."""
        return np.unique(self.tallied(value[None])) if self.counted else np.arange(len(self.legend))

    def example(self, random: np.random.Generator, mean: Sequence[float] = (), std: Sequence[float] = ()) -> Any:
        """One good value drawn at random, with all that real values may have (unknown pixels, padding); `mean` and
        `std` by channel where numbers have such. What it says means nothing: it tries out networks and exports."""
        if self.dtype.kind != "f":
            return np.zeros(self.shape)  # ids of a type of one's own: the first is there for sure
        values = random.normal(mean or 0.0, std or 1.0, self.shape)
        return values if self.limits is None else values.clip(*self.limits)

    def words(self, value: np.ndarray) -> str:
        """One value in a few words, for a table."""
        return f"{'x'.join(map(str, value.shape))} {value.dtype}"

    def completed(self, modalities: Mapping[str, Modality]) -> Modality:
        """This modality with everything that follows from the recipe's others filled in. Raises ValueError."""
        return self

    def to_recipe(self) -> dict[str, Any]:
        """What a recipe would write: `plugins.parse("modality", ...)` of it gives an equal modality."""
        written = self.model_dump(mode="json", by_alias=True, exclude_defaults=True)
        return {**written, "type": self.type or type(self).__name__.lower()}

    # -- meaning ----------------------------------------------------------------------------------------------------
    @property
    def meaning(self) -> Meaning:
        """What values say, to be compared with another column's (`stages.meaning.translation`)."""
        return Meaning(self.output_names)

    def translated(self, values: Any, how: Translation) -> Any:
        """`values` (N, *shape) of this modality, an array or a tensor, in another meaning."""
        return how.ids(values) if self.categorical else how.clear(values, self.mean_translated(values, how))

    def mean_translated(self, mean: Any, how: Translation) -> Any:
        """Predictions (N, ...) of this modality in another meaning."""
        return how.channels(how.numbers(mean))

    def things_agree(self, one: np.ndarray, other: np.ndarray) -> np.ndarray | None:
        """(N,) how far two columns name the same things, twice the pairs through the things of both; NaN where neither
        names any. None of types that are no sets of things."""
        return None

    # -- teaching ---------------------------------------------------------------------------------------------------
    def teaches(self, predicted: Modality) -> bool:
        """Can a column of this modality be the target of a task of the other? By default of its own type and shape."""
        return type(self) is type(predicted) and self.shape == predicted.shape and self.channels == predicted.channels

    def loss_against(self, predicted: Modality) -> str:
        """The default objective where a column of this modality teaches a task of the other."""
        return self.loss

    # -- statistics -------------------------------------------------------------------------------------------------
    @property
    def counted(self) -> tuple[str, ...]:
        """The classes that statistics count; none when they are of numbers."""
        return ()

    @property
    def output_names(self) -> tuple[str, ...]:
        """What the numbers along the last axis of a prediction are called, where they have names; of points, those
        along the first."""
        return self.counted

    @property
    def limits(self) -> tuple[float, float] | None:
        """Where the numbers that statistics are of lie, if that is known."""
        return None

    def counted_words(self, rows: np.ndarray) -> Counter[str] | None:
        """Words of rows of the dtype on disk, for a vocabulary; None where there is to be none."""
        return None

    def vocabulary(self, counts: Mapping[str, int]) -> dict[str, int]:
        """What of the words that were counted makes the vocabulary, in its order."""
        return dict(counts)

    def learned(self, statistics: Mapping[str, Any]) -> Modality:
        """This modality with what a network must know of a column's statistics to read and predict it. Raises
        ValueError when they lack it."""
        return self

    def tallied(self, rows: np.ndarray) -> np.ndarray:
        """What statistics are of, from rows (N, *shape) of the dtype on disk: (n, channels) numbers, of which those
        that are not finite are left out, and those of sites that are not `known` where n counts sites; or class ids of
        any shape, of which those that are no class are unknown."""
        return rows.reshape(-1, rows.shape[-1] if rows.ndim > 1 else 1)

    # -- columns ----------------------------------------------------------------------------------------------------
    def field(self, column: str) -> Any:
        """The `pa.Field` of `column`; its metadata let any reader of Parquet understand the bytes."""
        return columns.field(self, column)

    def arrow(self) -> Any:
        """The `pa.DataType` of a column."""
        return columns.binary(self)

    def encode(self, values: Sequence[Any] | np.ndarray) -> Any:
        """`values` (None for missing) as a `pa.Array`. Raises ValueError for a value of another shape."""
        return columns.encode(self, values)

    def unpack(self, array: Any) -> tuple[np.ndarray, np.ndarray]:
        """A column's values as (N, *shape) of the dtype on disk, and (N,) bool that tells which are there.

        Raw columns without nulls are views of Arrow's memory: no copy, read-only. Missing rows hold `missing`.
        Compressed values are decoded in several threads. Raises ValueError for what is no column of this modality.
        """
        return columns.unpack(self, array)

    def decode(self, array: Any) -> tuple[np.ndarray, np.ndarray]:
        """Like `unpack`, in the dtype of memory."""
        rows, valid = self.unpack(array)
        return self.to_memory(rows), valid

    def to_memory(self, rows: np.ndarray) -> np.ndarray:
        """Rows of the dtype on disk in the dtype of memory (themselves where the two are one)."""
        rows = rows.astype(self.dtype, copy=False)
        if self.scale != 1:
            rows = rows * rows.dtype.type(self.scale)
        return rows if self.offset == 0 else rows + rows.dtype.type(self.offset)

    def to_stored(self, value: np.ndarray) -> np.ndarray:
        """One value in the numbers of the disk."""
        return value

    def pack(self, rows: np.ndarray, valid: np.ndarray) -> Any:
        """Native types: the `pa.Array` of rows (N, *shape), null where `valid` (N,) is false. Raises ValueError."""
        raise TypeError(f"{type(self).__name__} has no native form")

    def unpacked(self, array: Any, valid: np.ndarray) -> np.ndarray:
        """Native types: rows (N, *shape) of a `pa.Array`. Raises ValueError."""
        raise TypeError(f"{type(self).__name__} has no native form")

    def compress(self, row: np.ndarray) -> bytes:
        """Compressed types: the bytes of one value."""
        raise TypeError(f"{type(self).__name__} has no compressed form")

    def decompress(self, data: Any, out: np.ndarray | None = None) -> np.ndarray:
        """Compressed types: one value of the dtype on disk, written into `out` if given. Raises ValueError."""
        raise ValueError(f"a {self.type or type(self).__name__.lower()} column keeps no files as they came")


class Ids(Modality):
    """Base of what is whole numbers in memory, int64, and native in Arrow; -1 is unknown or padding,
    unless a type says otherwise."""

    @property
    def dtype(self) -> np.dtype[Any]:
        return np.dtype(np.int64)

    @property
    def codec(self) -> str:
        return "native"

    @property
    def missing(self) -> float:
        return -1

    def given(self, values: Any) -> Any:
        return values != int(self.missing)
