"""The sheet of a shard: the statistics of every single sample, by what was judged.

It is a Parquet file: `key`, `group`, `index` and, for each name and statistic, a column `name:statistic` (null where a
sample has none). A unit's record holds their sums; the sheet lets a report resample frames, and people find the worst.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from hyperloom.pipeline.root.storage import Storage
from hyperloom.stages.base import GROUP, INDEX, KEY
from hyperloom.stages.measure.sums import Sums, merged
from hyperloom.stages.table import open_table, read_table, write_table


class Sheet:
    """Gathers one row of statistics for each sample."""

    def __init__(self) -> None:
        self._names: dict[str, list[Any]] = {KEY: [], GROUP: [], INDEX: []}
        self._rows: list[Mapping[str, Sums]] = []

    def __len__(self) -> int:
        return len(self._rows)

    def add(self, key: str, group: str, index: int, sums: Mapping[str, Sums]) -> None:
        """One sample: what was judged -> its statistics."""
        for name, value in zip((KEY, GROUP, INDEX), (key, group, index), strict=True):
            self._names[name].append(value)
        self._rows.append(sums)

    def sums(self) -> dict[str, Sums]:
        """The sums over all samples, by what was judged."""
        names = dict.fromkeys(name for row in self._rows for name in row)
        return {name: merged([row[name] for row in self._rows if name in row]) for name in names}

    def to_parquet(self) -> bytes:
        import pyarrow as pa

        columns = {
            KEY: pa.array(self._names[KEY], pa.string()),
            GROUP: pa.array(self._names[GROUP], pa.string()),
            INDEX: pa.array(self._names[INDEX], pa.int64()),
        }
        names = dict.fromkeys((name, stat) for row in self._rows for name, sums in row.items() for stat in sums)
        for name, stat in names:
            columns[f"{name}:{stat}"] = pa.array([row.get(name, {}).get(stat) for row in self._rows])
        return write_table(columns, [pa.field(name, array.type) for name, array in columns.items()])


def exact(storage: Storage, paths: Sequence[str], sums: Mapping[str, Sums]) -> dict[str, Sums]:
    """`sums`, by what was judged, with those that are no counts added up anew, sample by sample over all sheets: a sum
    of the shards' sums would depend, in its last digit, on where shards are cut."""
    floats = {f"{n}:{s}": (n, s) for n, mine in sums.items() for s, value in mine.items() if isinstance(value, float)}
    values: dict[str, list[float]] = {column: [] for column in floats}
    for path in paths if floats else ():
        with open_table(storage, path) as file:
            here = [name for name in file.schema_arrow.names if name in floats]
            table = file.read(here)
        for name in here:
            values[name] += [v for v in table[name].to_pylist() if v is not None]
    added = {name: dict(mine) for name, mine in sums.items()}
    for column, (name, stat) in floats.items():
        added[name][stat] = math.fsum(values[column])
    return added


def read_names(storage: Storage, path: str) -> list[tuple[str, int, str]]:
    """Group, index and key of each sample."""
    table = read_table(storage, path, [GROUP, INDEX, KEY])
    return list(zip(*(table[name].to_pylist() for name in (GROUP, INDEX, KEY)), strict=True))


def read_sheet(storage: Storage, path: str) -> tuple[list[str], list[str], dict[str, dict[str, np.ndarray]]]:
    """Keys, groups, and name -> statistic -> (N, ...), int64 of counts, float64 of other sums, and texts of gathered
    rows; zeros and empty texts where a sample has none."""
    table = read_table(storage, path)
    sheet: dict[str, dict[str, np.ndarray]] = {}
    for column in table.column_names:
        name, colon, stat = column.rpartition(":")
        if colon:
            sheet.setdefault(name, {})[stat] = _stacked(table[column].to_pylist())
    return table[KEY].to_pylist(), table[GROUP].to_pylist(), sheet


def total(rows: np.ndarray) -> Any:
    """A statistic of several samples, as `read_sheet` gives it, added up."""
    if rows.dtype == object:
        return "".join(rows)
    added = rows.sum(0)
    return added.tolist() if added.ndim else added.item()


def _stacked(values: list[Any]) -> np.ndarray:
    like = np.asarray(next((v for v in values if v is not None), 0))
    if like.dtype.kind == "U":
        return np.array([v or "" for v in values], object)
    nothing = np.zeros_like(like)
    return np.array([nothing if v is None else v for v in values], np.int64 if like.dtype.kind == "i" else np.float64)
