"""The audit of many embeddings: seconds and memory of the whole stage, and what of the planted faults is found.

    .venv/bin/python -m benchmarks.audit [--samples 100000] [--numbers 384] [--cpus 2]

The embeddings lie in 200 clouds of ten classes, 5 % of the labels are flipped, and 100 samples of the test split are
near-copies of training samples. Units run in this process, one after the other, as without a cluster. `seconds` is
from the surveys to the table, `peak_mb` of the process. Prints one JSON line last.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import resource
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

RECIPE = """\
name: audited
root: {root}
modalities:
  clip:  {{type: embedding, length: {numbers}}}
  kind:  {{type: category, classes: 10}}
steps:
  frames:
    stage: ingest
    source: {{type: table, path: "{table}", key: name, group: part, columns: {{clip@net: clip, kind@truth: kind}}}}
  shards: {{stage: shard, data: frames, split: {{pin: {{test: [z]}}}}}}
  audit: {{stage: audit, data: shards, pictures: 0, cpus: {cpus}}}
"""
COPIES = 100


def write(path: Path, samples: int, numbers: int) -> tuple[set[str], set[str]]:
    """The table; names of the samples that were flipped, and of the copies."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    draw = np.random.default_rng(0)
    centres = draw.normal(size=(200, numbers)).astype(np.float32)
    cloud = draw.integers(0, 200, samples)
    rows = centres[cloud] + 0.8 * draw.normal(size=(samples, numbers)).astype(np.float32)
    rows[-COPIES:] = rows[:COPIES] + 0.02 * draw.normal(size=(COPIES, numbers)).astype(np.float32)
    cloud[-COPIES:] = cloud[:COPIES]
    flipped = draw.random(samples) < 0.05
    labels = np.where(flipped, (cloud + draw.integers(1, 10, samples)) % 10, cloud % 10)
    names = [f"{i:07d}" for i in range(samples)]
    group = np.where(np.arange(samples) >= samples - samples // 10, "z", "a")
    clip = pa.FixedSizeListArray.from_arrays(pa.array(rows.ravel()), numbers)
    pq.write_table(pa.table({"name": names, "part": group, "clip": clip, "kind": labels.astype(str)}), path)
    return {n for n, f in zip(names, flipped, strict=True) if f}, set(names[-COPIES:])


def auroc(planted: np.ndarray, score: np.ndarray) -> float:
    """How often a planted sample has a lower score than another."""
    rank = np.empty(len(score))
    rank[np.argsort(score, kind="stable")] = np.arange(len(score))
    count = int(planted.sum())
    return float(1 - (rank[planted].sum() - count * (count - 1) / 2) / (count * (len(score) - count)))


def _shards(path: str) -> None:
    import hyperloom.stages  # noqa: F401  registers the plug-ins
    from hyperloom.pipeline.recipes import recipe
    from hyperloom.pipeline.running.runner import run

    outcome = run(recipe.load(path), only=["shards"], track=False)
    if not outcome.ok:
        raise SystemExit(str(outcome.problems))


def measured(samples: int, numbers: int, cpus: int, folder: Path) -> dict[str, Any]:
    from hyperloom.pipeline.commits import manifest as manifests
    from hyperloom.pipeline.planning.plan import plan
    from hyperloom.pipeline.recipes import recipe
    from hyperloom.pipeline.root.digests import Digests
    from hyperloom.pipeline.root.storage import Storage
    from hyperloom.pipeline.running.runner import run
    from hyperloom.stages.audit.result import Audited
    from hyperloom.stages.table import read_table

    path, root = folder / "recipe.yaml", folder / "root"
    path.write_text(RECIPE.format(root=root, table=folder / "table.parquet", numbers=numbers, cpus=cpus))
    loaded = recipe.load(path)
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as apart:  # with a memory of its own
        flipped, copies = apart.submit(write, folder / "table.parquet", samples, numbers).result()
        apart.submit(_shards, str(path)).result()
    start, used = time.perf_counter(), time.process_time()
    outcome = run(loaded, track=False)
    seconds, used = time.perf_counter() - start, time.process_time() - used
    if not outcome.ok:
        raise SystemExit(str(outcome.problems))
    storage = Storage(str(root))
    planned = next(s for s in plan(loaded, storage, Digests(storage)) if s.name == "audit")
    audit = Audited.from_manifest(manifests.read(storage, f"audit/{planned.fingerprint[:12]}/manifest.json"))
    table = read_table(storage, audit.table, ["key", "label", "like"]).to_pydict()
    keys = [key.rpartition("/")[2] for key in table["key"]]
    bad = np.array([key in flipped for key in keys])
    like = {key for key, other in zip(keys, table["like"], strict=True) if other}
    return {
        "samples": samples, "numbers": numbers, "cpus": cpus, "seconds": round(seconds, 1),
        "cpu_seconds": round(used, 1), "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
        "auroc": round(auroc(bad, np.array(table["label"])), 4), "copies": len(like & copies),
        "copies_in_vain": len(like - copies), "load": round(os.getloadavg()[0], 1),
    }  # fmt: skip


def main() -> None:
    import hyperloom.stages  # noqa: F401  registers the plug-ins

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--samples", type=int, default=100_000)
    parser.add_argument("--numbers", type=int, default=384)
    parser.add_argument("--cpus", type=int, default=2)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        print(json.dumps(measured(given.samples, given.numbers, given.cpus, Path(folder))))


if __name__ == "__main__":
    main()
