"""Files of boxes as annotation tools write them, one a picture: YOLO's text, VOC's XML and LabelMe's JSON, in shares of
the picture.

What holds the boxes of a whole data set (COCO, Label Studio, VIA, CVAT) is no side file, and other forms are not read;
each is refused by its name, with what to write instead (docs/modalities.md has the few lines that do).
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from typing import Any

from hyperloom.stages.remarks import remark

PLAIN = "a JSON list of {x0, y0, x1, y1, class}, in shares of the picture"
CONVERT = f"Next: write a file for each picture, {PLAIN} (docs/modalities.md, Boxes of annotation tools, does that)"


def parse(data: bytes, name: str, classes: Sequence[str]) -> list[dict[str, Any]] | None:
    """Boxes {x0, y0, x1, y1, class, score} of a file; None where it has no such form. Raises ValueError, naming it."""
    base, suffix = os.path.basename(name), os.path.splitext(name)[1].lower()
    try:
        if suffix == ".txt":
            return [_yolo(line.split(), len(classes)) for line in data.decode("utf-8-sig").splitlines() if line.strip()]
        if suffix == ".xml":
            return _voc(data)
    except ValueError as error:
        kind = "YOLO's text: class x y width height" if suffix == ".txt" else "VOC's XML"
        raise ValueError(f"{base} is read as {kind}, and {error}") from error
    return _json(data, base) if suffix == ".json" else None


def sides(data: bytes, name: str) -> tuple[int, int] | None:
    """Height and width of the picture that a file of boxes was made for; None where it does not say."""
    from xml.etree import ElementTree

    try:
        if name.lower().endswith(".xml") and b"<!ENTITY" not in data:
            root = ElementTree.fromstring(data)
            height, width = (float(root.findtext(f"size/{side}") or 0) for side in ("height", "width"))
        elif name.lower().endswith(".json") and b'"imageWidth"' in data:
            value = json.loads(data)
            height, width = float(value["imageHeight"]), float(value["imageWidth"])
        else:
            return None
        return (int(height), int(width)) if min(height, width) >= 1 else None
    except (ValueError, TypeError, LookupError, SyntaxError, OverflowError):
        return None  # whoever reads it says what is wrong


def _yolo(words: Sequence[str], classes: int) -> dict[str, Any]:
    """`class x y width height [score]`: the class's number, and the middle of the box."""
    if not words[0].isdecimal():
        raise ValueError(f"a line begins with {words[0]!r}, no class number (KITTI's text, or another). {CONVERT}")
    if len(words) not in (5, 6):
        polygon = " (a polygon or a turned box)" if len(words) > 6 and len(words) % 2 else ""
        raise ValueError(f"a line has {len(words)} fields{polygon}")
    kind, (x, y, width, height) = int(words[0]), map(float, words[1:5])
    if not 0 <= kind < classes:
        raise ValueError(f"expected class ids below {classes}, got {kind}")
    corners = {"x0": x - width / 2, "y0": y - height / 2, "x1": x + width / 2, "y1": y + height / 2}
    return {**corners, "class": kind, "score": float(words[5]) if len(words) == 6 else 1.0}


def _voc(data: bytes) -> list[dict[str, Any]]:
    """`annotation` with the picture's `size` and an `object` for each box, whose corners are pixels."""
    from xml.etree import ElementTree

    if b"<!ENTITY" in data:
        raise ValueError("it defines entities, which is not taken")
    try:
        root = ElementTree.fromstring(data)
    except ElementTree.ParseError as error:
        raise ValueError(f"it is no XML ({error})") from error
    if root.tag != "annotation":
        whole = " (CVAT's, of a whole data set)" if root.tag == "annotations" else ""
        raise ValueError(f"its root is <{root.tag}>{whole}, not <annotation>. {CONVERT}")
    try:
        width, height = (float(root.findtext(f"size/{side}") or "") for side in ("width", "height"))
        boxes = []
        for thing in root.iter("object"):
            left, top, right, bottom = (
                float(thing.findtext(f"bndbox/{side}") or "") for side in ("xmin", "ymin", "xmax", "ymax")
            )
            corners = {"x0": left / width, "y0": top / height, "x1": right / width, "y1": bottom / height}
            boxes.append({**corners, "class": (thing.findtext("name") or "").strip()})
            if (thing.findtext("difficult") or "0").strip() != "0":
                remark("VOC's XML marks boxes as difficult, and they are taken like all others")
    except (ValueError, ZeroDivisionError) as error:
        raise ValueError("it lacks the picture's size or a corner of a box") from error
    return boxes


def _json(data: bytes, base: str) -> list[dict[str, Any]] | None:
    """LabelMe's boxes; None for a list of boxes, which the modality reads. Raises ValueError for other tools' files."""
    try:
        value = json.loads(data)
    except ValueError:
        return None  # said by whoever reads it
    if isinstance(value, dict) and "shapes" in value:
        return _labelme(value, base)
    first = value[0] if isinstance(value, list) and value else value
    if not isinstance(first, dict) or "x0" in first:
        return None
    keys = first.keys()
    if isinstance(value, dict) and {"annotations", "images"} <= keys:
        whole = "file of a whole data set, and a side file holds the boxes of one sample"
        raise ValueError(f"{base} is COCO's {whole}. {CONVERT}")
    if {"annotations", "data"} <= keys or {"completions", "data"} <= keys:
        what = (
            "file of a whole data set, and a side file holds the boxes of one sample" if first is not value else "task"
        )
        raise ValueError(f"{base} is Label Studio's {what}. {CONVERT}")
    if {"category_id", "bbox"} <= keys:
        raise ValueError(f"{base} is a list of COCO's annotations: pixels, and categories by number. {CONVERT}")
    if any(isinstance(v, dict) and "regions" in v for v in first.values()):
        raise ValueError(f"{base} is VIA's file of a whole data set. {CONVERT}")
    if isinstance(value, dict):
        raise ValueError(f"{base} holds an object with {', '.join(list(keys)[:5])}, not a list of boxes. {CONVERT}")
    return None


def _labelme(value: dict[str, Any], base: str) -> list[dict[str, Any]]:
    """`shapes` with a `label` and two `points` in pixels each, and the picture's size."""
    boxes = []
    try:
        width, height = float(value["imageWidth"]), float(value["imageHeight"])
        for shape in value["shapes"]:
            if shape.get("shape_type", "rectangle") != "rectangle":
                raise ValueError(f"a shape is a {shape['shape_type']}, not a rectangle")
            xs, ys = zip(*shape["points"], strict=True)
            corners = {"x0": min(xs) / width, "y0": min(ys) / height, "x1": max(xs) / width, "y1": max(ys) / height}
            boxes.append({**corners, "class": str(shape["label"]).strip()})
    except (AttributeError, KeyError, TypeError, ZeroDivisionError) as error:
        raise ValueError(f"{base} is read as LabelMe's JSON, and it lacks a size, points or a label") from error
    except ValueError as error:
        raise ValueError(f"{base} is read as LabelMe's JSON, and {error}. {CONVERT}") from error
    return boxes
