"""How much of a bare loop's speed the label stage keeps: `python -m benchmarks.label [--frames N] [--expert edges]`.

The bare loop is what one would write by hand for the same expert: read a Parquet file, decode it, call the expert in
batches, encode, write a Parquet file; no checks of values, no records, no checksums, no quarantine. Both work on the
same partitions of 256x256 frames that an ingest step made, and both start their processes within the time measured.

`vs_bare_worker` compares within one process: the label worker with its commit against the loop; `_cpu` by CPU seconds,
which leaves out the disk (commits are synced, the loop's files are not) and whatever else the machine is doing.
`vs_bare_ray` compares the whole step on Ray, actors' start included, against a pool of as many processes.
The last line is JSON.
"""

from __future__ import annotations

import argparse
import io
import json
import statistics
import tempfile
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any, NamedTuple

import stages  # noqa: F401  registers the plug-ins
from benchmarks.samples import SIZE, samples, source
from clusters.connect import connect, disconnect
from clusters.spec import Cluster
from pipeline import recipe, run
from pipeline.digests import Digests
from pipeline.manifest import Manifest
from pipeline.plan import plan
from pipeline.progress import Progress
from pipeline.recipe import RecipeFile
from pipeline.stage import StepRun
from pipeline.storage import Storage
from pipeline.units import execute


class Cost(NamedTuple):
    """Seconds of one run: by the clock, and of this process's CPU."""

    wall: float
    cpu: float


Pair = tuple[Cost, Cost]
"""The bare loop and the label stage."""

