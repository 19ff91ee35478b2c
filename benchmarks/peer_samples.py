"""The samples that benchmarks/loader_peers.py writes and reads, and how a batch is made of them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch

BATCH = 32
NAMES = ("rgb", "depth", "edges", "classes")


class Samples:
    """What is written: columns of arrays, or `rgb` as JPEG bytes."""

    def __init__(self, folder: Path, jpeg: bool):
        self.arrays = {name: np.load(folder / "raw" / f"{name}.npy", mmap_mode="r") for name in NAMES}
        self.jpeg = jpeg

    def __len__(self) -> int:
        return len(self.arrays["rgb"])

    def __getitem__(self, index: int) -> dict[str, Any]:
        found: dict[str, Any] = {name: np.ascontiguousarray(array[index]) for name, array in self.arrays.items()}
        if self.jpeg:
            bgr = cv2.cvtColor(found["rgb"], cv2.COLOR_RGB2BGR)
            found["rgb"] = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, 95])[1].tobytes()
        return found

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return (self[i] for i in range(len(self)))


def rgb(value: Any) -> Any:
    """An image from what was stored."""
    if not isinstance(value, bytes | np.void):
        return value
    return cv2.cvtColor(cv2.imdecode(np.frombuffer(value, np.uint8), cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)


def collate(samples: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
    """Samples to one batch."""
    batch = {}
    for name in NAMES:
        values = [rgb(s[name]) if name == "rgb" else s[name] for s in samples]
        if isinstance(values[0], torch.Tensor):
            batch[name] = torch.stack(values)
        else:
            batch[name] = torch.from_numpy(np.stack(values))
    return batch


def torch_loader(data: Any, workers: int, **how: Any) -> Any:
    how = {"collate_fn": collate, **how}
    return torch.utils.data.DataLoader(
        data, batch_size=BATCH, num_workers=workers, persistent_workers=workers > 0, **how
    )
