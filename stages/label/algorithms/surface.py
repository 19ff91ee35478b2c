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
    made = -np.stack([nx, ny, smooth - rays[..., 0] * nx - rays[..., 1] * ny], -1)
    return (made / np.maximum(np.linalg.norm(made, axis=-1, keepdims=True), 1e-12)).astype(np.float32)


def height_above_ground(depth: np.ndarray, rays: np.ndarray, up: np.ndarray, reach: int) -> np.ndarray:
    """(H, W) float32 metres above the lowest surface within `reach` pixels (its upper envelope smoothed).

    `up` is the direction of up in camera coordinates. Sound where some ground is visible within reach.
    """
    height = ((rays * depth[..., None]) @ up).astype(np.float32)
    return height - ground_level(height, reach)


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
