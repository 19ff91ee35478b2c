"""An expert whose native code crashes on one frame: a real segmentation fault."""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np

from hyperloom.pipeline.root.storage import Storage
from hyperloom.stages.label.expert import Batch, Expert, Function


class Deadly(Expert):
    """Copies the first channel; dies at the picture whose first value is `mark`."""

    mark: int

    def build(self, modalities: dict[str, Any], storage: Storage) -> Function:
        def call(batch: Batch) -> Batch:
            picture = batch[self.in_[0]]
            if (picture[:, 0, 0, 0] == self.mark).any():
                ctypes.string_at(0)
            return {self.out[0]: picture[..., :1].astype(np.float32)}

        return call
