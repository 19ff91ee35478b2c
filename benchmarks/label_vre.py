"""The label stage beside Video Representations Extractor (VRE), which runs in a Python of its own.

VRE keeps what it knows of every frame of a video in one JSON file, and writes it anew after each batch: a frame costs
the more the more frames the video has, and the same at each of them. So a run over 4,000 frames is stopped after some
seconds. Measured are its own `rgb` representation, which costs next to nothing, over an array in memory; and a network
that both call in batches of 8, over a folder of pictures, which VRE decodes before it begins. Rates of both are without
start (VRE's without decoding, too), seconds as a whole with all. `defaults` are VRE's: batches of one, a compressed npz
a frame; `tuned` is what a user can set: batches of 32 and npz as they are. Images beside the arrays are off: they would
cost VRE alone.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.label_restart import killed
from benchmarks.label_speed import Bench, timed
from hyperloom.clusters.connect import disconnect

SCRIPT = """
import json, os, sys, time
from pathlib import Path
import numpy as np
from PIL import Image
from vre import VRE, Representation, ReprOut
from vre.representations.mixins import NpIORepresentationMixin
from vre.utils import MemoryData
from vre_repository.color.rgb import RGB
from vre_video import VREVideo

task = json.loads(sys.argv[1])
calls, began = 0, 0.0
log = open(task["log"], "a", buffering=1) if task.get("log") else None

class Enough(BaseException):
    pass

def count(ixs):
    global calls, began
    began = began or time.perf_counter()
    if time.perf_counter() - began > task["seconds"]:
        raise Enough
    calls += len(ixs)
    if log:
        log.write(f"{len(ixs)}\\n")

class Counted(RGB):
    def compute(self, video, ixs, dep_data=None):
        count(ixs)
        return super().compute(video, ixs, dep_data)

class Network(NpIORepresentationMixin, Representation):
    n_channels = 1
    def __init__(self, path):
        Representation.__init__(self, "network", dependencies=[])
        import onnxruntime
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(path, options)
        self.input = self.session.get_inputs()[0].name
    def compute(self, video, ixs, dep_data=None):
        count(ixs)
        frames = video[ixs]
        small = [np.asarray(Image.fromarray(f).resize((320, 192), Image.BILINEAR)) for f in frames]
        out = []
        for one in small:
            fed = {self.input: one.transpose(2, 0, 1)[None].astype(np.float32)}
            depth = self.session.run(None, fed)[0][0, 0]
            low, high = np.percentile(depth, (2, 98))
            depth = np.clip((depth - low) / max(high - low, 1e-6), 0, 1).astype(np.float32)
            out.append(np.asarray(Image.fromarray(depth).resize((128, 96), Image.BILINEAR))[..., None])
        return ReprOut(frames=frames, output=MemoryData(np.stack(out)), key=ixs)
    def make_images(self, data):
        raise NotImplementedError
    def resize(self, data, new_size):
        raise NotImplementedError

if task["network"]:
    video, made = VREVideo(task["images"]), Network(task["network"])
else:
    video, made = VREVideo(np.zeros((task["frames"], 32, 32, 3), np.uint8), fps=30), Counted("rgb", dependencies=[])
made.set_io_params(binary_format="npz", image_format="not-set", compress=task["compress"])
made.set_compute_params(batch_size=task["batch"])
try:
    frames = list(range(task["frames"]))
    VRE(video, [made]).run(Path(task["out"]), frames=frames, output_dir_exists_mode="skip_computed")
except Enough:
    pass
print(json.dumps([calls, time.perf_counter() - began]))
"""


def task(frames: int, out: Path, **fields: Any) -> dict[str, Any]:
    """What the script is to do; VRE's defaults."""
    common = {"frames": frames, "out": str(out), "seconds": 1e9, "batch": 1, "compress": True, "network": ""}
    return {**common, **fields}


def command(python: str, about: dict[str, Any]) -> list[str]:
    return [python, "-c", SCRIPT, json.dumps(about)]


def rate(python: str, about: dict[str, Any]) -> float:
    """Frames a second from the first of them on."""
    environment = {**os.environ, "VRE_PBAR": "0"}
    done = subprocess.run(command(python, about), env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    calls, spent = json.loads(done.stdout.splitlines()[-1])
    return calls / spent


def cost(folder: Path, python: str, bench: Bench, repeats: int, seconds: float = 10) -> dict[str, Any]:
    """The expert that costs next to nothing at 4,000 frames, and how VRE's cost grows with the frames of a video."""
    bench.stage()
    settings: dict[str, dict[str, Any]] = {"defaults": {}, "tuned": {"batch": 32, "compress": False}}
    ours, ratios = [], {name: [] for name in settings}  # type: ignore[var-annotated]
    for number in range(repeats):
        ours.append(bench.stage()[0])
        for name, fields in settings.items():
            theirs = rate(python, task(4000, folder / f"{name}{number}", seconds=seconds, **fields))
            ratios[name].append(ours[-1] / theirs)
    grown = {str(n): rate(python, task(n, folder / f"grown{n}", seconds=seconds)) for n in (250, 1000, 4000)}
    found: dict[str, Any] = {"fps_4000": round(statistics.median(ours), 1)}
    found |= {f"vs_vre_4000_{name}": spread(values) for name, values in ratios.items()}
    return found | {"vre_ms_per_frame": {n: round(1000 / fps, 2) for n, fps in grown.items()}}


def network(
    folder: Path, python: str, bench: Bench, path: str, images: Path, run: Callable[[int], list[str]], repeats: int
) -> dict[str, Any]:
    """One network over a folder of pictures: frames a second without start, and seconds of processes that do all, ours
    by the command `run(number)`, which ingests, too."""
    count = len(list(images.iterdir()))
    fields = {"images": str(images), "network": path, "batch": 8}
    bench.stage()
    ours, whole, ratios, wholes = [], [], [], []
    for number in range(repeats):
        ours.append(bench.stage()[0])
        about = task(count, folder / f"network{number}", **fields)
        rates: list[float] = []
        whole.append(timed(lambda about=about, rates=rates: rates.append(rate(python, about))))
        ratios.append(ours[-1] / rates[0])
    disconnect()
    for number in range(repeats):
        wholes.append(timed(lambda number=number: subprocess.run(run(number), check=True, capture_output=True)))
    return {
        "network_fps": round(statistics.median(ours), 1),
        "vs_vre_network": spread(ratios),
        "vre_network_whole_s": round(statistics.median(whole), 1),
        "network_whole_s": round(statistics.median(wholes), 1),
    }


def around(folder: Path, python: str, kills: int, frames: int = 1000) -> dict[str, Any]:
    """Starting, finding that all is done, and going on after a kill."""
    start = timed(lambda: rate_of_all(python, task(1, folder / "one")))
    about = task(frames, folder / "done")
    rate(python, about)
    done = timed(lambda: rate_of_all(python, about))

    def fresh(number: int, log: Path) -> list[str]:
        return command(python, task(frames, folder / f"killed{number}", log=str(log)))

    after = killed(fresh, folder, frames, kills, seconds=5)
    return {"vre_start_s": round(start, 2), "vre_done_s": round(done, 2), "vre_killed": after}


def rate_of_all(python: str, about: dict[str, Any]) -> None:
    subprocess.run(command(python, about), env={**os.environ, "VRE_PBAR": "0"}, check=True, capture_output=True)


def spread(ratios: list[float]) -> list[float]:
    """Median, least and greatest."""
    return [round(v, 2) for v in (statistics.median(ratios), min(ratios), max(ratios))]
