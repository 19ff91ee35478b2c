"""Encoders: raw columns, as the loader gives them, on the scale that a network reads and predicts.

Channels come second, whatever follows them: an image (N, H, W, 3) becomes (N, 3, H, W), a series (N, T, C) becomes
(N, C, T), a category (N,) one channel a class, (N, K). Numbers are standardised with the statistics of the shards;
numbers that are not there stay NaN. Ids of bytes, tags, nodes and boxes are left as they are: what reads them knows
them (`stages.network.stems`). Without parameters, so the same module reads targets (`target_reader`).
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

from hyperloom.stages.modality import (
    Audio,
    Boxes,
    Choice,
    Clip,
    Graph,
    Keypoints,
    Modality,
    Multilabel,
    Raster,
    Segmentation,
    Series,
    Soft,
    Tags,
    Text,
)
from hyperloom.stages.network.architecture import Input, Scale, Task

Reader = Callable[[torch.Tensor], torch.Tensor]


class Encoder(nn.Module):
    """One column (N, *shape) -> (N, channels, *sites) float32, or its ids."""

    def __init__(self, item: Input | Task):
        super().__init__()
        modality = self.modality = item.modality
        if item.scale.mean:
            sites = 2 if isinstance(modality, Raster) else int(isinstance(modality, Series | Audio))
            times = modality.frames if isinstance(modality, Clip) else 1
            mean, std = (
                torch.tensor(v).repeat(times).view(1, -1, *[1] * sites) for v in (item.scale.mean, item.scale.std)
            )
            self.register_buffer("mean", mean, persistent=False)
            self.register_buffer("factor", 1 / std, persistent=False)
        else:
            self.mean = self.factor = None
        classed = isinstance(modality, Segmentation | Choice)
        classes = torch.arange(modality.channels if classed else 0, dtype=torch.int64)
        if isinstance(modality, Segmentation):
            classes = classes.to(torch.uint8).view(1, -1, 1, 1)
        self.register_buffer("classes", classes, persistent=False)

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        modality = self.modality
        if isinstance(modality, Segmentation | Choice):
            return (values.unsqueeze(1) == self.classes).float()
        if isinstance(modality, Text | Tags | Graph | Boxes):
            return values
        if isinstance(modality, Multilabel):
            return torch.where(values > 1, 0.0, values.float() * 2 - 1)  # no, unknown, yes
        planes = self._moved(values).float()
        if isinstance(modality, Soft) and values.dtype == torch.uint8:
            return planes / 255
        return planes if self.mean is None else (planes - self.mean) * self.factor

    def _moved(self, values: torch.Tensor) -> torch.Tensor:
        """Channels second."""
        if isinstance(self.modality, Clip):
            return values.permute(0, 1, 4, 2, 3).flatten(1, 2)
        if isinstance(self.modality, Raster):
            return values.permute(0, 3, 1, 2)
        if isinstance(self.modality, Series | Keypoints):
            return values.transpose(1, 2)
        return values.unsqueeze(1) if isinstance(self.modality, Audio) else values


def target_reader(modality: Modality, task: Task) -> Reader:
    """What turns a column of `modality` into a target for the predictions of `task`: ids stay ids."""
    if isinstance(modality, Segmentation | Choice | Multilabel | Tags | Boxes):
        return nn.Identity()
    if isinstance(modality, Text):
        return _with_one_end
    if isinstance(modality, Graph):
        return lambda edges: adjacency(edges, modality.nodes)
    return Encoder(Task(task.name, modality, task.scale if task.regression else Scale()))


def _with_one_end(ids: torch.Tensor) -> torch.Tensor:
    """Bytes with their first padding, which a model must learn to end a text; -1 after it."""
    return ids.masked_fill((ids == 0).cumsum(1) > 1, -1)


def adjacency(edges: torch.Tensor, nodes: int) -> torch.Tensor:
    """(N, E, 2) pairs, -1 for padding -> (N, nodes, nodes) float32, 1 from the first of a pair to the second."""
    place = torch.where(edges[..., 0] >= 0, edges[..., 0] * nodes + edges[..., 1], nodes * nodes)
    count = edges.shape[0]  # len() would be a constant in an exported graph
    flat = torch.zeros(count, nodes * nodes + 1, device=edges.device).scatter(1, place, 1.0)
    return flat[:, :-1].view(-1, nodes, nodes)
