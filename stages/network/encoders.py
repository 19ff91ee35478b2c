"""Encoders: how an input becomes tokens of one width, for trunks that read tokens, as a recipe names them.

    model:
      trunk: vit
      encoders: {rgb: {type: patches, patch: 8}, question@web: {type: "mine:Pair", with: context@web}}

An input takes the encoder that its modality's processor names, unless the recipe names one under its column or its
modality. An encoder that can may read several columns, `with` naming the further ones, which then are no inputs of
their own: all of them are one input, hidden together and missing where one of them is. This module holds the recipe's
side and imports no torch; what encoders build lies in `stages.network.stems`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field, field_validator

from hyperloom.pipeline.plugins import Plugin
from hyperloom.stages.modality.layout import steps_a_token

if TYPE_CHECKING:
    from torch import nn

    from hyperloom.stages.network.architecture import Input


class Encoder(Plugin):
    """Base of encoders."""

    several: ClassVar[bool] = False
    """Can it read several columns?"""
    beside: tuple[str, ...] = Field((), alias="with")
    """Columns that are read with the input's own."""

    @field_validator("beside", mode="before")
    @classmethod
    def _tuple(cls, value: Any) -> Any:
        return (value,) if isinstance(value, str) else value

    def check(self, item: Input) -> None:
        """Raises ValueError when this encoder cannot read the input."""
        if item.beside and not self.several:
            raise ValueError(f"the encoder {self.type!r} of {item.column} reads one column, not those in `with` too")

    def grid(self, item: Input, patch: int) -> tuple[int, ...]:
        """Sites of the tokens, squares being `patch` pixels wide: what a mask may hide on its own."""
        return item.modality.grid(patch)

    def build(self, item: Input, width: int, patch: int) -> nn.Module:
        """A module with `grid`, and `forward(values) -> tokens (N, sites, width), there (N, sites) bool or None`;
        `values` is what the processor's reader gives of the column, further columns follow as further arguments."""
        raise TypeError(f"the encoder {self.type!r} has no build()")


class PatchEncoder(Encoder):
    """A raster: one token a square."""

    patch: int | None = Field(None, ge=1, le=64)
    """Side of the squares in pixels; by default as the trunk has them."""

    def grid(self, item: Input, patch: int) -> tuple[int, ...]:
        return item.processor.pixels(self.patch or patch)

    def build(self, item: Input, width: int, patch: int) -> nn.Module:
        from hyperloom.stages.network import stems

        return stems.PatchStem(item, self.grid(item, patch), width, self.patch or patch)


class FrameEncoder(PatchEncoder):
    """A clip: the squares of each frame."""

    def grid(self, item: Input, patch: int) -> tuple[int, ...]:
        return (item.modality.times, *super().grid(item, patch))

    def build(self, item: Input, width: int, patch: int) -> nn.Module:
        from hyperloom.stages.network import stems

        return stems.FrameStem(item, self.grid(item, patch), width, self.patch or patch)


class WholeEncoder(Encoder):
    """Numbers or classes of a whole sample: one token."""

    def grid(self, item: Input, patch: int) -> tuple[int, ...]:
        return (1,)

    def build(self, item: Input, width: int, patch: int) -> nn.Module:
        from hyperloom.stages.network import stems

        return stems.WholeStem(item, self.grid(item, patch), width)


class StepEncoder(Encoder):
    """A series: some neighbouring steps a token."""

    def grid(self, item: Input, patch: int) -> tuple[int, ...]:
        steps = item.modality.shape[0]
        return (-(-steps // steps_a_token(steps)),)

    def build(self, item: Input, width: int, patch: int) -> nn.Module:
        from hyperloom.stages.network import stems

        return stems.StepStem(item, self.grid(item, patch), width)


class CharacterEncoder(Encoder):
    """A text: some neighbouring ids a token."""

    def build(self, item: Input, width: int, patch: int) -> nn.Module:
        from hyperloom.stages.network import stems

        return stems.CharacterStem(item, self.grid(item, patch), width)


class LabelEncoder(Encoder):
    """Tags: one token each."""

    def build(self, item: Input, width: int, patch: int) -> nn.Module:
        from hyperloom.stages.network import stems

        return stems.LabelStem(item, self.grid(item, patch), width)


class MelEncoder(Encoder):
    """A sound: its mel spectrogram."""

    def build(self, item: Input, width: int, patch: int) -> nn.Module:
        from hyperloom.stages.network import stems

        return stems.MelStem(item, self.grid(item, patch), width)


class PointEncoder(Encoder):
    """Keypoints: one token each."""

    def build(self, item: Input, width: int, patch: int) -> nn.Module:
        from hyperloom.stages.network import stems

        return stems.PointStem(item, self.grid(item, patch), width)


class RectangleEncoder(Encoder):
    """Boxes: one token each."""

    def build(self, item: Input, width: int, patch: int) -> nn.Module:
        from hyperloom.stages.network import stems

        return stems.RectangleStem(item, self.grid(item, patch), width)


class NodeEncoder(Encoder):
    """A graph: one token a node."""

    def build(self, item: Input, width: int, patch: int) -> nn.Module:
        from hyperloom.stages.network import stems

        return stems.NodeStem(item, self.grid(item, patch), width)
