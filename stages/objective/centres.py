"""The objective of boxes: each object is taught to the cell in which its centre lies (Zhou, Wang & Krähenbühl 2019).

Classes by a focal cross-entropy over all cells (Lin et al. 2017), so that the many empty ones do not drown the few
centres; the box's sides by absolute error at centres alone. Where two centres share a cell the later row wins.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from hyperloom.stages.objective.base import Objective

if TYPE_CHECKING:
    import torch

    from hyperloom.stages.objective.base import PixelLoss


class Centres(Objective):
    """`sides` weighs the sides' error, in shares of the picture, against the classes' loss."""

    revision: ClassVar[int] = 1
    fits: ClassVar[tuple[str, ...]] = ("boxes",)
    sides: float = Field(5.0, gt=0)
    gamma: float = Field(2.0, ge=0)

    def build(self, class_counts: Sequence[float] | None) -> PixelLoss:
        from torch.nn.functional import binary_cross_entropy_with_logits

        def cells(prediction: torch.Tensor, target: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            classes = prediction.shape[1] - 4
            truth, sides, centre = painted(target, classes, prediction.shape[2], prediction.shape[3])
            taught = (centre > 0) | ~crowded(target, prediction.shape[2], prediction.shape[3])
            logits = prediction[:, :classes]
            wrong = (logits.sigmoid() - truth).abs() ** self.gamma
            kind = (wrong * binary_cross_entropy_with_logits(logits, truth, reduction="none")).sum(1)
            error = (prediction[:, classes:] - sides).abs().sum(1) * centre
            few = centre.flatten(1).sum(1).clamp(min=1)[:, None, None]  # a sample counts as much as it has objects
            cells = centre.shape[1] * centre.shape[2]
            return (kind + self.sides * error) * cells / few, taught

        return cells


def painted(
    boxes: torch.Tensor, classes: int, height: int, width: int
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """From boxes (N, most, 6), NaN where unused: which class has a centre in each cell (N, classes, h, w), how far its
    left, top, right and lower side are from the cell's middle (N, 4, h, w), and where a centre is (N, h, w)."""
    import torch

    used = boxes.isfinite().all(2) & (boxes[..., 5] > 0)
    x0, y0, x1, y1, kind, _ = boxes.nan_to_num().unbind(2)
    column = ((x0 + x1) / 2 * width).long().clamp(0, width - 1)
    row = ((y0 + y1) / 2 * height).long().clamp(0, height - 1)
    x, y = (column + 0.5) / width, (row + 0.5) / height
    distances = torch.stack([x - x0, y - y0, x1 - x, y1 - y], 2)
    cell = torch.where(used, row * width + column, height * width)  # unused ones into a cell that is cut off
    sample = torch.arange(len(boxes), device=boxes.device)[:, None].expand_as(cell)
    truth, sides, centre = (boxes.new_zeros(len(boxes), n, height * width + 1) for n in (classes, 4, 1))
    truth[sample, torch.where(used, kind, 0).long(), cell] = 1
    centre[sample, 0, cell] = 1
    for side in range(4):
        sides[sample, side, cell] = distances[..., side]
    cut = (values[..., :-1].unflatten(2, (height, width)) for values in (truth, sides, centre))
    return next(cut), next(cut), next(cut)[:, 0]


def crowded(boxes: torch.Tensor, height: int, width: int) -> torch.Tensor:
    """(N, h, w) bool: the cells whose middle lies in a crowd, a box of score 0."""
    import torch

    x, y = ((torch.arange(n, dtype=boxes.dtype, device=boxes.device) + 0.5) / n for n in (width, height))
    x0, y0, x1, y1, _, score = boxes.unbind(2)
    across = (x >= x0[..., None]) & (x <= x1[..., None]) & (score == 0)[..., None]
    down = (y >= y0[..., None]) & (y <= y1[..., None])
    return (down[..., :, None] & across[..., None, :]).any(1)
