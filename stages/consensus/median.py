"""The median of several sources."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar

from hyperloom.stages.base import modality_of
from hyperloom.stages.consensus.methods import Mean, Method, MethodOutput, _nothing, _unit
from hyperloom.stages.label.expert import Batch
from hyperloom.stages.modality.knowledge import spread

if TYPE_CHECKING:
    from hyperloom.pipeline.storage import Storage
    from hyperloom.stages.modality import Modality


class Median(Method):
    """Median of the sources that are there, value by value of the pixels at which they say something; of unit vectors,
    made of length one again."""

    revision: ClassVar[int] = 2
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
                given = spread(modality.given(values), values)
                if given.all():
                    median[i] = _unit(np.median(values, axis=0), modality)
                    continue
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")  # of pixels at which nobody says anything
                    known = np.nanmedian(np.where(given, values, np.nan), axis=0)
                median[i] = np.where(given.any(0), _unit(known, modality), _nothing(modality))
            return {self.out[0]: median}, None

        return make
