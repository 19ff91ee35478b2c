"""Trunks: the part of the network that all tasks share, as a recipe names it.

A trunk maps (N, channels, H, W) to (N, features, H, W); encoders before it and heads after it know the modalities. Its
`width` is the one number by which its size grows, so `parameters: 430k` can choose it. This module holds the recipe's
side and imports no torch; networks live in modules of their own (`stages.train.unet`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Self

from pydantic import Field

from pipeline.plugins import Plugin

if TYPE_CHECKING:
    from torch import nn


class Trunk(Plugin):
    """Base of trunks."""

    width: int | None = Field(None, ge=1, le=1024)
    """Filters at full resolution; left out, the model's `parameters` choose it."""

    def of_width(self, width: int) -> Self:
        return self.model_copy(update={"width": width})

    @property
    def features(self) -> int:
        """Channels of what the built trunk returns; `width` must be known."""
        if self.width is None:
            raise ValueError(f"the width of the trunk {self.type!r} is not known yet")
        return self.width

    def build(self, channels: int) -> nn.Module:
        """The network, with torch's default initialisation from the current seed; `width` must be known."""
        raise TypeError(f"the trunk {self.type!r} has no build()")


class UNet(Trunk):
    """The U-Net of SafeUAV and PHG-MAE (see `stages.train.unet`), for frames of at least 8x8 pixels."""

    revision: ClassVar[int] = 1

    def build(self, channels: int) -> nn.Module:
        from stages.train import unet

        return unet.UNet(channels, self.features)
