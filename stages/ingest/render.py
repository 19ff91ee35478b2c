"""Frames of a flight over a terrain: what the camera sees, and the exact truth behind it.

Each ray is walked through the height field from above its highest to below its lowest point, then bisected, so depth
is exact to a few centimetres. The picture is rendered at twice the size and averaged: light from sun and sky, shadows,
water that mirrors the sky, haze, and a camera's exposure, colour gain, vignette and noise.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hyperloom.stages.ingest.camera import Camera, fly
from hyperloom.stages.ingest.terrain import CELL, CLASSES, SPAN, WATER, Terrain, terrain
from hyperloom.stages.modality import Size

STEPS, HALVINGS = 64, 9
FINE_STEPS, FINE_HALVINGS = 8, 6
FINALISTS = 24


@dataclass
class Viewpoint:
    """A rendered frame of (H, W). `rgb` uint8; `depth` (H, W) m; `normals` (H, W, 3) unit, camera coordinates, towards
    the camera; `semantic` (H, W) ids of terrain.CLASSES; `flow` (H, W, 2) pixels (x, y) to the same point in the frame
    before, None for the first; `telemetry` (20,), see camera.TELEMETRY."""

    rgb: np.ndarray
    depth: np.ndarray
    normals: np.ndarray
    semantic: np.ndarray
    flow: np.ndarray | None
    telemetry: np.ndarray


class Flight:
    """Flight number `number` of the world `seed`: its terrain, weather and path; `view(t)` renders a frame."""

    def __init__(self, seed: int, number: int, frames: int, size: Size):
        rng = np.random.default_rng([seed, number])
        self.size, self._key = size, (seed, number)
        self.terrain = terrain(rng)
        self._ground = float(np.median(self.terrain.height))
        paths = [fly(rng, frames, SPAN, self._ground, size[1] / size[0]) for _ in range(FINALISTS)]
        self.cameras = max(paths, key=self._variety)
        self._sky = np.array([0.55, 0.65, 0.8], np.float32) * rng.uniform(0.85, 1.1, 3).astype(np.float32)
        self._warmth = np.array([1.0, rng.uniform(0.88, 1.0), rng.uniform(0.72, 1.0)], np.float32)
        self._haze, self._grain = rng.uniform(1 / 2000, 1 / 600), rng.uniform(1.5, 4.0)
        middle = self.cameras[frames // 2]
        v, u = np.mgrid[0 : size[0] : 8, 0 : size[1] : 8].astype(np.float32)
        self._exposure = rng.uniform(0.18, 0.27) / float(np.median(self._light(middle, middle.rays(u, v, size))))

    def view(self, t: int) -> Viewpoint:
        """Frame `t`, a pure function of seed, number, frames, size and t."""
        height, width = self.size
        camera, before = self.cameras[t], self.cameras[max(t - 1, 0)]
        v, u = np.mgrid[0:height, 0:width].astype(np.float32)
        rays = camera.rays(u, v, self.size)
        depth = cast(self.terrain, camera, rays)
        points = rays * depth[..., None]
        places = self._world(camera, points)
        normals = self._normals(places) @ camera.rotation
        flow = None
        if t > 0:
            rotation, shift = camera.motion(before)
            flow = camera.project(points @ rotation.T + shift, self.size) - np.stack([u, v], -1)
        return Viewpoint(
            self._picture(camera, depth, t),
            depth,
            normals.astype(np.float32),
            _nearest(self.terrain.classes, places),
            None if flow is None else flow.astype(np.float32),
            camera.telemetry(before, self._ground).astype(np.float32),
        )

    def _variety(self, cameras: list[Camera]) -> float:
        """How many classes a path sees, and how evenly: the entropy of the map under a few of its views."""
        v, u = np.mgrid[0:1:8j, 0:1:8j]
        seen = []
        for camera in cameras[:: max(1, len(cameras) // 4)]:
            rays = camera.rays(u * self.size[1], v * self.size[0], self.size) @ camera.rotation.T
            places = camera.place - rays * ((camera.place[2] - self._ground) / rays[..., 2:])
            seen.append(_nearest(self.terrain.classes, places).ravel())
        shares = np.bincount(np.concatenate(seen), minlength=len(CLASSES)) / (64 * len(seen))
        return float(-(shares * np.log(shares + 1e-9)).sum())

    def _picture(self, camera: Camera, coarse: np.ndarray, t: int) -> np.ndarray:
        import cv2

        height, width = self.size
        v, u = (np.mgrid[0 : 2 * height, 0 : 2 * width].astype(np.float32) - 0.5) / 2
        light = self._light(camera, camera.rays(u, v, self.size), coarse)
        light = cv2.resize(light.astype(np.float32), (width, height), interpolation=cv2.INTER_AREA)
        edge = np.hypot(*(np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j])).astype(np.float32)
        light *= (self._exposure * (1 - 0.12 * edge**2))[..., None]
        rng = np.random.default_rng([*self._key, t])
        grey = light.mean(-1, keepdims=True)
        light = np.maximum(grey + 1.25 * (light - grey), 0)
        values = 255 * np.clip(light, 0, 1) ** np.float32(1 / 2.2)
        values += self._grain * rng.standard_normal(values.shape, np.float32)
        return np.clip(np.rint(values), 0, 255).astype(np.uint8)

    def _light(self, camera: Camera, rays: np.ndarray, coarse: np.ndarray | None = None) -> np.ndarray:
        """Linear RGB that arrives along rays, through the haze."""
        depth = cast(self.terrain, camera, rays) if coarse is None else refine(self.terrain, camera, rays, coarse)
        places = self._world(camera, rays * depth[..., None])
        light = self._shade(places, -(rays @ camera.rotation.T), _nearest(self.terrain.classes, places))
        veil = 1 - np.exp(-depth * np.float32(self._haze))[..., None]
        return light * (1 - veil) + self._sky * 0.5 * veil

    def _shade(self, places: np.ndarray, towards: np.ndarray, classes: np.ndarray) -> np.ndarray:
        ground, sun = self.terrain, self.terrain.sun
        normals = self._normals(places)
        direct = np.maximum(normals @ sun, 0) * _linear(ground.lit, places)
        ambient = 0.22 + 0.12 * normals[..., 2]
        light = direct[..., None] * (1.15 * self._warmth) + ambient[..., None] * self._sky
        light = light * _linear(ground.albedo, places)
        towards = towards / np.linalg.norm(towards, axis=-1, keepdims=True)
        ripple = 0.04 * np.sin(places[..., 0] * 2.1) * np.sin(places[..., 1] * 1.7 + places[..., 0])
        mirror = (0.06 + 0.94 * (1 - np.clip(towards[..., 2] + ripple, 0, 1)) ** 4)[..., None]
        return np.where((classes == WATER)[..., None], light * (1 - mirror) + self._sky * mirror, light)

    def _normals(self, places: np.ndarray) -> np.ndarray:
        """(..., 3) unit, in world coordinates, up."""
        dx, dy = (_linear(slope, places) for slope in self.terrain.slopes)
        normals = np.stack([-dx, -dy, np.ones_like(dx)], -1)
        return normals / np.linalg.norm(normals, axis=-1, keepdims=True)

    @staticmethod
    def _world(camera: Camera, points: np.ndarray) -> np.ndarray:
        return points @ camera.rotation.T + camera.place


def cast(ground: Terrain, camera: Camera, rays: np.ndarray) -> np.ndarray:
    """(H, W) float32 depth in m at which rays of camera-depth 1 meet the surface. All rays must look down."""
    down = (rays @ camera.rotation.T)[..., 2].astype(np.float32)
    near = (float(ground.height.max()) + 0.01 - camera.place[2]) / down
    far = (float(ground.height.min()) - 0.01 - camera.place[2]) / down
    return _walk(ground, camera, rays, np.maximum(near, 0.1), far, STEPS, HALVINGS)


def refine(ground: Terrain, camera: Camera, rays: np.ndarray, coarse: np.ndarray) -> np.ndarray:
    """The depth of finer rays over the same view, looked for between the depths around them in `coarse`."""
    import cv2

    window, size = np.ones((5, 5), np.uint8), rays.shape[1::-1]
    near = cv2.resize(cv2.erode(coarse, window), size, interpolation=cv2.INTER_LINEAR) * np.float32(0.99)
    far = cv2.resize(cv2.dilate(coarse, window), size, interpolation=cv2.INTER_LINEAR) * np.float32(1.01)
    return _walk(ground, camera, rays, near, far, FINE_STEPS, FINE_HALVINGS)


def _walk(
    ground: Terrain, camera: Camera, rays: np.ndarray, near: np.ndarray, far: np.ndarray, steps: int, halvings: int
) -> np.ndarray:
    """Where the rays first go below the surface between `near` and `far`."""
    import cv2

    directions = (rays @ camera.rotation.T).astype(np.float32)
    place = camera.place.astype(np.float32)
    near, far = near.astype(np.float32), far.astype(np.float32)

    def above(depth: np.ndarray) -> np.ndarray:
        x, y = ((directions[..., k] * depth + place[k]) / np.float32(CELL) for k in (0, 1))
        surface = cv2.remap(ground.height, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_WRAP)
        return directions[..., 2] * depth + place[2] > surface

    step, inside, outside = (far - near) / np.float32(steps), far.copy(), near.copy()
    flying = np.ones(near.shape, bool)
    for k in range(1, steps + 1):
        depth = near + k * step
        hit = flying & ~above(depth)
        inside = np.where(hit, depth, inside)
        flying &= ~hit
        outside = np.where(flying, depth, outside)
    for _ in range(halvings):
        middle = (inside + outside) / 2
        over = above(middle)
        outside, inside = np.where(over, middle, outside), np.where(over, inside, middle)
    return inside


def _linear(values: np.ndarray, places: np.ndarray) -> np.ndarray:
    import cv2

    x, y = (np.ascontiguousarray(places[..., k], np.float32) / np.float32(CELL) for k in (0, 1))
    return cv2.remap(values, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_WRAP)


def _nearest(values: np.ndarray, places: np.ndarray) -> np.ndarray:
    y, x = (np.rint(places[..., k] / CELL).astype(int) % values.shape[0] for k in (1, 0))
    return values[y, x]
