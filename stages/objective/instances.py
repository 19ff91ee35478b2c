"""The objective of instances: classes by cross-entropy, centres by a focal loss that forgives places near a centre
(Zhou et al. 2019), offsets by absolute error where there is an instance (Cheng et al. 2020).

Centres and offsets are divided by how many there are in the sample, not by its pixels, since nearly all of these are
neither. Pixels of crowds teach nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from hyperloom.stages.objective.base import LEAST, Objective

if TYPE_CHECKING:
    import torch

    from hyperloom.stages.objective.base import PixelLoss


class InstancesLoss(Objective):
    """`centres` and `offsets` weigh these against the classes' cross-entropy."""

    revision: ClassVar[int] = 1
    fits: ClassVar[tuple[str, ...]] = ("instances",)
    centres: float = Field(0.2, gt=0)
    offsets: float = Field(5.0, gt=0)

    def build(self, class_counts: Sequence[float] | None) -> PixelLoss:
        def loss(prediction: torch.Tensor, target: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            count = prediction.shape[1] - 3
            shares = target[:, :count]
            known = shares.sum(1) > 0
            kind = -(shares * prediction[:, :count].log_softmax(1)).sum(1)
            things = shares[:, : count - 1].sum(1)
            miss = (prediction[:, count + 1 :] - target[:, count + 1 :]).abs().sum(1) * things
            pixels = things.shape[1] * things.shape[2]
            few = things.flatten(1).sum(1).clamp(min=1)[:, None, None]
            near = self._centres(prediction[:, count], target[:, count]) * pixels
            return kind + self.centres * near + self.offsets * miss * pixels / few, known

        return loss

    def _centres(self, logits: torch.Tensor, heat: torch.Tensor) -> torch.Tensor:
        """(N, H, W) focal loss, divided by the number of centres."""
        import torch

        chance = logits.sigmoid().clamp(LEAST, 1 - 1e-6)
        centre = heat >= 1
        hit = -((1 - chance) ** 2) * chance.log()
        false = -((1 - heat) ** 4) * chance**2 * (1 - chance).log()
        few = centre.flatten(1).sum(1).clamp(min=1)[:, None, None]
        return torch.where(centre, hit, false) / few
