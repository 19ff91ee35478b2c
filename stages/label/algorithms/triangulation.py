"""Depth from optical flow when the camera's motion is known.

A point on the ray r at inverse depth w moves to R r + w t in the frame before, which is seen at q (the pixel plus its
flow). With a = R r that is two linear equations in w, w (t_xy - q t_z) = q a_z - a_xy, solved by least squares in each
pixel. What is left over says whether the pixel moved as a still world would; where it did not, or where the camera's
motion shows no parallax, inverse depth is filled in from around. Inverse depth is the natural unknown here: its error
is that of the flow, while depth's grows with distance squared.
"""

from __future__ import annotations

import cv2
import numpy as np

from hyperloom.stages.label.algorithms.pose import Pose


def depth_from_flow(
    flow: np.ndarray, pose: Pose, near: float, far: float, parallax: float, tolerance: float, sigma: float
) -> np.ndarray | None:
    """(H, W) float32 metres within near..far, or None if less than a twentieth of the pixels shows parallax.

    `flow` is (H, W, 2), pixels to the frame before. `parallax` is the least motion in pixels that a point at distance
    `near` must show, `tolerance` the largest distance from the epipolar line, `sigma` the smoothing, in pixels.
    """
    height, width = flow.shape[:2]
    focal = np.array([pose.focal[0] * width, pose.focal[1] * height])
    rays = pose.rays(height, width)
    seen = rays[..., :2] + flow / focal
    turned = rays @ pose.rotation.T
    moved = seen * turned[..., 2:] - turned[..., :2]
    per_inverse_depth = pose.shift[:2] - seen * pose.shift[2]
    strength = (per_inverse_depth**2).sum(-1)
    inverse = (moved * per_inverse_depth).sum(-1) / np.maximum(strength, 1e-12)
    off_line = np.abs((moved - inverse[..., None] * per_inverse_depth) * focal).max(-1)
    sure = (np.sqrt(strength) * focal.min() / near > parallax) & (off_line < tolerance)
    sure &= (inverse > 0.5 / far) & (inverse < 2 / near)
    if sure.mean() < 0.05:
        return None
    return (1 / np.clip(filled(inverse, sure, sigma), 1 / far, 1 / near)).astype(np.float32)


def filled(values: np.ndarray, sure: np.ndarray, sigma: float) -> np.ndarray:
    """(H, W) float32: `values` smoothed over the sure ones (median, then Gaussian); holes from ever farther away."""
    median = cv2.medianBlur(np.where(sure, values, 0).astype(np.float32), 3)
    kept = np.where(sure & (median > 0), median, 0).astype(np.float32)
    weight = (sure & (median > 0)).astype(np.float32)
    result, width = np.zeros(values.shape, np.float32), max(sigma, 0.5)
    holes = np.ones(values.shape, bool)
    while holes.any():
        total = cv2.GaussianBlur(weight, (0, 0), width, borderType=cv2.BORDER_REFLECT)
        some = holes & (total > 0.05)
        result[some] = cv2.GaussianBlur(kept, (0, 0), width, borderType=cv2.BORDER_REFLECT)[some] / total[some]
        holes &= ~some
        width *= 2
        if width > max(values.shape):
            result[holes] = kept.sum() / weight.sum()
            break
    return result
