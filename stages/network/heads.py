"""Heads: from a trunk's features to the predictions of one task.

A head's `forward(features)` gives raw predictions with channels second, (N, C, *sites), as objectives take them: logits
of classes, standardised numbers. Its `finish(raw)` gives what people take, in the modality's layout, (N, *sites, C):
probabilities and numbers in their units. The modality names its head (`modality.head`, a name of
`stages.PLUGINS["head"]` or "module:Class").
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.nn.functional import normalize

from hyperloom.stages.modality import Audio, Boxes, Clip, Dense, Image, Keypoints, Multilabel, Segmentation, Soft
from hyperloom.stages.network.attention import Query
from hyperloom.stages.network.features import Features, Sizes
from hyperloom.stages.network.grids import grid_of, planes_of

if TYPE_CHECKING:
    from hyperloom.stages.network.architecture import Task


def in_units(task: Task, values: torch.Tensor) -> torch.Tensor:
    """Standardised numbers (..., C) in the task's units, within the modality's range: a regression may overshoot."""
    if task.scale.mean:
        values = values * values.new_tensor(task.scale.std) + values.new_tensor(task.scale.mean)
    limits = getattr(task.modality, "range", None)
    return values.clamp(*limits) if limits else values


class DenseHead(nn.Linear):
    """Every pixel: classes, numbers, directions or colours. Clips come frame by frame.

    A convolution of 1x1 as the matrix product that it is: on one thread torch's own takes up to 1.4 times as long."""

    def __init__(self, task: Task, sizes: Sizes, size: tuple[int, int]):
        super().__init__(sizes.planes, planes_of(task.modality))
        self.task = task

    def forward(self, features: Features) -> torch.Tensor:  # type: ignore[override]
        assert features.planes is not None
        return super().forward(features.planes.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)

    def finish(self, raw: torch.Tensor) -> torch.Tensor:
        modality = self.task.modality
        if isinstance(modality, Clip):
            values = raw.unflatten(1, (modality.frames, -1)).permute(0, 1, 3, 4, 2)
        else:
            values = raw.permute(0, 2, 3, 1)
        if isinstance(modality, Segmentation | Soft):
            return values.softmax(-1)
        if isinstance(modality, Dense) and modality.direction:
            return normalize(values, dim=-1)
        values = in_units(self.task, values)
        return values.clamp(0, 255) if isinstance(modality, Image | Clip) else values


class Global(nn.Linear):
    """Base of heads on what is pooled: (N, P) -> (N, outputs)."""

    def __init__(self, task: Task, sizes: Sizes, outputs: int):
        super().__init__(sizes.pooled, outputs)
        self.task = task

    def forward(self, features: Features) -> torch.Tensor:  # type: ignore[override]
        return super().forward(features.pooled)


class ClassifyHead(Global):
    """One class of a sample, or any number of them."""

    def __init__(self, task: Task, sizes: Sizes, size: tuple[int, int]):
        super().__init__(task, sizes, task.modality.channels)

    def finish(self, raw: torch.Tensor) -> torch.Tensor:
        return raw.sigmoid() if isinstance(self.task.modality, Multilabel) else raw.softmax(-1)


class OrdinalHead(Global):
    """Ordered levels by a cumulative link (McCullagh 1980): one number and learned thresholds in order; raw is
    (N, levels - 1), the logits of lying above each threshold."""

    def __init__(self, task: Task, sizes: Sizes, size: tuple[int, int]):
        super().__init__(task, sizes, 1)
        levels = task.modality.channels
        self.lowest = nn.Parameter(torch.tensor(-(levels - 2) / 2))
        self.steps = nn.Parameter(torch.full((levels - 2,), 0.5413))  # softplus of it is 1

    def forward(self, features: Features) -> torch.Tensor:  # type: ignore[override]
        rises = nn.functional.softplus(self.steps).cumsum(0)
        return super().forward(features) - torch.cat([self.lowest.view(1), self.lowest + rises])

    def finish(self, raw: torch.Tensor) -> torch.Tensor:
        return level_probabilities(raw)


def level_probabilities(above: torch.Tensor) -> torch.Tensor:
    """(N, levels) from the logits of lying above each threshold, (N, levels - 1), which fall."""
    beyond = nn.functional.pad(nn.functional.pad(above.sigmoid(), (1, 0), value=1.0), (0, 1), value=0.0)
    return beyond[:, :-1] - beyond[:, 1:]


class RegressHead(Global):
    """Numbers of a sample; keypoints as raw (N, 3, points): x, y and the logit of being visible."""

    def __init__(self, task: Task, sizes: Sizes, size: tuple[int, int]):
        super().__init__(task, sizes, planes_of(task.modality))

    def forward(self, features: Features) -> torch.Tensor:  # type: ignore[override]
        made = super().forward(features)
        return made.unflatten(1, (3, -1)) if isinstance(self.task.modality, Keypoints) else made

    def finish(self, raw: torch.Tensor) -> torch.Tensor:
        if isinstance(self.task.modality, Keypoints):
            return torch.cat([raw[:, :2].clamp(0, 1), raw[:, 2:].sigmoid()], 1).transpose(1, 2)
        return in_units(self.task, raw)


