"""Steps side by side: how long three independent steps of one slot take against one of them alone.

    .venv/bin/python -m benchmarks.side_by_side [--seconds 20] [--cpus 3]

Each step is one unit that waits, so the figure is the engine's own and holds on any number of real cores: 1.0 is
perfect, 3.0 is one after the other. The cluster is private and started before the clock runs. The last line is one JSON
object: `ratio`, and the seconds of `alone` and `beside`.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hyperloom.clusters.connect import connect, disconnect
from hyperloom.clusters.spec import Cluster
from hyperloom.pipeline.commits.units import Output, Resources, Unit
from hyperloom.pipeline.output.progress import Progress
from hyperloom.pipeline.recipes import recipe
from hyperloom.pipeline.running.runner import run
from hyperloom.pipeline.stage import Stage, StepRun


@dataclass
class Sleeper:
    """Waits as long as its unit says."""

    resources: Resources = Resources()

    def setup(self) -> None:
        pass

    def run(self, unit: Unit, out: Output) -> None:
        time.sleep(unit.payload["seconds"])
        out.rows = 1


class Waiting(Stage):
    """One unit of `seconds`."""

    seconds: float
    number: int

    def run(self, step: StepRun) -> dict[str, Any]:
        units = [Unit(step.folder, "wait", "sleeper", {"seconds": self.seconds})]
        step.records = step.run_units(units, {"sleeper": Sleeper()})
        return {}


def timed(root: Path, steps: int, seconds: float, cluster: Cluster) -> float:
    """Seconds of a run of so many independent steps."""
    lines = [
        f'  s{i}: {{stage: "benchmarks.side_by_side:Waiting", seconds: {seconds}, number: {i}}}' for i in range(steps)
    ]
    text = "\n".join(["name: side-by-side", f"root: {root}", "modalities: {}", "steps:", *lines])
    began = time.monotonic()
    outcome = run(
        recipe.parse(text, "side_by_side.yaml"),
        lambda: connect(cluster),
        progress=Progress(quiet=True),
        track=False,
    )
    assert outcome.ok, outcome.problems
    return time.monotonic() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=20.0, help="how long each step's unit waits")
    parser.add_argument("--cpus", type=int, default=3, help="slots of the private cluster")
    given = parser.parse_args()
    cluster = Cluster(address="local", cpus=given.cpus)
    with tempfile.TemporaryDirectory() as folder:
        connect(cluster)
        timed(Path(folder, "first"), 1, 0.1, cluster)  # starts and imports, once
        alone = timed(Path(folder, "alone"), 1, given.seconds, cluster)
        beside = timed(Path(folder, "beside"), 3, given.seconds, cluster)
        disconnect()
    result = {
        "benchmark": "side_by_side",
        "seconds": given.seconds,
        "cpus": given.cpus,
        "load": round(os.getloadavg()[0], 1),
        "alone": round(alone, 2),
        "beside": round(beside, 2),
        "ratio": round(beside / alone, 2),
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
