"""What a table declares of its own fields: units and ranges where Hyperloom wrote it, names of classes where a data set
did. Other tables declare nothing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import lru_cache
from typing import Any

from hyperloom.pipeline.errors import RecipeError
from hyperloom.stages.base import modality_of
from hyperloom.stages.ingest.cell import CLASS_LABEL, Cell, classes_of
from hyperloom.stages.ingest.rows import described, features
from hyperloom.stages.ingest.sidefile import fetch
from hyperloom.stages.meaning import Meaning, MeaningsDiffer, translation


class Declared:
    """Of the table at `path` with this digest."""

    def __init__(self, path: str, sha256: str):
        self.path, self.sha256 = path, sha256
        self._parquet = path.lower().endswith(".parquet")

    def feature(self, cell: Cell) -> Any:
        """The type of a cell's field as a data set writes it, where it has names for numbers; else None."""
        if cell.names:
            return {"_type": CLASS_LABEL, "names": list(cell.names)}
        return _features(self.path, self.sha256).get(cell.field) if cell.field and self._parquet else None

    def compare(self, cells: Mapping[str, Cell], modalities: Mapping[str, Any]) -> None:
        """Raise RecipeError where it holds numbers in another unit or range than the recipe's (its classes are names),
        and where a data set's classes are other ones than a column's."""
        for column, cell in cells.items():
            names, ours = classes_of(self.feature(cell)), modalities[modality_of(column)].counted
            if names and ours and not set(names) & set(ours):
                what = f"the field {cell.field!r} counts {', '.join(names)}, and {column} knows {', '.join(ours)}"
                raise RecipeError(
                    f"{self.path}: {what}. Next: take these classes, or {{field: {cell.field}, names: [..]}}"
                )
        noted = _described(self.path, self.sha256) if self._parquet else {}
        for column, cell in cells.items():
            about, meaning = noted.get(cell.field, {}), modalities[modality_of(column)].meaning
            if not {"unit", "range"} & set(about):
                continue
            limits = tuple(about["range"]) if about.get("range") else None
            stored, ours = Meaning(unit=about.get("unit", ""), range=limits), replace(meaning, names=(), further=())
            try:
                how, why = translation(stored, ours, (f"the field {cell.field!r}", column)), ""
                why = f"the unit of the field {cell.field!r}: {stored.unit}; of {column}: {ours.unit}" if how else ""
            except MeaningsDiffer as error:
                why = str(error)
            if why:
                raise RecipeError(f"{self.path}: {why}. Next: give the modality the unit and range of the table")


@lru_cache(8)
def _described(path: str, sha256: str) -> dict[str, dict[str, Any]]:
    return described(fetch(path))


@lru_cache(8)
def _features(path: str, sha256: str) -> dict[str, Any]:
    return features(fetch(path))
