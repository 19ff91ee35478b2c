"""Shapes: polygons as masks, masks as polygons, and masks that move to another size.

Polygons become masks by pycocotools' rule, so that a data set gives the masks that everybody else has of it; several
polygons of one annotation are joined. A mask as polygons has its outer borders at the pixels' edges and no holes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from hyperloom.pipeline.errors import HyperloomError
from hyperloom.stages.formats.annotation import Annotation
from hyperloom.stages.modality.runs import MaskRuns
from hyperloom.stages.remarks import remark


def mask_of(annotation: Annotation, size: tuple[int, int]) -> np.ndarray | None:
    """(H, W) bool of what an annotation covers; None of one that has a box or points alone."""
    if annotation.mask is not None:
        return annotation.mask.mask()
    return filled(annotation.polygons, size) if annotation.polygons else None


def filled(polygons: Sequence[Sequence[float]], size: tuple[int, int]) -> np.ndarray:
    """(H, W) bool inside polygons of x, y, x, y, .. in pixels, at least one."""
    coder = library()
    runs = coder.frPyObjects([list(p) for p in polygons], *size)
    mask: np.ndarray = coder.decode(coder.merge(runs) if len(runs) > 1 else runs[0]).astype(bool)
    return mask


def library() -> Any:
    """pycocotools' masks. Raises HyperloomError where it is not installed."""
    try:
        from pycocotools import mask
    except ImportError as error:
        raise HyperloomError("polygons need pycocotools. Next: pip install 'hyperloom[formats]'") from error
    return mask


def polygons_of(mask: np.ndarray) -> tuple[tuple[float, ...], ...]:
    """The outer borders of (H, W) bool, each x, y, .. along the edges of its pixels, so that filling it by pycocotools'
    rule gives the mask again, but for holes and corners that touch."""
    import cv2

    doubled = np.kron(np.pad(mask.astype(np.uint8), 1), np.ones((4, 4), np.uint8))
    borders, _ = cv2.findContours(doubled, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    if (cv2.drawContours(doubled.copy(), borders, -1, 1, cv2.FILLED) != doubled).any():
        remark("polygons have no holes: those of masks are filled")
    polygons = []
    for border in borders:
        points = _edges(border[:, 0].astype(np.float64))
        if len(points) >= 3:
            polygons.append(tuple(float(v) for v in points.ravel()))
    return tuple(sorted(polygons))


def _edges(points: np.ndarray) -> np.ndarray:
    """Corners of the fourfold picture at the nearest edge between two pixels of the plain one."""
    edges = np.rint((points + 0.5) / 4 - 1)
    new = np.any(edges != np.roll(edges, 1, 0), axis=1)
    return edges[new]


def resized(runs: MaskRuns, size: tuple[int, int]) -> MaskRuns:
    """A mask at another size, by nearest pixels."""
    import cv2

    if runs.size == size:
        return runs
    height, width = size
    mask = cv2.resize(runs.mask().astype(np.uint8), (width, height), interpolation=cv2.INTER_NEAREST_EXACT)
    return MaskRuns.of(mask)
