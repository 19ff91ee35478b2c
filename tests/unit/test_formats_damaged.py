"""Files of annotations in which one part after the other is something else: one sentence each, never a traceback."""

from __future__ import annotations

import copy
import io
import json
import random
import zipfile
from collections.abc import Iterator
from typing import Any

import pytest

from hyperloom.pipeline.errors import SourceError
from hyperloom.stages.formats import coco, cvat, label_studio, panoptic, polygon_files, voc, yolo

OTHER = (None, 5, "x", "http://[x", [], {}, [[]], [1], 1e308, float("inf"), True, {"a": 1}, -1)
CORNERS = [[1, 2], [3, 4], [5, 6]]
PICTURE = {"id": 1, "file_name": "a.png", "width": 40, "height": 30}
CLASS = {"id": 1, "name": "car", "keypoints": ["a", "b"], "skeleton": [[1, 2]], "color": [1, 2, 3]}
OBJECTS = [
    {
        "id": 1,
        "image_id": 1,
        "category_id": 1,
        "bbox": [1, 2, 3, 4],
        "segmentation": [[1, 2, 3, 4, 5, 6]],
        "score": 0.5,
    },
    {"id": 2, "image_id": 1, "category_id": 1, "segmentation": {"size": [30, 40], "counts": [1200]}},
    {"id": 3, "image_id": 1, "category_id": 1, "keypoints": [1, 2, 2, 3, 4, 2], "attributes": {"a": 1}},
]
SEGMENTS = [{"image_id": 1, "file_name": "a.png", "segments_info": [{"id": 5, "category_id": 1, "bbox": [1, 2, 3, 4]}]}]
REGION = {"id": "q", "original_width": 40, "original_height": 30}
BOX = {"x": 1, "y": 1, "width": 3, "height": 3, "rotation": 0, "rectanglelabels": ["car"]}
REGIONS = [
    {**REGION, "type": "rectanglelabels", "value": BOX},
    {**REGION, "type": "brushlabels", "value": {"format": "rle", "rle": [1, 2, 3], "brushlabels": ["car"]}},
    {**REGION, "type": "polygonlabels", "value": {"points": CORNERS, "polygonlabels": ["car"]}},
    {"type": "choices", "value": {"choices": ["a"]}},
    {"type": "textarea", "value": {"text": ["a"]}},
]
ANSWER = {"id": 3, "updated_at": "x", "completed_by": {"email": "a"}, "result": REGIONS}
WHOLE: dict[str, tuple[Any, Any]] = {
    "coco": (coco.parse, {"images": [PICTURE], "categories": [CLASS], "annotations": OBJECTS}),
    "panoptic": (panoptic.parse, {"images": [PICTURE], "categories": [CLASS], "annotations": SEGMENTS}),
    "label-studio": (label_studio.parse, [{"id": 1, "data": {"image": "/data/upload/a.png"}, "annotations": [ANSWER]}]),
}
EACH: dict[str, Any] = {
    "labelme": {"imageWidth": 40, "imageHeight": 30, "shapes": [{"label": "a", "points": CORNERS, "group_id": 1}]},
    "cityscapes": {"imgWidth": 40, "imgHeight": 30, "objects": [{"label": "a", "polygon": CORNERS, "deleted": 0}]},
}


def damaged(whole: Any) -> Iterator[bytes]:
    """The value with each of its parts taken away, or another in its place."""
    for path in _paths(whole, ()):
        for other in (*OTHER, ...):
            value = copy.deepcopy(whole)
            place = value
            for step in path[:-1]:
                place = place[step]
            if other is ...:
                place.pop(path[-1])
            else:
                place[path[-1]] = other
            yield json.dumps(value).encode()


def _paths(value: Any, path: tuple[Any, ...]) -> Iterator[tuple[Any, ...]]:
    for key in value if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ():
        yield (*path, key)
        yield from _paths(value[key], (*path, key))


@pytest.mark.parametrize("form", WHOLE)
def test_another_form_in_a_whole_file(form: str) -> None:
    parse, value = WHOLE[form]
    assert not parse(json.dumps(value).encode(), "f").pictures[0].faults or form == "label-studio"  # its brush is cut
    refused = 0
    for data in damaged(value):
        try:
            parse(data, "file.json")
        except SourceError as error:
            refused += 1
            assert "file.json" in str(error)
    assert refused


@pytest.mark.parametrize("form", EACH)
def test_another_form_in_a_file_of_one_picture(form: str) -> None:
    assert polygon_files.parse(json.dumps(EACH[form]).encode(), "f", "a.png").annotations
    refused = 0
    for data in damaged(EACH[form]):
        try:
            polygon_files.parse(data, "file.json", "a.png")
        except ValueError as error:
            refused += 1
            assert "file.json" in str(error)
    assert refused


def test_a_text_that_looks_like_an_address_costs_nothing() -> None:
    task = {"id": 1, "data": {"note": "see http://[1", "image": "/data/upload/a.png"}}
    (picture,) = label_studio.parse(json.dumps([task]).encode(), "f").pictures
    assert picture.name == "a.png"


def test_a_zip_with_a_wrong_bit() -> None:
    held = io.BytesIO()
    with zipfile.ZipFile(held, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("annotations.xml", "<annotations>" + "0123456789abc" * 300 + "</annotations>")
    dice, refused = random.Random(0), 0
    for _ in range(300):
        data = bytearray(held.getvalue())
        data[dice.randrange(2, len(data))] ^= 1 << dice.randrange(8)
        try:
            cvat.parse(bytes(data), "f.zip")
        except SourceError:
            refused += 1
    assert refused > 30


def test_encodings_numbers_and_shapes_that_are_none() -> None:
    for encoding in ("nope", "utf-7"):
        head = f'<?xml version="1.0" encoding="{encoding}"?>'
        with pytest.raises(SourceError, match="no whole XML"):
            cvat.parse(f"{head}<annotations/>".encode(), "f.xml")
        with pytest.raises(ValueError, match="no whole XML"):
            voc.parse(f"{head}<annotation/>".encode(), "f.xml", "a")
    with pytest.raises(SourceError, match="no JSON"):
        coco.parse(b"[" + b"1" * 5000 + b"]", "f.json")
    with pytest.raises(SourceError, match="no list of YOLO's classes"):
        yolo.names_in(b"names: [a]\nkpt_shape: [17]", "data.yaml")
