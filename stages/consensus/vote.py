"""Majorities over classes: pixels of maps, or one class a sample.

`{type: vote, quorum: 0.6, agreement: agreement@vote, least: 0.5}`. See `Weighted` for weights and confidence.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from pydantic import Field

from hyperloom.stages.base import modality_of
from hyperloom.stages.consensus.methods import MethodOutput, Weighted, below
from hyperloom.stages.label.algorithms.majority import mean_share, vote
from hyperloom.stages.label.expert import Batch

if TYPE_CHECKING:
    from hyperloom.pipeline.root.storage import Storage
    from hyperloom.stages.modality import Modality


class Vote(Weighted):
    """Each pixel's class by weighted majority of the sources that say one; unknown where none does, or fewer than
    `quorum`.

    `quorum` is the share of the weight of all that vote at a pixel which the winner needs. `agreement` names a dense
    one-channel (or scalar) column that gets that share, 0..1: a weight for losses. A sample whose mean agreement, over
    what was voted on, is below `least` becomes null. With `smooth` (pixels) the votes of the surroundings count too.
    """

    takes: ClassVar[str] = "segmentation, category and ordinal"
    quorum: float = Field(0.0, ge=0, le=1)
    agreement: str = ""
    least: float = Field(0.0, ge=0, le=1)
    smooth: float = Field(0.0, ge=0)

    def revised(self) -> int:
        return super().revised() + below(self.least)

    def fits(self, modality: Modality) -> bool:
        return modality.voted

    def extra(self) -> tuple[str, ...]:
        return (self.agreement,) if self.agreement else ()

    def making(self, modalities: dict[str, Any], storage: Storage) -> Callable[[Batch], MethodOutput]:
        modality = modalities[modality_of(self.out[0])]
        soft = {c: modalities[modality_of(self.sure(c))].soft for c in self.sources if self.sure(c)}

        def make(batch: Batch) -> MethodOutput:
            ballots = [self._ballot(batch, c, modality, soft.get(c, False)) for c in self.sources]
            maps, weights, shares = zip(*ballots, strict=True)
            winner, share = vote(maps, weights, modality.channels, self.quorum, self.smooth, shares, modality.missing)
            return dict(zip(self.out, (winner, share[..., None]), strict=False)), mean_share(share)

        return make

    def _ballot(self, batch: Batch, column: str, modality: Any, soft: bool) -> tuple[Any, Any, Any]:
        """A source's classes, the weight of each place, and its probabilities where it has any."""
        labels, sure, weight = batch[column], self.sure(column), self.weight(column)
        if not sure:
            return labels, weight, None
        given, known = self.sureness(batch, sure)
        if not soft:
            return labels, weight * np.where(known, given, 1)[..., 0], None
        hard = labels[..., None] == np.arange(modality.channels)
        votes = np.where(known, given * (labels != modality.missing)[..., None], hard)
        return labels, weight, votes
