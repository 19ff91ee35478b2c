"""ESPNet: semantic segmentation with an efficient spatial pyramid of dilated convolutions.

Mehta, Rastegari, Caspi, Shapiro, Hajishirzi, "ESPNet", ECCV 2018. An ESP block reduces its input to a fifth of the
output's channels, runs five dilated 3x3 convolutions (dilation 1, 2, 4, 8, 16) on the reduced map, sums them
hierarchically against gridding artefacts, and concatenates the sums. Encoder strides are 2, 4 and 8; the decoder
goes back up by transposed convolutions. Parameter names follow the published weights (`espnet_p_*_q_*.pth`).

`ESPNet` is the network as it was published, for experts; `EspTrunk` the same as a trunk, whose training starts from
published weights. Means and variances of its normalisation are those of the weights and do not move: they depend
neither on the batch nor on how many workers share it.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from hyperloom.stages.network.features import Features
from hyperloom.stages.network.processors import Scale
from hyperloom.stages.network.slopes import Slopes
from hyperloom.stages.network.visible import Visible

DILATIONS = (1, 2, 4, 8, 16)
EPS = 1e-3
MEAN = (72.392, 82.909, 73.158)
"""Of the published weights' pictures, blue, green, red, 0 to 255."""
STD = (45.319 * 255, 46.153 * 255, 44.915 * 255)
"""And what they were divided by: their deviations, and 255 after that."""


class FixedNorm(nn.Module):
    """Batch normalisation by means and variances that came with the weights; nothing of its batch goes in."""

    def __init__(self, channels: int):
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.ones(channels)), nn.Parameter(torch.zeros(channels))
        self.running_mean: Tensor
        self.running_var: Tensor
        self.register_buffer("running_mean", torch.zeros(channels))
        self.register_buffer("running_var", torch.ones(channels))

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias, eps=EPS)


class EspConv(nn.Module):
    """A convolution without bias, `same` padding for its dilation. While it trains on a CPU, one of single pixels is a
    product of matrices: as a convolution torch would turn the picture about for it, before and after."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int = 1, dilation: int = 1):
        super().__init__()
        padding = (kernel - 1) // 2 * dilation
        self.conv = nn.Conv2d(inputs, outputs, kernel, stride, padding, dilation, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        if self.training and x.is_cpu and self.conv.kernel_size == (1, 1) and self.conv.stride == (1, 1):
            return nn.functional.linear(x.permute(0, 2, 3, 1), self.conv.weight.flatten(1)).permute(0, 3, 1, 2)
        return self.conv(x)


class NormAct(nn.Module):
    """Batch normalisation and PReLU."""

    def __init__(self, channels: int):
        super().__init__()
        self.bn = FixedNorm(channels)
        self.act = Slopes(channels)

    def forward(self, x: Tensor) -> Tensor:
        return self.act(self.bn(x))


class ConvNormAct(NormAct):
    """A convolution, batch normalisation and PReLU."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int = 1):
        super().__init__(outputs)
        self.conv = EspConv(inputs, outputs, kernel, stride).conv

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(self.conv(x))


class Pyramid(nn.Module):
    """Reduce, five dilated convolutions, hierarchical sums, concatenation: `inputs` to `outputs` channels."""

    def __init__(self, inputs: int, outputs: int, kernel: int = 1, stride: int = 1):
        super().__init__()
        width = outputs // len(DILATIONS)
        first = outputs - (len(DILATIONS) - 1) * width
        self.c1 = EspConv(inputs, width, kernel, stride)
        for dilation in DILATIONS:
            setattr(self, f"d{dilation}", EspConv(width, first if dilation == 1 else width, 3, dilation=dilation))

    def sums(self, x: Tensor) -> Tensor:
        reduced = self.c1(x)
        parts = [getattr(self, f"d{dilation}")(reduced) for dilation in DILATIONS]
        for i in range(2, len(parts)):
            parts[i] = parts[i] + parts[i - 1]
        return torch.cat(parts, 1)


class Downsample(Pyramid):
    """A pyramid of stride 2, normalised and activated."""

    def __init__(self, inputs: int, outputs: int):
        super().__init__(inputs, outputs, kernel=3, stride=2)
        self.bn = FixedNorm(outputs)
        self.act = Slopes(outputs)

    def forward(self, x: Tensor) -> Tensor:
        return self.act(self.bn(self.sums(x)))


class EspBlock(Pyramid):
    """A pyramid of stride 1, residual where input and output have the same channels."""

    def __init__(self, inputs: int, outputs: int):
        super().__init__(inputs, outputs)
        self.residual = inputs == outputs
        self.bn = NormAct(outputs)

    def forward(self, x: Tensor) -> Tensor:
        y = self.sums(x)
        return self.bn(x + y if self.residual else y)


