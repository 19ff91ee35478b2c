"""Majorities over classes: pixels of maps, or one class a sample.

`{type: vote, quorum: 0.6, agreement: agreement@vote, least: 0.5}`. See `Weighted` for weights and confidence.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from pydantic import Field

from stages.base import modality_of
from stages.consensus.methods import Made, Weighted
from stages.label.expert import Batch

if TYPE_CHECKING:
    from pipeline.storage import Storage

UNKNOWN = 255
CLASSES = ("segmentation", "category", "ordinal")


class Vote(Weighted):
    """Each pixel's class by weighted majority of the sources that say one; unknown where none does, or fewer than
    `quorum`.

    `quorum` is the share of the weight of all that vote at a pixel which the winner needs. `agreement` names a dense
    one-channel (or scalar) column that gets that share, 0..1: a weight for losses. A sample whose mean agreement, over
    what was voted on, is below `least` becomes null. With `smooth` (pixels) the votes of the surroundings count too.
    """

    types: ClassVar[tuple[str, ...]] = CLASSES
    quorum: float = Field(0.0, ge=0, le=1)
    agreement: str = ""
    least: float = Field(0.0, ge=0, le=1)
    smooth: float = Field(0.0, ge=0)

    def extra(self) -> tuple[str, ...]:
        return (self.agreement,) if self.agreement else ()

    def making(self, modalities: dict[str, Any], storage: Storage) -> Callable[[Batch], Made]:
        modality = modalities[modality_of(self.out[0])]
        soft = {c: modalities[modality_of(self.sure(c))].type == "soft" for c in self.sources if self.sure(c)}

        def make(batch: Batch) -> Made:
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
        known = batch[f"{sure}?"].reshape(-1, *(1,) * (labels.ndim - 1))
        if not soft:
            return labels, weight * np.where(known, np.maximum(batch[sure][..., 0], 0), 1), None
        hard = labels[..., None] == np.arange(modality.channels)
        votes = np.where(known[..., None], batch[sure] * (labels != modality.missing)[..., None], hard)
        return labels, weight, votes


def vote(
    maps: Sequence[np.ndarray],
    weights: Sequence[float | np.ndarray],
    classes: int,
    quorum: float = 0.0,
    smooth: float = 0.0,
    shares: Sequence[np.ndarray | None] = (),
    unknown: int = UNKNOWN,
) -> tuple[np.ndarray, np.ndarray]:
    """The winning class of each pixel, (N, ...) like the maps, and its share of the weight that voted, float32 in 0..1.

    `maps` are (N, H, W) uint8, or (N,) ints, with `unknown` for an abstention; each has a weight, of everywhere or of
    each pixel. Where `shares` has (N, ..., classes) for a map, its vote is split so. Where several classes have the
    same weight, the map listed first that chose one of them decides; where nobody votes the class is unknown and the
    share 0. With `smooth` the votes of the surroundings count too, by a Gaussian of so many pixels.
    """
    scores = np.zeros((classes, *maps[0].shape), np.float32)
    for i, (labels, weight) in enumerate(zip(maps, weights, strict=True)):
        split = shares[i] if shares else None
        for class_ in range(classes):
            scores[class_] += np.float32(weight) * ((labels == class_) if split is None else split[..., class_])
    voted = scores.sum(0) > 0
    if smooth:
        scores = _blurred(scores, smooth)
    best, total = scores.max(0), scores.sum(0)
    tied = scores >= best * (1 - 1e-6)  # sums of the same weights in another order are a tie
    winner = np.full(maps[0].shape, unknown, maps[0].dtype)
    for labels in maps:
        for class_ in range(classes):
            winner[(winner == unknown) & (labels == class_) & tied[class_]] = class_
    around = voted & (winner == unknown)  # what nobody here chose can win only by surroundings or second thoughts
    winner[around] = scores.argmax(0)[around]
    share = np.divide(best, total, out=np.zeros_like(best), where=voted)
    winner[~voted | (share < quorum - 1e-6)] = unknown
    return winner, share


def mean_share(share: np.ndarray) -> np.ndarray:
    """The mean of each sample's shares over the places where anybody voted, (N,); 0 where nobody did."""
    flat = share.reshape(len(share), -1).astype(np.float64)
    return flat.sum(1) / np.maximum((flat > 0).sum(1), 1)


def _blurred(scores: np.ndarray, sigma: float) -> np.ndarray:
    import cv2

    flat = scores.reshape(-1, *scores.shape[-2:])
    return np.stack([cv2.GaussianBlur(s, (0, 0), sigma) for s in flat]).reshape(scores.shape)
