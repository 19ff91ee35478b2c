"""Networks of the GPU benchmark: DeepLabV3-ResNet50 (Chen et al. 2017; He et al. 2016) with random weights, and a
network that costs nothing, whose answer is a map of scores that it was given."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn.functional import interpolate

CLASSES = 11


def _norm_act(inside: int, out: int, kernel: int = 1, stride: int = 1, dilation: int = 1) -> nn.Sequential:
    around = dilation * (kernel // 2)
    conv = nn.Conv2d(inside, out, kernel, stride, around, dilation, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(out), nn.ReLU(inplace=True))


class Bottleneck(nn.Module):
    """1x1, 3x3 and 1x1 convolutions with a shortcut."""

    def __init__(self, inside: int, width: int, stride: int = 1, dilation: int = 1):
        super().__init__()
        self.inner = nn.Sequential(_norm_act(inside, width), _norm_act(width, width, 3, stride, dilation))
        self.outer = nn.Sequential(nn.Conv2d(width, 4 * width, 1, bias=False), nn.BatchNorm2d(4 * width))
        self.short: nn.Module = nn.Identity()
        if inside != 4 * width or stride != 1:
            self.short = nn.Sequential(nn.Conv2d(inside, 4 * width, 1, stride, bias=False), nn.BatchNorm2d(4 * width))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.relu(self.outer(self.inner(x)) + self.short(x))


class DeepLab(nn.Module):
    """(N, 3, H, W) -> scores (N, classes, H, W). `width` 64 is ResNet50, whose last two stages keep an eighth of the
    resolution by dilation."""

    def __init__(self, classes: int = CLASSES, width: int = 64, depths: tuple[int, ...] = (3, 4, 6, 3)):
        super().__init__()
        stem = [_norm_act(3, width, 7, 2), nn.MaxPool2d(3, 2, 1)]
        inside, stages = width, list[nn.Module]()
        for i, (depth, stride, dilation) in enumerate(zip(depths, (1, 2, 1, 1), (1, 1, 2, 4), strict=True)):
            for block in range(depth):
                stages.append(Bottleneck(inside, width * 2**i, stride if block == 0 else 1, dilation))
                inside = 4 * width * 2**i
        self.backbone = nn.Sequential(*stem, *stages)
        head = 4 * width
        self.branches = nn.ModuleList(
            [_norm_act(inside, head), *(_norm_act(inside, head, 3, dilation=d) for d in (12, 24, 36))]
        )
        self.whole = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(inside, head, 1), nn.ReLU())
        self.project = nn.Sequential(_norm_act(5 * head, head), _norm_act(head, head, 3), nn.Conv2d(head, classes, 1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        size = x.shape[-2:]
        seen = self.backbone(x)
        parts = [branch(seen) for branch in self.branches]
        parts.append(self.whole(seen).expand(-1, -1, seen.shape[2], seen.shape[3]))
        return interpolate(self.project(torch.cat(parts, 1)), size=size, mode="bilinear", align_corners=False)


class Free(nn.Module):
    """Whatever it sees, the scores that it holds, (classes, height, width)."""

    def __init__(self, height: int, width: int, classes: int = CLASSES):
        super().__init__()
        self.register_buffer("scores", torch.zeros(classes, height, width))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.scores.expand(len(x), -1, -1, -1)
