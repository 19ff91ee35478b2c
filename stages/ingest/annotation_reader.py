"""One picture and what is marked in it as the values of a sample's columns. See the source `annotated`."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any

from hyperloom.pipeline.errors import SourceError
from hyperloom.stages.formats import panoptic, polygon_files, voc, yolo
from hyperloom.stages.formats.annotation import AnnotatedPicture
from hyperloom.stages.formats.values import in_pixels, value_of
from hyperloom.stages.ingest.annotation_files import WHOLE, parsed_whole
from hyperloom.stages.ingest.source import Item, Values
from hyperloom.stages.modality import imagefile
from hyperloom.stages.remarks import remark

Fetch = Callable[[str], bytes]


def values(item: Item, form: str, kinds: Mapping[str, Any], fetch: Fetch) -> Values:
    """The columns of one sample, `kinds` being their modalities. Raises ValueError, OSError for what cannot be
    reached."""
    sides = item.sides
    if "fault" in sides:
        raise ValueError(sides["fault"])
    if not item.path:
        raise ValueError(f"the annotations list {sides['name']}, which is not there")
    picture = _annotated(sides, form, fetch)
    if picture.faults:
        raise ValueError("; ".join(picture.faults))
    data = fetch(item.path)
    image = next((m for m in kinds.values() if m.rgb), None)
    size = _size(data, item.path, picture, image)
    picture = in_pixels(picture, size)
    if picture.map:
        picture = panoptic.filled(picture, imagefile.numbers(_map(sides["map"], fetch), sides["map"]))
    for text in picture.ignored:
        remark(f"{text} are left out")
    if not picture.annotated:
        remark("pictures are listed and nobody annotated them: their labels are missing")
    read: Values = {}
    for column, modality in kinds.items():
        try:
            if modality.rgb:
                read[column] = modality.read(data, item.path)
            else:
                read[column] = value_of(picture, modality, size, kinds.values())
        except ValueError as error:
            raise ValueError(f"{column}: {error}") from error
    return read


def _map(path: str, fetch: Fetch) -> bytes:
    try:
        return fetch(path)
    except FileNotFoundError as error:
        raise ValueError(f"the picture of ids {path} is not there") from error


def _annotated(sides: Mapping[str, str], form: str, fetch: Fetch) -> AnnotatedPicture:
    name, path = sides["name"], sides.get("annotations", "")
    if "nobody" in sides:
        return AnnotatedPicture(name, annotated=False)
    if form in WHOLE:
        try:
            return _by_name(form, path, sides["sha"])[name]
        except KeyError as error:
            raise SourceError(f"{path} was changed while it was read. Next: run the same command again") from error
    data, base = fetch(path), os.path.basename(path)
    if form == "yolo":
        names, points, dims = json.loads(sides["names"])
        return yolo.parse(data, base, name, yolo.YoloNames(tuple(names), points, dims))
    return voc.parse(data, base, name) if form == "voc" else polygon_files.parse(data, base, name)


@lru_cache(maxsize=4)
def _by_name(form: str, path: str, sha256: str) -> dict[str, AnnotatedPicture]:
    return {picture.name: picture for picture in parsed_whole(form, path, sha256).pictures}


def _size(data: bytes, path: str, picture: AnnotatedPicture, image: Any) -> tuple[int, int]:
    """Height and width of the picture as people see it. Raises ValueError where its annotations are of another."""
    head = imagefile.header(data, path)
    ignore = image is not None and image.orientation == "ignore"
    shown = head.sides if ignore else head.shown
    height, width = shown
    if picture.width and picture.height and (picture.height, picture.width) != (height, width):
        own = f"{picture.width}x{picture.height}"
        why = ""
        if (picture.height, picture.width) == head.sides:
            why = ", as it is stored; EXIF turns it. Next: orientation: ignore on the picture's modality"
        raise ValueError(f"its annotations are of a picture of {own}{why}; it is {width}x{height} (width x height)")
    return int(height), int(width)
