"""The columns of an audit: each partition's part of the table of scores, as any column is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from hyperloom.pipeline.commits.units import Output, Resources, Unit
from hyperloom.stages.base import KEY, modality_of
from hyperloom.stages.modality import Modality
from hyperloom.stages.table import read_table, write_table


@dataclass
class ScoreWriter:
    """`out`: column -> which score. A unit's payload: {"table": path, "first": row, "rows": count}."""

    out: Mapping[str, str]
    modalities: dict[str, Modality]
    resources: Resources = field(default_factory=Resources)

    def setup(self) -> None:
        self._tables: dict[str, Any] = {}

    def run(self, unit: Unit, out: Output) -> None:
        path = unit.payload["table"]
        if path not in self._tables:
            self._tables = {path: read_table(out.storage, path, [KEY, *sorted(set(self.out.values()))])}
        table = self._tables[path].slice(unit.payload["first"], unit.payload["rows"])
        columns, fields = {KEY: table[KEY].combine_chunks()}, [table.schema.field(KEY).remove_metadata()]
        for column, score in self.out.items():
            modality = self.modalities[modality_of(column)]
            columns[column] = modality.encode([np.array([v], np.float32) for v in table[score].to_numpy()])
            fields.append(modality.field(column))
        out.rows = len(table)
        out.write("parquet", write_table(columns, fields))
