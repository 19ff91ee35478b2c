"""The survey: one look at every value of a part of the samples, kept as small numbers for the judgement over all.

A unit is a part (partition or shard). Its file has a row a sample: key, group, index, a digest of what the sample is
(`content`), the signature of its picture (`likeness`), `feature`, `fault` (what is constant or empty, in words),
and by what is asked of: `label:`, `marks:`, `shares:` with `cells`, `ids:` with `cut:`, `differ:`, `student:`. It is
of the part alone, so new data costs its own parts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from hyperloom.pipeline.commits.units import Output, Resources, Unit
from hyperloom.pipeline.root.storage import Storage
from hyperloom.stages.audit import cells
from hyperloom.stages.audit.compared import MISSING
from hyperloom.stages.audit.features import boxed, counts_units, features, ids_dtype, marks
from hyperloom.stages.base import GROUP, INDEX, KEY, modality_of
from hyperloom.stages.measure.apart import ColumnPair, disagreement
from hyperloom.stages.modality import Modality
from hyperloom.stages.shard import content, likeness
from hyperloom.stages.table import read_table, write_table

FLAT = 2 * float(np.finfo(np.float32).eps)
"""Of the largest number of a value: one that varies less is constant."""


@dataclass(frozen=True)
class AuditQuestions:
    """What an audit looks at: columns that are `labels`, those that `features` are made of, the `picture`, those that
    say what a sample is (`telling`), columns `beside` each other by modality, and `student`, a model's answer by label
    column."""

    labels: tuple[str, ...] = ()
    features: tuple[str, ...] = ()
    picture: str = ""
    telling: tuple[str, ...] = ()
    beside: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    student: Mapping[str, str] = field(default_factory=dict)

    @property
    def columns(self) -> list[str]:
        """All that is read."""
        beside = [c for columns in self.beside.values() for c in columns]
        named = [*self.labels, *self.features, self.picture, *self.telling, *beside, *self.student.values()]
        return sorted({c for c in named if c})


@dataclass
class Surveyor:
    """A unit's payload: {"keys": path, "columns": {column: path}}."""

    questions: AuditQuestions
    modalities: dict[str, Modality]
    resources: Resources = field(default_factory=Resources)

    def setup(self) -> None:
        import cv2

        cv2.setNumThreads(1)

    def run(self, unit: Unit, out: Output) -> None:
        import pyarrow as pa

        head = read_table(out.storage, unit.payload["keys"], [KEY, GROUP, INDEX])
        arrays = read_aligned(out.storage, unit.payload["columns"], head.column(KEY))
        rows = len(head)
        values = {c: self._decoded(c, arrays.get(c), rows) for c in self.questions.columns}
        table: dict[str, Any] = {name: head.column(name).combine_chunks() for name in (KEY, GROUP, INDEX)}
        telling = [arrays[c] for c in self.questions.telling if c in arrays]
        digests = content.digests(telling) if telling else np.zeros(rows, "<u8")
        table["content"] = pa.array(digests.astype(np.uint64))
        table["fault"] = pa.array(faults(values, self.modalities, (*self.questions.features, *self.questions.telling)))
        table |= {name: _stored(name, array) for name, array in self._looked(values, rows).items()}
        table |= self._boxes(values)
        out.rows = rows
        out.meta = {"group": str(head.column(GROUP)[0]) if rows else ""}
        out.write("parquet", write_table(table, [pa.field(n, a.type) for n, a in table.items()]))

    def _decoded(self, column: str, array: Any, rows: int) -> tuple[np.ndarray, np.ndarray]:
        modality = self.modalities[modality_of(column)]
        if array is None:
            return np.zeros((rows, *modality.shape), modality.dtype), np.zeros(rows, bool)
        return modality.decode(array)

    def _looked(self, values: Mapping[str, Any], rows: int) -> dict[str, np.ndarray]:
        output: dict[str, np.ndarray] = {}
        if self.questions.features:
            parts = [features(self.modalities[modality_of(c)], *values[c]) for c in self.questions.features]
            output["feature"] = np.concatenate(parts, 1)
        image = values.get(self.questions.picture)
        if image is not None:
            signed = [likeness.signature(v) if ok else np.zeros(likeness.BYTES, np.int8) for v, ok in zip(*image)]
            output["likeness"] = np.stack(signed) if signed else np.zeros((0, likeness.BYTES), np.int8)
        for column in self.questions.labels:
            output |= self._label(column, values, rows)
        for name, columns in self.questions.beside.items():
            kind = self.modalities[name]
            answers = exact({c: values[c] for c in columns}, kind) if counts_units(kind) else values
            apart = disagreement({c: answers[c] for c in columns}, kind)
            if apart is not None:
                output[f"differ:{name}"] = apart.astype(np.float32)[:, None]
        return output

    def _label(self, column: str, values: Mapping[str, Any], rows: int) -> dict[str, np.ndarray]:
        modality, (labels, valid) = self.modalities[modality_of(column)], values[column]
        student = self.questions.student.get(column)
        answer = values[student] if student else None
        if marks(modality):
            return {f"marks:{column}": np.where(valid[:, None], labels, 255).astype(np.uint8)}
        if modality.categorical and modality.shape == ():
            ids = np.where(valid & modality.known(labels), labels, -1).astype(np.int64)
            output = {f"label:{column}": ids[:, None]}
            if student and answer is not None:
                output[f"student:{column}"] = _told(
                    self.modalities[modality_of(student)], answer, len(modality.counted)
                )
            return output
        if not (modality.categorical and modality.height_width and self.questions.picture):
            return {}
        return self._mask(column, modality, values, rows)

    def _mask(self, column: str, modality: Modality, values: Mapping[str, Any], rows: int) -> dict[str, np.ndarray]:
        images, seen = values[self.questions.picture]
        size, classes = cells.grid(modality.height_width), len(modality.counted)
        empty = np.zeros((size[0] * size[1], classes), np.uint8)
        own = [cells.base(image, size) for image in images]

        def shares(source: str) -> np.ndarray:
            ids, valid = values[source]
            kept = [cells.shares(v, classes, size) if ok and s else empty for v, ok, s in zip(ids, valid, seen)]
            return np.stack(kept).reshape(rows, -1)

        output = {"cells": np.stack(own).astype(np.float16).reshape(rows, -1), f"shares:{column}": shares(column)}
        student = self.questions.student.get(column)
        if student and modality_of(student) == modality_of(column):
            output[f"student:{column}"] = shares(student)
        return output

    def _boxes(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Class and cut-out of each box, as lists of bytes."""
        import pyarrow as pa

        output: dict[str, Any] = {}
        for column in self.questions.labels:
            kind = self.modalities[modality_of(column)]
            if not (boxed(kind) and self.questions.picture):
                continue
            images, seen = values[self.questions.picture]
            ids, cut = [], []
            for image, boxes, known in zip(images, values[column][0], seen & values[column][1], strict=True):
                used = boxes[np.isfinite(boxes[:, 0])] if known else boxes[:0]
                ids.append(used[:, 4].astype(ids_dtype(len(kind.counted))).tobytes())
                cut.append(cells.cut_outs(image, used).astype(np.float16).tobytes())
            output |= {f"ids:{column}": pa.array(ids, pa.binary()), f"cut:{column}": pa.array(cut, pa.binary())}
        return output


def exact(columns: Mapping[str, ColumnPair], modality: Modality) -> dict[str, ColumnPair]:
    """Columns of numbers in which those that differ by the rounding of stored numbers alone are the same."""
    output: dict[str, ColumnPair] = {}
    for column, (values, valid) in columns.items():
        for others, _ in output.values():
            with np.errstate(invalid="ignore", over="ignore"):
                values = np.where(np.abs(values - others) <= _rounding(values, others, modality), others, values)
        output[column] = (values, valid)
    return output


def _rounding(one: np.ndarray, other: np.ndarray, modality: Modality) -> np.ndarray | float:
    """One step of stored numbers and one of memory's float32, at the larger of two."""
    if modality.stored.kind != "f":
        return 1.01 * abs(modality.scale)
    stored = np.fmax(np.abs(one - modality.offset), np.abs(other - modality.offset)).astype(modality.stored)
    return np.spacing(stored).astype(np.float32) + np.spacing(np.fmax(np.abs(one), np.abs(other)))


def faults(
    values: Mapping[str, tuple[np.ndarray, np.ndarray]], modalities: Mapping[str, Modality], columns: Sequence[str]
) -> list[str]:
    """For each sample what is empty or constant of these columns, in words; nothing of one that is as it should be."""
    rows = len(next(iter(values.values()))[1]) if values else 0
    stated: list[list[str]] = [[] for _ in range(rows)]
    for column in dict.fromkeys(columns):
        modality, (value, valid) = modalities[modality_of(column)], values[column]
        for i in np.flatnonzero(~valid).tolist():
            stated[i].append(MISSING.format(column))
        for i, what in _constant(modality, value) if len(value) else ():
            if valid[i]:
                stated[i].append(f"{column} {what}")
    return ["; ".join(words) for words in stated]


def _constant(modality: Modality, value: np.ndarray) -> list[tuple[int, str]]:
    flat = value.reshape(len(value), -1)
    if modality.textual:
        return [(i, "is empty") for i, row in enumerate(value) if not modality.words(row).strip()]
    if flat.shape[1] < content.LARGE:
        return []
    if flat.dtype.kind == "f":
        known = np.isfinite(flat)
        spread = np.where(known, flat, -np.inf).max(1) - np.where(known, flat, np.inf).min(1)
        size = np.where(known, np.abs(flat), 0).max(1)
        what = "is one value" if known.any() else "is unknown all over"
        return [(int(i), what) for i in np.flatnonzero(~(spread > FLAT * size))]
    return [(int(i), "is one value") for i in np.flatnonzero(flat.max(1) == flat.min(1))]


def _told(modality: Modality, answer: tuple[np.ndarray, np.ndarray], classes: int) -> np.ndarray:
    """(N, classes) float16 probabilities of a student's answers; zeros where it has none."""
    values, valid = answer
    if modality.categorical:
        spread = np.full((len(values), classes), 0.1 / max(1, classes), np.float16)
        known = valid & modality.known(values)
        spread[np.flatnonzero(known), values[known]] += np.float16(0.9)
        return np.where(known[:, None], spread, 0)
    shares = np.where(valid[:, None], np.clip(values.reshape(len(values), -1), 0, None), 0)
    return (shares / np.maximum(shares.sum(1, keepdims=True), 1e-9)).astype(np.float16)


def _stored(name: str, array: np.ndarray) -> Any:
    """An Arrow column of bytes of one length, or of numbers where a sample has one by nature."""
    import pyarrow as pa

    if name.startswith(("label:", "differ:")):
        return pa.array(array[:, 0])
    rows = np.ascontiguousarray(array)
    width = rows.itemsize * rows.shape[1]
    return pa.Array.from_buffers(pa.binary(width), len(rows), [None, pa.py_buffer(rows.tobytes())])


def read_aligned(storage: Storage, files: Mapping[str, str], keys: Any) -> dict[str, Any]:
    """Arrow arrays by column, in the order of `keys`."""
    import pyarrow as pa
    import pyarrow.compute as pc

    by_path: dict[str, list[str]] = {}
    for column, path in files.items():
        by_path.setdefault(path, []).append(column)
    arrays: dict[str, Any] = {}
    for path, columns in sorted(by_path.items()):
        table = read_table(storage, path, [KEY, *columns])
        if not table.column(KEY).equals(keys):
            table = table.take(pc.index_in(keys, table.column(KEY)))
        for column in columns:
            chunked = table.column(column)
            arrays[column] = pa.concat_arrays(chunked.chunks) if chunked.num_chunks != 1 else chunked.chunk(0)
    return arrays
