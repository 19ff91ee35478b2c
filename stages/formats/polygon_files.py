"""JSON files of polygons, one a picture: LabelMe's, and Cityscapes' `*_gtFine_polygons.json`.

Both give a label and points in pixels. Of Cityscapes a label that ends with `group` is a crowd of that class; later
objects lie in front, as there. LabelMe's rectangles are boxes, its circles, lines and points are counted and left out;
polygons of one label and one `group_id`, which is kept as an attribute, are parts of one thing, as LabelMe has it.
"""

from __future__ import annotations

import json
import math
from typing import Any

from hyperloom.pipeline.errors import SourceError
from hyperloom.stages.formats.annotation import AnnotatedPicture, Annotation, within
from hyperloom.stages.formats.documents import FORM, parse_json

GROUP = "group"


def parse(data: bytes, path: str, name: str) -> AnnotatedPicture:
    """What is in the picture `name`. Raises ValueError for what is no such file, or has a shape that cannot be."""
    try:
        value = parse_json(data, path)
    except SourceError as error:
        raise ValueError(str(error)) from error
    try:
        picture, rows = _shapes(value, name)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    except FORM as error:
        raise ValueError(f"{path}: a part has another form ({type(error).__name__}: {error})") from error
    for number, (label, points, kind, whole) in enumerate(rows, 1):
        try:
            _add(picture, str(label), points, kind, number, whole, "imgWidth" in value)
        except (ValueError, TypeError) as error:
            raise ValueError(f"{path}, shape {number} ({label}): {error}") from error
    return picture


def _shapes(value: Any, name: str) -> tuple[AnnotatedPicture, list[tuple[Any, Any, str, dict[str, Any]]]]:
    """The picture, and of each shape label, points, kind and the whole. Raises one of FORM."""
    if isinstance(value, dict) and isinstance(value.get("objects"), list) and "imgWidth" in value:
        picture = AnnotatedPicture(name, int(value["imgWidth"]), int(value["imgHeight"]))
        rows = [(o.get("label"), o.get("polygon"), "polygon", o) for o in value["objects"] if not o.get("deleted")]
    elif isinstance(value, dict) and isinstance(value.get("shapes"), list):
        picture = AnnotatedPicture(name, int(value.get("imageWidth") or 0), int(value.get("imageHeight") or 0))
        rows = [(s.get("label"), s.get("points"), s.get("shape_type") or "polygon", s) for s in value["shapes"]]
    else:
        raise ValueError("it is neither LabelMe's JSON (`shapes`) nor Cityscapes' (`objects`)")
    return picture, rows


def _add(
    picture: AnnotatedPicture, label: str, points: Any, kind: str, number: int, whole: dict[str, Any], street: bool
) -> None:
    if kind not in ("polygon", "rectangle"):
        picture.ignored.append(f"{kind}s")
        return
    numbers = [float(v) for pair in points for v in pair]
    if len(numbers) % 2 or not all(map(math.isfinite, numbers)):
        raise ValueError("its points are no list of x, y")
    within(numbers, picture)
    annotation = Annotation(label, number)
    if kind == "rectangle":
        xs, ys = numbers[::2], numbers[1::2]
        annotation.box = (min(xs), min(ys), max(xs), max(ys))
    elif len(numbers) < 6:
        picture.ignored.append("polygons of fewer than three points")
        return
    else:
        annotation.polygons = (tuple(numbers),)
        if not street and (known := _part_of(picture, label, whole.get("group_id"))) is not None:
            known.polygons += annotation.polygons
            return
    annotation.layer = number if street else 0
    if street and label.endswith(GROUP) and len(label) > len(GROUP):
        annotation.label, annotation.crowd = label[: -len(GROUP)], True
    if whole.get("group_id") is not None:
        annotation.attributes["group_id"] = whole["group_id"]
    picture.annotations.append(annotation)


def _part_of(picture: AnnotatedPicture, label: str, group: Any) -> Annotation | None:
    """The thing of polygons that a further polygon is a part of."""
    if group is None:
        return None
    things = (a for a in picture.annotations if a.label == label and a.polygons)
    return next((a for a in things if a.attributes.get("group_id") == group), None)


def written(picture: AnnotatedPicture) -> bytes:
    """LabelMe's file of one picture: polygons, of masks their borders, else rectangles."""
    from hyperloom.stages.formats.shapes import polygons_of

    shapes = []
    for annotation in picture.annotations:
        polygons = annotation.polygons or (polygons_of(annotation.mask.mask()) if annotation.mask is not None else ())
        group = annotation.attributes.get("group_id", annotation.id if len(polygons) > 1 else None)
        plain: dict[str, Any] = {"label": annotation.label, "group_id": group, "flags": {}}
        for polygon in polygons:
            pairs = [list(pair) for pair in zip(polygon[::2], polygon[1::2], strict=True)]
            shapes.append({**plain, "points": pairs, "shape_type": "polygon"})
        if not polygons and annotation.box is not None:
            x0, y0, x1, y1 = annotation.box
            shapes.append({**plain, "points": [[x0, y0], [x1, y1]], "shape_type": "rectangle"})
    value: dict[str, Any] = {
        "version": "5.5.0",
        "flags": {},
        "shapes": shapes,
        "imagePath": picture.name,
        "imageData": None,
    }
    return json.dumps(
        {**value, "imageHeight": picture.height, "imageWidth": picture.width}, ensure_ascii=False
    ).encode()
