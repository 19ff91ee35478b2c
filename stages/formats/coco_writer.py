"""Writing COCO: the same sets of annotations as one JSON file (`stages.formats.coco` reads it).

Ids of pictures, categories and annotations stay what they are where they are distinct whole numbers; others are
numbered after the largest. Masks are strings of runs, crowds lists of them, as COCO has it; areas are computed.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from hyperloom.stages.formats import coco_runs
from hyperloom.stages.formats.annotation import AnnotatedPicture, Annotation, AnnotationSet, ThingClass

DIGITS = 9
"""Of lengths that are computed: what rounding leaves behind is none of the file's."""


def written(annotations: AnnotationSet) -> bytes:
    """The file. What COCO has no place for (classes of whole pictures) is an attribute of the picture."""
    categories = {c.name: c for c in annotations.categories}
    pictures = numbered([p.number for p in annotations.pictures])
    flat = [(n, p, a) for n, p in zip(pictures, annotations.pictures, strict=True) for a in p.annotations]
    numbers = numbered([a.id or "" for _, _, a in flat])  # 0 says that it has none, and is no match to COCO's judges
    boxes = [
        _annotation(number, of, picture, a, categories[a.label])
        for number, (of, picture, a) in zip(numbers, flat, strict=True)
    ]
    texts = [(n, t) for n, p in zip(pictures, annotations.pictures, strict=True) for t in p.texts]
    first = max(numbers, default=0) + 1
    captions = [{"id": first + i, "image_id": n, "caption": t} for i, (n, t) in enumerate(texts)]
    named = annotations.categories or not captions  # a list of classes, and pycocotools asks captions for theirs
    value = {
        "images": [picture_of(n, p) for n, p in zip(pictures, annotations.pictures, strict=True)],
        **({"categories": [category_of(c) for c in annotations.categories]} if named else {}),
        "annotations": boxes + captions,
    }
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


def numbered(ids: Iterable[Any]) -> list[int]:
    """Whole positive numbers for ids: the ids themselves where they are such and stand for the first time."""
    given = list(ids)
    whole = [i if isinstance(i, int) and not isinstance(i, bool) and i > 0 else 0 for i in given]
    zero = given.count(0) == 1 and 0 in given  # COCO's own files may count from 0
    following, used, numbers = max(whole, default=0), set[int](), []
    for id_, number in zip(given, whole, strict=True):
        if (number or (zero and id_ == 0)) and number not in used:
            used.add(number)
            numbers.append(number)
        else:
            following += 1
            numbers.append(following)
    return numbers


def picture_of(number: int, picture: AnnotatedPicture) -> dict[str, Any]:
    plain = {"id": number, "file_name": picture.name, "width": picture.width, "height": picture.height}
    return plain | ({"labels": picture.labels} if picture.labels else {})


def category_of(category: ThingClass) -> dict[str, Any]:
    plain: dict[str, Any] = {"id": category.id, "name": category.name, "supercategory": category.parent}
    if category.points:
        plain |= {"keypoints": list(category.points), "skeleton": [list(pair) for pair in category.skeleton]}
    if category.colour is not None:
        plain["color"] = list(category.colour)
    return plain | ({"isthing": 0} if category.stuff else {})


def _annotation(
    number: int, of: int, picture: AnnotatedPicture, annotation: Annotation, category: ThingClass
) -> dict[str, Any]:
    plain: dict[str, Any] = {"id": number, "image_id": of, "category_id": category.id}
    extent = annotation.extent()
    if extent is not None:
        x0, y0, x1, y1 = extent
        plain["bbox"] = [round(v, DIGITS) for v in (x0, y0, x1 - x0, y1 - y0)]
        plain["area"] = round(area(annotation), DIGITS)
    if annotation.mask is not None:
        runs = annotation.mask
        counts: Any = runs.counts.tolist() if annotation.crowd else coco_runs.written(runs)
        plain["segmentation"] = {"size": list(runs.size), "counts": counts}
    elif annotation.polygons:
        plain["segmentation"] = [list(polygon) for polygon in annotation.polygons]
    if category.points and annotation.points:
        points = [annotation.points.get(name, (0.0, 0.0, 0)) for name in category.points]
        plain["keypoints"] = [v for x, y, seen in points for v in (round(x, DIGITS), round(y, DIGITS), seen)]
        plain["num_keypoints"] = sum(seen > 0 for _, _, seen in points)
    plain["iscrowd"] = int(annotation.crowd)
    plain |= {"score": annotation.score} if annotation.score is not None else {}
    return plain | ({"attributes": annotation.attributes} if annotation.attributes else {})


def area(annotation: Annotation) -> float:
    """Square pixels of a mask, of polygons (their sum), else of the box."""
    if annotation.mask is not None:
        return float(annotation.mask.area)
    if annotation.polygons:
        return sum(abs(_twice(p[::2], p[1::2])) for p in annotation.polygons) / 2
    extent = annotation.extent()
    return (extent[2] - extent[0]) * (extent[3] - extent[1]) if extent else 0.0


def _twice(xs: tuple[float, ...], ys: tuple[float, ...]) -> float:
    return sum(x * ys[i - 1] - xs[i - 1] * y for i, (x, y) in enumerate(zip(xs, ys, strict=True)))
