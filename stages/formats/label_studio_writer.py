"""Writing Label Studio's tasks: annotations, or predictions as pre-annotations (`stages.formats.label_studio` reads
them), and the labelling interface that shows them.

Of an annotation the most exact shape is written: mask as brush, else polygons, else points, else the box.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any
from urllib.parse import quote
from xml.etree import ElementTree
from xml.etree.ElementTree import Element, SubElement

from hyperloom.stages.formats import brush
from hyperloom.stages.formats.annotation import AnnotatedPicture, Annotation, AnnotationSet
from hyperloom.stages.formats.label_studio import AnswerKind

FROM = {"rectanglelabels": "box", "polygonlabels": "polygon", "brushlabels": "brush", "keypointlabels": "keypoint"}
"""By kind of region, the name of its control in `interface`."""
TAGS = {"box": "RectangleLabels", "polygon": "PolygonLabels", "brush": "BrushLabels", "keypoint": "KeyPointLabels"}


def written(annotations: AnnotationSet, kind: AnswerKind = "annotations", folder: str = "") -> bytes:
    """The tasks as JSON. `folder` is where Label Studio serves local files from, as `/data/local-files/?d=FOLDER`;
    without it a picture's own address, or its name, is written."""
    tasks = [task(p, place, kind, folder) for place, p in enumerate(annotations.pictures, 1)]
    return json.dumps(tasks, ensure_ascii=False, indent=1).encode()


def task(picture: AnnotatedPicture, place: int, kind: AnswerKind, folder: str = "") -> dict[str, Any]:
    """One task."""
    data = dict(picture.attributes.get("data") or {})
    if folder:
        place_ = quote(f"{folder.strip('/')}/{picture.name}")
        data["image"] = f"/data/local-files/?d={place_}"
    data = data or {"image": picture.name}
    plain: dict[str, Any] = {"id": picture.number or place, "data": data}
    if not picture.annotated:
        return plain
    results = [r for i, a in enumerate(picture.annotations, 1) for r in _results(a, picture, i)]
    if picture.labels:
        choices = {"value": {"choices": picture.labels}, "id": "choice", "from_name": "choice", "to_name": "image"}
        results.append({**choices, "type": "choices"})
    if picture.texts:
        texts = {"value": {"text": picture.texts}, "id": "text", "from_name": "text", "to_name": "image"}
        results.append({**texts, "type": "textarea"})
    answer: dict[str, Any] = {"result": results}
    if kind == "predictions":
        scores = [a.score for a in picture.annotations if a.score is not None]
        answer |= {"model_version": picture.by, "score": min(scores) if scores else 1.0}
    else:
        who: Any = int(picture.by) if picture.by.isdecimal() else picture.by
        answer |= {"completed_by": who} if picture.by else {}
        answer |= {"updated_at": picture.at} if picture.at else {}
    return {**plain, kind: [answer]}


def interface(annotations: AnnotationSet, labels: Sequence[str] = ()) -> str:
    """The labelling interface, as XML, with the controls that `written` names. `labels` are classes of whole pictures
    that may be chosen, beside those that were."""
    view = Element("View")
    SubElement(view, "Image", {"name": "image", "value": "$image"})
    kinds = {kind for p in annotations.pictures for a in p.annotations for kind, _ in _shapes(a, p)}
    points = list(dict.fromkeys(point for category in annotations.categories for point in category.points))
    for kind in (k for k in FROM if k in kinds or (not kinds and annotations.names and k == "rectanglelabels")):
        names = points if kind == "keypointlabels" and points else annotations.names
        _listed(view, TAGS[FROM[kind]], FROM[kind], "Label", names)
    chosen = list(dict.fromkeys([*labels, *(label for p in annotations.pictures for label in p.labels)]))
    if chosen:
        control = _listed(view, "Choices", "choice", "Choice", chosen)
        if any(len(p.labels) > 1 for p in annotations.pictures):
            control.set("choice", "multiple")
    if any(p.texts for p in annotations.pictures):
        SubElement(view, "TextArea", {"name": "text", "toName": "image", "maxSubmissions": "1", "editable": "true"})
    ElementTree.indent(view)
    return ElementTree.tostring(view, encoding="unicode")


def _listed(view: Element, tag: str, name: str, item: str, values: Sequence[str]) -> Element:
    control = SubElement(view, tag, {"name": name, "toName": "image"})
    for value in values:
        SubElement(control, item, {"value": value})
    return control


def _results(annotation: Annotation, picture: AnnotatedPicture, place: int) -> Iterator[dict[str, Any]]:
    sides = {"original_width": picture.width, "original_height": picture.height, "image_rotation": 0}
    for number, (kind, value) in enumerate(_shapes(annotation, picture)):
        id_ = str(annotation.id or place) + (f"-{number}" if number else "")
        result = {"id": id_, "type": kind, "from_name": FROM[kind], "to_name": "image", **sides, "value": value}
        yield result | ({} if annotation.score is None else {"score": annotation.score})


def _shapes(annotation: Annotation, picture: AnnotatedPicture) -> Iterator[tuple[str, dict[str, Any]]]:
    """AnswerKind and value of the regions of an annotation. Raises ValueError where the picture's sides are unknown."""
    width, height = picture.width, picture.height
    if not width or not height:
        raise ValueError(f"{picture.name}: its width and height are not known")
    label = annotation.label
    if annotation.mask is not None:
        yield "brushlabels", {"format": "rle", "rle": brush.written(annotation.mask), "brushlabels": [label]}
    elif annotation.polygons:
        for polygon in annotation.polygons:
            points = [[_share(x, width), _share(y, height)] for x, y in zip(polygon[::2], polygon[1::2], strict=True)]
            yield "polygonlabels", {"points": points, "closed": True, "polygonlabels": [label]}
    elif annotation.points:
        for name, (x, y, seen) in annotation.points.items():
            if seen:
                place = {"x": _share(x, width), "y": _share(y, height), "width": 0.5}
                yield "keypointlabels", {**place, "keypointlabels": [name]}
    elif annotation.box is not None:
        x0, y0, x1, y1 = annotation.box
        place = {"x": _share(x0, width), "y": _share(y0, height)}
        place |= {"width": _share(x1 - x0, width), "height": _share(y1 - y0, height), "rotation": 0}
        yield "rectanglelabels", {**place, "rectanglelabels": [label]}


def _share(pixels: float, side: int) -> float:
    """Pixels as per cent of a side; exact to a billionth of a pixel."""
    return pixels * 100 / side
