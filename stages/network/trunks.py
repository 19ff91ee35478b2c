"""Trunks: the part of the network that all tasks share, as a recipe names it, and how inputs come together for it.

A trunk gives two modules: the *fusion* takes encoded inputs and what is visible of them, the *network* what the fusion
made, and gives `stages.network.features.Features` for the heads. Its `width` is the one number by which its size grows,
so `parameters: 430k` can choose it. This module holds the recipe's side and imports no torch; networks live in modules
of their own (`stages.network.unet`, `stages.network.vit`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

from pydantic import Field, field_validator

from hyperloom.pipeline.plugins import Plugin
from hyperloom.stages.modality import Audio, Boxes, Clip, Graph, Raster, Series, Tags, Text
from hyperloom.stages.network.grids import grid_of

if TYPE_CHECKING:
    from torch import nn

    from hyperloom.stages.network.architecture import Architecture, Input, Task
    from hyperloom.stages.network.features import Sizes


class Trunk(Plugin):
    """Base of trunks."""

    width: int | None = Field(None, ge=1, le=1024)
    """What its size grows with; left out, the model's `parameters` choose it."""

    def of_width(self, width: int) -> Self:
        return self.model_copy(update={"width": width})

    @property
    def chosen(self) -> int:
        """The width. Raises ValueError while it is not known."""
        if self.width is None:
            raise ValueError(f"the width of the trunk {self.type!r} is not known yet")
        return self.width

    @property
    def sizes(self) -> Sizes:
        """Channels of what the network gives; `width` must be known."""
        raise TypeError(f"the trunk {self.type!r} has no sizes")

    def check(self, inputs: Sequence[Input], tasks: Sequence[Task]) -> None:
        """Raises ValueError, naming what could, when this trunk cannot take an input or serve a task."""

    def grid(self, modality: Any, patch: int) -> tuple[int, ...]:
        """What of an input a mask may hide on its own, squares being `patch` pixels wide; (1,) for nothing."""
        return grid_of(modality, patch)

    def fusion(self, architecture: Architecture) -> nn.Module:
        """(encoded inputs, Visible or None) -> what the network takes."""
        raise TypeError(f"the trunk {self.type!r} has no fusion()")

    def build(self, architecture: Architecture) -> nn.Module:
        """The network, initialised from the current seed; `width` must be known."""
        raise TypeError(f"the trunk {self.type!r} has no build()")


class UNet(Trunk):
    """The U-Net of SafeUAV and PHG-MAE (see `stages.network.unet`), for frames of at least 8x8 pixels. Reads rasters,
    and numbers and classes of whole samples as planes of one value."""

    revision: ClassVar[int] = 2

    @property
    def sizes(self) -> Sizes:
        from hyperloom.stages.network.features import Sizes

        return Sizes(self.chosen, 8 * self.chosen, 8 * self.chosen)

    def check(self, inputs: Sequence[Input], tasks: Sequence[Task]) -> None:
        sequences = [i.column for i in inputs if isinstance(i.modality, Text | Tags | Audio | Series | Boxes | Graph)]
        if sequences:
            raise ValueError(f"the trunk unet cannot read {', '.join(sequences)}, which is no raster; a vit can")
        rasters = [i.modality for i in inputs if isinstance(i.modality, Raster)]
        if not rasters:
            raise ValueError("the trunk unet needs a raster among its inputs; a vit does not")
        if min(rasters[0].height_width) < 8:
            raise ValueError(f"the trunk unet needs frames of at least 8x8 pixels, got {rasters[0].height_width}")

    def grid(self, modality: Any, patch: int) -> tuple[int, ...]:
        if not isinstance(modality, Raster):
            return (1,)
        return grid_of(modality, patch)[1:] if isinstance(modality, Clip) else grid_of(modality, patch)

    def fusion(self, architecture: Architecture) -> nn.Module:
        from hyperloom.stages.network import unet

        return unet.Planes(architecture.size)

    def build(self, architecture: Architecture) -> nn.Module:
        from hyperloom.stages.network import unet

        return unet.UNet(architecture.channels, self.chosen)


class ViT(Trunk):
    """A transformer over the tokens of all inputs, whatever they are (see `stages.network.vit`). Tokens have 8 times
    `width` channels."""

    revision: ClassVar[int] = 1
    patch: int = Field(16, ge=1, le=64)
    """Side of a raster's tokens in pixels, a power of two."""
    depth: int = Field(6, ge=1)
    decoder: int = Field(1, ge=0)
    """Blocks of self-attention over what is predicted for each pixel."""
    masked: Literal["drop", "replace"] = "drop"
    """Are hidden tokens left out, or replaced by a learned one?"""

    @field_validator("patch")
    @classmethod
    def _power(cls, value: int) -> int:
        if value & (value - 1):
            raise ValueError(f"a patch is a power of two, got {value}")
        return value

    @property
    def sizes(self) -> Sizes:
        from hyperloom.stages.network.features import Sizes

        width = planes = 8 * self.chosen
        for _ in range(self.patch.bit_length() - 1):
            planes = max(8, planes // 2)
        return Sizes(planes, width, width)

    def fusion(self, architecture: Architecture) -> nn.Module:
        from hyperloom.stages.network import vit

        return vit.Tokens(architecture.inputs, 8 * self.chosen, self.patch, self.masked == "replace")

    def build(self, architecture: Architecture) -> nn.Module:
        from hyperloom.stages.network import vit

        dense = any(t.modality.head in ("dense", "boxes") for t in architecture.tasks)
        return vit.ViT(8 * self.chosen, self.depth, self.decoder, self.patch, architecture.size, dense)
