"""Files of boxes as annotation tools write them, one a picture: YOLO's text and VOC's XML, in shares of the picture.

What holds the boxes of a whole data set (COCO, Label Studio) is no side file; it is refused by its name.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from typing import Any

PLAIN = "a JSON list of {x0, y0, x1, y1, class}, in shares of the picture"


def parse(data: bytes, name: str, classes: Sequence[str]) -> list[dict[str, Any]] | None:
    """Boxes {x0, y0, x1, y1, class, score} of a file; None where it has no such form. Raises ValueError, naming it."""
    base, suffix = os.path.basename(name), os.path.splitext(name)[1].lower()
    try:
        if suffix == ".txt":
            return [_yolo(line.split(), len(classes)) for line in data.decode().splitlines() if line.strip()]
        if suffix == ".xml":
            return _voc(data)
    except ValueError as error:
        kind = "YOLO's text: class x y width height" if suffix == ".txt" else "VOC's XML"
        raise ValueError(f"{base} is read as {kind}, and {error}") from error
    if suffix == ".json":
        _refuse_data_sets(data, base)
    return None


def _yolo(words: Sequence[str], classes: int) -> dict[str, Any]:
    """`class x y width height [score]`: the class's number, and the middle of the box."""
    if len(words) not in (5, 6):
        raise ValueError(f"a line has {len(words)} fields")
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
    try:
        width, height = (float(root.findtext(f"size/{side}") or "") for side in ("width", "height"))
        boxes = []
        for thing in root.iter("object"):
            left, top, right, bottom = (
                float(thing.findtext(f"bndbox/{side}") or "") for side in ("xmin", "ymin", "xmax", "ymax")
            )
            corners = {"x0": left / width, "y0": top / height, "x1": right / width, "y1": bottom / height}
            boxes.append({**corners, "class": (thing.findtext("name") or "").strip()})
    except (ValueError, ZeroDivisionError) as error:
        raise ValueError("it lacks the picture's size or a corner of a box") from error
    return boxes


def _refuse_data_sets(data: bytes, base: str) -> None:
    try:
        value = json.loads(data)
    except ValueError:
        return  # said by whoever reads it
    kind = ""
    if isinstance(value, dict) and {"annotations", "images"} <= value.keys():
        kind = "COCO"
    elif isinstance(value, list) and value and isinstance(value[0], dict) and {"annotations", "data"} & value[0].keys():
        kind = "Label Studio"
    if kind:
        what = f"{base} is {kind}'s file of a whole data set, and a side file holds the boxes of one sample"
        raise ValueError(f"{what}. Next: write a file for each picture, {PLAIN}")
