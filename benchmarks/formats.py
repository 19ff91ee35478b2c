"""Import and export of a COCO file with many annotations, and of the same as CVAT's and Label Studio's.

    python benchmarks/formats.py [--annotations 100000] [--pictures 5000]

Pictures are small PNGs, half of the annotations polygons and half boxes alone. `import` lists and reads the file
and encodes the columns of boxes and instances, without their Parquet files; `export` writes the values as COCO, without
reading a step. `parse` and `write` are of the file alone. The last line is one JSON object of seconds, by the clock and
of CPU.
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
from hyperloom.pipeline import plugins
from hyperloom.pipeline.digests import Digests
from hyperloom.pipeline.storage import Storage
from hyperloom.stages.formats import coco, coco_writer, cvat, cvat_writer, label_studio, label_studio_writer
from hyperloom.stages.formats.annotation import AnnotatedPicture, Annotation, AnnotationSet, categories_of
from hyperloom.stages.ingest.source import Item, Values

SIZE = (48, 64)
CLASSES = ("car", "person", "dog", "tree")
ROWS = 32


def drawn(pictures: int, annotations: int) -> AnnotationSet:
    """Annotations dealt over pictures, half of them polygons of twelve corners."""
    random = np.random.default_rng(0)
    turns = [(math.cos(i / 6 * math.pi), math.sin(i / 6 * math.pi)) for i in range(12)]
    whole = AnnotationSet(categories_of(CLASSES))
    whole.pictures = [AnnotatedPicture(f"{i:06d}.png", SIZE[1], SIZE[0], i + 1) for i in range(pictures)]
    for number in range(annotations):
        x, y, radius = random.uniform(12, 52), random.uniform(12, 36), random.uniform(3, 11)
        annotation = Annotation(CLASSES[number % 4], number + 1, (x - radius, y - radius, x + radius, y + radius))
        if number % 2:
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


def ingested(folder: Path, most: int) -> tuple[int, dict[str, Any], list[tuple[Item, Values]]]:
    """What an ingest step does of the file below `folder`: rows, modalities, and the samples."""
    known = {
        "rgb": {"type": "image", "size": list(SIZE), "codec": "file"},
        "objects": {"type": "boxes", "classes": list(CLASSES), "most": most},
        "things": {"type": "instances", "classes": list(CLASSES), "most": most, "size": list(SIZE)},
    }
    modalities = {name: plugins.parse("modality", value) for name, value in known.items()}
    columns = ["rgb@camera", "objects@truth", "things@truth"]
    source = plugins.parse("source", {
        "type": "annotated", "format": "coco", "path": str(folder / "a.json"), "images": str(folder / "images"),
        "columns": columns,
    })  # fmt: skip
    pieces = source.pieces(Digests(Storage(str(folder / "root"))))
    read = source.build(modalities)
    rows, samples = 0, []
    for piece in pieces:
        items = source.items(piece)
        for start in range(0, len(items), ROWS):
            part = list(read(items[start : start + ROWS]))
            for item, values in part:
                if isinstance(values, Exception):
                    raise SystemExit(f"{item.key}: {values}")
                samples.append((item, values))
            for column in columns:
                modalities[column.partition("@")[0]].encode([values[column] for _, values in part])
            rows += len(part)
    return rows, modalities, samples


def exported(folder: Path, modalities: dict[str, Any], samples: list[tuple[Item, Values]]) -> int:
    """The instances of all samples as COCO's file, pictures included; the file's bytes."""
    from hyperloom.stages.data.annotations import annotated, categories

    whole = AnnotationSet(categories(["things@truth"], modalities))
    target = Storage(str(folder / "out"))
    for item, values in samples:
        picture = annotated(f"{item.key}.png", SIZE, {"things@truth": values["things@truth"]}, modalities)
        target.write(f"images/{picture.name}", bytes(values["rgb@camera"]))
        whole.pictures.append(picture)
    data = coco_writer.written(whole)
    target.write("annotations.json", data)
    return len(data)


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
        (rows, modalities, samples), seconds["import"] = timed(lambda: ingested(folder, most))
        _, seconds["export"] = timed(lambda: exported(folder, modalities, samples))
        seconds |= {"pictures": rows, "annotations": given.annotations}
    print(json.dumps(seconds))


if __name__ == "__main__":
    main()
