"""Cells: what is asked of labels that lie in a picture, so that a wrong region shows among right ones.

A mask is looked at in some 300 cells: colour, spread, edges, those of the cells around, the place, and the picture as
a whole; the label is the share of each class. A box is looked at by its cut-out, its size and place.
"""

from __future__ import annotations

import numpy as np

GRID = (15, 20)
BASE = 8
"""Numbers of a cell itself."""


def grid(height_width: tuple[int, int] | None) -> tuple[int, int]:
    """Rows and columns of cells."""
    return GRID if height_width is None or height_width[1] >= height_width[0] else GRID[::-1]


def base(image: np.ndarray, cells: tuple[int, int]) -> np.ndarray:
    """(rows, columns, BASE) float32 of (H, W, 3) uint8, all about one large."""
    import cv2

    size = cells[::-1]
    if min(image.shape[:2]) < max(cells):
        image = cv2.resize(image, (4 * size[0], 4 * size[1]), interpolation=cv2.INTER_LINEAR)
    lab = cv2.cvtColor(image, cv2.COLOR_RGB2LAB).astype(np.float32)
    mean = cv2.resize(lab, size, interpolation=cv2.INTER_AREA)
    spread = np.sqrt(np.maximum(cv2.resize(lab * lab, size, interpolation=cv2.INTER_AREA) - mean * mean, 0))
    grey = lab[..., 0]
    edges = [
        cv2.resize(np.abs(cv2.Sobel(grey, cv2.CV_32F, *axes)), size, interpolation=cv2.INTER_AREA)
        for axes in ((1, 0), (0, 1))
    ]
    mean = (mean - (128, 128, 128)) / (60, 8, 10)
    spread = spread / (25, 3, 4)
    return np.concatenate([mean, spread, np.stack(edges, -1) / 60], -1).astype(np.float32)


def around(own: np.ndarray) -> np.ndarray:
    """(N, rows x columns, F) of (N, rows, columns, BASE): each cell with its four neighbours, its place (which counts
    for much) and the picture's mean."""
    count, rows, columns, _ = own.shape
    padded = np.pad(own, ((0, 0), (1, 1), (1, 1), (0, 0)), "edge")
    near = [
        padded[:, 1 + down : rows + 1 + down, 1 + across : columns + 1 + across]
        for down, across in ((-1, 0), (1, 0), (0, -1), (0, 1))
    ]
    down, across = np.mgrid[:rows, :columns].astype(np.float32)
    place = np.stack([down / rows - 0.5, across / columns - 0.5], -1) * 7
    place = np.broadcast_to(place, (count, rows, columns, 2))
    whole = np.broadcast_to(own.mean((1, 2), keepdims=True), own.shape)
    return np.concatenate([own, *near, place, whole], -1).reshape(count, rows * columns, -1).astype(np.float32)


def shares(ids: np.ndarray, classes: int, cells: tuple[int, int]) -> np.ndarray:
    """(rows x columns, classes) uint8: 255 times the share of each class of (H, W) ids; others count for none."""
    height, width = ids.shape
    rows, columns = cells
    cell = (np.arange(height) * rows // height)[:, None] * columns + np.arange(width) * columns // width
    known = ids < classes
    counts = np.bincount((cell * classes + np.minimum(ids, classes - 1))[known], minlength=rows * columns * classes)
    size = np.bincount(cell.ravel(), minlength=rows * columns)
    return np.rint(255 * counts.reshape(-1, classes) / np.maximum(size, 1)[:, None]).astype(np.uint8)


def cut_outs(image: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    """(n, F) float32 of the used rows of (most, 6) boxes in 0..1: the cut-out's features, size and place."""
    from hyperloom.stages.audit.features import picture

    height, width = image.shape[:2]
    output = []
    for x0, y0, x1, y1 in boxes[:, :4]:
        left, top = min(max(int(x0 * width), 0), width - 1), min(max(int(y0 * height), 0), height - 1)
        right, bottom = max(int(np.ceil(x1 * width)), left + 1), max(int(np.ceil(y1 * height)), top + 1)
        form = [x0, y0, x1, y1, np.log(max(x1 - x0, 1e-3)), np.log(max(y1 - y0, 1e-3))]
        output.append(np.concatenate([picture(np.ascontiguousarray(image[top:bottom, left:right])), form]))
    return np.stack(output).astype(np.float32) if output else np.zeros((0, 422), np.float32)
