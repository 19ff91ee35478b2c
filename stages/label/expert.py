"""The expert protocol: anything that maps columns to columns.

An expert is a plug-in of kind `expert`. Its fields are the recipe's; `build()` loads it once in a worker process and
returns the function that the label stage calls with batches. Heavy imports belong inside `build`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from pydantic import Field, field_validator

from pipeline.config import placement
from pipeline.plugins import Plugin
from pipeline.units import Resources

Batch = dict[str, np.ndarray]
"""Column name -> (N, *shape) array. Segmentation is (N, H, W) uint8 with 255 for unknown, image (N, H, W, 3) uint8 RGB,
dense (N, H, W, C) float32. A column asked for with an offset comes as `rgb@camera[-1]`: the same rows of the frame
before; where the group has none, the row repeats the frame itself."""

Function = Callable[[Batch], Batch]


class Expert(Plugin):
    """Base of every expert: declared inputs and outputs, and `build`.

    `in` and `out` take one column or a list. Subclasses may give them defaults.
    """

    in_: tuple[str, ...] = Field(alias="in")
    out: tuple[str, ...]
    batch: int = placement(8, gt=0)
    """Samples per call."""
    cpus: float = placement(1.0, gt=0)
    gpus: float = placement(0.0, ge=0)

    @field_validator("in_", "out", mode="before")
    @classmethod
    def _tuple(cls, value: Any) -> Any:
        return (value,) if isinstance(value, str) else value

    @property
    def resources(self) -> Resources:
        return Resources(self.cpus, self.gpus)

    def offsets(self) -> dict[str, tuple[int, ...]]:
        """Neighbouring frames wanted: {"rgb@camera": (-1,)} for the frame before. Indices count within the group."""
        return {}

    def weights(self) -> tuple[str, ...]:
        """Files (paths or URLs) whose content belongs to this expert's identity."""
        return ()

    def build(self, modalities: dict[str, Any]) -> Function:
        """Load everything, once per process. `modalities` are the recipe's, by name (target sizes, classes).

        The function gets (N, ...) arrays of `in` and returns (N, ...) arrays of `out`; a masked array's masked rows,
        or None in an object list, stand for "no answer for this sample". It may raise pipeline.errors.BadSample.
        """
        raise TypeError(f"the expert {self.type!r} has no build()")
