"""The content of an annotated picture as a digest: what decides whether its sample is made anew.

Who annotated and when, and what no column holds, are not part of it, so exporting a project once more costs nothing.
"""

from __future__ import annotations

import hashlib

from hyperloom.stages.formats.annotation import AnnotatedPicture


def digest(picture: AnnotatedPicture, ids: bool = True) -> str:
    """sha256 of what is marked in a picture, and of its faults; without `ids`, whatever the things are numbered."""
    hashed = hashlib.sha256()
    whole = (picture.width, picture.height, picture.labels, picture.texts, picture.annotated, picture.faults)
    hashed.update(repr((whole, picture.map)).encode())
    layers = [a.layer for a in picture.annotations]
    if len(set(layers)) > 1:  # which of them lie in front
        hashed.update(repr(layers).encode())
    for a in picture.annotations:
        plain = (a.label, a.id if ids else 0, a.box, a.polygons, sorted(a.points.items()), a.crowd, a.score)
        hashed.update(repr(plain).encode())
        if a.mask is not None:
            hashed.update(repr(a.mask.size).encode() + a.mask.counts.tobytes())
    return hashed.hexdigest()
