"""5,000 handwritten digits of 28x28 pixels, in blocks of 100, drawn as they are or in four looks."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

DOMAINS = ("plain", "inverted", "photo", "blurred")
Sample = tuple[str, str, dict[str, Any]]


def digits(files: Sequence[str], count: int = 5000, seed: int = 0) -> Iterator[Sample]:
    """`scan@file`, `digit@truth`, `half@truth` (is it 5 or more?) and `ink@truth` (how much of it there is, in four
    classes of the same size). A fifth of the blocks are called test, a tenth val."""
    rows = _rows(files, count, seed)
    ink = np.array([image.mean() for _, image, _ in rows])
    classes = np.searchsorted(np.quantile(ink, [0.25, 0.5, 0.75]), ink, side="right")
    for place, (index, image, label) in enumerate(rows):
        block = place // 100 if count >= 1000 else place // 10
        split = "test" if block % 5 == 0 else "val" if block % 10 == 1 else "train"
        values = {
            "digit@truth": str(label),
            "half@truth": ["low", "high"][label >= 5],
            "ink@truth": int(classes[place]),
        }
        yield f"digit_{index}", f"{split}_{block:02d}", {"scan@file": _rgb(image), **values}


def domains(files: Sequence[str], count: int = 5000, seed: int = 0) -> Iterator[Sample]:
    """`scan@file` and `digit@truth`; each digit in one of four looks, so that no digit of a look is seen in another."""
    random = np.random.default_rng(seed)
    for place, (index, image, label) in enumerate(_rows(files, count, seed)):
        domain = DOMAINS[place % 4]
        picture = _drawn(domain, image, random)
        yield f"digit_{index}", f"{domain}_{place // 400}", {"scan@file": picture, "digit@truth": str(label)}


def _rows(files: Sequence[str], count: int, seed: int) -> list[tuple[int, np.ndarray, int]]:
    """Index, (28, 28) uint8 and class, in an order that a hash gives: the file is sorted by class."""
    import pyarrow.parquet as pq

    table = pq.read_table(files[0])
    order = sorted(range(len(table)), key=lambda i: hashlib.sha256(f"{seed}/{i}".encode()).digest())[:count]
    images, labels = table["image"].to_pylist(), table["label"].to_pylist()
    return [(i, np.frombuffer(images[i], np.uint8).reshape(28, 28), int(labels[i])) for i in order]


def _rgb(image: np.ndarray) -> np.ndarray:
    return np.repeat(image[:, :, None], 3, 2)


def _drawn(domain: str, image: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """White on black; black on white; in another colour on coloured waves, as photographs have; blurred under noise."""
    ink = image[:, :, None] / 255.0
    if domain == "inverted":
        return _rgb(255 - image)
    if domain == "photo":
        y, x = np.mgrid[:28, :28] / 28.0
        waves = [
            np.sin(2 * np.pi * (random.uniform(-2, 2) * x + random.uniform(-2, 2) * y + random.random())) for _ in "rgb"
        ]
        ground = 0.5 + 0.25 * np.stack(waves, 2)
        colour = random.random(3)
        return (255 * (ink * colour + (1 - ink) * ground)).astype(np.uint8)
    if domain == "blurred":
        wide = sum(np.roll(ink, (i, j), (0, 1)) for i in (-1, 0, 1) for j in (-1, 0, 1)) / 9
        return (255 * np.clip(wide + random.normal(0, 0.15, (28, 28, 1)), 0, 1)).repeat(3, 2).astype(np.uint8)
    return _rgb(image)
