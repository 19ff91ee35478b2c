"""COCO: one JSON file of pictures, categories and annotations: boxes, polygons, runs, keypoints, captions.

    annotations = coco.parse(data, path)        file.write(coco.written(annotations))

Ids, file names, categories with holes, crowds and attributes are kept. Boxes and polygons are pixels; a box in shares
of the picture among them is a fault of its picture, as are a category or a picture with two meanings, a polygon far
outside, and runs of another size. `licenses`, `info` and areas are not read; areas are computed when writing.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import replace
from typing import Any

from hyperloom.pipeline.errors import SourceError
from hyperloom.stages.formats import coco_runs
from hyperloom.stages.formats.annotation import (
    AnnotatedPicture,
    Annotation,
    AnnotationSet,
    SeenPoint,
    ThingClass,
    within,
)
from hyperloom.stages.formats.documents import of_form, parse_json
from hyperloom.stages.modality.runs import MaskRuns

OVERLAP = 0.5
"""Of a box with the box around the polygons of the same thing; less is said."""
KNOWN = ("id", "image_id", "category_id", "bbox", "segmentation", "keypoints", "iscrowd", "score", "attributes")


@of_form("COCO")
def parse(data: bytes, path: str) -> AnnotationSet:
    """The annotations of a COCO file. Raises SourceError for what is none; faults stand at their picture."""
    value = parse_json(data, path)
    if isinstance(value, list) and value and isinstance(value[0], dict) and "image_id" in value[0]:
        raise SourceError(f"{path} is a list of COCO's results, without pictures. Next: give the file of annotations")
    if not isinstance(value, dict) or not isinstance(value.get("images"), list):
        raise SourceError(f"{path} is no COCO file: it has no list `images`. Next: check the path and the format")
    images, categories, annotations = (value.get(name) or [] for name in ("images", "categories", "annotations"))
    if not all(isinstance(part, list) and all(isinstance(v, dict) for v in part) for part in (images, categories)):
        raise SourceError(f"{path} is no COCO file: its lists do not hold objects. Next: export it again")
    reader = CocoReader(path)
    reader.add_categories(categories)
    reader.add_pictures(images)
    for one in annotations if isinstance(annotations, list) else ():
        reader.add(one)
    return AnnotationSet(list(reader.categories.values()), reader.pictures, reader.sentences())


class CocoReader:
    """Takes a COCO file apart, list by list."""

    def __init__(self, path: str):
        self.path = path
        self.categories: dict[str, ThingClass] = {}
        self.pictures: list[AnnotatedPicture] = []
        self._double: dict[str, str] = {}
        """ThingClass ids that mean two things -> both, in words."""
        self._by_number: dict[str, AnnotatedPicture] = {}
        self._seen: dict[Any, tuple[Any, ...]] = {}
        self._marked: dict[tuple[str, tuple[Any, ...]], str] = {}
        """A thing of a picture -> the id of the picture that it came under."""
        self._counts = Counter[str]()

    def add_categories(self, categories: list[dict[str, Any]]) -> None:
        for one in categories:
            if "id" not in one or not str(one.get("name", "")).strip():
                raise SourceError(f"{self.path}: a category lacks its id or name: {one}. Next: export it again")
            number, name = one["id"], str(one["name"])
            if (before := self.categories.get(_id(number))) is not None:
                if before.name != name:
                    self._double[_id(number)] = f"{before.name!r} and {name!r}"
                self._counts["categories stand twice"] += 1
                continue
            if any(other.name == name for other in self.categories.values()):
                self._counts[f"further categories are called {name!r} too, and count as that one"] += 1
            points, skeleton = one.get("keypoints") or (), one.get("skeleton") or ()
            joined = tuple((int(a), int(b)) for a, b in skeleton)
            stuff = one.get("isthing", 1) == 0
            colour = tuple(one["color"]) if len(one.get("color") or ()) == 3 else None
            parent = str(one.get("supercategory") or "")
            self.categories[_id(number)] = ThingClass(number, name, parent, tuple(points), joined, colour, stuff)

    def add_pictures(self, images: list[dict[str, Any]]) -> None:
        names: dict[str, AnnotatedPicture] = {}
        for one in images:
            name, number = str(one.get("file_name") or ""), one.get("id")
            if not name or number is None:
                raise SourceError(f"{self.path}: a picture lacks its id or file_name: {one}. Next: export it again")
            picture = AnnotatedPicture(name, _side(one.get("width")), _side(one.get("height")), number)
            labels = one.get("labels")  # COCO has no place for classes of whole pictures; our writer puts them here
            picture.labels = [str(label) for label in labels] if isinstance(labels, list) else []
            if name in names:  # a project exported twice, or two files put together
                self._counts["pictures stand twice"] += 1
                if _id(names[name].number) != _id(number):
                    self._by_number.setdefault(_id(number), names[name])
                continue
            other = self._by_number.get(_id(number))
            if other is not None:
                for both in (picture, other):
                    both.faults.append(f"the image id {number} is that of {other.name} and of {name}")
            names[name] = self._by_number[_id(number)] = picture
            self.pictures.append(picture)

    def picture(self, one: Any) -> AnnotatedPicture | None:
        """The picture of an annotation."""
        return self._by_number.get(_id(one.get("image_id"))) if isinstance(one, dict) else None

    def add(self, one: Any) -> None:
        picture = self.picture(one)
        if picture is None:
            self._counts["annotations are of pictures that are not listed"] += 1
            return
        if "caption" in one and "category_id" not in one:
            if (text := str(one["caption"])) not in picture.texts:
                picture.texts.append(text)
            return
        number = one.get("id", 0)
        kind = self.categories.get(_id(one.get("category_id")))
        of_kind = kind.name if kind else str(one.get("category_id"))
        same = (of_kind, str(one.get("bbox")), str(one.get("segmentation")), str(one.get("keypoints")))
        if number and (before := self._seen.get((number, picture.name))) is not None:
            if before == same:
                self._counts["annotations stand twice, and count once"] += 1
            else:
                picture.faults.append(f"two annotations have the id {number}")
            return
        self._seen[number, picture.name] = same
        of = _id(one.get("image_id"))
        if self._marked.setdefault((picture.name, same), of) != of:  # the picture stands twice, and so does all in it
            self._counts["annotations stand twice, and count once"] += 1
            return
        try:
            picture.annotations.append(self._annotation(one, picture))
        except (ValueError, TypeError, KeyError, OverflowError) as error:
            picture.faults.append(f"annotation {number}: {error}")

    def sentences(self) -> list[str]:
        sentences = [f"{count} {text}" for text, count in self._counts.items()]
        if self.pictures and not self._seen and not any(picture.texts for picture in self.pictures):
            sentences.append(f"not one of its {len(self.pictures)} pictures has an annotation")
        return [*sentences, *(f"category {number} is both {both}" for number, both in self._double.items())]

    def _annotation(self, one: dict[str, Any], picture: AnnotatedPicture) -> Annotation:
        number = _id(one.get("category_id"))
        if number in self._double:
            raise ValueError(f"category {number} is both {self._double[number]}")
        category = self.categories.get(number)
        if category is None:
            raise ValueError(f"category {number} is not listed")
        annotation = Annotation(category.name, one.get("id", 0), _box(one.get("bbox"), picture))
        annotation.crowd = bool(one.get("iscrowd", 0))
        annotation.score = None if one.get("score") is None else float(one["score"])
        annotation.attributes = dict(one.get("attributes") or {})
        _segment(annotation, one.get("segmentation"), picture)
        if annotation.polygons and annotation.box is not None and _apart(annotation):
            self._counts["boxes lie apart from the polygons of the same annotation"] += 1
        if one.get("keypoints"):
            annotation.points = _points(one["keypoints"], category)
        return annotation


def _id(value: Any) -> str:
    """An id as both sides of a reference may write it: 3, 3.0 and "3" are the same."""
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def _apart(annotation: Annotation) -> bool:
    """Does the box cover less than half of what it and the box around the polygons cover together?"""
    assert annotation.box is not None
    around = replace(annotation, box=None).extent() or annotation.box
    (a0, b0, a1, b1), (c0, d0, c1, d1) = annotation.box, around
    both = max(0.0, min(a1, c1) - max(a0, c0)) * max(0.0, min(b1, d1) - max(b0, d0))
    either = (a1 - a0) * (b1 - b0) + (c1 - c0) * (d1 - d0) - both
    return both < OVERLAP * either


def _side(value: Any) -> int:
    return int(value) if isinstance(value, int | float) and math.isfinite(value) and value > 0 else 0


def _box(value: Any, picture: AnnotatedPicture) -> tuple[float, float, float, float] | None:
    """Corners of x, y, width, height. Raises ValueError."""
    if value is None or value == []:
        return None
    x, y, width, height = (float(v) for v in value)
    if not all(map(math.isfinite, (x, y, width, height))) or width < 0 or height < 0:
        raise ValueError(f"no box is {value} (x, y, width, height)")
    corners = (x, y, x + width, y + height)
    fractions = any(v != int(v) for v in corners)
    if fractions and max(corners) <= 1 and min(picture.width, picture.height) > 2:
        raise ValueError(f"the box {value} seems to be in shares of the picture; COCO's are pixels")
    within(corners, picture)
    return corners


def _segment(annotation: Annotation, value: Any, picture: AnnotatedPicture) -> None:
    """Polygons or runs into the annotation. Raises ValueError."""
    if isinstance(value, dict):
        height, width = (int(v) for v in value["size"])
        if picture.width and picture.height and (height, width) != (picture.height, picture.width):
            size = f"{picture.width}x{picture.height}"
            raise ValueError(f"its mask is {width}x{height}, its picture {size} (width x height)")
        annotation.mask = _runs(value["counts"], (height, width))
        return
    polygons = []
    for polygon in value or ():
        numbers = tuple(float(v) for v in polygon)
        if len(numbers) % 2 or not all(map(math.isfinite, numbers)):
            raise ValueError(f"a polygon of {len(numbers)} numbers is no list of x, y")
        if len(numbers) < 6:
            picture.ignored.append("polygons of fewer than three points")
            continue
        within(numbers, picture, "a polygon")
        polygons.append(numbers)
    annotation.polygons = tuple(polygons)


def _runs(counts: Any, size: tuple[int, int]) -> MaskRuns:
    if isinstance(counts, str):
        return coco_runs.parsed(counts, size)
    import numpy as np

    numbers = np.asarray(counts, np.int64)
    if numbers.ndim != 1 or (len(numbers) and numbers.min() < 0):
        raise ValueError("its counts are no list of runs")
    return MaskRuns(size, numbers.astype(np.uint32))


def _points(value: Any, category: ThingClass) -> dict[str, SeenPoint]:
    names = category.points
    if len(value) != 3 * len(names):
        has = f"{category.name!r} has {len(names)}" if names else f"{category.name!r} names none"
        raise ValueError(f"{len(value)} numbers are no x, y, v of its keypoints; {has}")
    triples = zip(names, value[::3], value[1::3], value[2::3], strict=True)
    return {name: (float(x), float(y), int(v)) for name, x, y, v in triples}