EXPERTS = {
    "edges": ("edges@x", "{type: edges, in: rgb@camera, out: edges@x, batch: 8}"),
    "hsv": ("hsv@x", "{type: hsv, in: rgb@camera, out: hsv@x, batch: 8}"),
}
RECIPE = """
name: bench-label
root: {root}
modalities:
  rgb: {{type: image, size: [{size}, {size}]}}
  edges: {{type: dense}}
  hsv: {{type: dense, channels: 3}}
steps:
  frames: {{stage: ingest, source: {{type: files, path: "{images}"}}, rows: 32}}
  labels: {{stage: label, data: frames, experts: [{expert}]}}
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--frames", type=int, default=512)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--expert", choices=sorted(EXPERTS), default="edges")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        images = Path(folder, "images")
        write_images(images, asked.frames)
        worker, ray = measure(folder, images, asked)
    bare_one, labelled_one = (median(costs) for costs in zip(*worker, strict=True))
    bare_many, labelled_many = (median(costs).wall for costs in zip(*ray, strict=True))
    line = {
        "benchmark": "label",
        "expert": asked.expert,
        "frames": asked.frames,
        "data": source(),
        "processes": asked.processes,
        "bare_fps_one_process": round(asked.frames / bare_one.wall, 1),
        "worker_fps_one_process": round(asked.frames / labelled_one.wall, 1),
        "vs_bare_worker": round(bare_one.wall / labelled_one.wall, 3),
        "vs_bare_worker_cpu": round(bare_one.cpu / labelled_one.cpu, 3),
        "bare_fps": round(asked.frames / bare_many, 1),
        "ray_fps": round(asked.frames / labelled_many, 1),
        "vs_bare_ray": round(bare_many / labelled_many, 3),
    }
    print(json.dumps(line))


def measure(folder: str, images: Path, asked: argparse.Namespace) -> tuple[list[Pair], list[Pair]]:
    """In one process, and on `processes`: seconds of each repeat. Each has a root of its own, so nothing is reused."""
    column, expert = EXPERTS[asked.expert]
    cluster = Cluster(address="local", cpus=asked.processes)
    one, many = [], []
    connect(cluster)
    try:
        for number in range(asked.repeats):
            ready = loaded(f"{folder}/root{number}", images, expert)
            files = ingest(ready)
            bare(files[:1], f"{folder}/warm{number}", expert, column)  # what the first call imports is not the loop's
            here = _timed(bare, files, f"{folder}/bare{number}", expert, column)
            pool = _timed(pooled, files, f"{folder}/pool{number}", expert, column, asked.processes)
            many.append((pool, labelled_on_ray(ready, cluster)))
            again = loaded(f"{folder}/again{number}", images, expert)
            ingest(again)
            one.append((here, labelled_here(again)))
    finally:
        disconnect()
    return one, many


def loaded(root: str, images: Path, expert: str) -> RecipeFile:
    return recipe.parse(RECIPE.format(root=root, size=SIZE, images=images, expert=expert))


def ingest(ready: RecipeFile) -> list[str]:
    """Make the partitions; their files."""
    run(ready, None, only=["frames"], track=False, progress=silent())
    storage, made = Storage(ready.recipe.root), _frames(ready)
    return [storage.path(record.file.path) for record in made.records]


def labelled_on_ray(ready: RecipeFile, cluster: Cluster) -> Cost:
    """Seconds of the label step on a Ray that is up; its actors start within them."""
    return _timed(run, ready, lambda: connect(cluster), only=["labels"], track=False, progress=silent())


def labelled_here(ready: RecipeFile) -> Cost:
    """Seconds of the label worker and its commits in this process."""
    storage = Storage(ready.recipe.root)
    stage, frames = ready.recipe.steps["labels"], _frames(ready)
    absent: Any = None  # what only a running step needs
    known = ready.recipe.modalities
    step = StepRun("labels", stage, "0" * 64, known, storage, {"frames": frames}, absent, absent, absent, absent)
    units, workers = stage.units(step)

    def work() -> None:
        for worker in workers.values():
            worker.setup()
        for unit in units:
            execute(storage, workers[unit.worker], unit, 1)

    return _timed(work)


def bare(files: list[str], folder: str, expert: str, column: str) -> None:
    """The loop one would write by hand."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.parquet as pq

    Path(folder).mkdir(parents=True, exist_ok=True)
    ready = loaded(folder, Path(folder), expert)
    call = ready.recipe.steps["labels"].experts[0].build(ready.recipe.modalities, Storage(folder))
    for file in files:
        table = pq.read_table(file, columns=["key", "rgb@camera"], use_threads=False)
        array = table["rgb@camera"].combine_chunks()
        rgb = np.frombuffer(array.buffers()[1], np.uint8).reshape(len(table), SIZE, SIZE, 3)
        made = []
        for start in range(0, len(rgb), 8):
            made += list(call({"rgb@camera": rgb[start : start + 8]})[column])
        values = np.stack(made).astype(np.float16)
        width = values[0].nbytes
        encoded = pa.Array.from_buffers(pa.binary(width), len(values), [None, pa.py_buffer(values)])
        out = pa.table({"key": table["key"], column: encoded})
        pq.write_table(
            out, f"{folder}/{Path(file).name}", compression="zstd", compression_level=1, use_dictionary=False
        )


def pooled(files: list[str], folder: str, expert: str, column: str, processes: int) -> None:
    """The loop on a pool of fresh processes."""
    parts = [files[i::processes] for i in range(processes)]
    with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:
        list(pool.map(bare, parts, [folder] * processes, [expert] * processes, [column] * processes))


def write_images(folder: Path, count: int) -> None:
    import cv2

    folder.mkdir()
    for i, sample in enumerate(samples(count)):
        image = cv2.cvtColor(sample["rgb@camera"], cv2.COLOR_RGB2BGR)
        cv2.imwrite(f"{folder}/{i:05d}.png", image, [cv2.IMWRITE_PNG_COMPRESSION, 1])


def silent() -> Progress:
    return Progress(io.StringIO(), quiet=True)


def _frames(ready: RecipeFile) -> Manifest:
    storage = Storage(ready.recipe.root)
    step = next(s for s in plan(ready, storage, Digests(storage)) if s.name == "frames")
    assert step.manifest is not None
    return step.manifest


def _timed(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Cost:
    wall, cpu = time.perf_counter(), time.process_time()
    function(*args, **kwargs)
    return Cost(time.perf_counter() - wall, time.process_time() - cpu)


def median(costs: Iterable[Cost]) -> Cost:
    return Cost(*(statistics.median(values) for values in zip(*costs, strict=True)))


if __name__ == "__main__":
    main()