class EmbedHead(nn.Module):
    """A point in a space of directions, (N, length), by a projector of two layers."""

    def __init__(self, task: Task, sizes: Sizes, size: tuple[int, int]):
        super().__init__()
        hidden = max(sizes.pooled, 32)
        self.project = nn.Sequential(
            nn.Linear(sizes.pooled, hidden), nn.GELU(), nn.Linear(hidden, task.modality.channels)
        )

    def forward(self, features: Features) -> torch.Tensor:
        return self.project(features.pooled)

    def finish(self, raw: torch.Tensor) -> torch.Tensor:
        return raw


class TokensHead(nn.Module):
    """A class for each place of a sequence, all at once: bytes of a text, tags of words. Raw is (N, K, length)."""

    def __init__(self, task: Task, sizes: Sizes, size: tuple[int, int]):
        super().__init__()
        self.query = Query(task.modality.shape[:1], sizes.memory, sizes.memory)
        self.out = nn.Linear(sizes.memory, task.modality.channels)

    def forward(self, features: Features) -> torch.Tensor:
        return self.out(self.query(features.memory, features.padding)).transpose(1, 2)

    def finish(self, raw: torch.Tensor) -> torch.Tensor:
        return raw.softmax(1).transpose(1, 2)


class SeriesHead(nn.Module):
    """Numbers over time, raw (N, channels, steps): neighbouring steps come from one question to the memory."""

    def __init__(self, task: Task, sizes: Sizes, size: tuple[int, int]):
        super().__init__()
        self.task, self.steps = task, task.modality.shape[0]
        grid = grid_of(task.modality, 1)
        self.query = Query(grid, sizes.memory, sizes.memory)
        self.out = nn.Linear(sizes.memory, -(-self.steps // grid[0]) * task.modality.channels)

    def forward(self, features: Features) -> torch.Tensor:
        made = self.out(self.query(features.memory, features.padding))
        return made.unflatten(2, (self.task.modality.channels, -1)).transpose(1, 2).flatten(2)[..., : self.steps]

    def finish(self, raw: torch.Tensor) -> torch.Tensor:
        values = in_units(self.task, raw.transpose(1, 2))
        return values[..., 0].clamp(-1, 1) if isinstance(self.task.modality, Audio) else values


class PairHead(nn.Module):
    """Which nodes belong together: a bilinear score of each pair (Yang et al. 2015), raw (N, nodes, nodes)."""

    def __init__(self, task: Task, sizes: Sizes, size: tuple[int, int]):
        super().__init__()
        modality: Any = task.modality
        self.query = Query((modality.nodes,), sizes.memory, sizes.memory)
        self.ends = nn.Linear(sizes.memory, 2 * sizes.memory)
        self.bias = nn.Parameter(torch.zeros(()))

    def forward(self, features: Features) -> torch.Tensor:
        first, second = self.ends(self.query(features.memory, features.padding)).chunk(2, -1)
        return first @ second.transpose(1, 2) / first.shape[-1] ** 0.5 + self.bias

    def finish(self, raw: torch.Tensor) -> torch.Tensor:
        return raw.sigmoid()


class BoxesHead(nn.Module):
    """Objects by their centres (Zhou, Wang & Krähenbühl 2019) on a grid of cells of 8 pixels: raw (N, K + 4, h, w) are
    a logit for each class and the distances from the cell's middle to the box's sides, in shares of the picture."""

    CELL = 8

    def __init__(self, task: Task, sizes: Sizes, size: tuple[int, int]):
        super().__init__()
        modality: Any = task.modality
        self.modality: Boxes = modality
        self.grid = (max(1, size[0] // self.CELL), max(1, size[1] // self.CELL))
        self.mix = nn.Conv2d(sizes.planes, max(32, sizes.planes), 3, padding=1)
        self.out = nn.Conv2d(max(32, sizes.planes), len(modality.classes) + 4, 1)
        nn.init.constant_(self.out.bias[: len(modality.classes)], -2.0)  # most cells are no centre

    def forward(self, features: Features) -> torch.Tensor:
        assert features.planes is not None
        cells = averaged(features.planes, self.grid)
        raw = self.out(self.mix(cells).relu())
        count = len(self.modality.classes)
        return torch.cat([raw[:, :count], nn.functional.softplus(raw[:, count:])], 1)

    def finish(self, raw: torch.Tensor) -> torch.Tensor:
        """(N, most, 6): boxes by falling score; cells beyond the grid's number repeat nothing but NaN."""
        logits, sides = raw.split([len(self.modality.classes), 4], 1)
        score, kind = logits.sigmoid().amax(1).flatten(1), logits.argmax(1).flatten(1)
        best, place = score.topk(min(self.modality.most, score.shape[1]), 1)
        middle = cell_middles(raw.shape[2], raw.shape[3]).to(raw)
        left, top, right, low = sides.flatten(2).unbind(1)
        x, y = middle[:, 0], middle[:, 1]
        corners = torch.stack([x - left, y - top, x + right, y + low], 2).clamp(0, 1)
        cells = torch.cat([corners, kind.to(raw.dtype)[..., None]], 2)
        found = torch.cat([cells.gather(1, place[..., None].expand(-1, -1, 5)), best[..., None]], 2)
        return nn.functional.pad(found, (0, 0, 0, self.modality.most - found.shape[1]), value=float("nan"))


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
