"""Knowledge: where a value says something, and where it is a truth to learn from and to judge by.

Every one who must leave out what nobody knows asks the modality here: the loss, the measures, the statistics of shards,
consensus, pictures. So they leave out the same sites: a pixel of NaN in any channel, a direction of length zero, a
number outside the range, the class id 255, probabilities that sum to nothing.

All three take values (N, *shape), NumPy or torch, as they are in memory or on disk, and answer by site: (N, *sites)
bool, where sites are pixels, steps or samples, whatever a loss is summed over.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np


class Knowledge:
    """The part of a modality that says what is unknown."""

    if TYPE_CHECKING:

        @property
        def dtype(self) -> np.dtype[Any]: ...

    def given(self, values: Any) -> Any:
        """Where anything is said at all. An answer that says nothing is silence, not a mistake."""
        if self.dtype.kind != "f":
            return whole(values)
        present = finite(values)
        return present.all(-1) if present.ndim > 1 else present

    def known(self, values: Any) -> Any:
        """Where a value is a truth: it says something, and something that this modality can hold."""
        return self.given(values)

    def teaching(self, values: Any) -> Any:
        """Where a target teaches: what is known, unless that something is missing is itself to be learned (a hidden
        point, the end of a text). Of fewer axes than the sites of a loss where it holds for all of a sample's."""
        return self.known(values)

    def compared(self, values: Any) -> Any:
        """What of `values` (N, ...) says how far two columns differ where both are `given`: all, but for what only says
        that something is there."""
        return values


def finite(values: Any) -> Any:
    """Which numbers are neither NaN nor infinite, of NumPy or torch."""
    return np.isfinite(values) if isinstance(values, np.ndarray) else values.isfinite()


def whole(values: Any) -> Any:
    """(N,) true: every sample says something as a whole."""
    one = values.reshape(len(values), math.prod(values.shape[1:]))[:, 0]  # of no sample too
    return (one == one) | True


def spread(sites: Any, values: Any) -> Any:
    """(N, ...) bool of sites with axes of length one behind, so that it goes with `values` (N, ...)."""
    return sites.reshape(*sites.shape, *[1] * (values.ndim - sites.ndim))
