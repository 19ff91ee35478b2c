"""Plug-ins that take their time and write down what they do, so that work on several hosts can be counted."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hyperloom.pipeline.config import placement
from hyperloom.pipeline.root.storage import Storage
from hyperloom.stages.augment.views import Augment
from hyperloom.stages.label.expert import Batch, Expert, Function

PATIENCE_SECONDS = 120.0
"""How long the first units wait for the other hosts."""


def note(log: str, **what: Any) -> None:
    """Add a line to `log`, whole, whoever else writes there. A host is known by its network."""
    line = {"host": os.readlink("/proc/self/ns/net"), "pid": os.getpid(), "at": time.time(), **what}
    with open(log, "ab", buffering=0) as file:
        file.write(json.dumps(line).encode() + b"\n")


def notes(log: Path) -> list[dict[str, Any]]:
    """What was written down, in order."""
    return [json.loads(line) for line in log.read_bytes().splitlines()] if log.exists() else []


class Paced(Expert):
    """The mean of a picture, `seconds` a batch later; the first batches wait until `hosts` hosts have begun one."""

    seconds: float = placement(0.0)
    hosts: int = placement(1)
    log: str = placement()

    def build(self, modalities: dict[str, Any], storage: Storage) -> Function:
        def call(batch: Batch) -> Batch:
            pictures = batch[self.in_[0]]
            means = pictures.astype("float32").mean((1, 2, 3), dtype="float64").astype("float32")
            note(self.log, unit=means[:1].tobytes().hex())
            end = time.monotonic() + PATIENCE_SECONDS
            while time.monotonic() < end and self._at_work() < self.hosts:
                time.sleep(0.1)
            time.sleep(self.seconds)
            planes = means[:, None, None, None] + 0 * pictures[..., :1].astype("float32")
            return {self.out[0]: planes}

        return call

    def _at_work(self) -> int:
        return len({n["host"] for n in notes(Path(self.log)) if "unit" in n})


class Slow(Augment):
    """Changes nothing, `seconds` an update later."""

    seconds: float = placement(0.0)
    log: str = placement()

    def draw(self, columns: Mapping[str, Any], count: int, part: slice, generator: Any) -> Any:
        return {"update": generator.initial_seed(), "first": part.start}

    def apply(self, batch: Any, columns: Mapping[str, Any], drawn: Mapping[str, Any]) -> Any:
        time.sleep(self.seconds)
        note(self.log, **drawn)
        return batch
