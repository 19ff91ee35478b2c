"""The camera of a rendered flight: where it is at each frame, its rays, and what its telemetry says.

World coordinates are metres, z up. Camera coordinates follow OpenCV: x right, y down, z forward; `depth` is z. Pixel
(u, v) has its centre at ((u + 0.5) / W, (v + 0.5) / H) of the image, so intrinsics hold for every size of the picture.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

TELEMETRY = (
    "fx", "fy", "cx", "cy",
    "r00", "r01", "r02", "r10", "r11", "r12", "r20", "r21", "r22",
    "tx", "ty", "tz",
    "up_x", "up_y", "up_z", "altitude",
)  # fmt: skip
"""The fields of `pose@telemetry`: intrinsics as shares of width (fx, cx) and height (fy, cy); the motion since the
frame before, X_before = R X_now + t in camera coordinates and metres (identity and zero at the start); the direction of
up in camera coordinates, and metres above the ground at take-off."""


@dataclass(frozen=True)
class Camera:
    """One pose. `rotation` has the camera's axes as columns in world coordinates, `place` is in metres."""

    place: np.ndarray
    rotation: np.ndarray
    fx: float
    fy: float

    def rays(self, u: np.ndarray, v: np.ndarray, size: tuple[int, int]) -> np.ndarray:
        """(..., 3) camera-coordinate rays of depth 1 through the pixels (u, v) of a picture of `size` (H, W)."""
        x = ((u + 0.5) / size[1] - 0.5) / self.fx
        y = ((v + 0.5) / size[0] - 0.5) / self.fy
        return np.stack([x, y, np.ones_like(x)], -1)

    def project(self, points: np.ndarray, size: tuple[int, int]) -> np.ndarray:
        """(..., 2) pixels (u, v) of (..., 3) points in camera coordinates."""
        u = (points[..., 0] / points[..., 2] * self.fx + 0.5) * size[1] - 0.5
        v = (points[..., 1] / points[..., 2] * self.fy + 0.5) * size[0] - 0.5
        return np.stack([u, v], -1)

    def motion(self, before: Camera) -> tuple[np.ndarray, np.ndarray]:
        """(R, t) with X_before = R X_now + t."""
        return before.rotation.T @ self.rotation, before.rotation.T @ (self.place - before.place)

    def telemetry(self, before: Camera, ground: float) -> np.ndarray:
        """The 20 numbers of `TELEMETRY`."""
        rotation, shift = self.motion(before)
        up = self.rotation.T @ np.array([0.0, 0.0, 1.0])
        return np.concatenate([[self.fx, self.fy, 0.5, 0.5], rotation.ravel(), shift, up, [self.place[2] - ground]])


def orientation(heading: float, pitch: float, roll: float) -> np.ndarray:
    """(3, 3) camera axes as columns, from angles in radians; pitch is negative when looking down."""
    forward = np.array([np.cos(heading) * np.cos(pitch), np.sin(heading) * np.cos(pitch), np.sin(pitch)])
    level = np.array([np.sin(heading), -np.cos(heading), 0.0])
    below = np.cross(forward, level)
    right = np.cos(roll) * level + np.sin(roll) * below
    return np.stack([right, np.cross(forward, right), forward], -1)


def fly(rng: np.random.Generator, frames: int, span: float, ground: float, aspect: float) -> list[Camera]:
    """A short flight over a map of `span` metres: an arc at steady speed, oblique view, the small sway of a drone."""
    heading, turn = rng.uniform(0, 2 * np.pi), rng.uniform(-0.02, 0.02)
    speed, altitude = rng.uniform(3.0, 4.5), rng.uniform(48, 75)
    pitch, fx = np.deg2rad(rng.uniform(-62, -44)), rng.uniform(0.75, 0.95)
    drift, phase = rng.uniform(-0.5, 0.5), rng.uniform(0, 2 * np.pi, 3)
    place = rng.uniform(0, span, 2)
    cameras = []
    for t in range(frames):
        yaw = heading + turn * t
        place = place + speed * np.array([np.cos(yaw + drift), np.sin(yaw + drift)])
        sway = 0.012 * np.sin(0.7 * t + phase)
        spot = np.array([*place, ground + altitude + 1.5 * np.sin(0.35 * t + phase[0])])
        cameras.append(Camera(spot, orientation(yaw + sway[0], pitch + sway[1], sway[2]), fx, fx * aspect))
    return cameras
