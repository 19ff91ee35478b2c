"""Stages and experts that do nothing, so that what they cost is the engine's own."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, ClassVar
from zlib import crc32

from hyperloom.pipeline.commits.records import Records
from hyperloom.pipeline.commits.units import Output, Record, Resources, Unit
from hyperloom.pipeline.config import StepName, placement
from hyperloom.pipeline.root.storage import Storage
from hyperloom.pipeline.stage import Forecast, Stage, StepRun
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


@dataclass
class Shaky(Silent):
    """Fails at the first attempt at one unit in 100, leaves a sample out in one of 1,000, and fails for ever at
    `broken` units of a million."""

    broken: int = 0

    def run(self, unit: Unit, out: Output) -> None:
        lot = crc32(unit.id.encode()) % 1_000_000
        if lot < self.broken:
            raise ValueError("this unit is broken")
        if lot % 100 == 1 and out.attempt == 1:
            raise ValueError("this unit fails once")
        super().run(unit, out)
        if lot % 1000 == 2:
            out.quarantine("a", ValueError("this sample is bad"))


@dataclass(frozen=True)
class Stream:
    """Units that are made as they are asked for."""

    space: str
    count: int

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[Unit]:
        return (Unit(self.space, f"{i:016x}", "shaky", {"pid": f"{i:016x}"}) for i in range(self.count))


class Many(Stage):
    """`count` small units with a file each, of which some fail (see `Shaky`)."""

    count: int = 1
    broken: int = placement(0)

    def run(self, step: StepRun) -> dict[str, Any]:
        step.records = step.run_units(Stream(step.folder, self.count), {"shaky": Shaky(broken=self.broken)})
        return {}

    def forecast(self, step: StepRun) -> Forecast:
        return Forecast(Stream(step.folder, self.count), step.manifest({}, {}))


class Sleeper(Idle):
    """Lasts `seconds`; `before` and `after` are called around them, in this process."""

    before: ClassVar[Callable[[], object]]
    after: ClassVar[Callable[[], object]]

    def __init__(self, seconds: float):
        super().__init__()
        self.seconds = seconds

    def run(self, unit: Unit, out: Output) -> None:
        type(self).before()
        time.sleep(self.seconds)
        type(self).after()
        super().run(unit, out)


class Long(Stage):
    """One unit that lasts `seconds`."""

    seconds: float = 1.0
    salt: str = ""

    def run(self, step: StepRun) -> dict[str, Any]:
        step.records = step.run_units([Unit(step.folder, "long", "sleeper", {})], {"sleeper": Sleeper(self.seconds)})
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
            return {self.out[0]: batch[self.in_[0]][:, ::4, ::4, :1].astype("float32")}

        return call


class Noted(Free):
    """`Free` that takes `ms` milliseconds a frame, and first appends to the file `log` how many frames a call got."""

    log: str = placement("")
    ms: float = placement(0.0)

    def build(self, modalities: dict[str, Any], storage: Storage) -> Function:
        inner = super().build(modalities, storage)

        def call(batch: Batch) -> Batch:
            count = len(batch[self.in_[0]])
            if self.log:
                with open(self.log, "a") as log:
                    log.write(f"{count}\n")
            time.sleep(count * self.ms / 1000)
            return inner(batch)

        return call
