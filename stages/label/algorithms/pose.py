"""What a camera's telemetry says of one frame, and the rays of its pixels.

Camera coordinates are OpenCV's: x right, y down, z forward, metres. Pixel (u, v) has its centre at (u + 0.5, v + 0.5).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

LENGTH = 20
"""fx, fy, cx, cy as shares of width (fx, cx) and height (fy, cy); R (9, by rows) and t (3) with X_before = R X_now + t;
the direction of up (3); metres above the ground at take-off. The same as stages.ingest.camera.TELEMETRY."""


@dataclass(frozen=True)
class Pose:
    """Intrinsics (shares of the picture's size), motion since the frame before, attitude, altitude."""

    focal: tuple[float, float]
    centre: tuple[float, float]
    rotation: np.ndarray
    shift: np.ndarray
    up: np.ndarray
    altitude: float

    @staticmethod
    def of(vector: np.ndarray) -> Pose:
        """From (20,) numbers. Raises ValueError for another length."""
        if vector.shape != (LENGTH,):
            raise ValueError(
                f"expected a pose of {LENGTH} numbers (see stages/label/algorithms/pose.py), got {vector.shape}"
            )
        v = vector.astype(np.float64)
        return Pose((v[0], v[1]), (v[2], v[3]), v[4:13].reshape(3, 3), v[13:16], v[16:19], float(v[19]))

    def rays(self, height: int, width: int) -> np.ndarray:
        """(H, W, 3) float64 directions of depth 1."""
        return rays(height, width, self.focal, self.centre)


def rays(height: int, width: int, focal: tuple[float, float], centre: tuple[float, float] = (0.5, 0.5)) -> np.ndarray:
    """(H, W, 3) float64 directions of depth 1 through the centres of the pixels."""
    x = ((np.arange(width) + 0.5) / width - centre[0]) / focal[0]
    y = ((np.arange(height) + 0.5) / height - centre[1]) / focal[1]
    return np.stack([*np.meshgrid(x, y), np.ones((height, width))], -1)
