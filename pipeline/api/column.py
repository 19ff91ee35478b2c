"""A column's values as NumPy arrays, with the names of the samples they are of.

A value that is missing is NaN where numbers are of floating point; elsewhere its place holds a filler that means
nothing, and `valid` is False. Nothing here reads files (see `pipeline.api.step`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from hyperloom.pipeline.api import page

SHOWN = 6
"""Samples whose pictures a notebook shows."""


@dataclass(frozen=True, eq=False)
class ColumnArray:
    """N samples of one column, such as `depth@midas`.

    `values` is (N, *shape) in the modality's dtype: images (N, H, W, 3) uint8, dense maps (N, H, W, C) float32,
    segmentation (N, H, W) uint8 class ids, texts and tags object or fixed rows as their modality has them. `valid`
    (N,) bool says which samples have a value. `keys` name the samples for good, `groups` say what belongs together,
    `index` (N,) int64 is a sample's place in its group.
    """

    name: str
    values: np.ndarray
    valid: np.ndarray
    keys: list[str]
    groups: list[str]
    index: np.ndarray
    modality: Any
    """As the recipe defines it: `.classes`, `.unit`, `.shape`."""

    def __len__(self) -> int:
        return len(self.keys)

    def __iter__(self) -> Iterator[np.ndarray | None]:
        """Each sample's value, None where it is missing."""
        return (value if valid else None for value, valid in zip(self.values, self.valid))

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.array(self.values, dtype, copy=copy) if copy is not None else np.asarray(self.values, dtype)

    def present(self) -> ColumnArray:
        """The samples that have a value."""
        return self.take(np.flatnonzero(self.valid))

    def take(self, rows: Sequence[int] | np.ndarray) -> ColumnArray:
        """The samples at these places."""
        places = np.asarray(rows, np.int64)
        keys, groups = [self.keys[i] for i in places], [self.groups[i] for i in places]
        cut = self.values[places], self.valid[places]
        return ColumnArray(self.name, *cut, keys, groups, self.index[places], self.modality)

    @property
    def missing(self) -> int:
        """How many samples have no value."""
        return int(len(self) - self.valid.sum())

    def __repr__(self) -> str:
        lacks = f", {self.missing} missing" if self.missing else ""
        return f"ColumnArray({self.name!r}, {len(self)} samples{lacks}, {self.values.dtype} {self.values.shape})"

    def _repr_html_(self) -> str:
        pictures = []
        for i in np.flatnonzero(self.valid)[:SHOWN]:
            pictures.append((self.keys[i], self.modality.picture(self.values[i])))
        return page.heading(repr(self)) + page.pictures(pictures)


def joined(parts: Sequence[ColumnArray]) -> ColumnArray:
    """Parts of one column as one. `parts` is not empty."""
    if len(parts) == 1:
        return parts[0]
    values, valid, index = (np.concatenate([getattr(p, name) for p in parts]) for name in ("values", "valid", "index"))
    keys, groups = [k for p in parts for k in p.keys], [g for p in parts for g in p.groups]
    return ColumnArray(parts[0].name, values, valid, keys, groups, index, parts[0].modality)


def decoded(name: str, array: Any, rows: tuple[list[str], list[str], list[int]], modality: Any) -> ColumnArray:
    """A column from an Arrow array. `rows`: keys, groups, index."""
    import pyarrow as pa

    keys, groups, index = rows
    if pa.types.is_null(array.type):
        values, valid = np.zeros((len(keys), *modality.shape), modality.dtype), np.zeros(len(keys), bool)
    else:
        values, valid = modality.decode(array)
    valid = np.asarray(valid, bool)
    if not valid.all() and values.dtype.kind == "f":
        values = np.array(values)
        values[~valid] = np.nan
    return ColumnArray(name, values, valid, keys, groups, np.asarray(index, np.int64), modality)
