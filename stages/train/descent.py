"""Descent: one update along the balanced gradient of a global batch, and the base of other methods of an update.

    class Sharpness(Descent):                       # SAM (Foret et al. 2021)
        def update(self, batch):
            first, _ = self.gradients(batch)
            ...                                     # climb
            losses, total = self.gradients(batch)
            ...                                     # back
            return self.descend(batch, losses, total)

`gradients` may be called several times an update: each starts anew, from the same random numbers. Gradients add up over
parts that fit memory and are averaged over ranks. Does not draw masks, log, store or change the rate.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from hyperloom.stages import sharding
from hyperloom.stages.train.criterion import Losses
from hyperloom.stages.train.graphed import GraphedGradients, recordable
from hyperloom.stages.train.job import seed_of
from hyperloom.stages.train.learners import Setup, Update, UpdateBatch


class Descent:
    """The default learner at work."""

    def __init__(self, setup: Setup):
        self.setup = setup
        self.parts = _parts(setup)
        self._graphed: GraphedGradients | None = None
        if type(self) is Descent and len(self.parts) == 1 and recordable(setup):
            self._graphed = GraphedGradients(setup, lambda batch: self._computed([batch]), self._seed)

    def update(self, batch: UpdateBatch) -> Update:
        """One step of the optimizer."""
        losses, total = self.gradients(batch)
        return self.descend(batch, losses, total)

    def state_dict(self) -> dict[str, Any]:
        """Nothing of its own."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Nothing of its own."""

    def gradients(self, batch: UpdateBatch) -> tuple[Losses, torch.Tensor]:
        """Leave the gradient of the global batch on what moves; this rank's share of the losses, and of their sum times
        the number of ranks. Losses are shares of a mean, and gradients are averaged over ranks, hence the scaling."""
        setup = self.setup
        setup.optimizer.zero_grad()
        if self._graphed is not None:
            return self._graphed(batch)
        pieces = [batch]
        if len(self.parts) > 1:
            pieces = [UpdateBatch(batch.number, _cut(batch.columns, p), batch.visible[p]) for p in self.parts]
        counts = self.counts(pieces) if len(pieces) > 1 else None
        self._seed(batch.number)
        return self._computed(pieces, counts)

    def _seed(self, number: int) -> None:
        seed = seed_of(self.setup.job.seed, "update", number, self.setup.world.rank)
        if self.setup.device.type == "cpu":
            torch.default_generator.manual_seed(seed)
        else:  # every device's generator; torch notes for each who asked, which takes a millisecond
            torch.manual_seed(seed)

    def _computed(
        self, pieces: Sequence[UpdateBatch], counts: torch.Tensor | None = None
    ) -> tuple[Losses, torch.Tensor]:
        setup, values, totals = self.setup, list[torch.Tensor](), list[torch.Tensor]()
        for piece in pieces:
            losses = self.losses(piece, counts)
            scaled = losses.values * setup.world.size
            totals.append(setup.balancer.backward(scaled, losses.present, setup.parameters))
            values.append(losses.values.detach())
        setup.balancer.settle(setup.parameters, setup.world)
        return Losses(_sum(values), losses.present), _sum(totals)

    def losses(self, batch: UpdateBatch, counts: torch.Tensor | None) -> Losses:
        """This rank's share of the losses of a part of its batch; `counts` are those of the whole global batch, None
        where the part is all. A method with `terms` of its own appends their share."""
        losses: Losses = self.setup.criterion(batch.columns, batch.visible, self.setup.world, counts)
        if self.setup.job.rhythm.compile == "graphs":  # whose memory the next part fills
            return Losses(losses.values.clone(), losses.present.clone())
        return losses

    def counts(self, parts: Sequence[UpdateBatch]) -> torch.Tensor:
        """What `losses` divides by, of the global batch in parts."""
        return self.setup.criterion.count([p.columns for p in parts], [p.visible for p in parts], self.setup.world)

    def descend(self, batch: UpdateBatch, losses: Losses, total: torch.Tensor) -> Update:
        """Step along the gradients that are there."""
        norm = sharding.clip(self.setup.parameters, self.setup.job.optimizer.clip)
        self.setup.optimizer.step()
        self.setup.optimizer.zero_grad()
        return Update(batch.number + 1, losses, total, norm)


def _sum(parts: Sequence[torch.Tensor]) -> torch.Tensor:
    return parts[0] if len(parts) == 1 else torch.stack(list(parts)).sum(0)


def _cut(columns: dict[str, torch.Tensor], part: slice) -> dict[str, torch.Tensor]:
    return {k: v[part] for k, v in columns.items()}


def _parts(setup: Setup) -> list[slice]:
    """How this rank's share of a batch is cut; every rank makes the same number of parts, none of them empty."""
    job, size = setup.job, setup.world.size
    micro = job.rhythm.micro or job.batch
    least, most = job.batch // size, -(-job.batch // size)
    count, mine = min(-(-most // micro), least), setup.world.slice(job.batch)
    share = mine.stop - mine.start
    return [slice(share * i // count, share * (i + 1) // count) for i in range(count)]
