"""Networks for small devices: inverted residuals with a light decoder, and the same with attention at the bottom.

Inverted residuals (MobileNetV2, Sandler et al. 2018) widen pointwise, look around with one 3x3 filter a channel and
narrow again, so most of the work is 1x1 convolutions; three of them bring a picture to a sixteenth of its sides, where
several more run with dilations, or, in the hybrid, blocks of attention over all places (after MobileViT, Mehta &
Rastegari 2022). The decoder goes up by repeating pixels: at each scale a pointwise convolution of the encoder's
features is added and one inverted residual without widening smooths the sum. At full resolution there is a single small
convolution of the inputs, which keeps edges sharp and costs little; U-Nets spend most of their time there.

As in the U-Net filters are standardised instead of activations, but for those of a single channel, which have to be
able to average. Activations are ReLU and pixels are repeated, which every device and int8 runtime has.
"""

from __future__ import annotations

import torch
from torch import nn

from hyperloom.stages.network.attention import Block, positions
from hyperloom.stages.network.features import Features
from hyperloom.stages.network.unet import standardised

SCALES = (1, 2, 3, 4, 6)
"""Channels at full, half, ... and a sixteenth of the sides, in widths."""
DILATIONS = (1, 2, 4)
"""Of the residuals at the bottom."""


class Mobile(nn.Module):
    """(N, channels, H, W) -> `Features` with planes of `width` channels, any H, W >= 16. What is pooled, and what heads
    may attend to, is the bottom of the net, of 6 times `width` channels. `repeats` residuals are at each scale on the
    way down, of the first `fused` scales without depthwise filters. `blocks` of attention take the place of the dilated
    residuals where there are any; they know places on the grid of `size`."""

    def __init__(
        self,
        channels: int,
        width: int,
        expansion: int,
        blocks: int,
        size: tuple[int, int],
        repeats: int = 2,
        fused: int = 0,
    ):
        super().__init__()
        full, half, quarter, eighth, bottom = (width * s for s in SCALES)
        self.edges = nn.Sequential(Pointwise(channels, full, 3), nn.ReLU(inplace=True))
        self.enter = nn.Sequential(Pointwise(channels, half, 3, stride=2), nn.ReLU(inplace=True))
        self.shrink = nn.ModuleList(
            nn.Sequential(
                Inverted(i, o, expansion, stride=2, fused=n < fused),
                *(Inverted(o, o, expansion, fused=n < fused) for _ in range(repeats - 1)),
            )
            for n, (i, o) in enumerate(((half, quarter), (quarter, eighth), (eighth, bottom)))
        )
        self.deep = nn.ModuleList(Inverted(bottom, bottom, expansion, dilation=d) for d in DILATIONS if not blocks)
        self.attend = nn.ModuleList(Block(bottom, ratio=2.0) for _ in range(blocks))
        if blocks:
            grid = tuple(-(-side // 16) for side in size)
            self.register_buffer("places", positions(grid, bottom), persistent=False)
        pairs = ((bottom, eighth), (eighth, quarter), (quarter, half), (half, full))
        self.grow = nn.ModuleList(Pointwise(i, o) for i, o in pairs)
        self.skip = nn.ModuleList(Pointwise(o, o) for _, o in pairs)
        self.smooth = nn.ModuleList(Inverted(o, o, 1) for _, o in pairs)

    def forward(self, x: torch.Tensor) -> Features:
        skips = [self.edges(x), self.enter(x)]
        for shrink in self.shrink:
            skips.append(shrink(skips[-1]))
        bottom = skips.pop()
        for deep in self.deep:
            bottom = deep(bottom)
        if len(self.attend):
            tokens = bottom.flatten(2).transpose(1, 2) + self.places
            for block in self.attend:
                tokens = block(tokens)
            bottom = bottom + tokens.transpose(1, 2).reshape(bottom.shape)
        x = bottom
        for grow, skip, smooth, beside in zip(self.grow, self.skip, self.smooth, reversed(skips), strict=True):
            up = nn.functional.interpolate(grow(x), size=beside.shape[-2:], mode="nearest")
            x = smooth(torch.relu(up + skip(beside)))
        return Features(x, torch.relu(bottom).mean((2, 3)), bottom.flatten(2).transpose(1, 2))


class Inverted(nn.Module):
    """Pointwise to `expansion` times the channels, one filter a channel, pointwise to `filters`; added to what came in
    where the shapes are the same. `fused`: one full 3x3 convolution widens and looks around (Tan & Le 2021)."""

    def __init__(
        self, channels: int, filters: int, expansion: int, stride: int = 1, dilation: int = 1, fused: bool = False
    ):
        super().__init__()
        wide = channels * expansion
        if fused:
            self.widen: nn.Module = Pointwise(channels, wide, 3, stride=stride)
            self.around: nn.Module = nn.Identity()
        else:
            pointwise = expansion > 1
            self.widen = nn.Sequential(Pointwise(channels, wide), nn.ReLU(inplace=True)) if pointwise else nn.Identity()
            around = nn.Conv2d(wide, wide, 3, stride=stride, padding=dilation, dilation=dilation, groups=wide)
            nn.init.kaiming_normal_(around.weight, mode="fan_out", nonlinearity="relu")
            nn.init.zeros_(around.bias)  # type: ignore[arg-type]
            self.around = around
        self.narrow = Pointwise(wide, filters)
        self.residual = stride == 1 and channels == filters
        if self.residual:
            nn.init.constant_(self.narrow.gain, 0.3)  # sums of many residuals keep their scale

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.narrow(torch.relu(self.around(self.widen(x))))
        return x + y if self.residual else y


class Pointwise(nn.Conv2d):
    """A convolution over all channels, 1x1 unless it is given a side, whose filters are standardised."""

    def __init__(self, channels: int, filters: int, side: int = 1, stride: int = 1):
        super().__init__(channels, filters, side, stride=stride, padding=side // 2)
        self.gain = nn.Parameter(torch.ones(filters))
        nn.init.kaiming_normal_(self.weight, mode="fan_in", nonlinearity="relu")
        nn.init.zeros_(self.bias)  # type: ignore[arg-type]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return nn.functional.conv2d(x, standardised(self.weight, self.gain), self.bias, self.stride, self.padding)
