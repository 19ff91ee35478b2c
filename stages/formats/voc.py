"""Pascal VOC's XML: a file a picture, with its size and an `object` for each box.

Corners are taken and written as they stand. `difficult`, `truncated`, `occluded` and `pose` are kept as attributes;
`part`s of objects are counted and left out.
"""

from __future__ import annotations

import math
from typing import Any
from xml.etree import ElementTree
from xml.etree.ElementTree import Element, SubElement

from hyperloom.pipeline.errors import SourceError
from hyperloom.stages.formats.annotation import AnnotatedPicture, Annotation, within
from hyperloom.stages.formats.documents import parse_xml

KEPT = ("pose", "truncated", "difficult", "occluded")
CORNERS = ("xmin", "ymin", "xmax", "ymax")


def parse(data: bytes, path: str, name: str) -> AnnotatedPicture:
    """What is in the picture `name`. Raises ValueError for what is no such file, or has a box that cannot be."""
    try:
        root = parse_xml(data, path)
    except SourceError as error:
        raise ValueError(str(error)) from error
    if root.tag != "annotation":
        raise ValueError(f"{path}: its root is <{root.tag}>, not VOC's <annotation>")
    picture = AnnotatedPicture(name, _side(root, "width"), _side(root, "height"))
    for number, thing in enumerate(root.findall("object"), 1):
        label = (thing.findtext("name") or "").strip()
        try:
            corners = tuple(float(thing.findtext(f"bndbox/{c}") or "nan") for c in CORNERS)
            _check(corners, picture)
        except ValueError as error:
            raise ValueError(f"{path}, object {number} ({label}): {error}") from error
        annotation = Annotation(label, number, corners)  # type: ignore[arg-type]
        annotation.attributes = {k: v for k in KEPT if (v := thing.findtext(k)) not in (None, "0", "Unspecified")}
        picture.annotations.append(annotation)
        picture.ignored += ["parts of objects"] * len(thing.findall("part"))
    return picture


def _check(corners: tuple[float, ...], picture: AnnotatedPicture) -> None:
    x0, y0, x1, y1 = corners
    if not all(map(math.isfinite, corners)):
        raise ValueError("a corner of its box is no number")
    if x1 < x0 or y1 < y0:
        raise ValueError(f"no box goes from {x0:g}, {y0:g} to {x1:g}, {y1:g}")
    if max(corners) <= 1 and any(v != int(v) for v in corners):
        raise ValueError(f"its box {corners} seems to be in shares of the picture; VOC's are pixels")
    within(corners, picture)


def _side(root: Element, side: str) -> int:
    text = (root.findtext(f"size/{side}") or "").strip()
    return int(float(text)) if text.replace(".", "", 1).isdecimal() else 0


def written(picture: AnnotatedPicture) -> bytes:
    """The file of one picture; of a mask or polygons the box around them."""
    root = Element("annotation")
    folder, _, name = picture.name.rpartition("/")
    for tag, text in (("folder", folder), ("filename", name)):
        SubElement(root, tag).text = text
    size = SubElement(root, "size")
    for tag, side in (("width", picture.width), ("height", picture.height), ("depth", 3)):
        SubElement(size, tag).text = str(side)
    SubElement(root, "segmented").text = "0"
    for annotation in picture.annotations:
        extent = annotation.extent()
        if extent is not None:
            _object(root, annotation, extent)
    ElementTree.indent(root)
    return bytes(ElementTree.tostring(root, encoding="utf-8"))


def _object(root: Element, annotation: Annotation, extent: tuple[float, ...]) -> None:
    thing = SubElement(root, "object")
    SubElement(thing, "name").text = annotation.label
    defaults: dict[str, Any] = {"pose": "Unspecified", "truncated": "0", "difficult": "0", "occluded": "0"}
    for tag, instead in defaults.items():
        SubElement(thing, tag).text = str(annotation.attributes.get(tag, instead))
    box = SubElement(thing, "bndbox")
    for tag, value in zip(CORNERS, extent, strict=True):
        SubElement(box, tag).text = f"{value:.10g}"
