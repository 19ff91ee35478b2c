"""Markup: one value of a column as what people see and change in a picture, and back.

Classes of samples are labels of the picture, maps of classes one mask a class, instances one each
(`stages.people.instance_marks`); boxes, keypoints, texts are themselves.
What comes back is compared with what went out (`alike`), so lengths may differ by what a tool rounds away (BLUR).

A map is painted from its masks: where several cover a pixel, the one that did not cover it when it went out counts, for
that is what the person drew; of several such the last. What no mask covers is unknown.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from hyperloom.stages.base import UNKNOWN
from hyperloom.stages.formats.annotation import AnnotatedPicture, Annotation, ThingClass, categories_of
from hyperloom.stages.formats.shapes import mask_of
from hyperloom.stages.modality.runs import MaskRuns
from hyperloom.stages.people import instance_marks

BLUR = 0.05
"""Pixels by which a place may differ and still be the same; tools round to hundredths."""
HELD = {
    "label-studio": ("map", "masks", "choice", "marks", "boxes", "points", "text"),
    "cvat": ("map", "masks", "choice", "marks", "boxes", "points"),
    "coco": ("map", "masks", "boxes", "points", "text"),
}
"""What each tool's format can hold, as `Modality.markup` calls it."""
POINTS = "points"
"""The class whose skeleton keypoints are."""


def names(kind: Any) -> tuple[str, ...]:
    """The words that a person chooses from; none for texts."""
    if kind.markup == "choice":
        return tuple(kind.names)
    return tuple(kind.points if kind.markup == "points" else getattr(kind, "classes", ()))


def categories(kind: Any) -> list[ThingClass]:
    """The classes of things, for the file."""
    if kind.markup == "points":
        return [ThingClass(1, POINTS, points=tuple(kind.points))]
    return categories_of(names(kind)) if kind.markup in ("map", "masks", "boxes") else []


def draw(value: Any, kind: Any, picture: AnnotatedPicture) -> None:
    """Put what one value says into `picture`, whose sides are known."""
    _DRAWN[kind.markup](value, kind, picture)


def read(picture: AnnotatedPicture, kind: Any, before: Any = None) -> Any:
    """The value that `picture` says, None where it says nothing; `before` is what went out, where something did. Raises
    ValueError for what cannot be one."""
    value = _READ[kind.markup](picture, kind, before)
    if value is not None:
        value = kind.fit(value)
        kind.check(value)
    return value


def alike(a: Any, b: Any, kind: Any, size: tuple[int, int]) -> bool:
    """Do two values say the same? `size` is height and width of the picture, for what is a place in it."""
    if a is None or b is None:
        return a is b
    if kind.markup == "boxes":
        return _same_boxes(a[~np.isnan(a[:, 0])], b[~np.isnan(b[:, 0])], size)
    if kind.markup == "points":
        return bool((a[:, 2] == b[:, 2]).all()) and _near(a[:, :2], b[:, :2], size)
    return instance_marks.alike(a, b, kind) if kind.markup == "masks" else bool(np.array_equal(a, b))


# -- out ---------------------------------------------------------------------------------------------------------------
def _draw_map(value: Any, kind: Any, picture: AnnotatedPicture) -> None:
    for i, name in enumerate(kind.classes):
        if (value == i).any():
            picture.annotations.append(Annotation(name, i + 1, mask=MaskRuns.of(value == i), score=1.0))


def _draw_choice(value: Any, kind: Any, picture: AnnotatedPicture) -> None:
    picture.labels = [kind.names[int(value)]] if 0 <= int(value) < len(kind.names) else []


def _draw_marks(value: Any, kind: Any, picture: AnnotatedPicture) -> None:
    picture.labels = [name for name, mark in zip(kind.classes, value, strict=True) if mark == 1]


def _draw_boxes(value: Any, kind: Any, picture: AnnotatedPicture) -> None:
    sides = np.array([picture.width, picture.height] * 2)
    for i, row in enumerate(value[~np.isnan(value[:, 0])].astype(np.float64)):
        x0, y0, x1, y1 = (row[:4] * sides).tolist()
        label, score = kind.classes[int(row[4])], float(row[5])
        picture.annotations.append(Annotation(label, i + 1, box=(x0, y0, x1, y1), crowd=not score, score=score))


def _draw_points(value: Any, kind: Any, picture: AnnotatedPicture) -> None:
    sides = (picture.width, picture.height)
    seen = {
        name: (float(x) * sides[0], float(y) * sides[1], 2)
        for name, (x, y, shown) in zip(kind.points, value, strict=True)
        if shown > 0.5
    }
    if seen:
        hidden = {name: (0.0, 0.0, 0) for name in kind.points if name not in seen}
        picture.annotations.append(Annotation(POINTS, 1, points={**hidden, **seen}, score=1.0))


def _draw_text(value: Any, kind: Any, picture: AnnotatedPicture) -> None:
    picture.texts = [kind.words(value)]


