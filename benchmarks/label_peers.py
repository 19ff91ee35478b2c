"""The label stage beside what people use today: Video Representations Extractor (VRE) and Ray Data.

VRE runs in a Python of its own, since it pins old versions. It gets its frames as an array in memory and its own `rgb`
representation, which costs next to nothing, with its default batch of 1. What a frame costs it depends on how many
frames the video has, not on which one it is at, so a run over 4,000 frames is stopped after some seconds.

Ray Data reads the partitions that ingest made, calls the same expert by `map_batches` on one actor a core, and writes
Parquet. It and the stage are timed as a whole, start of the actors included, on a Ray that is up.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from typing import Any

from hyperloom.pipeline import recipe
from hyperloom.pipeline.storage import Storage

VRE = """
import json, sys, time
from pathlib import Path
import numpy as np
from vre import VRE
from vre_repository.color.rgb import RGB
from vre_video import VREVideo

class Enough(BaseException):
    pass

class Counted(RGB):
    calls, began = 0, 0.0
    def compute(self, video, ixs, dep_data=None):
        Counted.began = Counted.began or time.perf_counter()
        if time.perf_counter() - Counted.began > float(sys.argv[2]):
            raise Enough
        Counted.calls += len(ixs)
        return super().compute(video, ixs, dep_data)

frames = int(sys.argv[1])
video = VREVideo(np.zeros((frames, 32, 32, 3), np.uint8), fps=30)
rgb = Counted("rgb", dependencies=[])
rgb.set_io_params(binary_format="npz", image_format="not-set")
try:
    VRE(video, [rgb]).run(Path(sys.argv[3]), frames=list(range(frames)))
except Enough:
    pass
print(json.dumps([Counted.calls, time.perf_counter() - Counted.began]))
"""


def vre(python: str, frames: int, seconds: float) -> float:
    """Frames a second of VRE over a video of `frames` frames, from the first `seconds` of it."""
    with tempfile.TemporaryDirectory() as folder:
        command = [python, "-c", VRE, str(frames), str(seconds), f"{folder}/out"]
        done = subprocess.run(command, env={**os.environ, "VRE_PBAR": "0"}, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    count, spent = json.loads(done.stdout.splitlines()[-1])
    return count / spent


class Called:
    """The expert as an actor of Ray Data."""

    def __init__(self, text: str, folder: str):
        sys.path.insert(0, folder)  # Ray Data's processes know nothing of the working folder
        import hyperloom.stages  # noqa: F401  registers the plug-ins
        from benchmarks.label_speed import limit_threads

        limit_threads()
        ready = recipe.parse(text)
        self.expert, self.known = ready.recipe.steps["labels"].experts[0], ready.recipe.modalities
        self.function: Callable[[Any], Any] = self.expert.build(self.known, Storage("memory://bench"))
        limit_threads()

    def __call__(self, table: Any) -> Any:
        import pyarrow as pa

        pixels = self.known["photo"].decode(table["photo@camera"].combine_chunks())[0]
        made = self.function({"photo@camera": pixels})
        columns = {c: self.known[c.partition("@")[0]].encode(list(values)) for c, values in made.items()}
        return pa.table({"key": table["key"], **columns})


def ray_data(files: list[str], out: str, text: str, batch: int, processes: int) -> None:
    """The expert over Parquet files by Ray Data. Its reading and writing tasks share the cores with the actors, so an
    actor is declared half a core: with a whole one each they would leave nothing to read with."""
    import ray

    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])
    ray.data.DataContext.get_current().enable_progress_bars = False
    data = ray.data.read_parquet(files, columns=["key", "photo@camera"])
    mapped = data.map_batches(
        Called,
        fn_constructor_args=(text, os.getcwd()),
        batch_size=batch,
        batch_format="pyarrow",
        concurrency=processes,
        num_cpus=0.5,
    )
    mapped.write_parquet(out)
