"""Heads that find objects in a picture. See `stages.network.heads`."""

from __future__ import annotations

import torch
from torch import nn

from hyperloom.stages.network.features import Features


class BoxLayers(nn.Module):
    """Objects by their centres (Zhou, Wang & Krähenbühl 2019) on a grid of cells of 8 pixels: raw (N, K + 4, h, w) are
    a logit for each class and the distances from the cell's middle to the box's sides, in shares of the picture."""

    CELL = 8

    def __init__(self, planes: int, classes: int, most: int, size: tuple[int, int]):
        super().__init__()
        self.classes, self.most = classes, most
        self.grid = (max(1, size[0] // self.CELL), max(1, size[1] // self.CELL))
        self.mix = nn.Conv2d(planes, max(32, planes), 3, padding=1)
        self.out = nn.Conv2d(max(32, planes), classes + 4, 1)
        nn.init.constant_(self.out.bias[:classes], -2.0)  # most cells are no centre

    def forward(self, features: Features) -> torch.Tensor:
        assert features.planes is not None
        cells = averaged(features.planes, self.grid)
        raw = self.out(self.mix(cells).relu())
        return torch.cat([raw[:, : self.classes], nn.functional.softplus(raw[:, self.classes :])], 1)

    def finish(self, raw: torch.Tensor) -> torch.Tensor:
        """(N, most, 6): boxes by falling score; cells beyond the grid's number repeat nothing but NaN."""
        logits, sides = raw.split([self.classes, 4], 1)
        return self._rows(logits.sigmoid().amax(1), logits.argmax(1), sides)

    def maps(self, raw: torch.Tensor) -> torch.Tensor:
        """(N, h, w, K + 5), of which the mean over several networks is an answer too, as that of rows is not: each
        class's score, the sides by the best score, and that score. Who sees no object in a cell says little of its
        sides there."""
        logits, sides = raw.split([self.classes, 4], 1)
        best = logits.sigmoid().amax(1, keepdim=True)
        return torch.cat([logits.sigmoid(), sides * best, best], 1).permute(0, 2, 3, 1)

    def rows(self, maps: torch.Tensor) -> torch.Tensor:
        """What `finish` gives, of such maps."""
        scores, sides, best = maps.permute(0, 3, 1, 2).split([self.classes, 4, 1], 1)
        return self._rows(scores.amax(1), scores.argmax(1), sides / best.clamp(min=1e-9))

    def _rows(self, scores: torch.Tensor, kinds: torch.Tensor, sides: torch.Tensor) -> torch.Tensor:
        """Of each cell the score and the class (N, h, w), and the sides (N, 4, h, w)."""
        score, kind = scores.flatten(1), kinds.flatten(1)
        best, place = score.topk(min(self.most, score.shape[1]), 1)
        middle = cell_middles(*sides.shape[2:]).to(sides)
        left, top, right, low = sides.flatten(2).unbind(1)
        x, y = middle[:, 0], middle[:, 1]
        corners = torch.stack([x - left, y - top, x + right, y + low], 2).clamp(0, 1)
        cells = torch.cat([corners, kind.to(sides.dtype)[..., None]], 2)
        rows = torch.cat([cells.gather(1, place[..., None].expand(-1, -1, 5)), best[..., None]], 2)
        return nn.functional.pad(rows, (0, 0, 0, self.most - rows.shape[1]), value=float("nan"))


def averaged(planes: torch.Tensor, grid: tuple[int, int]) -> torch.Tensor:
    """(N, F, H, W) -> (N, F, *grid): the mean over each cell. ONNX pools only where cells share no pixels, so a graph
    that is being exported multiplies by shares instead."""
    if not torch.jit.is_tracing():
        return nn.functional.adaptive_avg_pool2d(planes, grid)
    down, across = (cell_shares(int(n), cells) for n, cells in zip(planes.shape[-2:], grid, strict=True))
    return down @ planes @ across.T


def cell_shares(length: int, cells: int) -> torch.Tensor:
    """(cells, length): what each pixel of an axis counts in each cell, as torch's adaptive pooling cuts them."""
    pixel, cell = torch.arange(length), torch.arange(cells)[:, None]
    inside = (pixel >= cell * length // cells) & (pixel < -(-(cell + 1) * length // cells))
    return inside / inside.sum(1, keepdim=True)


def cell_middles(height: int, width: int) -> torch.Tensor:
    """(height * width, 2): x and y of each cell's middle, in shares of the picture."""
    y, x = torch.meshgrid((torch.arange(height) + 0.5) / height, (torch.arange(width) + 0.5) / width, indexing="ij")
    return torch.stack([x.reshape(-1), y.reshape(-1)], 1)
