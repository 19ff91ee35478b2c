"""The trunk `unet`: the recipe's side of `stages.network.unet`. Imports no torch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import Field

from hyperloom.stages.network.trunks import MapPlace, PlanesTrunk

if TYPE_CHECKING:
    from torch import nn

    from hyperloom.stages.network.architecture import Architecture
    from hyperloom.stages.network.features import Sizes

DILATIONS = (1, 2, 4, 8, 16, 32)
"""Of the paper, whose frames have 540 x 960 pixels."""


class UNetTrunk(PlanesTrunk):
    """The U-Net of SafeUAV and PHG-MAE (see `stages.network.unet`), for frames of at least 8x8 pixels."""

    revision: ClassVar[int] = 2
    dilations: tuple[Annotated[int, Field(ge=1, le=1024)], ...] = Field(DILATIONS, min_length=1, max_length=16)
    """How far apart, in pixels, the taps of its convolutions at the bottom are, one convolution after another. The
    bottom is an eighth of the sides: one as large as that meets nothing but its own pixel."""
    activation: Literal["relu", "leaky"] = "relu"
    """What follows a convolution. A filter of `relu` that a high rate drove below zero everywhere never answers again;
    of what is below zero, `leaky` keeps a tenth (Maas et al. 2013), so none can."""

    @property
    def sizes(self) -> Sizes:
        from hyperloom.stages.network.features import Sizes

        return Sizes(self.chosen, 8 * self.chosen, 8 * self.chosen)

    @property
    def maps(self) -> dict[int, MapPlace]:
        width, last = self.chosen, f"dilated.{len(self.dilations) - 1}"
        places = (("merge.2", width), ("merge.1", width), ("merge.0", 4 * width), (last, 8 * width))
        return {2**i: MapPlace(*place) for i, place in enumerate(places)}

    def build(self, architecture: Architecture) -> nn.Module:
        from hyperloom.stages.network import unet

        return unet.UNet(architecture.channels, self.chosen, self.dilations, self.activation)
