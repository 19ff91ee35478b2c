"""What a tool has to ask: the labelling interface of Label Studio, the labels of a CVAT project."""

from __future__ import annotations

import json
from typing import Any
from xml.etree import ElementTree
from xml.etree.ElementTree import Element, SubElement

from hyperloom.stages.people import markup


def interface(kind: Any) -> str:
    """Label Studio's interface for values of a modality, with all of its classes; the names of controls are those that
    the predictions are written for."""
    view = Element("View")
    SubElement(view, "Image", {"name": "image", "value": "$image", "zoom": "true"})
    if kind.markup == "text":
        SubElement(view, "TextArea", {"name": "text", "toName": "image", "maxSubmissions": "1", "editable": "true"})
    elif kind.markup in ("map", "masks"):
        _listed(view, "BrushLabels", "brush", "Label", kind)
        _listed(view, "PolygonLabels", "polygon", "Label", kind)
    elif kind.markup == "boxes":
        _listed(view, "RectangleLabels", "box", "Label", kind)
    elif kind.markup == "points":
        _listed(view, "KeyPointLabels", "keypoint", "Label", kind)
    else:
        choices = _listed(view, "Choices", "choice", "Choice", kind)
        choices.set("choice", "multiple" if kind.markup == "marks" else "single")
    ElementTree.indent(view)
    return ElementTree.tostring(view, encoding="unicode") + "\n"


def labels(kind: Any) -> bytes:
    """The labels of a CVAT project, as its raw editor takes them."""
    if kind.markup == "points":
        parts = [{"name": name, "type": "points", "attributes": []} for name in kind.points]
        rows: list[dict[str, Any]] = [{"name": markup.POINTS, "type": "skeleton", "sublabels": parts, "attributes": []}]
    else:
        drawn = "mask" if kind.markup in ("map", "masks") else "rectangle" if kind.markup == "boxes" else "tag"
        rows = [{"name": name, "type": drawn, "attributes": []} for name in markup.names(kind)]
    return (json.dumps(rows, indent=1, ensure_ascii=False) + "\n").encode()


def _listed(view: Element, tag: str, name: str, item: str, kind: Any) -> Element:
    control = SubElement(view, tag, {"name": name, "toName": "image"})
    for label in markup.names(kind):
        SubElement(control, item, {"value": label})
    return control
