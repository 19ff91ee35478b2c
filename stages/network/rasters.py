"""Processors of pictures: images, maps of numbers, classes of pixels, clips (see `stages.network.processors`)."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from hyperloom.stages.network.processors import Processor, Reader, Scale, in_units

if TYPE_CHECKING:
    import torch


class RasterProcessor(Processor):
    """(H, W, channels) of numbers."""

    @property
    def axes(self) -> int:
        return 2

    def planes_of(self, values: torch.Tensor) -> torch.Tensor:
        return values.permute(0, 3, 1, 2)


class ImageProcessor(RasterProcessor):
    """Colours."""

    colours: ClassVar[bool] = True

    def finish(self, raw: torch.Tensor, scale: Scale) -> torch.Tensor:
        return super().finish(raw, scale).clamp(0, 255)


class DenseProcessor(RasterProcessor):
    """Numbers or directions."""

    def finish(self, raw: torch.Tensor, scale: Scale) -> torch.Tensor:
        from torch.nn.functional import normalize

        if self.modality.unit_vectors:
            return normalize(raw.permute(0, 2, 3, 1), dim=-1)
        return super().finish(raw, scale)


class SegmentationProcessor(RasterProcessor):
    """A class for each pixel: one plane a class."""

    def reader(self, scale: Scale) -> torch.nn.Module:
        from hyperloom.stages.network.reading import OneHot

        return OneHot(self.modality.channels, sites=2)

    def target(self, scale: Scale) -> Reader:
        from torch.nn import Identity

        return Identity()

    def finish(self, raw: torch.Tensor, scale: Scale) -> torch.Tensor:
        return raw.softmax(1).permute(0, 2, 3, 1)  # along planes: thirteen times as fast on a CPU


class SoftProcessor(RasterProcessor):
    """Probabilities of classes for each pixel, in bytes or as they are."""

    def reader(self, scale: Scale) -> torch.nn.Module:
        from hyperloom.stages.network.reading import Shares

        return Shares(self)

    def finish(self, raw: torch.Tensor, scale: Scale) -> torch.Tensor:
        return raw.softmax(1).permute(0, 2, 3, 1)  # along planes: thirteen times as fast on a CPU


class ClipProcessor(RasterProcessor):
    """Frames one after the other, each with its colours as planes."""

    @property
    def encoder(self) -> str:
        return "frames"

    def planes_of(self, values: torch.Tensor) -> torch.Tensor:
        return values.permute(0, 1, 4, 2, 3).flatten(1, 2)

    def finish(self, raw: torch.Tensor, scale: Scale) -> torch.Tensor:
        values = raw.unflatten(1, (self.modality.times, -1)).permute(0, 1, 3, 4, 2)
        return in_units(values, scale).clamp(0, 255)
