"""Clipping: how much of the pictures an augmentation of light turns into plain black or white.

A shift of all shades (`brightness` of `colour`) leaves nothing of a frame at dusk, and no loss tells: the network is
taught the labels of pictures that nobody could label. So the first batches are looked at, before and after each
augmentation of light. Counts stay on the device until the last of these batches: no update waits for them.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch

from hyperloom.stages.modality import Modality
from hyperloom.stages.train.diagnosis import CLIPPED, CLIPS
from hyperloom.stages.world import World

LOOKED = 16
"""So many batches are looked at."""
PART = 0.25
"""A sample is clipped where more of its shades than this share came to an end of the range."""


class Clipping:
    """The samples of the first batches, and how many of them were clipped, by column of pictures."""

    def __init__(self, world: World):
        self.world = world
        self.counts: dict[str, torch.Tensor] = {}

    def look(
        self,
        update: int,
        columns: Mapping[str, Modality],
        before: Mapping[str, torch.Tensor],
        after: Mapping[str, torch.Tensor],
    ) -> None:
        """Count the samples of this rank's part of update `update`, (n, ..., H, W, 3) in 0..255 in both."""
        for column, modality in columns.items():
            if update >= LOOKED or not (modality.rgb or modality.times > 1) or after[column] is before[column]:
                continue
            inside = ((before[column] > 0) & (before[column] < 255)).flatten(1)
            ended = ((after[column] <= 0) | (after[column] >= 255)).flatten(1)
            many = inside.sum(1)
            clipped = (inside & ended).sum(1) > PART * many
            counts = torch.stack([(many > 0).sum(), clipped.sum()]).double()
            known = self.counts.get(column)
            self.counts[column] = counts if known is None else known + counts

    def share(self, update: int) -> dict[str, float]:
        """After the last batch that is looked at: the figure `clipped.COLUMN` of each column of which too many samples
        were clipped. All ranks call it together."""
        if update != LOOKED - 1:
            return {}
        sums = {column: counts.tolist() for column, counts in self.state_dict().items()}
        shares = {f"{CLIPPED}{column}": clipped / max(1, many) for column, (many, clipped) in sums.items()}
        return {name: share for name, share in shares.items() if share > CLIPS}

    def state_dict(self) -> dict[str, torch.Tensor]:
        """The counts of all ranks, which call it together."""
        return {column: self.world.sum(counts.clone()) for column, counts in self.counts.items()}

    def load_state_dict(self, state: Mapping[str, torch.Tensor]) -> None:
        """Go on from the counts of however many ranks: the first one has them."""
        kept = {column: counts.to(self.world.device) for column, counts in state.items()}
        self.counts = kept if self.world.rank == 0 else {c: torch.zeros_like(counts) for c, counts in kept.items()}
