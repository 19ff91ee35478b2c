"""Import and export of a COCO file with many annotations, and of the same as CVAT's and Label Studio's.

    python benchmarks/formats.py [--annotations 100000] [--pictures 5000]

Pictures are small PNGs, annotations polygons. `import` is an ingest step of boxes and instances, from the listing to
the committed manifest, and `export` what `hyperloom export --layout coco` does of it, both in one process. `parse` and
`write` are of the file alone. The last line is one JSON object of seconds, by the clock and of CPU.
"""

from __future__ import annotations

import argparse
import json
import math
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import hyperloom.stages  # noqa: F401  registers the plug-ins
from hyperloom.pipeline.planning.plan import plan
from hyperloom.pipeline.recipes import recipe
from hyperloom.pipeline.recipes.recipe import RecipeFile
from hyperloom.pipeline.root.digests import Digests
from hyperloom.pipeline.root.storage import Storage
from hyperloom.pipeline.running import runner
from hyperloom.stages.data.reader import SampleReader
from hyperloom.stages.data.tool_export import export_to_tool
from hyperloom.stages.formats import coco, coco_writer, cvat, cvat_writer, label_studio, label_studio_writer
from hyperloom.stages.formats.annotation import AnnotatedPicture, Annotation, AnnotationSet, categories_of

SIZE = (48, 64)
CLASSES = ("car", "person", "dog", "tree")


def drawn(pictures: int, annotations: int) -> AnnotationSet:
    """Annotations dealt over pictures, polygons of twelve corners."""
    random = np.random.default_rng(0)
    turns = [(math.cos(i / 6 * math.pi), math.sin(i / 6 * math.pi)) for i in range(12)]
    whole = AnnotationSet(categories_of(CLASSES))
    whole.pictures = [AnnotatedPicture(f"{i:06d}.png", SIZE[1], SIZE[0], i + 1) for i in range(pictures)]
    for number in range(annotations):
        x, y, radius = random.uniform(12, 52), random.uniform(12, 36), random.uniform(3, 11)
        annotation = Annotation(CLASSES[number % 4], number + 1, (x - radius, y - radius, x + radius, y + radius))
        annotation.polygons = (tuple(round(v, 2) for c, s in turns for v in (x + radius * c, y + radius * s)),)
        whole.pictures[number % pictures].annotations.append(annotation)
    return whole


def written_pictures(folder: Path, whole: AnnotationSet) -> None:
    import cv2

    folder.mkdir()
    random = np.random.default_rng(1)
    for picture in whole.pictures:
        cv2.imwrite(str(folder / picture.name), random.integers(0, 256, (*SIZE, 3), np.uint8))


def timed(function: Callable[[], Any]) -> tuple[Any, list[float]]:
    """What it gives, and its seconds: by the clock, and of this process alone."""
    start = time.perf_counter(), time.process_time()
    value = function()
    return value, [round(now - then, 2) for now, then in zip((time.perf_counter(), time.process_time()), start)]


def ingested(folder: Path, most: int) -> RecipeFile:
    """The file and its pictures as a recipe whose one step has been run, in this process: listed, read, written as
    Parquet, committed."""
    columns = ["rgb@camera", "objects@truth", "things@truth"]
    source = {"type": "annotated", "format": "coco", "path": f"{folder}/a.json", "images": f"{folder}/images"}
    written = {
        "name": "formats",
        "root": f"{folder}/root",
        "modalities": {
            "rgb": {"type": "image", "size": list(SIZE), "codec": "file"},
            "objects": {"type": "boxes", "classes": list(CLASSES), "most": most},
            "things": {"type": "instances", "classes": list(CLASSES), "most": most, "size": list(SIZE)},
        },
        "steps": {"frames": {"stage": "ingest", "source": {**source, "columns": columns}}},
    }
    loaded = recipe.parse(json.dumps(written), str(folder / "formats.yaml"))
    outcome = runner.run(loaded, None, None, None, track=False)
    if not outcome.ok:
        raise SystemExit(str(outcome.problems))
    return loaded


def exported(folder: Path, loaded: RecipeFile) -> int:
    """The step as COCO's file and pictures; how many files."""
    storage = Storage(f"{folder}/root")
    (frames,) = plan(loaded, storage, Digests(storage))
    assert frames.manifest is not None
    reader = SampleReader(storage, "frames", frames.manifest, [frames.manifest], ["rgb@camera", "things@truth"])
    return export_to_tool(reader, dict(loaded.recipe.modalities), Storage(f"{folder}/out"), "coco")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--annotations", type=int, default=100_000)
    parser.add_argument("--pictures", type=int, default=5_000)
    given = parser.parse_args()
    whole = drawn(given.pictures, given.annotations)
    seconds: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        written_pictures(folder / "images", whole)
        for form, write, parse in (
            ("coco", coco_writer.written, coco.parse),
            ("cvat", cvat_writer.written, cvat.parse),
            ("label_studio", label_studio_writer.written, label_studio.parse),
        ):
            data, seconds[f"write_{form}"] = timed(lambda write=write: write(whole))  # type: ignore[misc]
            back, seconds[f"parse_{form}"] = timed(lambda parse=parse, data=data: parse(data, "a"))  # type: ignore[misc]
            assert sum(len(p.annotations) for p in back.pictures) == given.annotations
            seconds[f"mb_{form}"] = round(len(data) / 1e6, 1)
            print(form, seconds[f"write_{form}"], seconds[f"parse_{form}"], flush=True)
        (folder / "a.json").write_bytes(coco_writer.written(whole))
        most = -(-given.annotations // given.pictures) + 1
        loaded, seconds["import"] = timed(lambda: ingested(folder, most))
        files, seconds["export"] = timed(lambda: exported(folder, loaded))
        back = coco.parse((folder / "out/annotations.json").read_bytes(), "out")
        assert sum(len(p.annotations) for p in back.pictures) == given.annotations
        seconds |= {"pictures": files - 1, "annotations": given.annotations}
    print(json.dumps(seconds))


if __name__ == "__main__":
    main()
