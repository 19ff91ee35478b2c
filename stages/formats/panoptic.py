"""COCO's panoptic form: a JSON file of segments, and a picture of their ids for each picture.

A pixel's id is red + 256 green + 65536 blue; ids that the file does not list belong to nothing (0, what is void). Stuff
and things become annotations with masks; `filled` puts these in once the picture of ids is read. Ids stay what they are
where a pixel can hold them.
"""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from hyperloom.pipeline.errors import SourceError
from hyperloom.stages.formats.annotation import AnnotatedPicture, AnnotationSet
from hyperloom.stages.formats.coco import CocoReader
from hyperloom.stages.formats.documents import of_form, parse_json
from hyperloom.stages.modality.runs import MaskRuns
from hyperloom.stages.remarks import remark

if TYPE_CHECKING:
    from collections.abc import Iterable

    import numpy as np

HIGHEST = 256**3 - 1
"""The largest id that three bytes hold."""


@of_form("COCO panoptic")
def parse(data: bytes, path: str) -> AnnotationSet:
    """The segments of a panoptic file; `map` of a picture names its picture of ids. Raises SourceError."""
    value = parse_json(data, path)
    if not isinstance(value, dict) or not isinstance(value.get("images"), list):
        raise SourceError(f"{path} is no COCO file: it has no list `images`. Next: check the path and the format")
    reader = CocoReader(path)
    reader.add_categories(value.get("categories") or [])
    reader.add_pictures(value["images"])
    for one in value.get("annotations") or ():
        picture = reader.picture(one)
        if picture is None:
            continue
        if "segments_info" not in one:
            raise SourceError(f"{path} has no `segments_info`: it is COCO's plain form. Next: format: coco")
        if picture.map:
            picture.faults.append("two annotations are of this picture")
        picture.map = str(one.get("file_name") or "")
        for segment in one["segments_info"]:
            reader.add({**segment, "image_id": one["image_id"]})
    for picture in reader.pictures:
        picture.annotated = bool(picture.map)
    return AnnotationSet(list(reader.categories.values()), reader.pictures, reader.sentences())


def ids_of(rgb: np.ndarray) -> np.ndarray:
    """(H, W) int64 ids of (H, W, 3) uint8. Raises ValueError for a picture without colours."""
    import numpy as np

    if rgb.ndim != 3 or rgb.shape[-1] != 3:
        raise ValueError("a picture of ids has three channels, red + 256 green + 65536 blue, and this has one")

    return (rgb.astype(np.int64) * np.array([1, 256, 65536])).sum(-1)


def filled(picture: AnnotatedPicture, rgb: np.ndarray) -> AnnotatedPicture:
    """The picture with a mask for each segment. Raises ValueError for a segment of which there is no pixel, and for a
    picture of ids of another size."""
    if picture.width and picture.height and rgb.shape[:2] != (picture.height, picture.width):
        sides = f"{rgb.shape[1]}x{rgb.shape[0]}, the picture {picture.width}x{picture.height} (width x height)"
        raise ValueError(f"its picture of ids {picture.map} is {sides}")
    ids, things = ids_of(rgb), []
    for annotation in picture.annotations:
        mask = ids == annotation.id
        if not mask.any():
            raise ValueError(f"segment {annotation.id} ({annotation.label}) has no pixel in {picture.map}")
        things.append(replace(annotation, mask=MaskRuns.of(mask)))
    return replace(picture, annotations=things)


def segment_ids(ids: Iterable[Any]) -> list[int]:
    """Distinct numbers for ids: they themselves where a pixel can hold them; none is 0, which is nothing."""
    from hyperloom.stages.formats.coco_writer import numbered

    given = [i if isinstance(i, int) and 0 < i <= HIGHEST else "" for i in ids]
    numbers = numbered(given)
    return numbers if max(numbers, default=0) <= HIGHEST else numbered("" for _ in given)


def written(annotations: AnnotationSet) -> tuple[bytes, dict[str, np.ndarray]]:
    """The JSON file, and (H, W, 3) uint8 pictures of ids by name. Of overlapping masks that of the higher layer lies in
    front, of one layer the later; what is covered wholly is left out, and said."""
    import numpy as np

    from hyperloom.stages.formats.coco_writer import category_of, numbered, picture_of
    from hyperloom.stages.formats.shapes import mask_of

    categories = {c.name: c for c in annotations.categories}
    numbers, rows, maps = numbered([p.number for p in annotations.pictures]), [], {}
    for number, picture in zip(numbers, annotations.pictures, strict=True):
        size = (picture.height, picture.width)
        ids, segments = np.zeros(size, np.int64), []
        things = sorted(picture.annotations, key=lambda a: a.layer)
        own = segment_ids(a.id for a in things)
        for id_, a in zip(own, things, strict=True):
            if (mask := mask_of(a, size)) is not None:
                ids[mask] = id_
        for id_, a in zip(own, things, strict=True):
            runs = MaskRuns.of(ids == id_)
            if (extent := runs.extent()) is not None:
                x0, y0, x1, y1 = extent
                plain: dict[str, Any] = {"id": id_, "category_id": categories[a.label].id, "iscrowd": int(a.crowd)}
                segments.append({**plain, "area": runs.area, "bbox": [x0, y0, x1 - x0, y1 - y0]})
            else:
                remark("segments of which no pixel is seen, as others lie in front, are left out")
        name = picture.name.rsplit(".", 1)[0] + ".png"
        maps[name] = np.stack([ids % 256, ids // 256 % 256, ids // 65536], -1).astype(np.uint8)
        rows.append({"image_id": number, "file_name": name, "segments_info": segments})
    stuff = [category_of(c) | {"isthing": int(not c.stuff)} for c in annotations.categories]
    images = [picture_of(n, p) for n, p in zip(numbers, annotations.pictures, strict=True)]
    value = {"images": images, "categories": stuff, "annotations": rows}
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode(), maps
