"""Does a model's processor show it the whole frame, and nothing else?

A map that comes back is laid over the whole frame. So a processor that crops or pads would shift every label, unseen.
Nobody has to know all processors' settings: frames that grow lighter from one side to the other show what was kept.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from hyperloom.pipeline.errors import RecipeError
from hyperloom.stages.modality import Size

SLACK = 1.5
"""Pixels, of the frame and of what the model sees, that resizing may shift an edge."""
LEVELS = 255


def hold_whole(prepared: Callable[[np.ndarray], Any], size: Size, name: str) -> None:
    """`prepared` takes frames (N, H, W, 3) uint8 and gives `pixel_values` (N, C, h, w). Raises RecipeError where these
    are not the frame from edge to edge; `size` is the frames' height and width."""
    black = np.zeros((*size, 3), np.uint8)
    down, across = (_ramp(size, axis) for axis in (0, 1))
    seen = prepared(np.stack([black, np.full_like(black, LEVELS), down, across])).get("pixel_values")
    if getattr(seen, "ndim", 0) != 4:
        return
    dark, light, *ramps = np.asarray(seen, np.float32)
    low, high = (np.median(one, axis=(1, 2), keepdims=True) for one in (dark, light))
    span = np.where(high == low, 1, high - low)
    for axis, ramp in enumerate(ramps):
        count, length = ramp.shape[1 + axis], size[axis]
        centres = ((np.arange(count) + 0.5) * length / count - 0.5) / max(length - 1, 1)
        expected = np.clip(centres, 0, 1).reshape((-1, 1) if axis == 0 else (1, -1))
        if np.abs((ramp - low) / span - expected).max() > SLACK / count + SLACK / length + 2 / LEVELS:
            raise RecipeError(
                f"the processor of {name} crops or pads frames of {list(size)} (height, width), so that its maps would "
                "not lie on them. Next: a copy of the model whose preprocessor_config.json has do_center_crop: false, "
                "do_pad: false and a size of height and width, or another model"
            )


def _ramp(size: Size, axis: int) -> np.ndarray:
    """(H, W, 3) uint8, from black to white along an axis."""
    levels = np.rint(np.linspace(0, LEVELS, size[axis])).astype(np.uint8)
    return np.broadcast_to(levels.reshape((-1, 1, 1) if axis == 0 else (1, -1, 1)), (*size, 3)).copy()
