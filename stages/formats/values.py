"""From what is marked in a picture to a value of a column, by the type of its modality.

boxes: the box of each thing, or the smallest one around it, crowds with a score of 0; instances: what has a mask or
polygons; keypoints: the one thing that has points (of several the largest), or single points named like the modality's,
of which each stands once; segmentation: the class of each pixel, what lies in front as the format has it (else smaller
things), unknown in crowds, in what is no class and in boxes of which nobody drew the pixels; elsewhere `background`
where it is a class, or unknown where the background is marked itself or a map names every pixel; category, ordinal: the
picture's one label that is no class of another column alone; multilabel, tags: its labels, or else the classes of its
things; text: what people say of it.
Things of classes that the modality lacks are left out and said.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

from hyperloom.stages.formats.annotation import AnnotatedPicture, Annotation, within
from hyperloom.stages.remarks import remark

BACKGROUND = "background"
LABELLED = ("category", "ordinal", "multilabel", "tags")
"""Types whose values are labels of the whole picture."""
TYPES = ("boxes", "instances", "keypoints", "segmentation", "category", "ordinal", "multilabel", "tags", "text")


def value_of(picture: AnnotatedPicture, modality: Any, size: tuple[int, int], beside: Iterable[Any] = ()) -> Any:
    """The value of a picture of `size`, height and width in pixels, as `modality` holds it; None where nobody said
    anything. `beside` are modalities whose answers the same picture's labels hold. Raises ValueError."""
    if not picture.annotated:
        return None
    if takes_one_label(modality):
        return _label(picture, modality, beside)
    if modality.type == "text":
        return modality.fit(picture.texts[0]) if picture.texts else None
    if modality.type == "keypoints":
        return _points(picture, modality, size)
    if modality.type in ("multilabel", "tags"):
        names = picture.labels or dict.fromkeys(a.label for a in picture.annotations)
        foreign = _answers(beside) - {*modality.counted}
        return modality.fit([n for n in names if n not in foreign and _listed(n, modality)])
    things = [a for a in picture.annotations if _listed(a.label, modality)]
    if modality.type == "boxes":
        return modality.model_copy(update={"pixels": None}).fit(_boxes(things, size))
    if modality.type == "instances":
        return modality.fit(_instances(things, size))
    return modality.fit(_classes(picture.annotations, modality, size, bool(picture.map)))


def takes_one_label(modality: Any) -> bool:
    """Is a value the one label of a picture?"""
    return modality.type in ("category", "ordinal")


def _listed(label: str, modality: Any) -> bool:
    known = label in (modality.tags if modality.type == "tags" else modality.classes)
    if not known:
        remark(f"annotations of {label!r}, which is no class of {modality.type} here, are left out")
    return known


def _label(picture: AnnotatedPicture, modality: Any, beside: Iterable[Any]) -> Any:
    every = dict.fromkeys(picture.labels)
    labels = [label for label in every if label in modality.counted]  # others may answer other questions
    if every and not labels:
        elsewhere = _answers(beside)
        labels = [label for label in every if label not in elsewhere]
    if len(labels) > 1:
        raise ValueError(f"it has the labels {', '.join(labels)}, and one is expected")
    return modality.fit(labels[0]) if labels else None


def _answers(beside: Iterable[Any]) -> set[str]:
    """The labels of a whole picture that answer one of these."""
    return {name for other in beside if other.type in LABELLED for name in other.counted}


def _boxes(things: list[Annotation], size: tuple[int, int]) -> list[dict[str, Any]]:
    height, width = size
    boxes = []
    for thing in things:
        extent = thing.extent()
        if extent is None:
            remark("things without a place are left out")
            continue
        x0, y0, x1, y1 = extent
        corners = [min(max(v, 0.0), 1.0) for v in (x0 / width, y0 / height, x1 / width, y1 / height)]
        place = dict(zip(("x0", "y0", "x1", "y1"), corners, strict=True))
        score = 1.0 if thing.score is None else thing.score
        boxes.append({**place, "class": thing.label, "score": 0.0 if thing.crowd else score})
    return boxes


def _mask(thing: Annotation, size: tuple[int, int]) -> Any:
    """(H, W) bool, None without one. Raises ValueError for a mask of another size than the picture's."""
    from hyperloom.stages.formats.shapes import mask_of

    mask = mask_of(thing, size)
    if mask is not None and mask.shape != size:
        raise ValueError(f"annotation {thing.id}: its mask is {mask.shape[0]}x{mask.shape[1]}, not {size[0]}x{size[1]}")
    return mask


