"""What a choice reads: the columns of all samples, each as few numbers as it needs, part by part."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from hyperloom.pipeline.commits.units import Output, Resources, Unit
from hyperloom.pipeline.errors import RecipeError
from hyperloom.stages.audit.features import features
from hyperloom.stages.audit.survey import read_aligned
from hyperloom.stages.base import KEY, modality_of
from hyperloom.stages.modality import Modality
from hyperloom.stages.select.picks import uncertainty
from hyperloom.stages.table import read_table, write_table

SLACK = 1e-3
"""What rounding leaves of a probability."""


@dataclass
class Gatherer:
    """`numbers`: columns of one number or class a sample, or of probabilities, which become their uncertainty;
    `cover`: the column of coverage. A unit's payload: {"keys": path, "columns": {column: path}}."""

    numbers: tuple[str, ...]
    cover: str
    modalities: dict[str, Modality]
    resources: Resources = field(default_factory=Resources)

    def setup(self) -> None:
        """Nothing is kept."""

    def run(self, unit: Unit, out: Output) -> None:
        import pyarrow as pa

        head = read_table(out.storage, unit.payload["keys"], [KEY])
        arrays = read_aligned(out.storage, unit.payload["columns"], head.column(KEY))
        columns: dict[str, Any] = {KEY: head.column(KEY).combine_chunks()}
        for column in self.numbers:
            try:
                values, valid = one_number(self.modalities[modality_of(column)], arrays.get(column), len(head))
            except ValueError as error:
                raise RecipeError(f"{column} is no order of samples: {error}") from error
            columns[column] = pa.array(values, mask=~valid)
        if self.cover and self.cover in arrays:
            modality = self.modalities[modality_of(self.cover)]
            values, valid = modality.decode(arrays[self.cover])
            rows = features(modality, values, valid)
            each = [row.tobytes() if known else None for row, known in zip(rows, valid, strict=True)]
            columns["feature"] = pa.array(each, pa.binary(4 * rows.shape[1]))
        out.rows = len(head)
        out.write("parquet", write_table(columns, [pa.field(n, a.type) for n, a in columns.items()]))


def one_number(modality: Modality, array: Any, rows: int) -> tuple[np.ndarray, np.ndarray]:
    """(N,) float64 and which are there: numbers, ids of classes, of probabilities how uncertain they are."""
    if array is None:
        return np.zeros(rows), np.zeros(rows, bool)
    values, valid = modality.decode(array)
    if modality.categorical and modality.shape == ():
        return values.astype(np.float64), valid & modality.known(values)
    if modality.shape == (1,):
        numbers = values[:, 0].astype(np.float64)
        return numbers, valid & np.isfinite(numbers)
    inside = values.reshape(len(values), -1)[valid]
    if len(inside) and (inside.min() < -SLACK or inside.max() > 1 + SLACK):
        raise ValueError(f"expected probabilities in 0..1, got {inside.min():.4g} to {inside.max():.4g}")
    unsure = uncertainty(values.astype(np.float64))
    return unsure, valid & np.isfinite(unsure)


def fits(modality: Modality) -> bool:
    """Can a column of this modality say which samples come first? A vector can whose numbers are called by classes."""
    single = modality.shape == (1,) or (modality.categorical and modality.shape == ())
    probable = modality.dtype.kind == "f" and len(modality.shape) == 1 and bool(modality.output_names)
    return bool(single or modality.soft or probable)
