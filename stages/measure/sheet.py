"""The sheet of a shard: the statistics of every single sample, by what was judged.

It is a Parquet file: `key`, `group`, `index` and, for each name and statistic, a column `name:statistic` (null where a
sample has none). A unit's record holds their sums; the sheet lets a report resample frames, and people find the worst.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from hyperloom.pipeline.storage import Storage
from hyperloom.stages.base import GROUP, INDEX, KEY
from hyperloom.stages.measure.sums import Sums, merged
from hyperloom.stages.table import read_table, write_table


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


def read_sheet(storage: Storage, path: str) -> tuple[list[str], list[str], dict[str, dict[str, np.ndarray]]]:
    """Keys, groups, and name -> statistic -> (N, ...) float64 with zeros where a sample has none."""
    table = read_table(storage, path)
    sheet: dict[str, dict[str, np.ndarray]] = {}
    for column in table.column_names:
        name, colon, stat = column.rpartition(":")
        if colon:
            sheet.setdefault(name, {})[stat] = _stacked(table[column].to_pylist())
    return table[KEY].to_pylist(), table[GROUP].to_pylist(), sheet


def _stacked(values: list[Any]) -> np.ndarray:
    like = next((v for v in values if v is not None), 0)
    nothing = np.zeros(np.shape(like))
    return np.array([nothing if v is None else v for v in values], np.float64)
