"""Pooling of opinions: class maps and class probabilities of several experts become one class map.

A vote hears only each expert's first choice, so with two strong experts the heavier one always wins. Here every source
gives its probabilities (a class map gives all to its class, and nothing where it abstains); their weighted mean decides
(the linear opinion pool, Stone 1961). So a sure expert outweighs an unsure one, pixel by pixel.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from hyperloom.pipeline.root.storage import Storage
from hyperloom.stages.base import modality_of
from hyperloom.stages.consensus.methods import Weighted
from hyperloom.stages.label.expert import Batch, Function

if TYPE_CHECKING:
    import numpy as np

UNKNOWN = 255


class Pool(Weighted):
    """`{type: "recipes.papers.phg_mae.pool:Pool", soft: soft@consensus, weights: {deeplab: 0.7}}`.

    Sources are segmentation (N, H, W) and soft (N, H, W, K) columns of the same classes; the outcome is a segmentation,
    255 where no source says anything, and with `soft` also the pooled probabilities. Ties go to the lower class id.
    """

    mixes: ClassVar[bool] = True
    types: ClassVar[tuple[str, ...]] = ("segmentation",)
    soft: str = ""

    def extra(self) -> tuple[str, ...]:
        return (self.soft,) if self.soft else ()

    def measures(self, batch: Batch, made: Batch, modalities: dict[str, Any]) -> dict[str, np.ndarray]:
        """Agreement of class maps alone: probabilities have no first choice to compare."""
        from hyperloom.stages.consensus.agreement import agreement

        modality = modalities[modality_of(self.out[0])]
        maps = {c: (batch[c], batch[f"{c}?"]) for c in self.in_ if modality_of(c) == modality_of(self.out[0])}
        return agreement({**maps, self.out[0]: (made[self.out[0]], None)}, modality)

    def build(self, modalities: dict[str, Any], storage: Storage) -> Function:
        import numpy as np

        classes = len(modalities[modality_of(self.out[0])].classes)

        def opinion(values: np.ndarray) -> np.ndarray:
            if values.ndim == 4:
                return values
            return (values[..., None] == np.arange(classes)).astype(np.float32)

        def call(batch: Batch) -> Batch:
            batch = self.brought(batch, modalities)
            total = np.zeros((*batch[self.in_[0]].shape[:3], classes), np.float32)
            for column in self.in_:
                there = batch[f"{column}?"].astype(np.float32)[:, None, None, None]
                total += np.float32(self.weight(column)) * there * opinion(batch[column])
            weight = total.sum(-1, keepdims=True)
            winner = np.where(weight[..., 0] > 0, total.argmax(-1), UNKNOWN).astype(np.uint8)
            shares = np.divide(total, weight, out=np.zeros_like(total), where=weight > 0)
            return dict(zip(self.out, (winner, shares), strict=False))

        return call
