"""YOLO's text: a file a picture, a line a thing, in shares of the picture; a yaml file names the classes.

    class x y width height [score]                       detect: the middle of a box; predictions have a score
    class x y x y x y ..                                 segment (and turned boxes): a polygon
    class x y width height  x y [visible] ..             pose: `kpt_shape` of the yaml file says how many points

A picture without a file is one that nobody annotated; an empty file says that there is nothing in it. Places below 0 or
above 1 are faults: they are pixels, or lie outside.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from hyperloom.pipeline.errors import SourceError
from hyperloom.stages.formats.annotation import AnnotatedPicture, Annotation, AnnotationSet, SeenPoint
from hyperloom.stages.remarks import remark

BESIDE = 0.01
"""Shares of a side that a thing may reach out of its picture."""


@dataclass(frozen=True)
class YoloNames:
    """What the yaml file says: `names` of classes by number ("" for a number that has none), `points` a thing has,
    `dims` numbers each (2 or 3)."""

    names: tuple[str, ...] = ()
    points: int = 0
    dims: int = 3


def names_in(data: bytes, path: str) -> YoloNames:
    """What `data.yaml`, or a text with a name a line, says. Raises SourceError."""
    text = data.decode("utf-8-sig", "replace")
    if path.lower().endswith((".txt", ".names")):
        return YoloNames(_apart_by_name([line.strip() for line in text.rstrip().splitlines()], path))
    import yaml

    try:
        value = yaml.safe_load(text)
        given = value["names"]
        numbered = {int(i): str(n) for i, n in given.items()} if isinstance(given, dict) else dict(enumerate(given))
        names = [str(numbered.get(i, "")) for i in range(max(numbered, default=-1) + 1)]
        shape, count = value.get("kpt_shape") or (0, 3), int(value.get("nc", len(names)))
        known = YoloNames(_apart_by_name(names, path), int(shape[0]), int(shape[1]))
    except (yaml.YAMLError, LookupError, TypeError, ValueError, AttributeError) as error:
        raise SourceError(
            f"{path} is no list of YOLO's classes: {error!r}. Next: `names:` with a name a number"
        ) from error
    if count != len(names) and isinstance(given, list):
        raise SourceError(f"{path} says nc: {count}, and {len(names)} are named. Next: mend one of them")
    return known


def _apart_by_name(names: Sequence[str], path: str) -> tuple[str, ...]:
    """Raises SourceError for two classes of one name."""
    twice = [name for name, count in Counter(names).items() if name and count > 1]
    if twice:
        numbers = " and ".join(str(i) for i, name in enumerate(names) if name == twice[0])
        raise SourceError(f"{path}: the classes {numbers} are both called {twice[0]!r}. Next: tell them apart")
    return tuple(names)


def parse(data: bytes, path: str, name: str, known: YoloNames) -> AnnotatedPicture:
    """What is in the picture `name`. Raises ValueError with the number of the line that cannot be understood."""
    picture = AnnotatedPicture(name, shares=True)
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is no text: {error}") from error
    lines = set[tuple[str, ...]]()
    for number, line in enumerate(text.splitlines(), 1):
        if words := line.split():
            if tuple(words) in lines:  # a project exported twice into one folder
                picture.ignored.append("lines that stand twice in a file")
                continue
            lines.add(tuple(words))
            try:
                picture.annotations.append(_annotation(words, number, known))
            except ValueError as error:
                raise ValueError(f"{path}, line {number}: {error}") from error
    return picture


def _annotation(words: Sequence[str], number: int, known: YoloNames) -> Annotation:
    if not words[0].isdecimal():
        raise ValueError(f"it begins with {words[0]!r}, no class number")
    kind = int(words[0])
    if known.names and kind >= len(known.names):
        raise ValueError(f"class {kind}, and {len(known.names)} are named")
    if known.names and not known.names[kind]:
        raise ValueError(f"class {kind}, which has no name")
    places = [float(word) for word in words[1:]]
    if not all(map(math.isfinite, places)):
        raise ValueError("a place is no number")
    annotation = Annotation(known.names[kind] if known.names else str(kind), number)
    pose = known.points * known.dims
    if pose and len(places) in (4 + pose, 5 + pose):
        annotation.points = _points(places[4 : 4 + pose], known)
    elif pose and len(places) not in (4, 5):
        raise ValueError(
            f"{len(words)} numbers are no box (5 or 6) and no pose ({5 + pose}, or {6 + pose} with a score)"
        )
    elif len(places) >= 6 and len(places) % 2 == 0:
        annotation.polygons = (tuple(_inside(places)),)
        return annotation
    elif len(places) not in (4, 5):
        raise ValueError(f"{len(words)} numbers are no box (5 or 6), no polygon and no pose")
    x, y, width, height = places[:4]
    if width < 0 or height < 0:
        raise ValueError(f"no box is {width:g} wide and {height:g} high")
    annotation.box = tuple(_inside((x - width / 2, y - height / 2, x + width / 2, y + height / 2)))  # type: ignore[assignment]
    annotation.score = places[-1] if len(places) in (5, 5 + pose) else None
    return annotation


def _inside(places: Sequence[float]) -> list[float]:
    worst = max(max(-v, v - 1) for v in places)
    if worst > 1:
        raise ValueError(f"{worst + 1:.5g} is no share of a picture: these look like pixels")
    if worst > BESIDE:
        raise ValueError(f"it reaches {worst:.3g} of a side out of the picture")
    return [min(max(v, 0.0), 1.0) for v in places]


def _points(places: Sequence[float], known: YoloNames) -> dict[str, SeenPoint]:
    rows = [places[i : i + known.dims] for i in range(0, len(places), known.dims)]
    seen = [_seen(row[2]) if known.dims == 3 else 2 * (row[0] > 0 or row[1] > 0) for row in rows]
    for row, shown in zip(rows, seen, strict=True):
        if shown:
            _inside(row[:2])
    return {str(i): (row[0], row[1], s) for i, (row, s) in enumerate(zip(rows, seen, strict=True))}


def _seen(number: float) -> int:
    """A person's 0, 1 or 2; of a prediction's confidence whether it is more likely than not."""
    return int(number) if number == int(number) else 2 * (number >= 0.5)


def written(picture: AnnotatedPicture, names: Sequence[str], points: Sequence[str] = ()) -> str:
    """The lines of one picture: a pose where `points` are named, else a polygon where there is a mask or are polygons
    (a picture's parts become things of their own), else a box. Scores are not written: trainings refuse a picture whose
    labels have a sixth column."""
    from hyperloom.stages.formats.shapes import polygons_of

    lines = []
    for annotation in picture.annotations:
        kind = names.index(annotation.label)
        polygons = annotation.polygons
        if annotation.mask is not None and not polygons:
            polygons = polygons_of(annotation.mask.mask())
        sides = (picture.width, picture.height) if not picture.shares else (1, 1)
        if len(polygons) > 1 and not points and annotation.layer >= 0:  # a map has no things
            remark("yolo has no thing of several parts: each part goes out as a thing of its own")
        if polygons and not points:
            lines += [_line(kind, [v / sides[i % 2] for i, v in enumerate(polygon)]) for polygon in polygons]
            continue
        extent = annotation.extent()
        if extent is None:
            continue
        x0, y0, x1, y1 = (v / sides[i % 2] for i, v in enumerate(extent))
        numbers = [(x0 + x1) / 2, (y0 + y1) / 2, x1 - x0, y1 - y0]
        for name in points:
            x, y, seen = annotation.points.get(name, (0.0, 0.0, 0))
            numbers += [x / sides[0], y / sides[1], seen]
        lines.append(_line(kind, numbers))
    return "".join(lines)


def _line(kind: int, numbers: Sequence[float]) -> str:
    return " ".join([str(kind), *(f"{v:.10g}" for v in numbers)]) + "\n"


def place_of_labels(picture: str) -> str:
    """Where trainings look for the labels of a picture, given without its suffix: in the folder `labels` instead of the
    last that is called `images`, which may be one below."""
    head, _, tail = f"/{picture}".rpartition("/images/")
    return f"{head}/labels/{tail}.txt".lstrip("/")


def data_yaml(annotations: AnnotationSet, pictures: str = "images") -> bytes:
    """The yaml file that names the classes, the points where a class has some, and the folder or list of `pictures`."""
    import yaml

    value: dict[str, Any] = {"path": ".", "train": pictures, "val": pictures}
    value["names"] = dict(enumerate(annotations.names))
    points = next((c.points for c in annotations.categories if c.points), ())
    value |= {"kpt_shape": [len(points), 3]} if points else {}
    return bytes(yaml.safe_dump(value, sort_keys=False, allow_unicode=True).encode())
