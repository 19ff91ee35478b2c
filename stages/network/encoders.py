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


class Patches(Encoder):
    """A raster: one token a square."""

    patch: int | None = Field(None, ge=1, le=64)
    """Side of the squares in pixels; by default as the trunk has them."""

    def grid(self, item: Input, patch: int) -> tuple[int, ...]:
        return item.processor.pixels(self.patch or patch)

    def build(self, item: Input, width: int, patch: int) -> nn.Module:
        from hyperloom.stages.network import stems

        return stems.Patches(item, self.grid(item, patch), width, self.patch or patch)


class Frames(Patches):
    """A clip: the squares of each frame."""

    def grid(self, item: Input, patch: int) -> tuple[int, ...]:
        return (item.modality.times, *super().grid(item, patch))

    def build(self, item: Input, width: int, patch: int) -> nn.Module:
        from hyperloom.stages.network import stems

        return stems.Frames(item, self.grid(item, patch), width, self.patch or patch)


class Whole(Encoder):
    """Numbers or classes of a whole sample: one token."""

    def grid(self, item: Input, patch: int) -> tuple[int, ...]:
        return (1,)

    def build(self, item: Input, width: int, patch: int) -> nn.Module:
        from hyperloom.stages.network import stems

        return stems.Whole(item, self.grid(item, patch), width)


class Steps(Encoder):
    """A series: some neighbouring steps a token."""

    def grid(self, item: Input, patch: int) -> tuple[int, ...]:
        steps = item.modality.shape[0]
        return (-(-steps // steps_a_token(steps)),)

    def build(self, item: Input, width: int, patch: int) -> nn.Module:
        from hyperloom.stages.network import stems

        return stems.Steps(item, self.grid(item, patch), width)


class Characters(Encoder):
    """A text: some neighbouring ids a token."""

    def build(self, item: Input, width: int, patch: int) -> nn.Module:
        from hyperloom.stages.network import stems

        return stems.Characters(item, self.grid(item, patch), width)


class Labels(Encoder):
    """Tags: one token each."""

    def build(self, item: Input, width: int, patch: int) -> nn.Module:
        from hyperloom.stages.network import stems

        return stems.Labels(item, self.grid(item, patch), width)


class Mel(Encoder):
    """A sound: its mel spectrogram."""

    def build(self, item: Input, width: int, patch: int) -> nn.Module:
        from hyperloom.stages.network import stems

        return stems.Mel(item, self.grid(item, patch), width)


class Points(Encoder):
    """Keypoints: one token each."""

    def build(self, item: Input, width: int, patch: int) -> nn.Module:
        from hyperloom.stages.network import stems

        return stems.Points(item, self.grid(item, patch), width)


class Rectangles(Encoder):
    """Boxes: one token each."""

    def build(self, item: Input, width: int, patch: int) -> nn.Module:
        from hyperloom.stages.network import stems

        return stems.Rectangles(item, self.grid(item, patch), width)


class Nodes(Encoder):
    """A graph: one token a node."""

    def build(self, item: Input, width: int, patch: int) -> nn.Module:
        from hyperloom.stages.network import stems

        return stems.Nodes(item, self.grid(item, patch), width)
