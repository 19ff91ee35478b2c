"""The rows of one label unit: read from the files of other units, decoded batch by batch, joined by position.

All files of a partition have the same keys in the same order, so joining is reading; a difference raises
IntegrityError. For an expert that asks for frames before or after, the rows of neighbouring partitions lie around the
unit's own. Only the columns asked for are read.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from hyperloom.pipeline.commits.units import load_record
from hyperloom.pipeline.errors import IntegrityError, RecipeError
from hyperloom.pipeline.root.storage import Storage
from hyperloom.stages.base import INDEX, KEY, TIME, modality_of
from hyperloom.stages.label.expert import Batch, Expert
from hyperloom.stages.table import read_table

Reads = dict[str, list[str]]
"""Column -> [space, id] of the unit that made it, for one partition."""


class ExpertInputs:
    """One unit's rows. `keys` are their names; `callable` the rows (positions) that the expert can be asked about."""

    def __init__(self, storage: Storage, payload: dict[str, Any], expert: Expert, modalities: dict[str, Any]):
        self._expert, self._modalities = expert, modalities
        self._columns = _read(storage, payload["columns"], keys=True)
        self.keys: list[str] = self._columns.pop(KEY).to_pylist()
        self._context = _Context(storage, payload, self._columns, expert, modalities) if "before" in payload else None
        present = [self._there(column) for column in expert.in_]
        complete = np.any(present, axis=0) if expert.accepts_missing else np.all(present, axis=0)
        self.callable = np.flatnonzero(complete & self._chosen())

    def batch(self, rows: Sequence[int]) -> Batch:
        """What the expert's function gets for these rows. Raises what decoding raises."""
        at = np.asarray(rows)
        columns: Batch = {}
        for column in self._expert.in_:
            columns[column], valid = self._decoded(column, at)
            if self._expert.accepts_missing:
                columns[f"{column}?"] = valid
        if self._context is not None:
            columns.update(self._context.batch(at))
        return columns

    def _chosen(self) -> Any:
        """Which rows the expert is to be asked about."""
        if not self._expert.only:
            return True
        values, valid = self._modalities[modality_of(self._expert.only)].decode(self._columns[self._expert.only])
        return valid & (values.reshape(len(values), -1)[:, 0] > 0)

    def _there(self, column: str) -> np.ndarray:
        if column not in self._columns:
            return np.zeros(len(self.keys), bool)
        return self._columns[column].is_valid().to_numpy(zero_copy_only=False)

    def _decoded(self, column: str, at: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        modality = self._modalities[modality_of(column)]
        if column not in self._columns:
            return np.full((len(at), *modality.shape), modality.missing, modality.dtype), np.zeros(len(at), bool)
        return modality.decode(_taken(self._columns[column], at))


class _Context:
    """The unit's rows with those of its neighbours around them, for the columns that are wanted with an offset."""

    def __init__(
        self, storage: Storage, payload: dict[str, Any], own: dict[str, Any], expert: Expert, modalities: dict[str, Any]
    ):
        import pyarrow as pa

        self._offsets = expert.offsets()
        self._modalities = modalities
        before = [_read(storage, reads) for reads in payload["before"]]
        after = [_read(storage, reads) for reads in payload["after"]]
        self._first = sum(len(part[INDEX]) for part in before)
        parts = [*before, own, *after]
        if expert.timed and any(TIME not in part for part in parts):
            raise RecipeError(
                f"the expert {expert.type!r} goes by the seconds at which frames are shown, and only samples of videos "
                "have those. Next: leave out max_seconds"
            )
        heads = (INDEX, TIME) if expert.timed else (INDEX,)
        self._columns = {c: pa.concat_arrays([part[c] for part in parts]) for c in (*self._offsets, *heads)}
        self._heads = {head: self._columns[head].to_numpy(zero_copy_only=False) for head in heads}
        self._index = self._heads[INDEX]
        present = [self._columns[c].is_valid().to_numpy(zero_copy_only=False) for c in self._offsets]
        self._there = np.all(present, axis=0)

    def batch(self, at: np.ndarray) -> Batch:
        """`column[offset]` for every offset wanted, `index` and `index[offset]`; likewise `time` for who goes by it."""
        columns: Batch = {head: values[at + self._first] for head, values in self._heads.items()}
        for column, offsets in self._offsets.items():
            modality = self._modalities[modality_of(column)]
            for offset in offsets:
                places = self._places(at, offset)
                columns[f"{column}[{offset}]"] = modality.decode(_taken(self._columns[column], places))[0]
                columns |= {f"{head}[{offset}]": values[places] for head, values in self._heads.items()}
        return columns

    def _places(self, at: np.ndarray, offset: int) -> np.ndarray:
        """Positions of the neighbours; a row's own position where there is none."""
        own = at + self._first
        other = own + offset
        inside = (other >= 0) & (other < len(self._index))
        inside[inside] = self._there[other[inside]]
        return np.where(inside, other, own)


def _read(storage: Storage, reads: Reads, keys: bool = False) -> dict[str, Any]:
    """Arrow arrays by column, and the keys; each file is opened once."""
    import pyarrow as pa

    arrays: dict[str, Any] = {}
    for (space, id_), columns in _by_unit(reads).items():
        record = load_record(storage, space, id_)
        if record is None:
            raise IntegrityError(
                f"the unit {space}/{id_} has no record, though it was done. Next: run the same command again"
            )
        named = [column for column in columns if column != TIME]
        table = read_table(storage, record.file.path, [*([KEY] if keys else []), *named], [TIME] * (TIME in columns))
        for column in table.column_names:
            array = table[column].combine_chunks()
            array = pa.concat_arrays(array.chunks) if isinstance(array, pa.ChunkedArray) else array
            if column == KEY and KEY in arrays and not arrays[KEY].equals(array):
                raise IntegrityError(
                    f"{storage.full(record.file.path)} has other samples than its companions. Next: hyperloom verify"
                )
            arrays[column] = array
    return arrays


def _by_unit(reads: Reads) -> dict[tuple[str, str], list[str]]:
    units: dict[tuple[str, str], list[str]] = {}
    for column, (space, id_) in reads.items():
        units.setdefault((space, id_), []).append(column)
    return units


def _taken(array: Any, at: Iterable[int] | np.ndarray) -> Any:
    """Rows of an Arrow array: a view where they follow each other, else a copy."""
    at = np.asarray(at)
    if len(at) and (np.diff(at) == 1).all():
        return array.slice(int(at[0]), len(at))
    return array.take(at)
