"""Stages and experts that do nothing, so that what they cost is the engine's own."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from hyperloom.pipeline.config import StepName
from hyperloom.pipeline.records import Records
from hyperloom.pipeline.stage import Stage, StepRun
from hyperloom.pipeline.storage import Storage
from hyperloom.pipeline.units import Output, Record, Resources, Unit
from hyperloom.stages.label.expert import Batch, Expert, Function
from hyperloom.stages.label.stage import Label
from hyperloom.stages.results import Labels


@dataclass
class Idle:
    """Does nothing; the engine still commits a record for it."""

    resources: Resources = Resources()

    def setup(self) -> None:
        pass

    def run(self, unit: Unit, out: Output) -> None:
        out.rows = 1


class Silent(Idle):
    """Writes next to nothing, but a file and a record like a label worker's."""

    def run(self, unit: Unit, out: Output) -> None:
        out.write("parquet", unit.id.encode())
        out.rows, out.meta["missing"] = 32, {"value@x": 0}


class Noop(Stage):
    """`count` units that make nothing; `data` are steps to wait for."""

    count: int = 1
    data: tuple[StepName, ...] = ()

    def run(self, step: StepRun) -> dict[str, Any]:
        units = [Unit(step.folder, f"u{i:06d}", "idle", {"number": i}) for i in range(self.count)]
        step.records = step.run_units(units, {"idle": Idle()})
        return {}


class Promised(Stage):
    """What an ingest step of `count` partitions leaves in its manifest, without any data."""

    count: int = 1

    def run(self, step: StepRun) -> dict[str, Any]:
        pids = [f"{i:016x}" for i in range(self.count)]
        about = {"group": "drive"}
        step.records = Records(Record("ingest/0", p, 32, (), 0, {**about, "first": 32 * i}) for i, p in enumerate(pids))
        columns = {"rgb@camera": {"space": "ingest/0", "fingerprint": "0", "about": {}}}
        return {
            "columns": columns,
            "group": "drive",
            "partitions": [[p, "drive", 32 * i, 32] for i, p in enumerate(pids)],
        }


class Stub(Label):
    """The label stage with its graph and its units, and workers that do nothing."""

    def run(self, step: StepRun) -> Labels:
        run_units = step.run_units
        step.run_units = lambda units, workers: run_units(units, dict.fromkeys(workers, Silent()))
        return super().run(step)


class Free(Expert):
    """The red channel at every fourth pixel: next to no work. `number` makes another expert of it."""

    number: int = 0

    def build(self, modalities: dict[str, Any], storage: Storage) -> Function:
        def call(batch: Batch) -> Batch:
            return {self.out[0]: batch[self.in_[0]][:, ::4, ::4, :1].astype(np.float32)}

        return call
