"""Small trainings: how soon one makes its first update, and what three side by side take against one.

    .venv/bin/python -m benchmarks.trainings [--updates 60] [--pause 0.3] [--cpus 3]

`first_update_s` is from the start of the step to its first figures, Ray being up and its slots not: `slot` for one
worker, `ray_train` for two. `family` is a step with `seeds: 3` against one with a single seed, `steps` three steps
against one, each with processes of its own; 1.0 is perfect, 3.0 one after the other. An augmentation waits `pause`
seconds in each update, so that three trainings do not want more than two real cores. Prints one JSON line last.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hyperloom.clusters.connect import connect, disconnect
from hyperloom.clusters.spec import Cluster
from hyperloom.pipeline.config import placement
from hyperloom.pipeline.output.progress import Progress
from hyperloom.pipeline.recipes import recipe
from hyperloom.pipeline.root import events as event_log
from hyperloom.pipeline.root.storage import Storage
from hyperloom.pipeline.running.runner import run
from hyperloom.stages.augment.views import Augment

RECIPE = """\
name: trainings
root: {root}
modalities:
  rgb:      {{type: image, size: [24, 32]}}
  semantic: {{type: segmentation, classes: [land, forest, road, water, building]}}
  depth:    {{type: dense, unit: m}}
  normals:  {{type: dense, channels: 3, direction: true}}
  flow:     {{type: dense, channels: 2, unit: px}}
  pose:     {{type: vector, length: 20}}
steps:
  frames: {{stage: ingest, source: {{type: flights, flights: 3, frames: 4, seed: 3}}, group: flight, rows: 4}}
  shards: {{stage: shard, data: frames}}
"""


class Wait(Augment):
    """Changes nothing and takes `pause` seconds."""

    pause: float = placement(0.0)

    def apply(self, batch: Any, columns: Mapping[str, Any], drawn: Mapping[str, Any]) -> Any:
        time.sleep(self.pause)
        return batch


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--updates", type=int, default=60)
    parser.add_argument("--pause", type=float, default=0.3)
    parser.add_argument("--cpus", type=int, default=3)
    options = parser.parse_args()
    slow = {"updates": options.updates, "augment": [{"type": "benchmarks.trainings:Wait", "pause": options.pause}]}
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(Path(folder), Cluster(cpus=options.cpus))
        bench.run({})
        one, three = bench.run({"a": {**slow, "seed": 1}}), bench.run({"b": {**slow, "seed": 11, "seeds": 3}})
        steps = bench.run({f"c{seed}": {**slow, "seed": seed} for seed in (21, 22, 23)})
        first = {"slot": {"seed": 31, "updates": 20}, "ray_train": {"seed": 32, "updates": 20, "workers": 2}}
        for name, fields in first.items():
            bench.run({name: fields})
        result = {
            "benchmark": "trainings",
            "cpus": options.cpus,
            "cores": os.cpu_count(),
            "load": round(os.getloadavg()[0], 1),
            "first_update_s": {name: round(bench.first(name), 1) for name in first},
            "seconds": {"one": round(one, 1), "family": round(three, 1), "steps": round(steps, 1)},
            "family": round(three / one, 2),
            "steps": round(steps / one, 2),
        }
    print(json.dumps(result))


class Bench:
    """Runs recipes of one root."""

    def __init__(self, folder: Path, cluster: Cluster):
        self.path, self.root, self.cluster = folder / "trainings.yaml", folder / "root", cluster

    def run(self, trainings: Mapping[str, Mapping[str, Any]]) -> float:
        """Seconds of a run with these trainings, on a cluster that is up and has no slot yet."""
        text = RECIPE.format(root=self.root)
        for name, fields in trainings.items():
            training = {"stage": "train", "data": "shards", "in": "rgb@camera", "batch": 6, "log_every": 1}
            training |= {
                "targets": {"depth": "depth@truth"},
                "model": {"trunk": {"type": "unet", "width": 2}},
                **fields,
            }
            text += f"  {name}: {json.dumps(training)}\n"
        self.path.write_text(text)
        connect(self.cluster)
        began = time.monotonic()
        try:
            outcome = run(
                recipe.load(str(self.path)), lambda: connect(self.cluster), progress=Progress(quiet=True), track=False
            )
            assert outcome.ok, outcome.problems
            return time.monotonic() - began
        finally:
            disconnect()

    def first(self, step: str) -> float:
        """Seconds from the start of a step to its first figures."""
        storage = Storage(str(self.root))
        told = [e for r in storage.names("events") for e in event_log.read(storage, r) if e["step"] == step]
        began = next(e["t"] for e in told if e["kind"] == "step_started")
        return (min(e["t"] for e in told if e["kind"] == "metric" and e["at"]) - began) / 1000


if __name__ == "__main__":
    main()