def _instances(things: list[Annotation], size: tuple[int, int]) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    ids = [thing.id if isinstance(thing.id, int) and thing.id > 0 else 0 for thing in things]
    free = iter(n for n in range(1, 2 * len(ids) + 1) if n not in ids)
    for own, thing in zip(ids, things, strict=True):
        mask = _mask(thing, size)
        if mask is None:
            remark("things without a mask are no instances and are left out (a boxes column takes their boxes)")
            continue
        row = {"mask": mask, "class": thing.label, "crowd": thing.crowd}
        row["id"] = own or next(free)
        row["score"] = 1.0 if thing.score is None else thing.score
        if thing.box is not None:
            corners = (v / size[1 - i % 2] for i, v in enumerate(thing.box))
            row |= dict(zip(("x0", "y0", "x1", "y1"), (min(max(v, 0.0), 1.0) for v in corners), strict=True))
        rows.append(row)
    return rows


def _classes(things: list[Annotation], modality: Any, size: tuple[int, int], whole: bool) -> Any:
    """Of a `whole` picture every pixel that is known is marked."""
    import numpy as np

    from hyperloom.stages.base import UNKNOWN

    classes = modality.classes
    placed = [(thing, _mask(thing, size)) for thing in things]
    masks = [(thing, mask) for thing, mask in placed if mask is not None]
    if things and not masks:
        raise ValueError("its things have boxes or points alone, from which no map of classes follows")
    marked = whole or any(thing.label == BACKGROUND for thing, _ in masks)
    elsewhere = UNKNOWN if marked or BACKGROUND not in classes else classes.index(BACKGROUND)
    ids = np.full(size, elsewhere, np.uint8)
    for thing, mask in placed:
        if mask is None and (extent := thing.extent()) is not None:
            remark("of things with a box alone the box is unknown in a map of classes, but for what is drawn there")
            ids[_inside(extent, size)] = UNKNOWN
    for thing, mask in sorted(masks, key=lambda one: (one[0].layer, -int(one[1].sum()))):
        known = _listed(thing.label, modality) and not thing.crowd
        ids[mask] = classes.index(thing.label) if known else UNKNOWN
    return ids


def _inside(extent: tuple[float, float, float, float], size: tuple[int, int]) -> Any:
    """(H, W) bool, the pixels that a box touches."""
    import numpy as np

    x0, y0, x1, y1 = extent
    mask = np.zeros(size, bool)
    mask[max(0, math.floor(y0)) : max(0, math.ceil(y1)), max(0, math.floor(x0)) : max(0, math.ceil(x1))] = True
    return mask


def _points(picture: AnnotatedPicture, modality: Any, size: tuple[int, int]) -> Any:
    height, width = size
    things = [a for a in picture.annotations if not a.crowd and any(seen for _, _, seen in a.points.values())]
    alone = [(name, p) for a in things if len(a.points) == 1 for name, p in a.points.items() if name in modality.points]
    single = dict(alone)
    whole = [a for a in things if len(a.points) > 1]
    if len(alone) > len(single) and not whole:
        name = next(name for i, (name, _) in enumerate(alone) if name in dict(alone[:i]))
        raise ValueError(f"the point {name!r} stands twice, and nothing says which points are of one thing")
    if len(whole) > 1:
        remark("several things of a picture have points, and the largest counts")
    points = max(whole, key=_area).points if whole else single
    if not points:
        return None
    names = set(modality.points)
    if set(points) != names and all(name.isdecimal() for name in points) and len(points) == len(names):
        points = {modality.points[int(name)]: place for name, place in points.items()}
    if foreign := sorted(set(points) - names):
        remark(f"points called {foreign[0]!r}, which the modality does not have, are left out")
    seen = {n: (x, y) for n, (x, y, shown) in points.items() if shown and n in names}
    for name, place in seen.items():
        within(place, AnnotatedPicture(picture.name, width, height), f"the point {name!r}")
    inside = {n: [min(max(x / width, 0.0), 1.0), min(max(y / height, 0.0), 1.0)] for n, (x, y) in seen.items()}
    return modality.fit({name: inside.get(name) for name in modality.points})


def _area(thing: Annotation) -> float:
    extent = thing.extent()
    return (extent[2] - extent[0]) * (extent[3] - extent[1]) if extent else 0.0


def in_pixels(picture: AnnotatedPicture, size: tuple[int, int]) -> AnnotatedPicture:
    """A picture whose places are shares of its sides, in pixels."""
    from dataclasses import replace

    if not picture.shares:
        return picture
    height, width = size
    sides = (width, height)
    things = []
    for a in picture.annotations:
        box = None if a.box is None else tuple(v * sides[i % 2] for i, v in enumerate(a.box))
        polygons = tuple(tuple(v * sides[i % 2] for i, v in enumerate(p)) for p in a.polygons)
        points = {n: (x * width, y * height, seen) for n, (x, y, seen) in a.points.items()}
        things.append(replace(a, box=box, polygons=polygons, points=points))  # type: ignore[arg-type]
    return replace(picture, annotations=things, width=width, height=height, shares=False)