class EspEncoder(nn.Module):
    """Features at strides 2, 4 and 8; the image itself is fed in again at strides 2 and 4."""

    def __init__(self, classes: int, p: int, q: int):
        super().__init__()
        self.level1 = ConvNormAct(3, 16, 3, stride=2)
        self.shrink = nn.AvgPool2d(3, stride=2, padding=1)
        self.b1 = NormAct(16 + 3)
        self.level2_0 = Downsample(16 + 3, 64)
        self.level2 = nn.ModuleList(EspBlock(64, 64) for _ in range(p))
        self.b2 = NormAct(128 + 3)
        self.level3_0 = Downsample(128 + 3, 128)
        self.level3 = nn.ModuleList(EspBlock(128, 128) for _ in range(q))
        self.b3 = NormAct(256)
        self.classifier = EspConv(256, classes, 1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Features of 16, 128 + 3 and 256 channels at a half, a quarter and an eighth of the sides."""
        half, stride2 = self.shrink(x), self.level1(x)
        entry = deep = self.level2_0(self.b1(torch.cat([stride2, half], 1)))
        for block in self.level2:
            deep = block(deep)
        stride4 = self.b2(torch.cat([deep, entry, self.shrink(half)], 1))
        entry = deep = self.level3_0(stride4)
        for block in self.level3:
            deep = block(deep)
        return stride2, stride4, self.b3(torch.cat([entry, deep], 1))


class ESPNet(nn.Module):
    """Segmenter: (N, 3, H, W) float32 -> logits (N, classes, H, W); H and W are multiples of 8.

    `p` and `q` are the depths of the second and third level; 2 and 8 give 0.36 M parameters.
    """

    def __init__(self, classes: int = 20, p: int = 2, q: int = 8):
        super().__init__()
        self.encoder = EspEncoder(classes, p, q)
        self.level3_C = EspConv(128 + 3, classes, 1)
        self.br = FixedNorm(classes)
        self.conv = ConvNormAct(16 + classes, classes, 3)
        self.up_l3 = nn.Sequential(_double(classes))
        self.combine_l2_l3 = nn.Sequential(NormAct(2 * classes), EspBlock(2 * classes, classes))
        self.up_l2 = nn.Sequential(_double(classes), NormAct(classes))
        self.classifier = _double(classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.decoded(*self.encoder(x))

    def decoded(self, stride2: Tensor, stride4: Tensor, stride8: Tensor) -> Tensor:
        """Logits (N, classes, H, W) of what the encoder gives."""
        up = self.up_l3(self.br(self.encoder.classifier(stride8)))
        up = self.up_l2(self.combine_l2_l3(torch.cat([self.level3_C(stride4), up], 1)))
        return self.classifier(self.conv(torch.cat([up, stride2], 1)))


class Picture(nn.Module):
    """The fusion of a trunk that reads one picture: its standardised planes as they are, hidden ones zero."""

    def forward(self, planes: Sequence[Tensor], visible: Visible | None) -> Tensor:
        (picture,) = planes
        return picture if visible is None else picture * visible.sites(0, picture.shape[2:]).unsqueeze(1)


class EspTrunk(ESPNet):
    """(N, 3, H, W), red, green, blue, standardised by `scale` -> `Features`: planes are the published classes' logits,
    those of each of `groups` taken together, at a `fold`-th of the sides; what is pooled, and what heads may attend to,
    the encoder's end, of 256 channels."""

    def __init__(self, classes: int, p: int, q: int, groups: Sequence[Sequence[int]], scale: Scale, fold: int):
        super().__init__(classes, p, q)
        self.groups, self.fold = groups, fold
        self.places: Tensor
        self.register_buffer("places", torch.tensor([p for g in groups for p in g], dtype=torch.long), persistent=False)
        mean, std = (torch.tensor(v[::-1]).view(1, -1, 1, 1) for v in (scale.mean, scale.std))
        theirs = [torch.tensor(v).view(1, -1, 1, 1) for v in (MEAN, STD)]
        self.gain: Tensor
        self.offset: Tensor
        self.register_buffer("gain", std / theirs[1], persistent=False)
        self.register_buffer("offset", (mean - theirs[0]) / theirs[1], persistent=False)

    def forward(self, x: Tensor) -> Features:  # type: ignore[override]
        x = x.flip(1) * self.gain + self.offset
        if self.training and x.is_cpu:  # one order of memory from end to end: else many a step turns its picture about
            x = x.contiguous(memory_format=torch.channels_last)
        encoded = self.encoder(x)
        planes = nn.functional.avg_pool2d(self._together(self.decoded(*encoded)), self.fold)
        return Features(planes, encoded[2].mean((2, 3)), encoded[2].flatten(2).transpose(1, 2))

    def _together(self, logits: Tensor) -> Tensor:
        """The logit of being any class of a group, for each group."""
        if not self.groups:
            return logits
        # Taken apart once: a gradient for each group's own selection would be as large as all logits.
        parts = logits.index_select(1, self.places).split([len(g) for g in self.groups], 1)
        return torch.cat([part.logsumexp(1, keepdim=True) if part.shape[1] > 1 else part for part in parts], 1)


def _double(channels: int) -> nn.ConvTranspose2d:
    return nn.ConvTranspose2d(channels, channels, 2, stride=2, bias=False)
