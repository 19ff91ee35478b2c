"""The label stage beside `label()` of autodistill, with the same expert.

autodistill's own base models need weights of a hub, so it gets a base model as its docs describe one: a subclass of
`DetectionBaseModel` whose `predict` calls the expert that the recipe describes, one picture at a time, as the interface
has it, and makes a box of what is near. It reads the folder of pictures itself and writes YOLO files; `speed` compares
that with the label step as a whole over partitions that lie ready (Ray is up), and gives the seconds of the process.

As a script it is the process that labels: `python -m benchmarks.label_autodistill TASK`, a JSON object.
"""

from __future__ import annotations

import json
import os
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import label_restart
from benchmarks.label_speed import Bench, limit_threads, timed
from benchmarks.label_vre import spread
from hyperloom.pipeline.recipes import recipe
from hyperloom.pipeline.root.storage import Storage


class Library:
    """autodistill in a folder of its own, run in processes of its own."""

    def __init__(self, at: Path, folder: Path):
        self.at, self.folder, self.text = at, folder, ""

    def command(self, images: Path, out: Path, log: Path | None = None) -> list[str]:
        task = {"library": str(self.at), "images": str(images), "out": str(out), "text": self.text}
        return [sys.executable, "-m", "benchmarks.label_autodistill", json.dumps({**task, "log": str(log or "")})]

    def label(self, images: Path, out: Path) -> tuple[float, str]:
        """Seconds of `label()`, and the last line of what it failed with."""
        done = subprocess.run(self.command(images, out), capture_output=True, text=True)
        if done.returncode:
            return float("nan"), done.stderr.strip().splitlines()[-1]
        return float(done.stdout.splitlines()[-1]), ""


def speed(library: Library, bench: Bench, repeats: int) -> dict[str, Any]:
    library.text = bench.loaded(bench.folder / "root0").text
    count = len(list(bench.images.iterdir()))
    bench.stage()
    ours, whole, ratios = [], [], []
    for number in range(repeats):
        out = library.folder / f"labelled{number}"
        lasted: list[float] = []
        whole.append(timed(lambda out=out, lasted=lasted: lasted.append(library.label(bench.images, out)[0])))
        ours.append(bench.stage()[1])
        assert files(out) == count, f"autodistill labelled {files(out)} of {count}"
        ratios.append(lasted[0] / ours[-1])
    return {
        "autodistill_fps": round(count / (statistics.median(ratios) * statistics.median(ours)), 1),
        "stage_fps_pictures": round(count / statistics.median(ours), 1),
        "vs_autodistill": spread(ratios),
        "autodistill_whole_s": round(statistics.median(whole), 1),
    }


def torn(library: Library, bench: Callable[[str, Path], Bench], images: Path) -> dict[str, Any]:
    """What one broken picture among good ones does: the second half is missing, or it is no picture at all."""
    good = sorted(images.iterdir())
    found: dict[str, Any] = {"torn_good": len(good)}
    for name, data in (("half", good[0].read_bytes()[: good[0].stat().st_size // 2]), ("text", b"not a picture")):
        folder = library.folder / f"torn-{name}"
        shutil.copytree(images, folder)
        (folder / f"zz-{name}.jpg").write_bytes(data)
        out = library.folder / f"torn-{name}-labelled"
        why = library.label(folder, out)[1]
        found[f"autodistill_torn_{name}"] = {"labelled": files(out), "error": why[:120]}
        kept = bench(f"torn-{name}-root", folder)
        found[f"torn_{name}"] = {"labelled": sum(r.rows for r in kept.frames.records)}
    return found


def killed(library: Library, images: Path, kills: int) -> dict[str, Any]:
    count = len(list(images.iterdir()))

    def fresh(number: int, log: Path) -> list[str]:
        return library.command(images, library.folder / f"killed{number}", log)

    return {"autodistill_killed": label_restart.killed(fresh, library.folder, count, kills, seconds=4)}


def files(out: Path) -> int:
    return len(list(out.glob("*/labels/*.txt")))


def main() -> None:
    task = json.loads(sys.argv[1])
    sys.path.append(task["library"])
    limit_threads()
    began = time.perf_counter()
    base_model(task["text"], task["log"]).label(task["images"], ".jpg", task["out"])
    print(time.perf_counter() - began)


def base_model(text: str, log: str) -> Any:
    import cv2

    detection: Any = import_module("autodistill.detection")
    supervision: Any = import_module("supervision")
    import hyperloom.stages  # noqa: F401  registers the plug-ins

    ready = recipe.parse(text)
    expert, known = ready.recipe.steps["labels"].experts[0], ready.recipe.modalities
    call = expert.build(known, Storage("memory://bench"))
    limit_threads()

    class Near(detection.DetectionBaseModel):
        def __init__(self) -> None:
            self.ontology = detection.CaptionOntology({"near": "near"})

        def predict(self, image: Any) -> Any:
            if log:
                with open(log, "a") as calls:
                    calls.write("1\n")
            rgb = cv2.cvtColor(image, cv2.COLOR_BGR2RGB)
            near = np.asarray(call({"photo@camera": rgb[None]})[expert.out[0]][0]).squeeze() > 0.5
            ys, xs = np.nonzero(near)
            if not len(ys):
                return supervision.Detections.empty()
            scale = np.array([rgb.shape[1] / near.shape[1], rgb.shape[0] / near.shape[0]] * 2)
            box = np.array([[xs.min(), ys.min(), xs.max() + 1, ys.max() + 1]]) * scale
            return supervision.Detections(xyxy=box, class_id=np.array([0]), confidence=np.array([1.0]))

    return Near()


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    main()
