"""Heads that tell instances apart. See `stages.network.heads`."""

from __future__ import annotations

import torch
from torch import nn

from hyperloom.stages.network.site_heads import DenseLayers


class InstanceLayers(DenseLayers):
    """Maps of K classes and background (logits), of centres (a logit) and offsets (shares of the sides): raw (N, K + 4,
    H, W)."""

    def __init__(self, planes: int, channels: int):
        super().__init__(planes, channels)
        with torch.no_grad():
            self.bias[channels - 3] = -2.0  # most pixels are no centre
            nn.init.zeros_(self.weight[channels - 2 :])
            self.bias[channels - 2 :] = 0.0

    def finish(self, raw: torch.Tensor) -> torch.Tensor:
        """(N, H, W, K + 4): probabilities of classes and background, and of a centre; offsets."""
        kinds = raw.shape[1] - 3
        parts = [raw[:, :kinds].softmax(1), raw[:, kinds : kinds + 1].sigmoid(), raw[:, kinds + 1 :].clamp(-1, 1)]
        return torch.cat(parts, 1).permute(0, 2, 3, 1)
