"""The U-Net of SafeUAV (Marcu et al. 2018), as PHG-MAE (2025) uses it for all modalities at once.

Three levels of two 3x3 convolutions and a strided one go down with `width`, 2 and 4 times `width` filters; six dilated
convolutions (1, 2, 4, 8, 16, 32) with 8 times `width` filters run one after another at the bottom and their outputs are
summed, which lets a small net see the whole frame; three transposed convolutions go up again over skips. With 15
channels in and out, widths 6, 10, 16 and 32 give about 159k, 439k, 1.12M and 4.46M parameters.

There is no normalisation of activations; the weights start as He et al. (2015) give them, which keeps their scale.
Statistics over a batch would jump with every mask that hides whole modalities and would tie results to how a batch is
split over workers; statistics over a picture would take from it what it means as a whole (how far, how bright, which
classes), and cost more time than the convolutions. A width that is a multiple of 8 runs about twice as fast on a CPU as
one that is not. The trunk knows nothing of modalities, heads or losses.
"""

from __future__ import annotations

import torch
from torch import nn

DILATIONS = (1, 2, 4, 8, 16, 32)


class UNet(nn.Module):
    """(N, channels, H, W) -> (N, width, H, W), any H, W >= 8."""

    def __init__(self, channels: int, width: int):
        super().__init__()
        a, b, c, d = width, 2 * width, 4 * width, 8 * width
        levels = ((channels, a), (a, b), (b, c))
        self.enter = nn.ModuleList(_block(i, o) for i, o in levels)
        self.refine = nn.ModuleList(_block(o, o) for _, o in levels)
        self.shrink = nn.ModuleList(_block(o, o, stride=2) for _, o in levels)
        self.dilated = nn.ModuleList(_block(d if n else c, d, dilation=r) for n, r in enumerate(DILATIONS))
        self.grow = nn.ModuleList(_block(i, o, up=True) for i, o in ((d, c), (c, b), (a, a)))
        self.merge = nn.ModuleList(_block(i, o) for i, o in ((2 * c, c), (2 * b, a), (2 * a, a)))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        skips = []
        for enter, refine, shrink in zip(self.enter, self.refine, self.shrink, strict=True):
            skips.append(enter(x))
            x = shrink(refine(skips[-1]))
        x = self.dilated[0](x)
        total = x
        for dilated in self.dilated[1:]:
            x = dilated(x)
            total = total + x
        x = total
        for grow, merge, skip in zip(self.grow, self.merge, reversed(skips), strict=True):
            x = grow(x)
            missing = (0, skip.shape[-1] - x.shape[-1], 0, skip.shape[-2] - x.shape[-2])
            x = merge(torch.cat([nn.functional.pad(x, missing), skip], 1))
        return x


def _block(channels: int, filters: int, stride: int = 1, dilation: int = 1, up: bool = False) -> nn.Sequential:
    conv: nn.Module
    if up:
        conv = nn.ConvTranspose2d(channels, filters, 3, stride=2, padding=1)
    else:
        conv = nn.Conv2d(channels, filters, 3, stride=stride, padding=dilation, dilation=dilation)
    nn.init.kaiming_normal_(conv.weight, mode="fan_out" if up else "fan_in", nonlinearity="relu")
    nn.init.zeros_(conv.bias)  # type: ignore[arg-type]
    return nn.Sequential(conv, nn.ReLU(inplace=True))
