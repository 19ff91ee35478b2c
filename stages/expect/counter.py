"""The worker that counts what is expected: statistics of one column of one file, as shards have them.

A unit is named by the content of its file, so a file that two steps hold, or that a rerun leaves as it was, is read
once. Its records are in no manifest: they are no part of what a step made, and losing them costs reading again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from hyperloom.pipeline.commits.units import File, Output, Resources, Unit, Worker
from hyperloom.pipeline.fingerprint import SHORT, fingerprint, payload
from hyperloom.pipeline.stage import StepRun
from hyperloom.stages.base import modality_of
from hyperloom.stages.table import read_table

REVISION = 2
FIGURES = "figures"


@dataclass
class Counter:
    """Counts columns of the recipe's `modalities`."""

    modalities: dict[str, Any]
    resources: Resources = field(default_factory=Resources)

    def setup(self) -> None:
        pass

    def run(self, unit: Unit, out: Output) -> None:
        from hyperloom.stages.shard.statistics import ColumnCounter

        column = unit.payload["column"]
        kind = self.modalities[modality_of(column)]
        counter = ColumnCounter(kind)
        rows, present = kind.unpack(read_table(out.storage, unit.payload["path"], [column])[column])
        counter.add(rows, present)
        figures = counter.figures()
        out.rows, out.meta = len(rows), {FIGURES: figures}


def counted(step: StepRun, column: str, files: Sequence[File]) -> list[dict[str, Any]]:
    """The additive figures of each file (`stages.shard.statistics`), in their order."""
    kind = step.modalities[modality_of(column)]
    revision = [REVISION, *(["crowds"] if kind.markup == "masks" else [])]  # which were things among the others
    revision += ["small"] if kind.dtype.kind == "f" and not kind.counted and not kind.limits else []  # were all zero
    space = f"expect/{fingerprint([*revision, column, payload(kind)])[:SHORT]}"
    ids = [file.sha256[:16] for file in files]
    units = {i: Unit(space, i, "expect", {"column": column, "path": f.path}) for i, f in zip(ids, files, strict=True)}
    workers: dict[str, Worker] = {"expect": Counter({modality_of(column): kind})}
    done = {record.id: record.meta[FIGURES] for record in step.run_units(list(units.values()), workers)}
    return [done[i] for i in ids]
