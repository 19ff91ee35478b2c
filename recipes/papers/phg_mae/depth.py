"""Depth up to scale from relative inverse depth, so that surfaces have normals.

A monocular network tells inverse depth only up to scale and shift. The two numbers missing are assumed: its 0 is `far`
metres away and its 1 is `near`. Normals made of it lean the right way but by no exact angle, which is enough for an
input that a network standardises and weighs by itself.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from pydantic import Field, model_validator

from hyperloom.pipeline.root.storage import Storage
from hyperloom.stages.label.expert import Batch, Expert, Function


class Depth(Expert):
    """`{type: "recipes.papers.phg_mae.depth:Depth", in: disparity@net, out: depth@net}`: (N, H, W, 1) in 0..1 in,
    (N, H, W, 1) float32 metres out. Raises ValueError unless 0 < near < far."""

    near: float = Field(4.0, gt=0)
    far: float = Field(60.0, gt=0)

    @model_validator(mode="after")
    def _ordered(self) -> Depth:
        if self.near >= self.far:
            raise ValueError(f"near: {self.near:g} m is not nearer than far: {self.far:g} m")
        return self

    def build(self, modalities: dict[str, Any], storage: Storage) -> Function:
        low, high = 1 / self.far, 1 / self.near

        def call(batch: Batch) -> Batch:
            inverse = low + (high - low) * np.clip(batch[self.in_[0]], 0, 1)
            return {self.out[0]: (1 / inverse).astype(np.float32)}

        return call
