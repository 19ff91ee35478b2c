"""The expert that is no network: the same values in another modality's size.

Experts want large frames, a small model trains on small ones: `{type: resize, in: photo@camera, out: rgb@camera}` makes
the second from the first, by the target modality's own rule (area for images, nearest for classes, linear for numbers).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import model_validator

from hyperloom.pipeline.root.storage import Storage
from hyperloom.stages.base import defined, modality_of
from hyperloom.stages.label.expert import Batch, Expert, Function


class Resize(Expert):
    """One column in, one column out, of the same kind of modality."""

    @model_validator(mode="after")
    def _one(self) -> Resize:
        if len(self.in_) != 1 or len(self.out) != 1:
            raise ValueError(f"resize makes one column of one column, got {list(self.in_)} and {list(self.out)}")
        return self

    def revised_for(self, modalities: Mapping[str, Any]) -> dict[str, int]:
        """Class maps came to lie up to half a pixel beside their picture."""
        return {"nearest": 2} if any(kind.markup == "map" for kind in defined(modalities, self.out)) else {}

    def build(self, modalities: dict[str, Any], storage: Storage) -> Function:
        import cv2  # noqa: F401  `fit` uses it; loaded now, so that the worker can limit its threads
        import numpy as np

        target = modalities[modality_of(self.out[0])]

        def resize(batch: Batch) -> Batch:
            return {self.out[0]: np.stack([target.fit(value) for value in batch[self.in_[0]]])}

        return resize
