"""The median of several sources."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar

from hyperloom.stages.base import modality_of
from hyperloom.stages.consensus.mean import Mean, nothing, of_length_one
from hyperloom.stages.consensus.methods import Method, MethodOutput
from hyperloom.stages.label.expert import Batch
from hyperloom.stages.modality.knowledge import spread

if TYPE_CHECKING:
    import numpy as np

    from hyperloom.pipeline.root.storage import Storage
    from hyperloom.stages.modality import Modality


class Median(Method):
    """Median of the sources that are there, value by value of the pixels at which they say something; of unit vectors,
    made of length one again.

    Medians of probabilities, class by class, are no distribution: they are divided by their sum. Where that is not more
    than one half, what the sources agree on is less than what they do not, and the median is of no use (nobody's, of
    three that are each sure of another class): there it is their mean.
    """

    revision: ClassVar[int] = 3
    takes: ClassVar[str] = Mean.takes

    def fits(self, modality: Modality) -> bool:
        return modality.averaged

    def making(self, modalities: dict[str, Any], storage: Storage) -> Callable[[Batch], MethodOutput]:
        import numpy as np

        modality = modalities[modality_of(self.out[0])]

        def make(batch: Batch) -> MethodOutput:
            median = np.empty_like(batch[self.sources[0]])
            for i in range(len(median)):
                values = np.stack([batch[c][i] for c in self.sources if batch[f"{c}?"][i]])
                median[i] = _median(values, spread(modality.given(values), values), modality)
            return {self.out[0]: median}, None

        return make


def _median(values: np.ndarray, given: np.ndarray, modality: Modality) -> np.ndarray:
    """(*shape) of (sources, *shape), of those that are given, (sources, ..., 1) bool."""
    import numpy as np

    if given.all():
        return _whole(np.median(values, axis=0), values, modality)
    values = np.where(given, values, np.nan)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of pixels at which nobody says anything
        known = _whole(np.nanmedian(values, axis=0), values, modality)
    return np.where(given.any(0), known, nothing(modality))


def _whole(median: np.ndarray, values: np.ndarray, modality: Modality) -> np.ndarray:
    """Medians of components as one value of the modality: probabilities sum to one, unit vectors have that length."""
    import numpy as np

    if not modality.soft:
        return of_length_one(median, modality)
    median = np.where(spread(modality.given(median), median), median, np.nanmean(values, axis=0))
    return np.asarray(median / np.maximum(median.sum(-1, keepdims=True), 1e-12))
