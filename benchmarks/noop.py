"""A stage whose units do nothing, so that what they cost is the engine's own: `stage: benchmarks.noop:Noop`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pipeline.config import StepName
from pipeline.stage import Stage, StepRun
from pipeline.units import Output, Resources, Unit


@dataclass
class Idle:
    """Does nothing; the engine still commits a record for it."""

    resources: Resources = Resources()

    def setup(self) -> None:
        pass

    def run(self, unit: Unit, out: Output) -> None:
        out.rows = 1


class Noop(Stage):
    """`count` units that make nothing; `data` are steps to wait for."""

    count: int = 1
    data: tuple[StepName, ...] = ()

    def run(self, step: StepRun) -> dict[str, Any]:
        units = [Unit(step.folder, f"u{i:06d}", "idle", {"number": i}) for i in range(self.count)]
        step.records = step.run_units(units, {"idle": Idle()})
        return {}
