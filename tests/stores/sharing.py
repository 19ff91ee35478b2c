"""A stage whose units two recipes share, and which notes in a file of its own each unit that is worked on. Where a file
`.hold` lies beside that one, its process stops itself in its first unit, as by Ctrl-Z."""

from __future__ import annotations

import os
import signal
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hyperloom.pipeline.commits.units import Output, Resources, Unit
from hyperloom.pipeline.config import placement
from hyperloom.pipeline.stage import Stage, StepRun


@dataclass
class Labeller:
    log: str
    resources: Resources = field(default_factory=Resources)

    def setup(self) -> None:
        pass

    def run(self, unit: Unit, out: Output) -> None:
        with Path(self.log).open("a") as log:
            log.write(f"{unit.space}/{unit.id}\n")
        if (hold := Path(self.log).with_suffix(".hold")).exists():
            hold.unlink()
            os.kill(os.getpid(), signal.SIGSTOP)
        time.sleep(0.1)
        out.write("txt", unit.id.encode())
        out.rows = 1


class Labelling(Stage):
    """`count` units of each expert, in a space of its own."""

    experts: tuple[str, ...]
    count: int = 12
    log: str = placement("")

    def run(self, step: StepRun) -> dict[str, Any]:
        units = [Unit(f"expert/{e}", f"u{i:02d}", "w") for i in range(self.count) for e in self.experts]
        step.records = step.run_units(units, {"w": Labeller(self.log)})
        return {"units": len(units)}
