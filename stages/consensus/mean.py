"""The mean of several sources, and what averages need: unit vectors made whole, and what stands where nobody speaks."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar

from hyperloom.pipeline.errors import RecipeError
from hyperloom.stages.base import modality_of
from hyperloom.stages.consensus.methods import Method, MethodOutput, Weighted
from hyperloom.stages.label.expert import Batch
from hyperloom.stages.modality.knowledge import spread
from hyperloom.stages.quantity import factor

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np

    from hyperloom.pipeline.root.storage import Storage
    from hyperloom.stages.modality import Modality


class Mean(Weighted):
    """Weighted mean of the sources that are there, pixel by pixel of those that say something; of unit vectors, made of
    length one again.

    `spread` names a dense one-channel column that gets the standard deviation over sources, averaged over channels.
    """

    revision: ClassVar[int] = 2
    certain: ClassVar[float] = 0.0
    takes: ClassVar[str] = "dense, soft, vector, scalar, embedding, series and audio"
    spread: str = ""

    def revised(self) -> int:
        return 3 if self.spread else super().revised()

    def fits(self, modality: Modality) -> bool:
        return modality.averaged

    def extra(self) -> tuple[str, ...]:
        return (self.spread,) if self.spread else ()

    def over(self, sources: tuple[str, ...], out: str, modalities: dict[str, Any], truth: str = "") -> Method:
        units = [m.meaning.unit for c in (out, self.spread) if c and (m := modalities.get(modality_of(c)))]
        if len(units) == 2 and units[1] and factor(*units) != 1:
            raise RecipeError(f"{out}: the spread is in {units[0] or 'no unit'}, and {self.spread} in {units[1]}")
        return super().over(sources, out, modalities, truth)

    def making(self, modalities: dict[str, Any], storage: Storage) -> Callable[[Batch], MethodOutput]:
        import numpy as np

        modality = modalities[modality_of(self.out[0])]

        def make(batch: Batch) -> MethodOutput:
            total = np.zeros_like(batch[self.sources[0]])
            weight = np.zeros((*total.shape[:-1], 1), np.float32)
            terms = []
            for column in self.sources:
                given = spread(modality.given(batch[column]), total)
                mine, values = self._weights(batch, column) * given, np.where(given, batch[column], 0)
                total, weight = total + mine * values, weight + mine
                terms.append((values, mine))
            shared = total / np.where(weight > 0, weight, 1)  # weights may be tiny, as likelihoods are
            mean = np.where(weight > 0, of_length_one(shared, modality), nothing(modality))
            if not self.spread:
                return {self.out[0]: mean}, None
            silence = no_spread(modalities[modality_of(self.spread)])
            return {self.out[0]: mean, self.spread: np.where(weight > 0, _deviation(terms), silence)}, None

        return make

    def _weights(self, batch: Batch, column: str) -> np.ndarray:
        """How much the source counts at each place, (N, ..., 1)."""
        import numpy as np

        present = batch[f"{column}?"].astype(np.float32).reshape(-1, *(1,) * (batch[column].ndim - 1))
        weights, sure = np.float32(self.weight(column)) * present, self.sure(column)
        if not sure:
            return weights
        given, known = self.sureness(batch, sure)
        return weights * np.where(known, given, 1).max(-1, keepdims=True)


def _deviation(terms: Sequence[tuple[np.ndarray, np.ndarray]]) -> np.ndarray:
    """The weighted standard deviation of (values, weights), averaged over channels, (N, ..., 1) float32: of what
    differs from the mean, since mean squares of large numbers leave nothing of small differences."""
    import numpy as np

    whole = sum((weight for _, weight in terms), np.float64(0))
    weight = np.where(whole > 0, whole, 1)
    mean = sum((w * values.astype(np.float64) for values, w in terms), np.float64(0)) / weight
    square = sum((w * (values - mean) ** 2 for values, w in terms), np.float64(0)) / weight
    return np.asarray(np.sqrt(square).mean(-1, keepdims=True), np.float32)


def nothing(modality: Modality) -> float:
    """What a number is where no source says anything."""
    return 0.0 if modality.soft or (modality.unit_vectors and not modality.holes) else float("nan")


def no_spread(modality: Modality) -> np.float32:
    """What a spread is where no source says anything: unknown, or 0 of a modality that has no notion of that."""
    import numpy as np

    return np.float32("nan" if modality.holes else 0)


def of_length_one(values: np.ndarray, modality: Modality) -> np.ndarray:
    """Vectors (..., C) of a modality of unit vectors at that length; other values as they are."""
    import numpy as np

    if not modality.unit_vectors:
        return values
    return values / np.maximum(np.linalg.norm(values, axis=-1, keepdims=True), 1e-6)
