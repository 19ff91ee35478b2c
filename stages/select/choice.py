"""The choice over all samples: candidates, their order, and who of them is taken."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from hyperloom.pipeline.commits.units import Output, Resources, Unit
from hyperloom.stages.audit.surveyed import bytes_rows
from hyperloom.stages.base import KEY
from hyperloom.stages.select import picks
from hyperloom.stages.table import read_table, write_table

if TYPE_CHECKING:
    from hyperloom.stages.select.stage import Select

Numbers = Mapping[str, tuple[np.ndarray, np.ndarray]]


@dataclass
class Chooser:
    """`names`: the classes of each column that has some. A unit's payload: {"gathered": [path], "splits": [split of
    each]}. The table has key, `chosen` (1 or 0) and `worth` (1 for the first, less for each next; NaN for who is not
    chosen now)."""

    stage: Select
    names: Mapping[str, tuple[str, ...]]
    resources: Resources = field(default_factory=Resources)

    def setup(self) -> None:
        """Nothing is kept."""

    def run(self, unit: Unit, out: Output) -> None:
        import pyarrow as pa

        tables = [read_table(out.storage, path) for path in unit.payload["gathered"]]
        splits = np.array(
            [s for table, s in zip(tables, unit.payload["splits"], strict=True) for _ in range(len(table))]
        )
        keys = [key for table in tables for key in table[KEY].to_pylist()]
        numbers = {c: _column(tables, c) for c in self.stage.read}
        rows = _features(tables) if self.stage.coverage else np.zeros((len(keys), 0), np.float32)
        candidate, before, picked = choose(self.stage, self.names, keys, numbers, rows, splits)
        chosen, worth = before.astype(np.float32), np.full(len(keys), np.nan, np.float32)
        chosen[picked] = 1
        worth[picked] = 1 - np.arange(len(picked)) / max(1, len(picked))
        columns = {KEY: pa.array(keys, pa.string()), "chosen": pa.array(chosen), "worth": pa.array(worth)}
        out.rows = len(keys)
        text = f"{len(picked)} of {int(candidate.sum())} candidates are chosen ({len(keys)} samples"
        text += f"; {int(before.sum())} were before)" if before.any() else ")"
        if self.stage.n and len(picked) < self.stage.n:
            text += f": fewer than n: {self.stage.n}, for there are no more candidates"
        out.meta = {"text": text, "chosen": float(len(picked)), "candidates": float(candidate.sum())}
        out.write("parquet", write_table(columns, [pa.field(n, a.type) for n, a in columns.items()]))


def choose(
    stage: Select,
    names: Mapping[str, tuple[str, ...]],
    keys: list[str],
    numbers: Numbers,
    rows: np.ndarray,
    splits: np.ndarray,
) -> tuple[np.ndarray, np.ndarray, list[int]]:
    """(N,) bool who is a candidate and who was chosen before, and the places of the chosen, the first first."""
    candidate = np.ones(len(keys), bool)
    for column, condition in stage.where.items():
        candidate &= condition.met(*numbers[column], names[column])
    if stage.split:
        candidate &= splits == stage.split
    before = np.zeros(len(keys), bool)
    if stage.plus:
        values, valid = numbers[stage.plus]
        before = valid & (values > 0)
    candidate &= ~before
    order = _ordered(stage, keys, numbers, candidate)
    count = len(order) if stage.n is None else stage.n
    count = max(1, round(stage.share * len(order))) if stage.share is not None else count
    taken = np.flatnonzero(before)
    if stage.coverage:
        return candidate, before, _covering(stage, rows, order, taken, count)
    if stage.balance:
        values, valid = numbers[stage.balance]
        classes = np.where(valid, values, -1).astype(np.int64)
        return candidate, before, picks.evened(classes, order, taken, count)
    return candidate, before, [int(i) for i in order[:count]]


def _covering(stage: Select, rows: np.ndarray, order: np.ndarray, taken: np.ndarray, count: int) -> list[int]:
    """The places that cover most; samples of which nobody knows where they lie come last, in their order."""
    known = np.isfinite(rows).all(1)
    placed, rest = order[known[order]], order[~known[order]]
    first = placed[: int(stage.pool * count)] if stage.order else placed
    chosen = picks.covering(rows, first, taken[known[taken]], count, stage.method)
    return chosen + [int(i) for i in rest[: count - len(chosen)]]


def _ordered(stage: Select, keys: list[str], numbers: Numbers, candidate: np.ndarray) -> np.ndarray:
    """Places of the candidates, the first first; by chance where ranks are equal."""
    places = np.flatnonzero(candidate)
    chance = [hashlib.sha256(f"{stage.seed}/{keys[int(i)]}".encode()).digest()[:8] for i in places]
    rank = np.zeros(len(places))
    for column, way in stage.order.items():
        values, valid = numbers[column]
        rank += picks.ranks(np.where(valid, values, np.nan)[places], way == "highest")
    return places[np.lexsort((np.array([int.from_bytes(c, "big") for c in chance], np.uint64), np.round(rank, 9)))]


def _column(tables: list[Any], column: str) -> tuple[np.ndarray, np.ndarray]:
    parts = [table[column].combine_chunks() for table in tables]
    values = [p.fill_null(0).to_numpy(zero_copy_only=False) for p in parts]
    return np.concatenate(values), np.concatenate([p.is_valid().to_numpy(zero_copy_only=False) for p in parts])


def _features(tables: list[Any]) -> np.ndarray:
    """(N, D) of all samples, NaN of those that have none."""
    parts = [_rows(table["feature"].combine_chunks()) if "feature" in table.column_names else None for table in tables]
    width = next((part.shape[1] for part in parts if part is not None), 0)
    nothing = (np.full((len(table), width), np.nan) for table in tables)
    return np.concatenate([own if part is None else part for part, own in zip(parts, nothing, strict=True)])


def _rows(column: Any) -> np.ndarray:
    known = column.is_valid().to_numpy(zero_copy_only=False)
    return np.where(known[:, None], bytes_rows(column, np.float32).astype(np.float64), np.nan)
