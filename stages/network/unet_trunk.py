"""The trunk `unet`: the recipe's side of `stages.network.unet`. Imports no torch."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from hyperloom.stages.network.trunks import MapPlace, PlanesTrunk

if TYPE_CHECKING:
    from torch import nn

    from hyperloom.stages.network.architecture import Architecture
    from hyperloom.stages.network.features import Sizes


class UNetTrunk(PlanesTrunk):
    """The U-Net of SafeUAV and PHG-MAE (see `stages.network.unet`), for frames of at least 8x8 pixels."""

    revision: ClassVar[int] = 2

    @property
    def sizes(self) -> Sizes:
        from hyperloom.stages.network.features import Sizes

        return Sizes(self.chosen, 8 * self.chosen, 8 * self.chosen)

    @property
    def maps(self) -> dict[int, MapPlace]:
        width = self.chosen
        places = (("merge.2", width), ("merge.1", width), ("merge.0", 4 * width), ("dilated.5", 8 * width))
        return {2**i: MapPlace(*place) for i, place in enumerate(places)}

    def build(self, architecture: Architecture) -> nn.Module:
        from hyperloom.stages.network import unet

        return unet.UNet(architecture.channels, self.chosen)
