"""Light: what of colours, sharpness and noise changes from one picture to the next, on tensors.

Torch side of `stages.augment.views.Colour`. Pictures are (n, ..., H, W, 3) in 0..255; every number is one a sample, so
the frames of a clip change alike (but for noise, which is another in each). What is drawn says on the host what of it
there is to do, so that no device is asked.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from hyperloom.stages.transfer import constant

LUMA = (0.299, 0.587, 0.114)
"""How bright each colour is (ITU-R BT.601)."""
TO_YIQ = ((0.299, 0.587, 0.114), (0.595716, -0.274453, -0.321263), (0.211456, -0.522591, 0.311135))
"""Brightness and two axes of colour, in whose plane hues turn."""


def drawn_light(
    *,
    saturation: torch.Tensor,
    gamma: torch.Tensor,
    hue: torch.Tensor,
    grey: torch.Tensor,
    blur: torch.Tensor,
    noise: torch.Tensor,
    seeds: Sequence[int],
) -> dict[str, Any]:
    """What `lit` does: factors of saturation, exponents `gamma`, turns of the `hue` in circles, which are `grey`,
    deviations of `blur` in pixels and of `noise` in shades, seeds of the noise; each (n,), on the host."""
    return {
        "gamma": gamma,
        "saturation": torch.where(grey, 0.0, saturation),
        "turn": _turn(hue) if bool(hue.any()) else None,
        "blur": blur,
        "reach": math.ceil(3 * float(blur.max())) if len(blur) else 0,
        "noise": noise,
        "seeds": tuple(seeds) if bool((noise > 0).any()) else (),
    }


def lit(pictures: torch.Tensor, drawn: Mapping[str, Any]) -> torch.Tensor:
    """The pictures in the light that was drawn, which lies where they do. Noise is drawn there too, by the seed of each
    sample: a GPU's is another than a CPU's."""
    axes = [1] * (pictures.ndim - 1)
    gamma, saturation, noise = (drawn[name].view(-1, *axes) for name in ("gamma", "saturation", "noise"))
    shown = (pictures / 255).clamp(0, 1) ** gamma * 255
    if drawn["turn"] is not None:
        shown = torch.einsum("n...c,ndc->n...d", shown, drawn["turn"])
    light = (shown * constant(LUMA, shown.dtype, shown.device)).sum(-1, keepdim=True)
    shown = light + (shown - light) * saturation
    shown = _blurred(shown, drawn["blur"], drawn["reach"])
    if drawn["seeds"]:
        device = pictures.device
        generators = (torch.Generator(device).manual_seed(seed) for seed in drawn["seeds"])
        each = [torch.randn(pictures.shape[1:], generator=g, device=device) for g in generators]
        shown = shown + torch.stack(each) * noise
    return shown.clamp(0, 255)


def _turn(hue: torch.Tensor) -> torch.Tensor:
    """(n, 3, 3) from colours to those of another hue and the same brightness."""
    to = torch.tensor(TO_YIQ, dtype=torch.float64)
    angle = hue.double() * 2 * math.pi
    turn = torch.zeros(len(angle), 3, 3, dtype=torch.float64)
    turn[:, 0, 0] = 1
    turn[:, 1, 1] = turn[:, 2, 2] = angle.cos()
    turn[:, 1, 2], turn[:, 2, 1] = -angle.sin(), angle.sin()
    return (to.inverse() @ turn @ to).float()


def _blurred(pictures: torch.Tensor, blur: torch.Tensor, reach: int) -> torch.Tensor:
    """Each by a Gaussian of its own deviation, `reach` pixels to each side."""
    reach = min(reach, min(pictures.shape[-3:-1]) - 1)
    if reach < 1:
        return pictures
    at = torch.arange(-reach, reach + 1, dtype=torch.float32, device=pictures.device)
    kernel = torch.exp(-(at**2) / (2 * blur.clamp(min=1e-3)[:, None] ** 2))
    kernel = kernel / kernel.sum(1, keepdim=True)
    planes = pictures.movedim(-1, 1).flatten(1, -3)  # (n, colours and frames, H, W)
    kernels = kernel.repeat_interleave(planes.shape[1], 0)[:, None]
    line = planes.flatten(0, 1)[None]
    line = torch.nn.functional.pad(line, [reach] * 4, mode="reflect")
    line = torch.nn.functional.conv2d(line, kernels[:, :, None], groups=line.shape[1])
    line = torch.nn.functional.conv2d(line, kernels[..., None], groups=line.shape[1])
    shape = (len(pictures), 3, *pictures.shape[1:-1])
    return line[0].view(shape).movedim(1, -1)
