"""Measurements of the neighbourhood of each pixel that rules can speak of, and the scale on which each one differs.

From the picture: `light`, log2 of the brightness against the frame's median; `green`, excess green (2g - r - b) and
`warm`, (r - b), both as shares of r + g + b; `rough`, log2 of the deviation within the window as a share of the
brightness; `lines`, 0..1, how much the gradients of the window have one direction (structure tensor coherence).
From depth and attitude: `above`, metres above the ground nearby; `rise`, metres above the lowest ground in sight;
`slope`, degrees between the surface and the horizontal.
"""

from __future__ import annotations

import cv2
import numpy as np

from hyperloom.stages.label.algorithms.pose import Pose
from hyperloom.stages.label.algorithms.surface import ground_level, normals_from_depth

SCALES = {
    "light": 0.3, "green": 0.05, "warm": 0.05, "rough": 0.5, "lines": 0.2, "above": 1.5, "rise": 5.0, "slope": 15.0,
}  # fmt: skip
"""A difference of this much in a feature weighs 1."""

FeatureTable = dict[str, np.ndarray]
"""Name -> (H, W) float32."""


def picture_features(rgb: np.ndarray, sigma: float) -> FeatureTable:
    """`light`, `green`, `warm`, `rough` and `lines` of an (H, W, 3) uint8 picture over windows of `sigma` pixels."""
    red, green, blue = (cv2.GaussianBlur(c, (0, 0), sigma) for c in cv2.split(rgb.astype(np.float32) / 255))
    total = red + green + blue + 1e-3
    grey = cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY).astype(np.float32) / 255 + 1e-3
    mean = cv2.GaussianBlur(grey, (0, 0), sigma)
    deviation = np.sqrt(np.maximum(cv2.GaussianBlur(grey * grey, (0, 0), sigma) - mean * mean, 0))
    dx, dy = (cv2.Scharr(grey, cv2.CV_32F, *order) / 32 for order in ((1, 0), (0, 1)))
    xx, yy, xy = (cv2.GaussianBlur(m, (0, 0), sigma) for m in (dx * dx, dy * dy, dx * dy))
    return {
        "light": np.log2(mean / np.median(mean)),
        "green": (2 * green - red - blue) / total,
        "warm": (red - blue) / total,
        "rough": np.log2(deviation / mean + 1e-3),
        "lines": np.sqrt((xx - yy) ** 2 + 4 * xy**2) / (xx + yy + 1e-6),
    }


def relief_features(depth: np.ndarray, pose: Pose, reach: int, sigma: float) -> FeatureTable:
    """`above`, `rise` and `slope` of an (H, W) depth in metres; `reach` in pixels is how far off ground may be."""
    rays = pose.rays(*depth.shape)
    height = ((rays * depth[..., None]) @ pose.up).astype(np.float32)
    ground = ground_level(height, reach)
    upright = np.clip(normals_from_depth(depth, rays, sigma) @ pose.up, -1, 1)
    return {
        "above": height - ground,
        "rise": ground - np.quantile(ground, 0.05).astype(np.float32),
        "slope": np.degrees(np.arccos(upright)).astype(np.float32),
    }
