"""The shelf: every sample of a recipe by its number, and what each column says of it, read when somebody looks.

Samples stand in the order of their partitions (by group, then by time), so a number leads to a partition and a place in
it without reading anything. Steps that are not done offer what they have committed: the forecast says which units there
will be, and each is looked for when its rows are asked about. Nothing is written, and no more than `KEPT_BYTES` of
tables are kept, whatever the size of the root.
"""

from __future__ import annotations

import bisect
import threading
from collections import Counter, OrderedDict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np

from hyperloom.pipeline.commits.manifest import Manifest
from hyperloom.pipeline.commits.units import Record, load_record
from hyperloom.pipeline.errors import HyperloomError
from hyperloom.pipeline.planning.forecast import idle
from hyperloom.pipeline.planning.plan import PlannedStep
from hyperloom.pipeline.root.storage import Storage
from hyperloom.stages.base import GROUP, INDEX, KEY, Partition, modality_of
from hyperloom.stages.catalogue import catalogue
from hyperloom.stages.results import Samples, Shards
from hyperloom.stages.table import group_ends, read_group, read_table

KEPT_BYTES = 256 * 2**20


class Shelf:
    """Over the planned `steps` of a recipe. `columns` are those that one can look at, in the recipe's order."""

    def __init__(self, storage: Storage, steps: Sequence[PlannedStep], modalities: Mapping[str, Any]):
        self.storage, self.modalities = storage, modalities
        manifests, self.running = _manifests(storage, steps, modalities)
        self.steps = [name for name, _ in manifests]
        self._offered = catalogue(m for _, m in manifests)
        self._columns_of = {name: set(_columns(m)) for name, m in manifests}
        self._manifests = [m for _, m in manifests]
        self.partitions: Sequence[Partition] = self._offered.partitions
        self.columns = [c for _, m in manifests for c in _columns(m) if modality_of(c) in modalities]
        self.columns = list(dict.fromkeys(self.columns))
        self.makers = {c: self._offered.producers[c].about for c in self.columns}
        self.splits = _splits(steps)
        self._rows_of: Counter[str] = Counter()
        for partition in self.partitions:
            self._rows_of[partition.group] += partition.rows
        self._ends = np.cumsum([p.rows for p in self.partitions], dtype=np.int64)
        self._cache: OrderedDict[tuple[str, str], Any] = OrderedDict()
        self._ends_of: dict[str, tuple[int, ...]] = {}
        self._kept = 0
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return int(self._ends[-1]) if len(self._ends) else 0

    def of_steps(self, names: Iterable[str]) -> set[str]:
        """The columns of steps; of those without samples of their own, such as shards, none."""
        return {c for name in names for c in self._columns_of.get(name, ())}

    def place(self, row: int) -> tuple[int, int]:
        """The number of the partition that holds a row, and the row's place in it."""
        number = int(np.searchsorted(self._ends, row, side="right"))
        return number, row - (int(self._ends[number - 1]) if number else 0)

    def numbers(self, rows: np.ndarray) -> np.ndarray:
        """The numbers of the partitions that hold `rows`."""
        return np.searchsorted(self._ends, rows, side="right")

    def first(self, number: int) -> int:
        """The first row of a partition."""
        return int(self._ends[number - 1]) if number else 0

    def rows_of(self, group: str) -> int:
        """How many samples a group has."""
        return self._rows_of[group]

    @cached_property
    def absent(self) -> frozenset[int]:
        """The numbers of the partitions whose samples were not committed when this was first asked."""
        spaces: dict[str, list[tuple[int, str]]] = {}
        for number, partition in enumerate(self.partitions if self.running else ()):
            record = self._offered.ingested(partition.pid)
            if record is not None and not record.files:
                spaces.setdefault(record.space, []).append((number, record.id))
        missing: set[int] = set()
        for space, units in spaces.items():
            listed = {name.removesuffix(".json") for name in self.storage.names(f"{space}/units")}
            missing |= {number for number, unit in units if unit not in listed}
        return frozenset(missing)

    def names(self, number: int) -> dict[str, list[Any]]:
        """`key`, `group` and `index` of a partition's rows; empty lists where its samples are not committed yet."""
        record = self._offered.ingested(self.partitions[number].pid)
        table = self._table(record, [KEY, GROUP, INDEX]) if record is not None else None
        if table is None:
            return {KEY: [], GROUP: [], INDEX: []}
        return {name: table[name].to_pylist() for name in (KEY, GROUP, INDEX)}

    def values(self, column: str, number: int) -> tuple[np.ndarray, np.ndarray] | None:
        """A column's values in a partition, decoded, and which are there; None where they are not committed (yet)."""
        record = self._offered.record(column, self.partitions[number].pid)
        table = self._table(record, [column]) if record is not None else None
        if table is None:
            return None
        decoded: tuple[np.ndarray, np.ndarray] = self.modalities[modality_of(column)].decode(table[column])
        return decoded

    def value(self, column: str, row: int) -> Any:
        """One value; None where it is missing. Of its partition no more is read than the row group that holds it."""
        number, place = self.place(row)
        record = self._offered.record(column, self.partitions[number].pid)
        committed = self._committed(record) if record is not None else None
        if committed is None:
            return None
        one = self._row(committed.files[0].path, column, place)
        if one is None:
            return None
        values, present = self.modalities[modality_of(column)].decode(one)
        return values[0] if present[0] else None

    def with_quarantine(self) -> Iterator[tuple[int, Record, list[str]]]:
        """The number of each partition of which a done step left samples out, the record that says so, and the columns
        that lack them."""
        numbers: dict[str, int] = {}
        for manifest in self._manifests:
            for record in manifest.with_quarantine:
                numbers = numbers or {p.pid: n for n, p in enumerate(self.partitions)}
                number = numbers.get(str(record.meta.get("pid", record.id)))
                if number is not None:
                    yield number, record, [c for c in self.columns if self._offered.producers[c].space == record.space]

    # -- inside --------------------------------------------------------------------------------------------------------
    def _table(self, record: Record, columns: list[str]) -> Any:
        """The columns of a committed record, from what is kept or from storage; None while it is not committed."""
        key = (f"{record.space}/{record.id}", ",".join(columns))
        if (kept := self._recall(key)) is not None:
            return kept
        committed = self._committed(record)
        return (
            None if committed is None else self._keep(key, read_table(self.storage, committed.files[0].path, columns))
        )

    def _row(self, path: str, column: str, place: int) -> Any:
        """The row `place` of a column, as an array of one; None where the file ends before."""
        ends = self._ends_of.get(path)
        if ends is None:
            ends = self._ends_of[path] = group_ends(self.storage, path)
        number = bisect.bisect_right(ends, place)
        if number == len(ends):
            return None
        key = path, f"{column}/{number}"
        table = self._recall(key)
        if table is None:
            table = self._keep(key, read_group(self.storage, path, column, number))
        return table[column].slice(place - (ends[number - 1] if number else 0), 1)

    def _committed(self, record: Record) -> Record | None:
        """The record with its files; None while it is not committed."""
        whole = record if record.files else load_record(self.storage, record.space, record.id)
        return whole if whole is not None and whole.files else None

    def _recall(self, key: tuple[str, str]) -> Any:
        with self._lock:
            if key in self._cache:
                self._cache.move_to_end(key)
            return self._cache.get(key)

    def _keep(self, key: tuple[str, str], table: Any) -> Any:
        """Keep a table for whoever asks next; what was not asked for longest makes room."""
        with self._lock:
            if key not in self._cache:
                self._cache[key] = table
                self._kept += table.nbytes
            while self._kept > KEPT_BYTES and len(self._cache) > 1:
                self._kept -= self._cache.popitem(last=False)[1].nbytes
        return table


