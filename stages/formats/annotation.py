"""What a file of annotations says, whatever tool wrote it: pictures, what is marked in them, and the categories.

Readers of formats make an `AnnotationSet`, writers take one; sources and exports go through it, so each format is read
and written in one place. Nothing is repaired here: what cannot be understood of a picture stands among its `faults`
(the picture is then not used, its name and the reason are said), what has no place here is counted in `ignored`. All
lengths are pixels of the picture, from its upper left corner.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from hyperloom.stages.modality.runs import MaskRuns

BESIDE = 2.0
"""Pixels, or a hundredth of a side where that is more, that a thing may reach out of its picture."""
SeenPoint = tuple[float, float, int]
"""x, y, and how well it is seen: 2 visible, 1 hidden behind something, 0 not labelled (as COCO has it)."""


@dataclass(slots=True)
class ThingClass:
    """A class of things. `points` are the names of its keypoints, `skeleton` the pairs of them that are joined (numbers
    from 1); `stuff` has no instances (panoptic)."""

    id: int
    name: str
    parent: str = ""
    points: tuple[str, ...] = ()
    skeleton: tuple[tuple[int, int], ...] = ()
    colour: tuple[int, int, int] | None = None
    stuff: bool = False


@dataclass(slots=True)
class Annotation:
    """One thing marked in a picture. `score` is None where a person drew it; `id` is the file's own, 0 without one."""

    label: str
    id: int | str = 0
    box: tuple[float, float, float, float] | None = None
    """x0, y0, x1, y1."""
    polygons: tuple[tuple[float, ...], ...] = ()
    """Each x, y, x, y, ..; a mask is all of them together."""
    mask: MaskRuns | None = None
    points: dict[str, SeenPoint] = field(default_factory=dict)
    crowd: bool = False
    """Many things drawn as one."""
    layer: int = 0
    """What lies in front has a higher one; of one layer the smaller things do."""
    score: float | None = None
    attributes: dict[str, Any] = field(default_factory=dict)

    def extent(self) -> tuple[float, float, float, float] | None:
        """The box, or the smallest one around polygons, mask or labelled points; None of what has no place."""
        if self.box is not None:
            return self.box
        if self.polygons:
            xs, ys = [x for p in self.polygons for x in p[::2]], [y for p in self.polygons for y in p[1::2]]
            return min(xs), min(ys), max(xs), max(ys)
        if self.mask is not None:
            return self.mask.extent()
        seen = [(x, y) for x, y, visible in self.points.values() if visible]
        if not seen:
            return None
        xs, ys = [x for x, _ in seen], [y for _, y in seen]
        return min(xs), min(ys), max(xs), max(ys)


@dataclass(slots=True)
class AnnotatedPicture:
    """A picture's file name, sides, and what is marked in it. `labels` are classes of the whole picture, `texts` what
    people say of it, `by` and `at` who annotated it and when, `number` the id that the file gives it."""

    name: str
    width: int = 0
    height: int = 0
    number: int | str = 0
    annotations: list[Annotation] = field(default_factory=list)
    labels: list[str] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)
    by: str = ""
    at: str = ""
    annotated: bool = True
    """Has anybody looked at it? A picture without a thing in it is an answer, one that nobody saw is none."""
    group: str = ""
    shares: bool = False
    """Are its places shares of its sides, whose lengths the file does not say? (`stages.formats.values.in_pixels`)"""
    map: str = ""
    """A file of pixels, of which the annotations' ids or categories name some (panoptic, colour masks)."""
    faults: list[str] = field(default_factory=list)
    ignored: list[str] = field(default_factory=list)
    """What the format can say and nobody here can hold, in words, once for each."""
    attributes: dict[str, Any] = field(default_factory=dict)


@dataclass(slots=True)
class AnnotationSet:
    """All that one file, or a folder of files, says. `remarks` are sentences about the whole."""

    categories: list[ThingClass] = field(default_factory=list)
    pictures: list[AnnotatedPicture] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)

    @property
    def names(self) -> list[str]:
        """The categories' names, in the file's order."""
        return [category.name for category in self.categories]

    def ignored(self) -> Counter[str]:
        """How often each kind of thing is left out."""
        return Counter(text for picture in self.pictures for text in picture.ignored)

    def faults(self) -> dict[str, str]:
        """Picture -> what is wrong with it, of those that cannot be used."""
        return {picture.name: "; ".join(picture.faults) for picture in self.pictures if picture.faults}


def categories_of(names: Iterable[str], first: int = 1) -> list[ThingClass]:
    """Categories with ids from `first`, each name once, in the order given."""
    return [ThingClass(first + i, name) for i, name in enumerate(dict.fromkeys(names))]


def outside(coordinates: Sequence[float], width: float, height: float) -> float:
    """How far the furthest of x, y, x, y, .. lies outside a picture, in pixels; 0 for none."""
    xs, ys = coordinates[::2], coordinates[1::2]
    return max(0.0, -min(xs), max(xs) - width, -min(ys), max(ys) - height)


def within(coordinates: Any, picture: AnnotatedPicture, what: str = "it") -> None:
    """Raise ValueError for a thing that reaches far out of its picture, where its sides are known."""
    if not picture.width or not picture.height:
        return
    beyond = outside(coordinates, picture.width, picture.height)
    if beyond > max(BESIDE, 0.01 * max(picture.width, picture.height)):
        size = f"{picture.width}x{picture.height}"
        raise ValueError(f"{what} reaches {beyond:.4g} pixels out of the picture of {size}")
