"""PiDiNet: edge detection with pixel-difference convolutions.

Su, Liu, Yu, Hu, Liao, Tian, Pietikainen, Liu, "Pixel Difference Networks for Efficient Edge Detection", ICCV 2021.
A pixel-difference convolution weighs differences of neighbouring pixels instead of pixels. That is linear in the
pixels, so each kernel folds into the kernel of a plain convolution when the weights are loaded (`fold`), and the
network here has plain convolutions only. The published variants cycle through central, angular, radial and plain.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional

CYCLE = ("central", "angular", "radial", "plain")
DEPTHS = (3, 4, 4, 4)
CLOCKWISE = (3, 0, 1, 6, 4, 2, 7, 8, 5)
"""Angular differences weigh each pixel of the ring minus the next one clockwise, so the plain kernel's tap is that of
the weights minus their tap before it, which is listed here for each of the nine."""
OUTER = (0, 2, 4, 10, 14, 20, 22, 24)
INNER = (6, 7, 8, 11, 13, 16, 17, 18)
"""Taps of a 5x5 kernel on the outer and the inner ring, paired along the rays of the radial difference. The published
kernels keep the eight weights of the rays in taps 1 to 8 and leave tap 0 unused."""


def fold(kind: str, weight: Tensor) -> Tensor:
    """The plain kernel of a pixel-difference kernel (O, I, 3, 3): (O, I, 3, 3), or (O, I, 5, 5) for `radial`."""
    taps = weight.flatten(2)
    if kind == "central":
        taps = taps.clone()
        taps[..., 4] -= weight.sum((2, 3))
    elif kind == "angular":
        taps = taps - taps[..., list(CLOCKWISE)]
    elif kind == "radial":
        wide = taps.new_zeros(*taps.shape[:2], 25)
        wide[..., list(OUTER)] = taps[..., 1:]
        wide[..., list(INNER)] = -taps[..., 1:]
        return wide.unflatten(2, (5, 5))
    return taps.unflatten(2, (3, 3))


class PdcBlock(nn.Module):
    """A depthwise (folded) convolution, ReLU, a 1x1 convolution, and a residual; halves the map first if `halve`."""

    def __init__(self, kind: str, inputs: int, outputs: int, halve: bool):
        super().__init__()
        size = 5 if kind == "radial" else 3
        self.halve = halve
        if halve:
            self.shortcut = nn.Conv2d(inputs, outputs, 1)
        self.conv1 = nn.Conv2d(inputs, inputs, size, padding=size // 2, groups=inputs, bias=False)
        self.conv2 = nn.Conv2d(inputs, outputs, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        if self.halve:
            x = functional.max_pool2d(x, 2)
        y = self.conv2(functional.relu(self.conv1(x)))
        return y + (self.shortcut(x) if self.halve else x)


class Dilations(nn.Module):
    """Compact dilation module: four dilated convolutions (5, 7, 9, 11) on a reduced map, summed."""

    def __init__(self, inputs: int, width: int):
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, width, 1)
        for i, d in enumerate((5, 7, 9, 11), start=1):
            setattr(self, f"conv2_{i}", nn.Conv2d(width, width, 3, padding=d, dilation=d, bias=False))

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv1(functional.relu(x))
        return self.conv2_1(x) + self.conv2_2(x) + self.conv2_3(x) + self.conv2_4(x)


class Attention(nn.Module):
    """Compact spatial attention: one sigmoid weight a pixel."""

    def __init__(self, channels: int):
        super().__init__()
        self.conv1 = nn.Conv2d(channels, 4, 1)
        self.conv2 = nn.Conv2d(4, 1, 3, padding=1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.sigmoid(self.conv2(self.conv1(functional.relu(x))))


class Reduce(nn.Module):
    """One edge map from a stage's features."""

    def __init__(self, channels: int):
        super().__init__()
        self.conv = nn.Conv2d(channels, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x)


class PiDiNet(nn.Module):
    """Edge detector: (N, 3, H, W) ImageNet-normalised RGB -> edge probability (N, 1, H, W).

    `width` is the channels of the first stage (tiny: 20) and `dilation` those of the side branches (tiny: 8).
    """

    def __init__(self, width: int = 20, dilation: int = 8):
        super().__init__()
        widths = (width, 2 * width, 4 * width, 4 * width)
        self.init_block = nn.Conv2d(3, width, 3, padding=1, bias=False)
        self.kinds = {"init_block": CYCLE[0]}
        channels, layer = width, 1
        for stage, (depth, outputs) in enumerate(zip(DEPTHS, widths), start=1):
            for i in range(1, depth + 1):
                kind = CYCLE[layer % len(CYCLE)]
                self.add_module(f"block{stage}_{i}", PdcBlock(kind, channels, outputs, halve=stage > 1 and i == 1))
                self.kinds[f"block{stage}_{i}.conv1"] = kind
                channels, layer = outputs, layer + 1
        self.dilations = nn.ModuleList(Dilations(c, dilation) for c in widths)
        self.attentions = nn.ModuleList(Attention(dilation) for _ in widths)
        self.conv_reduces = nn.ModuleList(Reduce(dilation) for _ in widths)
        self.classifier = nn.Conv2d(len(widths), 1, 1)

    def load_state_dict(self, state_dict: Mapping[str, Tensor], strict: bool = True, assign: bool = False):  # type: ignore[no-untyped-def,override]
        """Load published weights: pixel-difference kernels are folded on the way in."""
        folded = dict(state_dict)
        for layer, kind in self.kinds.items():
            key = f"{layer}.weight"
            if key in folded:
                folded[key] = fold(kind, folded[key])
        return super().load_state_dict(folded, strict=strict, assign=assign)

    def forward(self, x: Tensor) -> Tensor:
        size, maps = x.shape[-2:], []
        x = self.init_block(x)
        for stage, depth in enumerate(DEPTHS, start=1):
            for i in range(1, depth + 1):
                x = self.get_submodule(f"block{stage}_{i}")(x)
            side = self.conv_reduces[stage - 1](self.attentions[stage - 1](self.dilations[stage - 1](x)))
            maps.append(functional.interpolate(side, size=size, mode="bilinear", align_corners=False))
        return torch.sigmoid(self.classifier(torch.cat(maps, 1)))
