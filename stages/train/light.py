"""Light: what of colours, sharpness and noise changes from one picture to the next, on tensors.

Torch side of `stages.train.augments.Colour`. Pictures are (n, ..., H, W, 3) in 0..255; every number is one a sample, so
the frames of a clip change alike (but for noise, which is another in each).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch

LUMA = (0.299, 0.587, 0.114)
"""How bright each colour is (ITU-R BT.601)."""
TO_YIQ = ((0.299, 0.587, 0.114), (0.595716, -0.274453, -0.321263), (0.211456, -0.522591, 0.311135))
"""Brightness and two axes of colour, in whose plane hues turn."""


@dataclass(frozen=True)
class Light:
    """Factors of saturation, exponents `gamma`, turns of the `hue` in circles, which are `grey`, deviations of `blur`
    in pixels and of `noise` in shades, seeds of the noise; each (n,)."""

    saturation: torch.Tensor
    gamma: torch.Tensor
    hue: torch.Tensor
    grey: torch.Tensor
    blur: torch.Tensor
    noise: torch.Tensor
    seeds: Sequence[int]

    def __call__(self, pictures: torch.Tensor) -> torch.Tensor:
        """The pictures in this light."""
        axes = [1] * (pictures.ndim - 1)
        gamma, saturation, grey, noise = (
            v.to(pictures.device).view(-1, *axes) for v in (self.gamma, self.saturation, self.grey, self.noise)
        )
        shown = (pictures / 255).clamp(0, 1) ** gamma * 255
        shown = self._turned(shown)
        light = (shown * shown.new_tensor(LUMA)).sum(-1, keepdim=True)
        shown = light + (shown - light) * torch.where(grey, 0.0, saturation)
        shown = self._blurred(shown)
        if bool((self.noise > 0).any()):
            each = (torch.randn(pictures.shape[1:], generator=torch.Generator().manual_seed(s)) for s in self.seeds)
            shown = shown + torch.stack(list(each)).to(shown.device) * noise if len(self.seeds) else shown
        return shown.clamp(0, 255)

    def _turned(self, pictures: torch.Tensor) -> torch.Tensor:
        """With other hues of the same brightness."""
        if not bool(self.hue.any()):
            return pictures
        to = torch.tensor(TO_YIQ, dtype=torch.float64)
        angle = self.hue.double() * 2 * math.pi
        turn = torch.zeros(len(angle), 3, 3, dtype=torch.float64)
        turn[:, 0, 0] = 1
        turn[:, 1, 1] = turn[:, 2, 2] = angle.cos()
        turn[:, 1, 2], turn[:, 2, 1] = -angle.sin(), angle.sin()
        whole = (to.inverse() @ turn @ to).float().to(pictures.device)
        return torch.einsum("n...c,ndc->n...d", pictures, whole)

    def _blurred(self, pictures: torch.Tensor) -> torch.Tensor:
        """Each by a Gaussian of its own deviation."""
        reach = math.ceil(3 * float(self.blur.max())) if len(self.blur) else 0
        reach = min(reach, min(pictures.shape[-3:-1]) - 1)
        if reach < 1:
            return pictures
        at = torch.arange(-reach, reach + 1, dtype=torch.float32)
        kernel = torch.exp(-(at**2) / (2 * self.blur.clamp(min=1e-3)[:, None] ** 2))
        kernel = (kernel / kernel.sum(1, keepdim=True)).to(pictures.device)
        planes = pictures.movedim(-1, 1).flatten(1, -3)  # (n, colours and frames, H, W)
        kernels = kernel.repeat_interleave(planes.shape[1], 0)[:, None]
        line = planes.flatten(0, 1)[None]
        line = torch.nn.functional.pad(line, [reach] * 4, mode="reflect")
        line = torch.nn.functional.conv2d(line, kernels[:, :, None], groups=line.shape[1])
        line = torch.nn.functional.conv2d(line, kernels[..., None], groups=line.shape[1])
        shape = (len(pictures), 3, *pictures.shape[1:-1])
        return line[0].view(shape).movedim(1, -1)
