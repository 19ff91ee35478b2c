"""A small pipeline of its own for tests of the engine: numbers are made, squared and summed, in units.

It uses the engine as any user's plug-in would (`stage: tests.toy:Numbers`), so engine tests need no label or model.
"""

from __future__ import annotations

import json
import os
import signal
import time
from dataclasses import dataclass, field
from typing import Any

from hyperloom.pipeline.commits.units import Output, Resources, Unit, load_record
from hyperloom.pipeline.config import StepName, placement
from hyperloom.pipeline.errors import BadSample
from hyperloom.pipeline.root.digests import Digests
from hyperloom.pipeline.stage import Stage, StepRun

QUARANTINING = """\
name: toy
root: {root}
modalities: {{}}
steps:
  a: {{stage: "tests.toy:Numbers", trouble: quarantine, max_quarantine: 1}}
  c: {{stage: "tests.toy:Squares", data: a}}
  e: {{stage: "tests.toy:Sum", data: [a, c]}}
"""
"""A recipe with a sample in quarantine, but for its `root`."""


@dataclass
class Writer:
    """Writes a unit's numbers; `trouble` makes it misbehave as a real worker might."""

    trouble: str = ""
    pause: float = 0.0
    resources: Resources = field(default_factory=Resources)

    def setup(self) -> None:
        pass

    def run(self, unit: Unit, out: Output) -> None:
        time.sleep(self.pause)
        numbers = unit.payload["numbers"]
        for path in unit.payload.get("read", []):
            record = load_record(out.storage, *path)
            assert record is not None, path
            numbers = [n * n for n in json.loads(out.storage.read(record.file.path))]
        if unit.id == "u3":
            self._misbehave(out)
        kept = [n for n in numbers if not out.left_out or n != numbers[0]]
        out.write("json", json.dumps(kept).encode())
        out.rows = len(kept)

    def _misbehave(self, out: Output) -> None:
        if self.trouble == "raise":
            raise ValueError("a worker's own mistake")
        if self.trouble == "raise-once" and out.attempt == 1:
            raise ValueError("a passing mistake")
        if self.trouble == "die-twice" and out.attempt <= 2:
            os.kill(os.getpid(), signal.SIGKILL)
        if self.trouble == "quarantine":
            out.quarantine("u3/0", BadSample("u3/0", "a bad sample"))


class Numbers(Stage):
    """`units` units of `each` numbers from `start`. `salt` bears meaning, `pause` and `trouble` do not."""

    units_: int = 4
    each: int = 3
    start: int = 0
    salt: str = ""
    trouble: str = placement("")
    pause: float = placement(0.0)
    file: str | None = placement(None)

    def facts(self, digests: Digests) -> dict[str, Any]:
        return {"file": digests.file(self.file).sha256} if self.file else {}

    def run(self, step: StepRun) -> dict[str, Any]:
        units = [
            Unit(step.folder, f"u{i}", "w", {"numbers": [self.start + i * self.each + k for k in range(self.each)]})
            for i in range(self.units_)
        ]
        step.records = step.run_units(units, {"w": Writer(self.trouble, self.pause)})
        return {"total": sum(r.rows for r in step.records)}


class Squares(Stage):
    """Reads numbers, in two layers of units that depend on each other."""

    data: StepName
    salt: str = ""
    trouble: str = placement("")

    def run(self, step: StepRun) -> dict[str, Any]:
        read = step.inputs[self.data]
        first = [Unit(step.folder, f"{r.id}-a", "w", {"numbers": [], "read": [[r.space, r.id]]}) for r in read.records]
        second = [Unit(step.folder, u.id[:-2], "w", {"numbers": [], "read": [u.key]}, after=(u.key,)) for u in first]
        step.records = step.run_units([*first, *second], {"w": Writer(self.trouble)})
        step.write("note.txt", b"squared")
        return {}


class Busy(Stage):
    """Works for a minute by itself, and hears nothing meanwhile."""

    def run(self, step: StepRun) -> dict[str, Any]:
        time.sleep(60)
        return {}


class Sum(Stage):
    """Reads several steps without units."""

    data: list[StepName]
    remark: str = placement("")

    def run(self, step: StepRun) -> dict[str, Any]:
        total = 0
        if self.remark:
            step.events.emit("table", step.name, name="remarks", rows=[{"remark": self.remark}])
        for name in self.data:
            for record in step.inputs[name].records:
                total += sum(json.loads(step.storage.read(record.file.path)))
        step.events.metric(step.name, {"total": total}, at=1)
        return {"total": total}
