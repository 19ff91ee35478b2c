"""Samples for the benchmarks: 256x256 RGB, a depth map, an edge map and classes, photographs where they are present.

Photographs are looked for under `$HYPERLOOM_SHARED/data/street/images` (default: ../shared beside the checkout), else
smooth noise with grain stands for them, which compresses about as well. Depth and edges are computed from the image.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from hyperloom.pipeline import plugins

SIZE = 256
COLUMNS = ("rgb@camera", "depth@blur", "edges@sobel", "classes@quantised")


def modalities() -> dict[str, Any]:
    """The modalities of the benchmarks' columns: u8x3, f16, f16, u8."""
    import hyperloom.stages  # noqa: F401  registers the plug-ins

    size = [SIZE, SIZE]
    written: dict[str, dict[str, Any]] = {
        "rgb": {"type": "image", "size": size},
        "depth": {"type": "dense", "size": size, "range": [0, 100]},
        "edges": {"type": "dense", "size": size, "range": [0, 1]},
        "classes": {"type": "segmentation", "size": size, "classes": [f"c{i}" for i in range(12)]},
    }
    return {name: plugins.parse("modality", value) for name, value in written.items()}


def photographs() -> list[Path]:
    shared = Path(os.environ.get("HYPERLOOM_SHARED", Path(__file__).parents[2] / "shared"))
    return sorted((shared / "data/street/images").glob("*.jpg"))


def samples(count: int) -> Iterator[dict[str, np.ndarray]]:
    """`count` samples: column -> value. Photographs are repeated mirrored once they run out."""
    import cv2

    paths = photographs()
    for i in range(count):
        image = _photograph(paths, i) if paths else _noise(i)
        grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY).astype(np.float32) / 255
        far = cv2.GaussianBlur(grey, (0, 0), 6) * np.linspace(100, 5, SIZE, dtype=np.float32)[:, None]
        slope = np.hypot(cv2.Sobel(grey, -1, 1, 0), cv2.Sobel(grey, -1, 0, 1)).clip(0, 1)
        classes = (cv2.GaussianBlur(grey, (0, 0), 9) * 11.99).astype(np.uint8)
        yield dict(zip(COLUMNS, (image, far[..., None], slope[..., None], classes), strict=True))


def source() -> str:
    return "photographs" if photographs() else "noise"


def _photograph(paths: list[Path], index: int) -> np.ndarray:
    import cv2

    image = cv2.cvtColor(cv2.imread(str(paths[index % len(paths)])), cv2.COLOR_BGR2RGB)
    image = cv2.resize(image, (SIZE, SIZE), interpolation=cv2.INTER_AREA)
    return image if index // len(paths) % 2 == 0 else np.ascontiguousarray(image[:, ::-1])


def _noise(seed: int) -> np.ndarray:
    import cv2

    rng = np.random.default_rng(seed)
    image = np.zeros((SIZE, SIZE, 3), np.float32)
    for cells in (4, 8, 16, 32, 64):
        image += cv2.resize(
            rng.random((cells, cells, 3), np.float32) / cells, (SIZE, SIZE), interpolation=cv2.INTER_CUBIC
        )
    image = (image - image.min()) / (image.max() - image.min()) * 235 + rng.normal(0, 2, image.shape)
    return image.clip(0, 255).astype(np.uint8)
