"""Speed of the label stage at steady state, beside a hand-written loop of the same expert: one process a core each.

Both read the same partitions (Parquet, made by an ingest step), call the same expert in the same batches on one thread,
and write one Parquet file a partition. The loop checks nothing, commits nothing and syncs nothing. Steady state means
that starting and loading are left out: a rate is the slope of a line through (time, frames done), taken from the times
of the files that either leaves behind.
"""

from __future__ import annotations

import io
import statistics
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np

import hyperloom.stages  # noqa: F401  registers the plug-ins
from hyperloom.clusters.connect import connect
from hyperloom.clusters.spec import Cluster
from hyperloom.pipeline.commits.manifest import Manifest
from hyperloom.pipeline.output.progress import Progress
from hyperloom.pipeline.planning.plan import plan
from hyperloom.pipeline.recipes import recipe
from hyperloom.pipeline.recipes.recipe import RecipeFile
from hyperloom.pipeline.root.digests import Digests
from hyperloom.pipeline.root.storage import Storage
from hyperloom.pipeline.running.runner import run

RECIPE = """
name: bench-label
root: {root}
modalities:
  photo: {{type: image, size: {size}, codec: {codec}}}
  semantic: {{type: segmentation, size: [96, 128], classes: {classes}}}
  disparity: {{type: dense, size: [96, 128], range: [0, 1]}}
  value: {{type: dense, size: [8, 8]}}
steps:
  frames: {{stage: ingest, source: {{type: files, path: "{images}", column: photo@camera}}, rows: {rows}}}
  labels: {{stage: label, data: frames, experts: {experts}}}
"""
CLASSES = [f"c{i}" for i in range(19)]


class Bench:
    """A recipe with one expert over `frames` images, and the processes that label them."""

    def __init__(
        self, folder: Path, images: Path, experts: str, size: tuple[int, int], rows: int, codec: str, processes: int
    ):
        self.folder, self.images, self.experts, self.rows = folder, images, experts, rows
        self.size, self.codec, self.processes = size, codec, processes
        self.cluster = Cluster(address="local", cpus=processes)
        self._roots = 0
        first = self.loaded(folder / "root0")
        run(first, lambda: connect(self.cluster), only=["frames"], track=False, progress=silent())
        self.frames = frames_of(first)
        self.storage = Storage(first.recipe.root)

    def loaded(self, root: Path) -> RecipeFile:
        return recipe.parse(recipe_text(root, self.images, self.experts, self.size, self.rows, self.codec))

    def stage(self) -> tuple[float, float]:
        """Frames a second of the label stage at steady state, and seconds of the whole step."""
        loaded = self.loaded(self.folder / "root0")
        storage = self.storage
        for name in storage.names("label"):
            storage.delete(f"label/{name}")
        if storage.names("expert"):
            storage.delete("expert")
        outcome = []
        seconds = timed(
            lambda: outcome.append(run(loaded, lambda: connect(self.cluster), track=False, progress=silent()))
        )
        assert outcome[0].ok, outcome[0].problems
        return self._rate([Path(storage.path(p)) for p in storage.walk("expert") if "/units/" in p]), seconds

    def loop(self) -> tuple[float, float]:
        """The same of the hand-written loop on a pool of fresh processes."""
        self._roots += 1
        out = self.folder / f"loop{self._roots}"
        out.mkdir()
        files = [self.storage.path(r.file.path) for r in self.frames.records]
        parts = [files[i :: self.processes] for i in range(self.processes)]
        text = self.loaded(self.folder / "root0").text
        with ProcessPoolExecutor(self.processes, mp_context=get_context("spawn")) as pool:
            calls = [pool.submit(bare, part, str(out), text) for part in parts]
            seconds = timed(lambda: [c.result() for c in calls])
        return self._rate(list(out.glob("*.parquet"))), seconds

    def _rate(self, files: list[Path]) -> float:
        """The slope of frames done over time, without the first unit of each process and the uneven end."""
        times = sorted(f.stat().st_mtime_ns / 1e9 for f in files)
        inner = times[self.processes : len(times) - self.processes]
        done = np.arange(len(inner)) * self.rows
        return float(np.polyfit(np.array(inner) - inner[0], done, 1)[0])


def recipe_text(root: Path, images: Path, experts: str, size: tuple[int, int], rows: int, codec: str) -> str:
    return RECIPE.format(
        root=root, images=images, experts=experts, size=list(size), rows=rows, codec=codec, classes=CLASSES
    )


def compare(bench: Bench, repeats: int) -> dict[str, float]:
    """Rates of loop and stage, in turns: medians, and the median of the ratios."""
    pairs = [(bench.loop(), bench.stage()) for _ in range(repeats)]
    return {
        "loop_fps": round(statistics.median(loop[0] for loop, _ in pairs), 2),
        "stage_fps": round(statistics.median(stage[0] for _, stage in pairs), 2),
        "efficiency": round(statistics.median(stage[0] / loop[0] for loop, stage in pairs), 3),
        "stage_seconds": round(statistics.median(stage[1] for _, stage in pairs), 1),
    }


def bare(files: list[str], out: str, text: str) -> None:
    """The loop one would write by hand: read, decode, call in batches, encode, write."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    limit_threads()
    ready = recipe.parse(text)
    expert = ready.recipe.steps["labels"].experts[0]
    known = ready.recipe.modalities
    call = expert.build(known, Storage(out))
    limit_threads()
    photo = known["photo"]
    for file in files:
        table = pq.read_table(file, columns=["key", "photo@camera"], use_threads=False)
        pixels = photo.decode(table["photo@camera"].combine_chunks())[0]
        batch = getattr(expert, "batch", None) or 8
        made: dict[str, list[Any]] = {c: [] for c in expert.out}
        for start in range(0, len(pixels), batch):
            for column, values in call({"photo@camera": pixels[start : start + batch]}).items():
                made[column] += list(values)
        columns = {c: known[c.partition("@")[0]].encode(values) for c, values in made.items()}
        pq.write_table(
            pa.table({"key": table["key"], **columns}), f"{out}/{Path(file).name}", compression="zstd",
            compression_level=1, use_dictionary=False,
        )  # fmt: skip


def limit_threads() -> None:
    import cv2

    cv2.setNumThreads(1)


def frames_of(loaded: RecipeFile) -> Manifest:
    storage = Storage(loaded.recipe.root)
    step = next(s for s in plan(loaded, storage, Digests(storage)) if s.name == "frames")
    assert step.manifest is not None
    return step.manifest


def silent() -> Progress:
    return Progress(io.StringIO(), quiet=True)


def timed(function: Any) -> float:
    import time

    began = time.perf_counter()
    function()
    return time.perf_counter() - began