# -- back --------------------------------------------------------------------------------------------------------------
def _read_map(picture: AnnotatedPicture, kind: Any, before: Any) -> Any:
    height, width = kind.shape
    value = np.full((height, width), kind.missing, np.uint8)
    new = np.full((height, width), kind.missing, np.uint8)
    for annotation in picture.annotations:
        place = _class(annotation.label, kind.classes)
        mask = mask_of(annotation, (picture.height or height, picture.width or width))
        if mask is None:
            raise ValueError(f"a {annotation.label!r} that is neither mask nor polygon")
        if mask.shape != (height, width):
            raise ValueError(
                f"its masks are {mask.shape[1]}x{mask.shape[0]}, the map {width}x{height} (width x height)"
            )
        value[mask] = place
        if before is not None:
            new[mask & (before != place)] = place
    return np.where(new != kind.missing, new, value)


def _read_choice(picture: AnnotatedPicture, kind: Any, before: Any) -> Any:
    if len(picture.labels) > 1:
        raise ValueError(f"several classes, {', '.join(picture.labels)}, where one is wanted")
    return np.int64(_class(picture.labels[0], kind.names)) if picture.labels else None


def _read_marks(picture: AnnotatedPicture, kind: Any, before: Any) -> Any:
    """What was not known stays so until somebody says yes: tools have no word for it."""
    marks = np.zeros(len(kind.classes), np.uint8)
    if before is not None:
        marks[np.asarray(before) == UNKNOWN] = UNKNOWN
    for label in picture.labels:
        marks[_class(label, kind.classes)] = 1
    return marks


def _read_boxes(picture: AnnotatedPicture, kind: Any, before: Any) -> Any:
    rows = []
    sides = np.array([picture.width, picture.height] * 2, np.float64)
    for annotation in picture.annotations:
        extent = annotation.extent()
        if extent is None or not sides.all():
            raise ValueError(f"a {annotation.label!r} without a place, or a picture without width and height")
        corners = np.array(extent) / sides
        near = np.clip(corners, 0, 1)
        corners = np.where(np.abs(corners - near) * sides <= 1, near, corners)  # a tool's rounding, or its frame
        place = _class(annotation.label, kind.classes)
        crowd = annotation.crowd or _is_crowd(corners, place, before, (picture.height, picture.width))
        rows.append([*corners, place, 0.0 if crowd else 1.0])
    return kind.model_copy(update={"pixels": None}).fit(np.array(rows, np.float32).reshape(-1, 6))


def _is_crowd(corners: Any, place: int, before: Any, size: tuple[int, int]) -> bool:
    """Went the box out as a crowd? Most tools have no mark for one."""
    if before is None:
        return False
    crowds = before[(before[:, 4] == place) & (before[:, 5] == 0)]
    return any(_near(corners[None], row[None, :4], size) for row in crowds)


def _read_points(picture: AnnotatedPicture, kind: Any, before: Any) -> Any:
    seen: dict[str, list[float]] = {}
    for annotation in picture.annotations:
        for name, (x, y, shown) in annotation.points.items():
            if name in seen and shown:
                raise ValueError(f"the point {name!r} stands twice")
            if shown and not (picture.width and picture.height):
                raise ValueError(f"the point {name!r} in a picture without width and height")
            if shown:
                seen[name] = [x / picture.width, y / picture.height]
    return {name: [min(max(v, 0.0), 1.0) for v in place] for name, place in seen.items()}


def _read_text(picture: AnnotatedPicture, kind: Any, before: Any) -> Any:
    if len(picture.texts) > 1:
        raise ValueError(f"{len(picture.texts)} texts, where one is wanted")
    return picture.texts[0] if picture.texts else None


def _class(label: str, known: tuple[str, ...]) -> int:
    if label not in known:
        raise ValueError(f"no class is {label!r}; they are {', '.join(known)}")
    return known.index(label)


def _same_boxes(mine: Any, its: Any, size: tuple[int, int]) -> bool:
    """Has each box one of its class in its place, whatever their order? (Rounding may change any order by places.)"""
    free = list(range(len(its)))
    for box in mine if len(mine) == len(its) else ():
        place = next((i for i in free if its[i, 4] == box[4] and _near(its[None, i, :4], box[None, :4], size)), None)
        if place is None:
            return False
        free.remove(place)
    return len(mine) == len(its)


def _near(a: Any, b: Any, size: tuple[int, int]) -> bool:
    sides = np.array([size[1], size[0]] * (a.shape[1] // 2), np.float64)
    return bool((np.abs(a.astype(np.float64) - b) * sides <= BLUR).all())


_DRAWN: dict[str, Callable[[Any, Any, AnnotatedPicture], None]] = {
    "map": _draw_map, "choice": _draw_choice, "marks": _draw_marks, "boxes": _draw_boxes, "points": _draw_points,
    "text": _draw_text, "masks": instance_marks.draw,
}  # fmt: skip
_READ: dict[str, Callable[[AnnotatedPicture, Any, Any], Any]] = {
    "map": _read_map, "choice": _read_choice, "marks": _read_marks, "boxes": _read_boxes, "points": _read_points,
    "text": _read_text, "masks": instance_marks.read,
}  # fmt: skip
