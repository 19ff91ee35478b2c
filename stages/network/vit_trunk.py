"""The trunk `vit`: the recipe's side of `stages.network.vit`. Imports no torch."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal, Self

from pydantic import Field, field_validator

from hyperloom.stages.network.trunks import Trunk

if TYPE_CHECKING:
    from torch import nn

    from hyperloom.stages.network.architecture import Architecture
    from hyperloom.stages.network.features import Sizes


WIDE = 48
"""The width from which a transformer gets attention heads of 64 channels."""


class ViTTrunk(Trunk):
    """A transformer over the tokens of all inputs, whatever they are (see `stages.network.vit`). Tokens have 8 times
    `width` channels."""

    revision: ClassVar[int] = 2
    patch: int = Field(16, ge=1, le=64)
    """Side of a raster's tokens in pixels, a power of two."""
    depth: int = Field(6, ge=1)
    head: Literal[32, 64] | None = None
    """Channels of an attention head, where they divide the width. Left out, a new network has 64, which GPUs do more of
    in a time, where its tokens have 384 channels or more (`width: 48`), else 32."""
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
    def fresh(self) -> Self:
        if self.head is not None or self.chosen < WIDE:
            return self
        return self.model_copy(update={"head": 64})

    @property
    def sizes(self) -> Sizes:
        from hyperloom.stages.network.features import Sizes

        width = planes = 8 * self.chosen
        for _ in range(self.patch.bit_length() - 1):
            planes = max(8, planes // 2)
        return Sizes(planes, width, width)

    def fusion(self, architecture: Architecture) -> nn.Module:
        from hyperloom.stages.network import vit

        return vit.TokenEmbedding(architecture.inputs, 8 * self.chosen, self.patch, self.masked == "replace")

    def build(self, architecture: Architecture) -> nn.Module:
        from hyperloom.stages.network import vit

        dense = any(t.head.planes for t in architecture.tasks)
        return vit.ViT(8 * self.chosen, self.depth, self.decoder, self.patch, architecture.size, dense, self.head or 32)
