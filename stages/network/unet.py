"""The U-Net of SafeUAV (Marcu et al. 2018), as PHG-MAE (2025) uses it for all modalities at once.

Three levels of two 3x3 convolutions and a strided one go down with `width`, 2 and 4 times `width` filters; dilated
convolutions (the paper's: 1, 2, 4, 8, 16, 32) with 8 times `width` filters run one after another at the bottom and
their outputs are summed, which lets a small net see the whole frame; three transposed convolutions go up again over
skips. With 15 channels in and out, widths 6, 10, 16 and 32 give about 159k, 439k, 1.12M and 4.46M parameters.

Not activations are normalised but filters: each has mean 0 and a fixed deviation, times a gain that is learned (scaled
weight standardisation, Brock, De & Smith 2021), which trains as fast as batch normalisation does. Statistics over a
batch would jump with every mask that hides whole modalities and would tie results to how a batch is split over
workers; statistics over a picture would take from it what it means as a whole (how far, how bright, which classes), and
cost more time than the convolutions. A width that is a multiple of 8 runs about twice as fast on a CPU as
one that is not. The trunk knows nothing of modalities, heads or losses.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Literal, TypeAlias

import torch
from torch import nn

from hyperloom.stages.network.features import Features
from hyperloom.stages.network.unet_trunk import DILATIONS
from hyperloom.stages.network.visible import Visible

SLOPE = 0.1
"""Of what is below zero, where the activation is leaky."""
Rectifier: TypeAlias = Literal["relu", "leaky"]


class Planes(nn.Module):
    """The fusion: encoded inputs side by side, (N, channels, H, W); what is hidden is zero, which is its mean. Numbers
    of whole samples become planes of one value, squares of `folds[i]` pixels of input i planes of their own."""

    def __init__(self, size: tuple[int, int], folds: Sequence[int] = ()):
        super().__init__()
        self.size, self.folds = size, tuple(folds)

    def forward(self, planes: Sequence[torch.Tensor], visible: Visible | None) -> torch.Tensor:
        folds = self.folds or (1,) * len(planes)
        planes = [p if n == 1 else nn.functional.pixel_unshuffle(p, n) for p, n in zip(planes, folds, strict=True)]
        rasters = [p if p.ndim == 4 else p.flatten(1)[:, :, None, None].expand(-1, -1, *self.size) for p in planes]
        if visible is not None:
            rasters = [p * visible.sites(i, p.shape[2:]).unsqueeze(1) for i, p in enumerate(rasters)]
        return torch.cat(rasters, 1).contiguous(memory_format=torch.channels_last)


class UNet(nn.Module):
    """(N, channels, H, W) -> `Features` with planes of `width` channels, any H, W >= 8. What is pooled, and what heads
    may attend to, is the bottom of the net, of 8 times `width` channels."""

    def __init__(self, channels: int, width: int, dilations: Sequence[int] = DILATIONS, activation: Rectifier = "relu"):
        super().__init__()
        block = partial(_block, activation=activation)
        a, b, c, d = width, 2 * width, 4 * width, 8 * width
        levels = ((channels, a), (a, b), (b, c))
        self.enter = nn.ModuleList(block(i, o) for i, o in levels)
        self.refine = nn.ModuleList(block(o, o) for _, o in levels)
        self.shrink = nn.ModuleList(block(o, o, stride=2) for _, o in levels)
        self.dilated = nn.ModuleList(block(d if n else c, d, dilation=r) for n, r in enumerate(dilations))
        self.grow = nn.ModuleList(block(i, o, up=True) for i, o in ((d, c), (c, b), (a, a)))
        self.merge = nn.ModuleList(block(i, o) for i, o in ((2 * c, c), (2 * b, a), (2 * a, a)))

    def forward(self, x: torch.Tensor) -> Features:
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
        return Features(x, total.mean((2, 3)), total.flatten(2).transpose(1, 2))


class Conv(nn.Conv2d):
    """A convolution whose filters are standardised."""

    def __init__(self, channels: int, filters: int, stride: int, dilation: int):
        super().__init__(channels, filters, 3, stride=stride, padding=dilation, dilation=dilation)
        self.gain = nn.Parameter(torch.ones(filters))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        filters = standardised(self.weight, self.gain)
        return nn.functional.conv2d(x, filters, self.bias, self.stride, self.padding, self.dilation)


class Grow(nn.ConvTranspose2d):
    """A transposed convolution that doubles the resolution, whose filters are standardised."""

    def __init__(self, channels: int, filters: int):
        super().__init__(channels, filters, 3, stride=2, padding=1)
        self.gain = nn.Parameter(torch.ones(filters))

    def forward(self, x: torch.Tensor) -> torch.Tensor:  # type: ignore[override]
        filters = standardised(self.weight.transpose(0, 1), 2 * self.gain).transpose(0, 1)  # a pixel meets 1 tap in 4
        return nn.functional.conv_transpose2d(x, filters, self.bias, self.stride, self.padding)


def standardised(filters: torch.Tensor, gain: torch.Tensor) -> torch.Tensor:
    """`filters` (F, C, h, w), each with mean 0 and deviation gain * sqrt(2 / (C h w)), so that activations behind a
    ReLU keep their scale (He et al. 2015)."""
    flat = filters.flatten(1)
    even = nn.functional.layer_norm(flat, flat.shape[1:])
    return (even * (gain * (2 / flat.shape[1]) ** 0.5)[:, None]).view(filters.shape)


def _block(
    channels: int, filters: int, stride: int = 1, dilation: int = 1, up: bool = False, activation: Rectifier = "relu"
) -> nn.Sequential:
    conv = Grow(channels, filters) if up else Conv(channels, filters, stride, dilation)
    # Standardised filters have no scale of their own, but the smaller they start, the faster Adam turns them.
    nn.init.kaiming_normal_(conv.weight, mode="fan_out" if up else "fan_in", nonlinearity="relu")
    nn.init.zeros_(conv.bias)  # type: ignore[arg-type]
    end = nn.ReLU(inplace=True) if activation == "relu" else nn.LeakyReLU(SLOPE, inplace=True)
    return nn.Sequential(conv, end)
