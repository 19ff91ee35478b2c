"""Instances as maps, which networks read and learn: classes, background, centres and offsets (Cheng et al. 2020).

(N, K + 4, H, W): one for each class and for background, of which each pixel has one (of none, where it is unknown: in a
crowd); how near the centre of an instance is, 1 at its pixel; and how far the centre of the instance that a pixel is of
lies to the right and below, in shares of width and height. Where masks overlap, the smaller one is in front.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from hyperloom.stages.modality import packed

BLUR = 48
"""The standard deviation of a centre is the picture's shorter side divided by this, at least a pixel."""


class InstanceMaps(nn.Module):
    """From values (N, most, bytes) to maps; without parameters."""

    def __init__(self, modality: Any):
        super().__init__()
        self.classes, self.size = len(modality.classes), modality.sides_in_pixels

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        height, width = self.size
        masks, kinds = packed.masks_of(values, self.size), packed.kinds_of(values)
        areas = masks.flatten(2).sum(2)
        crowd = packed.crowds_of(values) & (kinds >= 0)
        y, x = torch.meshgrid(*(torch.arange(n, device=values.device).float() for n in self.size), indexing="ij")
        samples = torch.arange(len(values), device=values.device)
        order = torch.where(kinds >= 0, areas, -1).argsort(dim=1, descending=True, stable=True)
        kind = torch.full((len(values), height, width), self.classes, dtype=torch.int64, device=values.device)
        heat, offsets = values.new_zeros(kind.shape, dtype=torch.float32), torch.zeros(2, *kind.shape, device=x.device)
        blur = max(1.0, min(self.size) / BLUR)
        for j in range(int((kinds >= 0).sum(1).max()) if kinds.numel() else 0):
            at = order[:, j]
            mask, of = masks[samples, at], kinds[samples, at]
            number = mask.flatten(1).sum(1).clamp(min=1)[:, None, None]
            middle = [((mask * axis).flatten(1).sum(1)[:, None, None] / number).round() for axis in (x, y)]
            single = ((of >= 0) & ~crowd[samples, at])[:, None, None]
            square = (x - middle[0]) ** 2 + (y - middle[1]) ** 2
            heat = torch.where(single, torch.maximum(heat, torch.exp(-square / (2 * blur**2))), heat)
            kind = torch.where(mask, torch.where(single, of[:, None, None], -1), kind)
            offsets[0] = torch.where(mask & single, (middle[0] - x) / width, offsets[0])
            offsets[1] = torch.where(mask & single, (middle[1] - y) / height, offsets[1])
        shares = [(kind == c).float() for c in range(self.classes + 1)]
        return torch.stack([*shares, heat, offsets[0], offsets[1]], 1)
