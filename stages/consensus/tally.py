"""Tallies: the first of the two passes of a consensus method that learns.

A unit is one partition; its file holds names and numbers that add up over units. They are few: for classes the
combinations of answers that occur, for numbers three sums a pair of sources.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

from hyperloom.pipeline.commits.units import Output, Record, Resources, Unit
from hyperloom.pipeline.fingerprint import SHORT, fingerprint
from hyperloom.pipeline.root.storage import Storage
from hyperloom.pipeline.stage import StepRun
from hyperloom.stages.consensus.methods import Method
from hyperloom.stages.label.graph import ExpertGraph

NAME, VALUE = "name", "value"


class TallyWorker:
    """Runs `method.tally` over the samples of a partition."""

    def __init__(self, method: Method, modalities: dict[str, Any], storage: Storage):
        self.method, self.modalities, self.storage = method, modalities, storage
        self.resources = Resources(method.cpus)

    def setup(self) -> None:
        pass

    def run(self, unit: Unit, out: Output) -> None:
        import pyarrow as pa

        from hyperloom.stages.label.samples import ExpertInputs
        from hyperloom.stages.table import write_table

        samples = ExpertInputs(self.storage, unit.payload, self.method, self.modalities)
        parts = []
        for row in samples.callable:
            sample = self.method.brought(samples.batch([int(row)]), self.modalities)
            parts.append(self.method.tally(sample, self.modalities))
        total = added(parts)
        out.rows = len(parts)
        out.meta["pid"] = unit.payload["pid"]
        arrays = {NAME: pa.array(list(total), pa.string()), VALUE: pa.array(list(total.values()), pa.float64())}
        out.write("parquet", write_table(arrays, [pa.field(n, a.type) for n, a in arrays.items()]))


def learned(step: StepRun, drawn: ExpertGraph) -> tuple[list[Method], list[Record]]:
    """The methods of a graph with their estimates, and the records of the units that this took."""
    methods: list[Method] = []
    records: list[Record] = []
    for node in drawn.nodes:
        method: Any = node.expert
        if method.learns:
            space = f"tally/{fingerprint([node.fingerprint])[:SHORT]}"
            units = [Unit(space, u.id, "tally", u.payload) for u in drawn.units() if u.space == node.space]
            new = list(step.run_units(units, {"tally": TallyWorker(method, step.modalities, step.storage)}))
            records += new
            method = method.estimated(added(_read(step.storage, r) for r in new), step.modalities)
        methods.append(method)
    return methods, records


def added(parts: Iterable[dict[str, float]]) -> dict[str, float]:
    """Sums by name, sorted; exactly rounded, so that they do not depend on an order."""
    values: dict[str, list[float]] = {}
    for part in parts:
        for name, value in part.items():
            values.setdefault(name, []).append(value)
    return {name: math.fsum(values) for name, values in sorted(values.items())}


def _read(storage: Storage, record: Record) -> dict[str, float]:
    from hyperloom.stages.table import read_table

    table = read_table(storage, record.file.path)
    return dict(zip(table[NAME].to_pylist(), table[VALUE].to_pylist(), strict=True))
