"""A small procedural world: a height field with what lies and stands on it, for flights whose truth is known exactly.

The map is a torus of `SPAN` metres. Ground, forest and settlement come from periodic noise; roads follow level lines of
noise and the lattice of the streets, houses stand on lots, trees are stamped one by one. Colours are made to be
ambiguous on purpose: bare soil looks like a dirt road, flat roofs like asphalt, meadows like treetops, ponds like
shade. What tells the classes apart is shape, texture, height and neighbourhood.
Everything is a function of the random generator; nothing here knows of cameras.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

CLASSES = ("land", "forest", "road", "water", "building")
LAND, FOREST, ROAD, WATER, BUILDING = range(5)  # free to grow on, up to FOREST
CELLS, CELL = 768, 0.5
SPAN = CELLS * CELL
BLOCKS = ((1, 0, 10), (2, 1, 4), (3, 1, 3), (1, 2, 4), (1, 3, 3))
"""Lattices (a, b, m) that close on the torus: m * |(a, b)| blocks across, of about 40 m."""

GROWING = np.array([[0.16, 0.25, 0.08], [0.22, 0.30, 0.11], [0.12, 0.20, 0.07]], np.float32)
"""Meadow, pasture, crop; linear RGB, as all colours here."""
SOILS = np.array([[0.36, 0.32, 0.18], [0.24, 0.17, 0.11], [0.30, 0.28, 0.24]], np.float32)
"""Dry grass, ploughed, bare."""
ROOFS = np.array(
    [[0.32, 0.12, 0.07], [0.22, 0.1, 0.07], [0.14, 0.14, 0.15], [0.3, 0.3, 0.3], [0.55, 0.54, 0.5], [0.2, 0.2, 0.13]],
    np.float32,
)
"""Tile, old tile, slate, gravel, pale metal, green metal."""

Map = np.ndarray
"""(CELLS, CELLS[, 3]); the first axis is y, the second x."""


@dataclass
class Terrain:
    """`height` (m, with all that stands), `classes` (ids of CLASSES), `albedo` (linear RGB), `lit` (0 shadow .. 1 sun),
    `slopes` (dz/dx, dz/dy), `sun` (unit vector towards it), `level` (m, the water's)."""

    height: Map
    classes: Map
    albedo: Map
    lit: Map
    slopes: tuple[Map, Map]
    sun: np.ndarray
    level: float


def terrain(rng: np.random.Generator) -> Terrain:
    """A world of its own for each state of `rng`: relief, land use, season, sun."""
    ground = 8.0 * noise(rng, 4, 4)
    level = float(np.quantile(ground, rng.uniform(0.14, 0.3)))
    classes = np.where(ground < level, WATER, LAND).astype(np.uint8)
    ground = np.maximum(ground, level)
    season = _season(rng)
    albedo = _fields(rng, season)
    height = ground.copy()
    settled = noise(rng, 4, 2)
    settled = (settled > np.quantile(settled, 0.72)) & (classes == LAND)
    lattice = BLOCKS[rng.integers(len(BLOCKS))]
    _roads(rng, classes, albedo, settled, lattice)
    _water(rng, classes, albedo)
    _houses(rng, classes, albedo, height, settled, lattice)
    _trees(rng, classes, albedo, height, settled, season)
    grain = rng.standard_normal((CELLS, CELLS), np.float32)
    albedo *= ((1 + 0.10 * grain) * (1 + 0.10 * noise(rng, 64, 2)))[..., None]
    sun = _sun(rng)
    lit = _shadows(height, sun) * _clouds(rng)
    return Terrain(height, classes, np.clip(albedo, 0.01, 1), lit, (_slope(height, 1), _slope(height, 0)), sun, level)


def noise(rng: np.random.Generator, grid: int, octaves: int) -> Map:
    """Periodic fractal noise of about zero mean and unit deviation; `grid` cells of the coarsest octave across."""
    import cv2

    def enlarged(values: np.ndarray, scale: int) -> np.ndarray:
        inside = slice(2 * scale, (2 + len(values)) * scale)
        padded = np.pad(values, 2, "wrap")
        return cv2.resize(padded, None, fx=scale, fy=scale, interpolation=cv2.INTER_CUBIC)[inside, inside]

    total = rng.standard_normal((grid, grid)).astype(np.float32)
    for octave in range(1, octaves):
        total = enlarged(total, 2)
        total += rng.standard_normal(total.shape).astype(np.float32) * np.float32(0.5**octave)
    total = enlarged(total, CELLS // len(total))
    return (total - total.mean()) / total.std()


def _slope(values: Map, axis: int) -> Map:
    return (np.roll(values, -1, axis) - np.roll(values, 1, axis)) / np.float32(2 * CELL)


def _season(rng: np.random.Generator) -> np.ndarray:
    """(3,) tint of what grows: spring, summer, late summer, autumn, and all between."""
    tints = np.array([[0.9, 1.15, 0.8], [1.0, 1.0, 1.0], [1.25, 1.0, 0.8], [1.5, 0.95, 0.65]], np.float32)
    weights = rng.dirichlet([0.7] * len(tints)).astype(np.float32)
    return weights @ tints


def _lattice(a: int, b: int, m: int) -> tuple[Map, Map]:
    """Coordinates (in blocks) of every cell on a lattice of the torus."""
    y, x = np.mgrid[0:CELLS, 0:CELLS].astype(np.float32) / CELLS
    return (a * x + b * y) * m % (m * (a * a + b * b)), (a * y - b * x) * m % (m * (a * a + b * b))


def _fields(rng: np.random.Generator, season: np.ndarray) -> Map:
    """Parcels of what grows and of soils, with furrows in crops and ploughed fields."""
    colours = np.concatenate([GROWING * season, SOILS])
    a, b, m = BLOCKS[rng.integers(len(BLOCKS))]
    u, v = _lattice(a, b, m)
    u, v = u * 0.7 + 0.25 * noise(rng, 8, 2), v * 0.5 + 0.25 * noise(rng, 8, 2)
    kinds = rng.choice(len(colours), (64, 64), p=[0.25, 0.22, 0.18, 0.15, 0.1, 0.1])
    kind = kinds[np.floor(u).astype(int) % 64, np.floor(v).astype(int) % 64]
    furrows = np.sin(2 * np.pi * v * 9).astype(np.float32) * np.isin(kind, (2, 4))
    return colours[kind] * (1 + 0.18 * furrows + 0.12 * noise(rng, 32, 3))[..., None]


def _roads(rng: np.random.Generator, classes: Map, albedo: Map, settled: Map, lattice: tuple[int, int, int]) -> None:
    asphalt, dirt = np.array([0.17, 0.17, 0.18], np.float32), np.array([0.33, 0.27, 0.19], np.float32)
    for colour, width, bridges in ((asphalt, 3.5, True), (asphalt, 3.0, False), (dirt, 2.2, False)):
        field = noise(rng, 4, 2)
        distance = np.abs(field - rng.uniform(-0.6, 0.6)) / (np.hypot(_slope(field, 0), _slope(field, 1)) + 1e-3)
        where = (distance < width) & (bridges | (classes != WATER))
        _paint(classes, albedo, where, ROAD, colour * rng.uniform(0.8, 1.4))
    u, v = _lattice(*lattice)
    block = SPAN / (lattice[2] * np.hypot(*lattice[:2]))
    street = np.minimum(np.abs(u - np.rint(u)), np.abs(v - np.rint(v))) * block < 2.6
    _paint(classes, albedo, street & settled, ROAD, asphalt * rng.uniform(0.9, 1.5))


def _paint(classes: Map, albedo: Map, where: Map, class_id: int, colour: np.ndarray) -> None:
    classes[where], albedo[where] = class_id, colour


def _water(rng: np.random.Generator, classes: Map, albedo: Map) -> None:
    """From clear blue over green to muddy, each flight its own."""
    waters = np.array([[0.03, 0.07, 0.12], [0.05, 0.10, 0.06], [0.14, 0.12, 0.08]], np.float32)
    albedo[classes == WATER] = rng.dirichlet([0.6] * 3).astype(np.float32) @ waters


def _houses(
    rng: np.random.Generator, classes: Map, albedo: Map, height: Map, settled: Map, lattice: tuple[int, int, int]
) -> None:
    """Two by two lots a block; a few farms outside. Gabled or flat roofs, walls of plaster."""
    import cv2

    u, v = (2 * w for w in _lattice(*lattice))
    lot, lots = SPAN / (lattice[2] * np.hypot(*lattice[:2]) * 2), 128
    i, j = np.floor(u).astype(np.int32), np.floor(v).astype(np.int32)
    at = i % lots * lots + j % lots
    side = np.array([0.57, 0.43], np.float32)  # away from the street
    shift_x, shift_y = rng.uniform(-0.04, 0.04, (2, lots * lots)).astype(np.float32)
    half_x, half_y = rng.uniform(3.5, 6.5, (2, lots * lots)).astype(np.float32)
    x = np.abs(u - i - side[i % 2] - shift_x[at]) * np.float32(lot)
    y = np.abs(v - j - side[j % 2] - shift_y[at]) * np.float32(lot)
    luck = rng.random(lots * lots, np.float32)[at]
    inside = (x < half_x[at]) & (y < half_y[at]) & (luck < np.where(settled, 0.8, 0.03)) & (classes == LAND)
    walls = cv2.dilate(inside.astype(np.uint8), np.ones((3, 3), np.uint8)).astype(bool) & ~inside
    gable = (rng.random(lots * lots) < 0.65) * rng.uniform(0.35, 0.7, lots * lots)
    at, y = at[inside], y[inside]
    height[inside] += (rng.uniform(3.0, 7.5, lots * lots)[at] + gable[at] * (half_y[at] - y)).astype(np.float32)
    paint = ROOFS[rng.choice(len(ROOFS), lots * lots, p=rng.dirichlet([1.5] * len(ROOFS)))]
    paint = paint * rng.uniform(0.8, 1.2, (lots * lots, 1)).astype(np.float32)
    albedo[inside], classes[inside | walls] = paint[at], BUILDING
    albedo[walls] = np.array([0.45, 0.42, 0.37], np.float32)


def _trees(rng: np.random.Generator, classes: Map, albedo: Map, height: Map, settled: Map, season: np.ndarray) -> None:
    """Crowns on a jittered lattice: dense in forests, loose elsewhere. Conifers are cones, the others domes."""
    wood = noise(rng, 8, 3)
    wood = wood > np.quantile(wood, rng.uniform(0.62, 0.78))
    chance = np.where(settled, 0.04, np.where(wood, 0.95, 0.012))
    conifer = rng.uniform(0, 1)
    spots = (np.mgrid[0:CELLS:8, 0:CELLS:8].reshape(2, -1).T + rng.integers(0, 7, (CELLS * CELLS // 64, 2))) % CELLS
    lucky = rng.random(len(spots)) < chance[spots[:, 0], spots[:, 1]]
    spots = spots[lucky & (classes[spots[:, 0], spots[:, 1]] == LAND)]
    greens = np.array([0.09, 0.15, 0.06], np.float32) * season
    for y, x in spots:
        radius, top, cone = rng.uniform(3.5, 6.5), rng.uniform(5, 10), rng.random() < conifer
        reach = int(radius) + 1
        rows, cols = np.arange(y - reach, y + reach + 1) % CELLS, np.arange(x - reach, x + reach + 1) % CELLS
        patch = np.ix_(rows, cols)
        line = np.arange(-reach, reach + 1) / radius
        away = np.hypot(line[:, None], line)
        crown = top * (1 - away if cone else np.sqrt(np.maximum(1 - away**2, 0)) * 0.7 + 0.3)
        free = (away < 1) & (classes[patch] <= FOREST)
        colour = greens * (0.7 if cone else 1.0) * rng.uniform(0.75, 1.35)
        base = height[y, x] if classes[y, x] == LAND else 0.0
        height[patch] = np.where(free, np.maximum(height[patch], base + crown), height[patch])
        albedo[patch] = np.where(free[..., None], colour, albedo[patch])
        classes[patch] = np.where(free, FOREST, classes[patch])


def _sun(rng: np.random.Generator) -> np.ndarray:
    azimuth, elevation = rng.uniform(0, 2 * np.pi), np.deg2rad(rng.uniform(28, 65))
    flat = np.cos(elevation)
    return np.array([np.cos(azimuth) * flat, np.sin(azimuth) * flat, np.sin(elevation)], np.float32)


def _shadows(height: Map, sun: np.ndarray) -> Map:
    """1 where the sun reaches the surface, 0 in the shade of something within 30 m, soft at the edge."""
    import cv2

    shade = np.zeros(height.shape, np.float32)
    flat = float(np.hypot(sun[0], sun[1]))
    for distance in np.arange(1.0, 30.0, 1.0):
        dx, dy = (round(float(distance * s / flat / CELL)) for s in sun[:2])
        rise = np.roll(height, (-dy, -dx), (0, 1)) - height - np.float32(distance * sun[2] / flat)
        shade = np.maximum(shade, rise)
    return cv2.blur(1 - np.clip(shade, 0, 1), (3, 3))


def _clouds(rng: np.random.Generator) -> Map:
    """Light through broken cloud, 0.45 to 1."""
    cover = noise(rng, 4, 3) + rng.uniform(-1.5, 0.5)
    return 1 - 0.55 * np.clip(cover, 0, 1)
