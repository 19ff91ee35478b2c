"""Digits: what is said of numbers that lose theirs where they are kept in fewer bytes."""

from __future__ import annotations

import numpy as np

from hyperloom.stages.remarks import remark

SUNK = 2.0**-14
"""Below this float16 keeps fewer than three digits of a number, and below 3e-8 none."""


def say_what_sinks(array: np.ndarray, stored: np.dtype) -> None:
    """Remark on a value all of whose numbers are too close to zero for `stored`, as those of a small unit are; a few
    beside larger ones are next to nothing there."""
    if stored == np.float16 and array.size and 0 < max(abs(float(array.min())), abs(float(array.max()))) < SUNK:
        remark(
            f"no number of a value reaches {SUNK:.2g}, below which float16 keeps fewer digits of it, and below 3e-08 "
            "none (storage: float32 keeps them)"
        )
