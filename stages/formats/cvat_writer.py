"""Writing CVAT's XML for images, version 1.1: what CVAT takes as an upload of annotations (`stages.formats.cvat` reads
it).

Of an annotation the most exact shape is written: its mask, else its polygons (several as several shapes), else its
points as a skeleton, else its box. Attributes are written where they are texts or numbers.
"""

from __future__ import annotations

from typing import Any
from xml.etree import ElementTree
from xml.etree.ElementTree import Element, SubElement

from hyperloom.stages.formats.annotation import AnnotatedPicture, Annotation, AnnotationSet
from hyperloom.stages.modality.runs import MaskRuns, run_lengths


def written(annotations: AnnotationSet) -> bytes:
    """The XML of a whole set."""
    root = Element("annotations")
    SubElement(root, "version").text = "1.1"
    labels = SubElement(SubElement(SubElement(root, "meta"), "job"), "labels")
    for category in annotations.categories:
        _label(labels, category.name, "skeleton" if category.points else "any")
        for point in category.points:
            _label(labels, point, "points", category.name)
    for label in dict.fromkeys(label for p in annotations.pictures for label in p.labels):
        if label not in annotations.names:
            _label(labels, label, "tag")
    for place, picture in enumerate(annotations.pictures):
        _picture(root, picture, place)
    ElementTree.indent(root)
    return ElementTree.tostring(root, encoding="utf-8", xml_declaration=True)


def _label(labels: Element, name: str, kind: str, parent: str = "") -> None:
    label = SubElement(labels, "label")
    SubElement(label, "name").text = name
    SubElement(label, "type").text = kind
    if parent:
        SubElement(label, "parent").text = parent


def _picture(root: Element, picture: AnnotatedPicture, place: int) -> None:
    number = picture.number if isinstance(picture.number, int) else place
    sides = {"width": str(picture.width), "height": str(picture.height)}
    image = SubElement(root, "image", {"id": str(number), "name": picture.name, **sides})
    if picture.group:
        image.set("subset", picture.group)
    lowest = min((a.layer for a in picture.annotations if "z_order" not in a.attributes), default=0)
    for annotation in picture.annotations:
        for tag, place_ in _shapes(annotation):
            shape = SubElement(image, tag, {"label": annotation.label, "source": _source(annotation), **place_})
            if annotation.id:
                shape.set("id", str(annotation.id))
            _details(shape, annotation, max(0, -lowest))
    for label in picture.labels:
        SubElement(image, "tag", {"label": label, "source": "manual"})


def _source(annotation: Annotation) -> str:
    return str(annotation.attributes.get("source", "manual" if annotation.score is None else "auto"))


def _details(shape: Element, annotation: Annotation, raised: int) -> None:
    """`raised` is by how much layers are, so that none is below 0."""
    if shape.tag == "skeleton":
        for name, (x, y, seen) in annotation.points.items():
            hidden = {"outside": str(int(seen == 0)), "occluded": str(int(seen == 1))}
            SubElement(shape, "points", {"label": name, "points": f"{x!r},{y!r}", **hidden})
    shape.set("occluded", str(annotation.attributes.get("occluded", "0")))
    if shape.tag != "skeleton":
        own = annotation.attributes.get("z_order")
        shape.set("z_order", str(annotation.layer + raised if own is None or raised else own))
    values = {k: v for k, v in annotation.attributes.items() if k not in ("occluded", "z_order", "source")}
    if annotation.score is not None:
        values["score"] = f"{annotation.score:.6g}"
    for name, value in values.items():
        if isinstance(value, str | int | float):
            SubElement(shape, "attribute", {"name": name}).text = str(value)


def _shapes(annotation: Annotation) -> list[tuple[str, dict[str, Any]]]:
    """Tag and places of the shapes of an annotation."""
    if annotation.mask is not None:
        window = _window(annotation.mask)
        return [("mask", window)] if window else []
    if annotation.polygons:
        return [("polygon", {"points": _points(polygon)}) for polygon in annotation.polygons]
    if annotation.points:
        if len(annotation.points) == 1 and annotation.label in annotation.points:
            x, y, _ = annotation.points[annotation.label]
            return [("points", {"points": f"{x!r},{y!r}"})]
        return [("skeleton", {})]
    if annotation.box is None:
        return []
    return [("box", {k: repr(v) for k, v in zip(("xtl", "ytl", "xbr", "ybr"), annotation.box, strict=True)})]


def _points(polygon: tuple[float, ...]) -> str:
    return ";".join(f"{x!r},{y!r}" for x, y in zip(polygon[::2], polygon[1::2], strict=True))


def _window(runs: MaskRuns) -> dict[str, str]:
    """The smallest window around a mask, and its runs row by row."""
    extent = runs.extent()
    if extent is None:
        return {}
    x0, y0, x1, y1 = (int(v) for v in extent)
    counts = run_lengths(runs.mask()[y0:y1, x0:x1].ravel()).tolist()
    sides = {"left": str(x0), "top": str(y0), "width": str(x1 - x0), "height": str(y1 - y0)}
    return {"rle": ", ".join(map(str, counts)), **sides}
