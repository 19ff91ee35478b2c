"""What the engine costs for each unit: `python -m benchmarks.engine [--units N] [--cpus N]`.

Units that do nothing go through the runner: planned, noted before they start, sent in groups, committed by an
exclusively created record each, and gathered into a manifest. Runs with few and with many units are compared, so
start-up cancels out: what is reported is the slope, medians of `--repeats`.

`ray_ms`            wall time of a unit on a private Ray
`driver_cpu_ms`     CPU time of the driver for it, which bounds how many units a second any cluster can take
`inline_ms`         the same without Ray, in this process
`record_ms`         of which: creating the record alone, in a bare loop on the same disk
`bare_ray_ms`       a hand-written loop with the same number of actors: one call a unit, which creates the same record
The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import hyperloom.stages  # noqa: F401  registers the plug-ins
from benchmarks.noop import Idle
from hyperloom.clusters.connect import connect, disconnect
from hyperloom.clusters.spec import Cluster
from hyperloom.pipeline.commits.units import Record, Unit, execute, record_path
from hyperloom.pipeline.output.progress import Progress
from hyperloom.pipeline.recipes import recipe
from hyperloom.pipeline.root.storage import Storage
from hyperloom.pipeline.running.runner import run

RECIPE = """
name: bench-engine
root: {root}
modalities: {{}}
steps:
  noop: {{stage: "benchmarks.noop:Noop", count: {count}}}
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--units", type=int, default=2000)
    parser.add_argument("--cpus", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=3)
    given = parser.parse_args()
    few = given.units // 10
    cluster = Cluster(cpus=given.cpus)
    with tempfile.TemporaryDirectory() as folder:
        roots = (Path(folder) / str(i) for i in range(10_000))

        def slope(measure: Callable[[Path, int], Any]) -> list[float]:
            """Milliseconds a unit, for each figure that `measure` gives in seconds."""
            pairs = [(measure(next(roots), few), measure(next(roots), given.units)) for _ in range(given.repeats)]
            each = [[(b - a) / (given.units - few) * 1e3 for a, b in zip(*p, strict=True)] for p in pairs]
            return [statistics.median(values) for values in zip(*each, strict=True)]

        inline, _ = slope(lambda root, count: engine(root, count, None))
        (record,) = slope(records)
        connect(cluster)
        engine(next(roots), few, lambda: connect(cluster))  # starts and imports, once
        ray_wall, ray_cpu = slope(lambda root, count: engine(root, count, lambda: connect(cluster)))
        (bare,) = slope(lambda root, count: bare_ray(root, count, given.cpus))
        disconnect()
    result = {
        "benchmark": "engine",
        "units": given.units,
        "cpus": given.cpus,
        "load": round(os.getloadavg()[0], 1),
        "ray_ms": round(ray_wall, 3),
        "driver_cpu_ms": round(ray_cpu, 3),
        "inline_ms": round(inline, 3),
        "record_ms": round(record, 3),
        "bare_ray_ms": round(bare, 3),
    }
    print(json.dumps(result))


def engine(root: Path, count: int, join: Callable[[], None] | None) -> tuple[float, float]:
    """Wall and CPU seconds of a run with `count` units that do nothing."""
    loaded = recipe.parse(RECIPE.format(root=root, count=count))
    wall, cpu = time.perf_counter(), time.process_time()
    outcome = run(loaded, join, progress=Progress(quiet=True), track=False)
    assert outcome.ok, outcome.problems
    return time.perf_counter() - wall, time.process_time() - cpu


def records(root: Path, count: int) -> tuple[float]:
    storage = Storage(str(root))
    started = time.perf_counter()
    for i in range(count):
        storage.create(record_path("noop", f"u{i:06d}"), Record("noop", f"u{i:06d}", 1, ()).to_json())
    return (time.perf_counter() - started,)


class Bare:
    """The actor of the hand-written loop: the same commit, nothing else."""

    def __init__(self, root: str):
        self.storage = Storage(root)

    def one(self, number: int) -> int:
        return execute(self.storage, Idle(), Unit("noop", f"u{number:06d}", "idle"), 1).rows


def bare_ray(root: Path, count: int, actors: int) -> tuple[float]:
    import ray

    pool = [ray.remote(Bare).remote(str(root)) for _ in range(actors)]
    ray.get([actor.one.remote(-i - 1) for i, actor in enumerate(pool)])
    started = time.perf_counter()
    assert sum(ray.get([pool[i % actors].one.remote(i) for i in range(count)])) == count
    seconds = time.perf_counter() - started
    for actor in pool:
        ray.kill(actor)
    return (seconds,)


if __name__ == "__main__":
    main()
