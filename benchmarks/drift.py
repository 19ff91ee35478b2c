"""How often drift is told where there is none, and how often where there is: over many seeds, on made-up flights.

    python benchmarks/drift.py [--seeds 300]

Each flight has a light and a share of water of its own, so frames of one flight are alike. A false alarm is one with
newer flights of the same kind; `few` has too few flights to tell chance. The last line is one JSON object of shares.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

import hyperloom.stages  # noqa: F401  registers the plug-ins
from hyperloom.pipeline import plugins
from hyperloom.pipeline.commits.manifest import Manifest
from hyperloom.pipeline.commits.units import Record
from hyperloom.pipeline.root.storage import Storage
from hyperloom.stages.drift.compare import compared
from hyperloom.stages.drift.reference import Side
from hyperloom.stages.results import Shards
from hyperloom.stages.shard.statistics import ColumnCounter

SIZE, FRAMES = (8, 8), 5
KNOWN = {
    "rgb": {"type": "image", "size": list(SIZE)},
    "semantic": {"type": "segmentation", "classes": ["land", "water"], "size": list(SIZE)},
    "depth": {"type": "dense", "size": list(SIZE), "unit": "m"},
    "speed": {"type": "scalar"},
}
Flight = dict[str, np.ndarray]


def flight(random: np.random.Generator) -> Flight:
    light, wet = random.normal(120, 12), random.uniform(0.3, 0.5)
    return {
        "rgb": np.clip(random.normal(light, 25, (FRAMES, *SIZE, 3)), 0, 255).astype(np.uint8),
        "semantic": (random.random((FRAMES, *SIZE)) < wet).astype(np.uint8),
        "depth": random.normal(60, 8, (FRAMES, *SIZE, 1)).astype(np.float16),
        "speed": random.normal(2020, 3, (FRAMES, 1)).astype(np.float32),
    }


def brighter(one: Flight) -> Flight:
    return {**one, "rgb": np.clip(one["rgb"].astype(int) + 30, 0, 255).astype(np.uint8)}


def wetter(one: Flight) -> Flight:
    drawn = np.random.default_rng(int(one["rgb"].sum())).random(one["semantic"].shape) < 0.3
    return {**one, "semantic": np.where(drawn, 1, one["semantic"]).astype(np.uint8)}


def stuck(one: Flight) -> Flight:
    return {**one, "depth": np.full_like(one["depth"], 60)}


CASES: dict[str, tuple[int, int, Callable[[Flight], Flight]]] = {
    "false_alarms_24_12": (24, 12, dict),
    "false_alarms_40_4": (40, 4, dict),
    "false_alarms_30_1": (30, 1, dict),
    "false_alarms_few": (6, 2, dict),
    "brighter_24_12": (24, 12, brighter),
    "wetter_24_12": (24, 12, wetter),
    "stuck_24_12": (24, 12, stuck),
    "brighter_30_1": (30, 1, brighter),
    "stuck_30_1": (30, 1, stuck),
}


def side(modalities: dict[str, Any], flights: Iterable[Flight]) -> Side:
    records: dict[str, list[Record]] = {}
    for i, one in enumerate(flights):
        figures = {}
        for name, values in one.items():
            counter = ColumnCounter(modalities[name])
            counter.add(values, np.ones(len(values), bool))
            figures[f"{name}@x"] = counter.figures()
        records[f"f{i}"] = [Record("s", f"{i}", FRAMES, (), 0, {"group": f"f{i}", "statistics": figures})]
    return Side(Manifest("shard", "", {}), Shards({}, []), records)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=300)
    given = parser.parse_args()
    parsed = {name: plugins.parse("modality", value) for name, value in KNOWN.items()}
    modalities = {name: modality.completed(parsed) for name, modality in parsed.items()}
    storage, columns = Storage("/nowhere"), [f"{name}@x" for name in KNOWN]
    alarms = dict.fromkeys(CASES, 0)
    began = time.monotonic()
    for name, (old, new, change) in CASES.items():
        for seed in range(given.seeds):
            random = np.random.default_rng([seed, old, new])
            before = side(modalities, (flight(random) for _ in range(old)))
            after = side(modalities, (change(flight(random)) for _ in range(new)))
            alarms[name] += any(f.alarm for f in compared(storage, before, after, columns, modalities, {}, 0.05))
        print(f"{name}: {alarms[name]} of {given.seeds}")
    shares = {name: round(count / given.seeds, 4) for name, count in alarms.items()}
    print(json.dumps({**shares, "seeds": given.seeds, "seconds": round(time.monotonic() - began, 1)}))


if __name__ == "__main__":
    main()
