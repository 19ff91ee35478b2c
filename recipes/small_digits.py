"""Handwritten digits of 14x14 pixels: each the mean of four of the scan."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from recipes.papers.data import mnist


def digits(files: Sequence[str], count: int = 5000) -> Iterator[mnist.Sample]:
    """`scan@file` and `digit@truth`, in blocks of 100, of which a fifth is called test and a tenth val."""
    for name, block, values in mnist.digits(files, count):
        small = values["scan@file"].reshape(14, 2, 14, 2, 3).mean((1, 3))
        yield name, block, {"scan@file": small.astype(np.uint8), "digit@truth": values["digit@truth"]}
