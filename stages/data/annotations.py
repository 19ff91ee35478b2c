"""Columns of a step as annotations, which other tools' formats are written from (`stages.formats`).

The inverse of `stages.formats.values`: boxes, instances, keypoints, labels and texts of one sample become what is
marked in its picture. Of sources of one modality (`semantic@a`, `semantic@b`) one is named; labels of a column that
experts made carry their scores.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from hyperloom.pipeline.errors import RecipeError
from hyperloom.stages.base import UNKNOWN, modality_of
from hyperloom.stages.formats.annotation import AnnotatedPicture, Annotation, ThingClass
from hyperloom.stages.formats.values import BACKGROUND
from hyperloom.stages.modality.runs import MaskRuns
from hyperloom.stages.remarks import remark

PLACED = ("boxes", "instances", "segmentation")
"""Types whose values say of each class that nothing more of it is in the picture."""
BEHIND = -1
"""The layer of maps, before which things lie."""
WRITTEN = ("boxes", "instances", "keypoints", "segmentation", "category", "ordinal", "multilabel", "tags", "text")


def written_columns(columns: Sequence[str], modalities: Mapping[str, Any]) -> list[str]:
    """Those of `columns` that annotations can hold. Raises RecipeError where two are of one modality, or none is."""
    known = {c: modalities[modality_of(c)] for c in columns if modality_of(c) in modalities}
    used = [c for c, m in known.items() if m.type in WRITTEN]
    by_name: dict[str, str] = {}
    for column in used:
        other = by_name.setdefault(modality_of(column), column)
        if other != column:
            raise RecipeError(f"{other} and {column} say the same thing. Next: name one of them with --columns")
    if not used:
        raise RecipeError(f"no column here is an annotation ({', '.join(WRITTEN)}). Next: --columns, or another layout")
    return used


def names_one(modality: Any) -> bool:
    """Is a value one class of the whole sample?"""
    return bool(modality.type in ("category", "ordinal"))


def categories(columns: Sequence[str], modalities: Mapping[str, Any]) -> list[ThingClass]:
    """The classes of all columns, each name once, numbered from 1 in the recipe's order."""
    names: dict[str, ThingClass] = {}
    for column in columns:
        modality = modalities[modality_of(column)]
        if modality.type == "keypoints":
            name = modality_of(column)
            names.setdefault(name, ThingClass(len(names) + 1, name, points=modality.points))
        elif modality.type in PLACED:
            colours = getattr(modality, "palette", None) or (None,) * len(modality.classes)
            for name, colour in zip(modality.classes, colours, strict=True):
                known = names.setdefault(name, ThingClass(len(names) + 1, name, colour=colour, stuff=True))
                known.stuff = known.stuff and modality.type == "segmentation"
                known.colour = known.colour or colour
    return list(names.values())


def annotated(
    name: str, size: tuple[int, int], values: Mapping[str, Any], modalities: Mapping[str, Any], scored: bool = False
) -> AnnotatedPicture:
    """What the columns `values` (None where missing) mark in a picture of `size`, height and width. `scored` keeps
    scores also where they are 1, as of predictions."""
    known = {c: v for c, v in values.items() if v is not None and not _doubted(v, modalities[modality_of(c)])}
    if known and (open_ := [c for c, v in values.items() if v is None and modalities[modality_of(c)].type in PLACED]):
        remark(f"samples without {open_[0]} go out unmarked: with the rest alone they would say that there is nothing")
        known = {}
    picture = AnnotatedPicture(name, size[1], size[0], annotated=bool(known))
    for column, value in known.items():
        modality = modalities[modality_of(column)]
        if modality.type in ("category", "ordinal", "multilabel", "tags"):
            picture.labels += _labels(value, modality)
        elif modality.type == "text":
            picture.texts.append(modality.words(value))
        else:
            picture.annotations += _things(value, modality, modality_of(column), size)
    if not scored:
        for annotation in picture.annotations:
            annotation.score = None if annotation.score == 1 else annotation.score
    return picture


def _doubted(value: Any, modality: Any) -> bool:
    """Does some class of its labels stand open? A list of labels would say no to it."""
    open_ = modality.type == "multilabel" and bool((np.asarray(value) == UNKNOWN).any())
    if open_:
        remark("samples of which some label is not known have no labels: a list of them would say no to it")
    return open_


def _labels(value: Any, modality: Any) -> list[str]:
    words = modality.words(np.asarray(value))
    if modality.type in ("category", "ordinal"):
        return [words] if int(value) >= 0 else []
    names = modality.tags if modality.type == "tags" else modality.classes
    if modality.type == "tags":
        return [names[i] for i in np.asarray(value).tolist() if i >= 0]
    return [name for name, given in zip(names, np.asarray(value).tolist(), strict=True) if given == 1]


def _things(value: np.ndarray, modality: Any, name: str, size: tuple[int, int]) -> list[Annotation]:
    height, width = size
    if modality.type == "boxes":
        rows = value[~np.isnan(value).any(1)].astype(np.float64).tolist()
        return [
            Annotation(
                modality.classes[int(c)], score=_digits(s) if s else None, box=_box((x0, y0, x1, y1), size), crowd=not s
            )
            for x0, y0, x1, y1, c, s in rows
        ]
    if modality.type == "keypoints":
        points = {
            point: (_digits(x * width), _digits(y * height), 2 if seen else 0)
            for point, (x, y, seen) in zip(modality.points, value.astype(np.float64).tolist(), strict=True)
        }
        return [Annotation(name, points=points)]
    if modality.type == "segmentation":
        ids = [int(i) for i in np.unique(value) if i != UNKNOWN]
        if BACKGROUND in modality.classes and (value == UNKNOWN).any():
            _warn_of_unknown(ids, modality.classes.index(BACKGROUND))
        return [Annotation(modality.classes[i], mask=_mask(value == i, size), layer=BEHIND) for i in ids]
    one = modality.unpacked_value(value)
    things = []
    for i in range(len(one)):
        box = _box(tuple(one.boxes[i].astype(np.float64).tolist()), size)
        thing = Annotation(modality.classes[one.classes[i]], int(one.ids[i]), box, mask=_mask(one.masks[i], size))
        thing.crowd, thing.score = bool(one.crowd[i]), _digits(float(one.scores[i]))
        things.append(thing)
    return things


def _warn_of_unknown(ids: Sequence[int], background: int) -> None:
    """Where the background is marked, what nobody marks is unknown; else it is the background."""
    if background not in ids:
        remark("maps without a pixel of background: what is unknown in them comes back as background")


def _box(corners: Sequence[float], size: tuple[int, int]) -> tuple[float, float, float, float]:
    """Shares as pixels, in the digits that float32 holds of them."""
    x0, y0, x1, y1 = (_digits(v * size[1 - i % 2]) for i, v in enumerate(corners))
    return x0, y0, x1, y1


def _digits(number: float) -> float:
    return float(f"{number:.7g}")


def _mask(mask: np.ndarray, size: tuple[int, int]) -> MaskRuns:
    if mask.shape == size:
        return MaskRuns.of(mask)
    from hyperloom.stages.formats.shapes import resized

    return resized(MaskRuns.of(mask), size)
