"""Buffers: memory for batches that is used again as soon as nobody holds it.

Fresh memory costs a page fault every 4 kB, for batches of images as much as filling it. A buffer goes back when the
array that was made of it dies, and a tensor keeps its array alive, so no batch that anyone still holds is overwritten.
Pinned memory is PyTorch's own, whose allocator knows which copies to a GPU are still under way.
"""

from __future__ import annotations

import weakref
from collections import defaultdict
from typing import Any

import numpy as np


class Buffers:
    """Gives arrays and the tensors over them. Thread-safe."""

    def __init__(self, pinned: bool = False):
        self.pinned = pinned
        self._free: dict[tuple[Any, ...], list[np.ndarray]] = defaultdict(list)

    def take(self, rows: int, most: int, shape: tuple[int, ...], dtype: np.dtype[Any]) -> tuple[np.ndarray, Any]:
        """An array (rows, *shape) with anything in it, and the tensor over it; `most` is the largest `rows` to come."""
        import torch

        if self.pinned:
            kind = torch.from_numpy(np.empty(0, dtype)).dtype
            tensor = torch.empty((rows, *shape), dtype=kind, pin_memory=True)
            return tensor.numpy(), tensor
        free = self._free[most, shape, dtype.str]
        try:
            whole = free.pop()
        except IndexError:
            whole = np.empty((most, *shape), dtype)
        part = whole[:rows]
        weakref.finalize(part, free.append, whole).atexit = False
        return part, torch.from_numpy(part)
