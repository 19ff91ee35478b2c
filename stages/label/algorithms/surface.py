"""The shape of what is seen, from depth: surface normals, and height above the ground nearby.

On a plane n.X = c inverse depth is n.r / c, an affine function of the pixel; so the gradient of inverse depth over a
window is the least-squares plane there, without forming any point.
"""

from __future__ import annotations

import cv2
import numpy as np


def normals_from_depth(depth: np.ndarray, rays: np.ndarray, sigma: float) -> np.ndarray:
    """(H, W, 3) float32 unit normals in camera coordinates, towards the camera.

    `depth` is (H, W) in any unit, above 0; `rays` (H, W, 3) of depth 1; `sigma` the window in pixels (a Gaussian's).
    """
    inverse = 1 / depth.astype(np.float32)
    pad = int(3 * sigma) + 2
    ramp = cv2.copyMakeBorder(inverse, pad, pad, pad, pad, cv2.BORDER_REFLECT_101)
    smooth = cv2.GaussianBlur(ramp, (0, 0), sigma)[pad:-pad, pad:-pad]
    du, dv = _slopes(inverse, sigma)
    step_x, step_y = rays[0, 1, 0] - rays[0, 0, 0], rays[1, 0, 1] - rays[0, 0, 1]
    nx, ny = du / step_x, dv / step_y
    normals = -np.stack([nx, ny, smooth - rays[..., 0] * nx - rays[..., 1] * ny], -1)
    return (normals / np.maximum(np.linalg.norm(normals, axis=-1, keepdims=True), 1e-12)).astype(np.float32)


def normals_by_svd(depth: np.ndarray, rays: np.ndarray, sigma: float) -> np.ndarray:
    """(H, W, 3) float32 unit normals in camera coordinates, towards the camera: of the plane through the points seen
    in a square of 2 `sigma` pixels to each side that leaves the least squared distances (the last singular vector).

    `depth` is (H, W) in any unit; 0 and below is no point. Where no three points (or only points on a line) are near,
    the normal is that of the nearest pixel that has them. Raises ValueError when there is none at all.
    """
    valid = np.isfinite(depth) & (depth > 0)
    points = rays * np.where(valid, depth, 0)[..., None].astype(np.float64)
    side = 2 * round(2 * sigma) + 1
    pairs = [(0, 0), (1, 1), (2, 2), (0, 1), (0, 2), (1, 2)]
    planes = [
        valid.astype(np.float64),
        *np.moveaxis(points, -1, 0),
        *(points[..., i] * points[..., j] for i, j in pairs),
    ]
    count, x, y, z, *seconds = (
        cv2.boxFilter(p, cv2.CV_64F, (side, side), normalize=False, borderType=cv2.BORDER_CONSTANT) for p in planes
    )
    mean = np.stack([x, y, z], -1) / np.maximum(count, 1)[..., None]
    spread = np.empty((*depth.shape, 3, 3))
    for (i, j), second in zip(pairs, seconds, strict=True):
        spread[..., i, j] = spread[..., j, i] = second / np.maximum(count, 1) - mean[..., i] * mean[..., j]
    spans, directions = np.linalg.eigh(spread)
    normals = directions[..., 0]
    sure = (count > 2.5) & (spans[..., 1] > 1e-6 * spans[..., 2])  # points on a line are in many planes
    if not sure.any():
        raise ValueError("no three points with a depth above 0 are near each other")
    normals *= -np.sign((normals * rays).sum(-1, keepdims=True))
    if not sure.all():
        _, nearest = cv2.distanceTransformWithLabels(
            (~sure).astype(np.uint8), cv2.DIST_L2, 3, labelType=cv2.DIST_LABEL_PIXEL
        )
        which = np.zeros(nearest.max() + 1, np.int64)
        which[nearest[sure]] = np.flatnonzero(sure)
        normals = normals.reshape(-1, 3)[which[nearest]]
    return normals.astype(np.float32)


def ground_level(height: np.ndarray, reach: int) -> np.ndarray:
    """(H, W) float32: a morphological opening by a disc of `reach` pixels, smoothed: what stands is gone."""
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * reach + 1, 2 * reach + 1))
    low = cv2.erode(cv2.GaussianBlur(height, (0, 0), 1.0), disc, borderType=cv2.BORDER_REPLICATE)
    return cv2.GaussianBlur(cv2.dilate(low, disc, borderType=cv2.BORDER_REPLICATE), (0, 0), reach / 2)


def _slopes(values: np.ndarray, sigma: float) -> tuple[np.ndarray, np.ndarray]:
    """Slopes a pixel along both axes: the least-squares line under a Gaussian window."""
    reach = int(3 * sigma) + 1
    x = np.arange(-reach, reach + 1)
    bell = np.exp(-(x**2) / (2 * sigma**2))
    slope, bell = (bell * x / (bell * x**2).sum()).astype(np.float32), (bell / bell.sum()).astype(np.float32)
    return (
        cv2.sepFilter2D(values, cv2.CV_32F, slope, bell, borderType=cv2.BORDER_REFLECT_101),
        cv2.sepFilter2D(values, cv2.CV_32F, bell, slope, borderType=cv2.BORDER_REFLECT_101),
    )
