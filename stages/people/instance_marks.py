"""Instances as what people see and change: one mask a thing, and back.

Tools number regions in their own way, so a thing that comes back is known by its place: it keeps the id of the one that
went out whose mask it overlaps most (by at least SAME of both), so that a track stays a track; others get new ids. The
order of things says nothing.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np

from hyperloom.stages.formats.annotation import AnnotatedPicture, Annotation
from hyperloom.stages.formats.shapes import mask_of
from hyperloom.stages.modality import overlap
from hyperloom.stages.modality.runs import MaskRuns

SAME = 0.3
"""Intersection over union from which on a mask is the one that went out, drawn better."""


def draw(value: Any, kind: Any, picture: AnnotatedPicture) -> None:
    """Put the instances of a value into `picture`, which is as large as their masks."""
    one = kind.unpacked_value(value)
    for id_, place, score, crowd, mask in zip(one.ids, one.classes, one.scores, one.crowd, one.masks, strict=True):
        thing = Annotation(kind.classes[int(place)], int(id_), mask=MaskRuns.of(mask), score=float(score))
        thing.crowd = bool(crowd)
        picture.annotations.append(thing)


def read(picture: AnnotatedPicture, kind: Any, before: Any) -> list[dict[str, Any]]:
    """What `Instances.fit` takes. Raises ValueError for what is no mask, no class, or of another size."""
    height, width = kind.sides_in_pixels
    rows: list[dict[str, Any]] = []
    for annotation in picture.annotations:
        if annotation.label not in kind.classes:
            raise ValueError(f"no class is {annotation.label!r}; they are {', '.join(kind.classes)}")
        mask = mask_of(annotation, (picture.height or height, picture.width or width))
        if mask is None:
            raise ValueError(f"a {annotation.label!r} that is neither mask nor polygon")
        if mask.shape != (height, width):
            raise ValueError(f"its masks are {mask.shape[1]}x{mask.shape[0]}, not {width}x{height} (width x height)")
        if mask.any():  # one that was wiped away is gone
            rows.append({"mask": mask, "class": annotation.label, "crowd": annotation.crowd, "score": 1.0})
    return _known(rows, None if before is None else kind.unpacked_value(before))


def alike(a: Any, b: Any, kind: Any) -> bool:
    """Are the same things in both, whatever their ids, scores and order?"""
    return _content(kind.unpacked_value(a)) == _content(kind.unpacked_value(b))


def _content(one: Any) -> Counter[tuple[int, bytes]]:
    return Counter((int(c), np.packbits(m).tobytes()) for c, m in zip(one.classes, one.masks, strict=True))


def _known(rows: list[dict[str, Any]], before: Any) -> list[dict[str, Any]]:
    """With the ids, and the mark of a crowd, of what went out."""
    first = 1
    if before is not None and len(before):
        first = int(before.ids.max()) + 1
        shared = overlap.of_masks(np.stack([r["mask"] for r in rows]), before.masks) if rows else np.zeros((0, 0))
        while shared.size and shared.max() >= SAME:
            mine, its = np.unravel_index(int(shared.argmax()), shared.shape)
            rows[mine]["id"] = int(before.ids[its])
            rows[mine]["crowd"] = rows[mine]["crowd"] or bool(before.crowd[its])
            shared[mine, :], shared[:, its] = -1, -1
    for new, row in enumerate((row for row in rows if "id" not in row), first):
        row["id"] = new
    return rows