def _manifests(
    storage: Storage, steps: Iterable[PlannedStep], modalities: Mapping[str, Any]
) -> tuple[list[tuple[str, Manifest]], list[str]]:
    """The manifests of steps with samples, of those that are not done as they are forecast; and the names of these."""
    known: dict[str, Manifest] = {}
    running = []
    for step in steps:
        manifest = step.manifest
        if manifest is None and all(read in known for read in step.reads):
            try:
                inputs = {name: known[name] for name in step.reads}
                expected = step.stage.forecast(idle(storage, step, inputs, dict(modalities)))
            except HyperloomError:
                continue
            manifest = expected.manifest if expected else None
        if manifest is not None:
            known[step.name] = manifest
            running += [step.name] if step.manifest is None else []
    return [(name, m) for name, m in known.items() if Samples.of(m) is not None], running


def _columns(manifest: Manifest) -> list[str]:
    samples = Samples.of(manifest)
    return list(samples.columns) if samples else []


def _splits(steps: Iterable[PlannedStep]) -> dict[str, str]:
    """Group -> split, of the first shards that are done; a group is never cut."""
    for step in steps:
        shards = Shards.of(step.manifest) if step.manifest else None
        if shards is not None:
            return {group: name for name, size in shards.splits.items() for group in size.groups}
    return {}
