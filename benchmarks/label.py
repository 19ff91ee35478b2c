"""What the label stage costs and gains: `python -m benchmarks.label [part ...]`, one JSON line last.

Parts, all by default, each of a few minutes on two cores:
`efficiency`  frames a second at steady state over a hand-written loop of the same expert, one process a core each, for
              an expert of about 80 ms and one of about 9 ms a frame (see benchmarks.label_speed)
`engine`      milliseconds a frame of the whole stage for an expert that costs next to nothing, at 1,000, 4,000 and
              16,000 frames; `engine_flat` is the largest of them over the smallest
`around`      what `hyperloom run` costs around the frames: one frame, 1,000 that are done, kills (see
              benchmarks.label_restart; `repeated` are frames computed twice)
`vre`         frames a second over VRE's, of that expert and of the one of 9 ms, and the same as `around` of VRE (see
              benchmarks.label_vre). It needs a Python of its own, named by --vre:
                  python3 -m venv .venv-vre && .venv-vre/bin/pip install video-representations-extractor onnxruntime
                  python -m benchmarks.label vre --vre .venv-vre/bin/python
`autodistill` the expert of 9 ms: the stage over autodistill's `label()` of one process, torn pictures, and kills (see
              benchmarks.label_autodistill). It lies in a folder beside, without touching this environment:
                  pip install --no-deps --target FOLDER autodistill supervision roboflow filetype requests_toolbelt \\
                      pydeprecate python-dotenv defusedxml
                  python -m benchmarks.label autodistill --autodistill FOLDER
`ray-data`    the expert of 9 ms: the stage over Ray Data's map_batches + write_parquet, both as a whole (needs the
              extra `peers`)
`resume`      seconds in which a fresh `hyperloom run` finds that 16,000 frames x 5 experts are done; `resume_units_s`
              is the same in a process that is up, when the step's manifest is gone and every unit is looked at
`memory`      peak MB of the driver at 1,000 and 100,000 units, experts stubbed out (see benchmarks.label_memory)

Experts and frames are the published ones of recipes/street.yaml where HYPERLOOM_SHARED (../shared) has them; otherwise
generated ONNX networks of about the same cost on noise.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import label_autodistill, label_restart, label_vre
from benchmarks.label_memory import memory
from benchmarks.label_peers import ray_data
from benchmarks.label_speed import Bench, compare, recipe_text, silent, timed
from hyperloom.clusters.connect import disconnect
from hyperloom.clusters.machine import usable_cpus
from hyperloom.pipeline.host import project
from hyperloom.pipeline.running.runner import run

PARTS = ("efficiency", "engine", "around", "vre", "autodistill", "ray-data", "resume", "memory")
SHARED = Path(os.environ.get("HYPERLOOM_SHARED", Path(__file__).parents[2] / "shared"))
DEEPLAB = SHARED / "experts/deeplab_mnedgetpu_slim_cityscapes19_uint8.tflite"
TCMONO = SHARED / "experts/tcmonodepth_small_192x320.onnx"
FREE = '{{type: "benchmarks.noop:Free", number: {n}, in: photo@camera, out: value@x{n}, batch: 32}}'
NOTED = '{{type: "benchmarks.noop:Noted", in: photo@camera, out: value@x, batch: 32, log: "{log}", ms: {ms}}}'
PICTURES = 240
"""Of a folder, for the parts vre and autodistill."""
PHOTO, TINY = (360, 480), (32, 32)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("parts", nargs="*", metavar="part", help=f"of {', '.join(PARTS)} (all)")
    parser.add_argument("--processes", type=int, default=usable_cpus())
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--vre", default=".venv-vre/bin/python", help="a Python that has VRE")
    parser.add_argument("--autodistill", default=".autodistill", help="a folder that has autodistill")
    parser.add_argument("--kills", type=int, default=5, help="of the parts around, vre and autodistill")
    parser.add_argument("--units", type=int, default=100_000, help="units of the memory part")
    parser.add_argument("--experts", type=int, default=5, help="experts of the memory part")
    parser.add_argument("--frames", type=int, nargs="*", default=[1000, 4000, 16000], help="frames of the engine part")
    asked = parser.parse_args()
    project.enter(os.getcwd())  # workers import the experts of these benchmarks from there
    os.environ.setdefault(
        "RAY_worker_niceness", "0"
    )  # Ray's workers give way to all others by default; the loop does not
    line: dict[str, Any] = {"benchmark": "label", "processes": asked.processes, "load": round(os.getloadavg()[0], 1)}
    line["experts"] = "published" if DEEPLAB.exists() and TCMONO.exists() else "generated"
    for part in asked.parts or PARTS:
        with tempfile.TemporaryDirectory() as folder:
            made = globals()[f"part_{part.replace('-', '_')}"](Path(folder), asked)
            print(f"{part}: {json.dumps(made)}", flush=True)
            line |= made
        disconnect()
    print(json.dumps(line))


def part_efficiency(folder: Path, asked: argparse.Namespace) -> dict[str, Any]:
    images = photos(folder / "images", 640)
    found: dict[str, Any] = {}
    for name, expert, count in (("80ms", slow(folder), 320), ("9ms", fast(folder), 640)):
        some = subset(images, folder / f"images-{name}", count)
        bench = Bench(folder / name, some, f"[{expert}]", PHOTO, 8, "jpeg", asked.processes)
        bench.loop()  # the page cache and the disk are warm afterwards
        found |= {f"{key}_{name}": value for key, value in compare(bench, asked.repeats).items()}
    return found


def part_engine(folder: Path, asked: argparse.Namespace) -> dict[str, Any]:
    images = noise(folder / "images", max(asked.frames), TINY)
    costs = {}
    for count in asked.frames:
        bench = free_bench(folder / f"frames{count}", subset(images, folder / f"images{count}", count), asked)
        bench.stage()
        repeats = max(1, min(5, 2 * max(asked.frames) // count))
        costs[str(count)] = round(1000 / statistics.median(bench.stage()[0] for _ in range(repeats)), 4)
    return {"engine_ms_per_frame": costs, "engine_flat": round(max(costs.values()) / min(costs.values()), 3)}


def part_around(folder: Path, asked: argparse.Namespace) -> dict[str, Any]:
    images = noise(folder / "images", 1000, TINY)
    one = subset(images, folder / "one", 1)

    def text(name: str, log: str, count: int) -> str:
        noted = NOTED.format(log=log, ms=5 if log else 0)
        return recipe_text(folder / name, images if count > 1 else one, f"[{noted}]", TINY, 32, "raw")

    return label_restart.around(folder, text, 1000, asked.kills)


def part_vre(folder: Path, asked: argparse.Namespace) -> dict[str, Any]:
    if not Path(asked.vre).exists():
        return {"vs_vre_4000": None, "vre_missing": f"no {asked.vre}; see python -m benchmarks.label --help"}
    bench = free_bench(folder / "frames", noise(folder / "images", 4000, TINY), asked)
    found = label_vre.cost(folder, asked.vre, bench, asked.repeats)
    pictures, path = photos(folder / "pictures", PICTURES), network_file(folder)
    bench = Bench(folder / "network", pictures, f"[{fast(folder)}]", PHOTO, 16, "jpeg", asked.processes)

    def whole(number: int) -> list[str]:
        recipe = folder / f"whole{number}.yaml"
        experts = f"[{fast(folder)}]"
        recipe.write_text(recipe_text(folder / f"whole{number}", pictures, experts, PHOTO, 16, "jpeg"))
        return label_restart.command(recipe)

    found |= label_vre.network(folder, asked.vre, bench, str(path), pictures, whole, asked.repeats)
    return found | label_vre.around(folder, asked.vre, asked.kills)


def part_autodistill(folder: Path, asked: argparse.Namespace) -> dict[str, Any]:
    if not Path(asked.autodistill).exists():
        why = f"no {asked.autodistill}; see python -m benchmarks.label --help"
        return {"vs_autodistill": None, "autodistill_missing": why}

    def bench(name: str, images: Path) -> Bench:
        return Bench(folder / name, images, f"[{fast(folder)}]", PHOTO, 16, "jpeg", asked.processes)

    pictures = photos(folder / "pictures", PICTURES)
    library = label_autodistill.Library(Path(asked.autodistill), folder)
    found = label_autodistill.speed(library, bench("frames", pictures), asked.repeats)
    found |= label_autodistill.torn(library, bench, subset(pictures, folder / "some", 40))
    disconnect()
    return found | label_autodistill.killed(library, pictures, asked.kills)


def part_ray_data(folder: Path, asked: argparse.Namespace) -> dict[str, Any]:
    bench = Bench(
        folder / "root", photos(folder / "images", 1600), f"[{fast(folder)}]", PHOTO, 16, "jpeg", asked.processes
    )
    text = bench.loaded(folder / "root" / "root0").text
    files = [bench.storage.path(r.file.path) for r in bench.frames.records]
    ratios, ours = [], []
    for number in range(asked.repeats):
        theirs = timed(lambda: ray_data(files, str(folder / f"out{number}"), text, 8, asked.processes))  # noqa: B023
        ours.append(bench.stage()[1])
        ratios.append(theirs / ours[-1])
        written = sum(f.stat().st_size for f in (folder / f"out{number}").rglob("*.parquet"))
        assert written, "Ray Data wrote nothing"
    return {
        "stage_fps_whole": round(1600 / statistics.median(ours), 1),
        "vs_ray_data": round(statistics.median(ratios), 2),
    }


def part_resume(folder: Path, asked: argparse.Namespace) -> dict[str, Any]:
    images = noise(folder / "images", 16000, TINY)
    bench = free_bench(folder / "root", images, asked, experts=5)
    bench.stage()
    disconnect()
    loaded = bench.loaded(folder / "root" / "root0")
    recipe = folder / "bench.yaml"
    recipe.write_text(loaded.text)
    command = [sys.executable, "-m", "hyperloom.pipeline", "run", str(recipe), "--no-mlflow"]
    whole = []
    for _ in range(asked.repeats):
        whole.append(timed(lambda: subprocess.run(command, check=True, capture_output=True)))

    def no_ray() -> None:
        raise AssertionError("everything is done, and yet Ray was asked for")

    looked = []
    for _ in range(asked.repeats):
        bench.storage.delete("label")
        looked.append(timed(lambda: run(loaded, no_ray, track=False, progress=silent())))
    units = sum(len(bench.storage.names(f"expert/{s}/units")) for s in bench.storage.names("expert"))
    return {
        "resume_units": units,
        "resume_s": round(statistics.median(whole), 2),
        "resume_units_s": round(statistics.median(looked), 2),
    }


def part_memory(folder: Path, asked: argparse.Namespace) -> dict[str, Any]:
    return memory(1000, asked.units, asked.experts)


def free_bench(folder: Path, images: Path, asked: argparse.Namespace, experts: int = 1) -> Bench:
    """Tiny frames in partitions of 32, and experts that cost next to nothing."""
    listed = ", ".join(FREE.format(n=n) for n in range(experts))
    return Bench(folder, images, f"[{listed}]", TINY, 32, "raw", asked.processes)


# -- frames and experts ------------------------------------------------------------------------------------------------
def photos(folder: Path, count: int) -> Path:
    """A folder of `count` pictures of 360x480: the street frames, over again where there are more to be."""
    found = sorted((SHARED / "data/street/images").glob("*.jpg"))
    if not found:
        return noise(folder, count, PHOTO)
    folder.mkdir(parents=True)
    for i in range(count):
        shutil.copy(found[i % len(found)], folder / f"{i:05d}.jpg")
    return folder


def noise(folder: Path, count: int, size: tuple[int, int]) -> Path:
    import cv2

    folder.mkdir(parents=True)
    random = np.random.default_rng(0)
    for i in range(count):
        cv2.imwrite(str(folder / f"{i:05d}.png"), random.integers(0, 255, (*size, 3), np.uint8))
    return folder


def subset(images: Path, folder: Path, count: int) -> Path:
    folder.mkdir()
    for file in sorted(images.iterdir())[:count]:
        os.link(file, folder / file.name)
    return folder


def slow(folder: Path) -> str:
    """An expert of about 80 ms a frame on one thread."""
    if DEEPLAB.exists():
        return f"{{type: litert, path: {DEEPLAB}, in: photo@camera, out: semantic@net, decode: classes, batch: 4}}"
    return _onnx(folder / "slow.onnx", 24, 8)


def fast(folder: Path) -> str:
    """An expert of about 9 ms a frame on one thread."""
    if TCMONO.exists():
        decode = "{type: dense, normalise: percentiles}"
        return f"{{type: onnx, path: {TCMONO}, in: photo@camera, out: disparity@net, decode: {decode}, batch: 8}}"
    return _onnx(network_file(folder), 16, 2)


def network_file(folder: Path) -> Path:
    """The file of `fast`."""
    return TCMONO if TCMONO.exists() else folder / "fast.onnx"


def _onnx(path: Path, width: int, layers: int) -> str:
    """A network of `layers` 3x3 convolutions of `width` channels on 192x320, with random weights."""
    from onnx import TensorProto, helper, numpy_helper, save

    random = np.random.default_rng(0)
    widths = [3, *[width] * layers, 1]
    nodes, weights = [], []
    for i, (a, b) in enumerate(itertools.pairwise(widths)):
        weights.append(numpy_helper.from_array(random.normal(0, 0.1, (b, a, 3, 3)).astype(np.float32), f"w{i}"))
        nodes.append(helper.make_node("Conv", [f"x{i}", f"w{i}"], [f"x{i + 1}"], pads=[1, 1, 1, 1]))
    ends = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, n, 192, 320])
        for name, n in (("x0", 3), (f"x{len(nodes)}", 1))
    ]
    graph = helper.make_graph(nodes, "bench", ends[:1], ends[1:], weights)
    save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    decode = "{type: dense, normalise: percentiles}"
    return f"{{type: onnx, path: {path}, in: photo@camera, out: disparity@net, decode: {decode}, batch: 8}}"


if __name__ == "__main__":
    main()
