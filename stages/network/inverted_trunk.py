"""The trunks `inverted` and `hybrid`: the recipe's side of `stages.network.mobile`. Imports no torch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar, Literal, Self

from pydantic import Field

from hyperloom.stages.network.trunks import MapPlace, PlanesTrunk

if TYPE_CHECKING:
    from torch import nn

    from hyperloom.stages.network.architecture import Architecture
    from hyperloom.stages.network.features import Sizes


SCALES_DOWN = 3
"""Scales of an inverted trunk at which residuals stand, on the way down."""


class InvertedTrunk(PlanesTrunk):
    """Inverted residuals with a light decoder (see `stages.network.mobile`), for frames of at least 16x16 pixels."""

    revision: ClassVar[int] = 1
    least: ClassVar[int] = 16
    expansion: int = Field(4, ge=1, le=8)
    """How much wider a residual is inside."""
    repeats: Annotated[int, Field(ge=1)] | Literal["auto"] = 2
    """Residuals at each scale on the way down. auto: one for each 8 of the width, so that depth and width grow together
    (Tan & Le 2019), whatever chooses the width."""
    fused: Annotated[int, Field(ge=0, le=3)] | Literal["auto"] = 0
    """At the first so many scales one full 3x3 convolution in place of a pointwise and a depthwise one (Fused-MBConv,
    Tan & Le 2021), for devices that are slow at depthwise filters. auto, with `latency_ms`: as many as let the device
    do the most operations in the time."""

    @property
    def sizes(self) -> Sizes:
        from hyperloom.stages.network.features import Sizes

        return Sizes(self.chosen, 6 * self.chosen, 6 * self.chosen)

    @property
    def maps(self) -> dict[int, MapPlace]:
        modules = ("smooth.3", "smooth.2", "smooth.1", "smooth.0", "shrink.2" if self.attention else "deep.2")
        return {
            2**i: MapPlace(m, self.chosen * n) for i, (m, n) in enumerate(zip(modules, (1, 2, 3, 4, 6), strict=True))
        }

    def build(self, architecture: Architecture) -> nn.Module:
        from hyperloom.stages.network import mobile

        inside = (self.chosen, self.expansion, self.attention)
        return mobile.Mobile(architecture.channels, *inside, architecture.size, self.residuals, self.without)

    @property
    def without(self) -> int:
        """Scales without depthwise filters."""
        if self.fused == "auto":
            raise ValueError(f"the trunk {self.type}: fused: auto is chosen by latency_ms, a number by you")
        return self.fused

    @property
    def variants(self) -> tuple[Self, ...]:
        if self.fused != "auto":
            return (self,)
        return tuple(self.model_copy(update={"fused": n}) for n in range(SCALES_DOWN + 1))

    @property
    def residuals(self) -> int:
        """At each scale on the way down."""
        return max(1, round(self.chosen / 8)) if self.repeats == "auto" else self.repeats

    @property
    def attention(self) -> int:
        """Blocks of attention at the bottom."""
        return 0


class HybridTrunk(InvertedTrunk):
    """Inverted residuals with `depth` blocks of attention over all places at a sixteenth of the sides."""

    revision: ClassVar[int] = 1
    depth: int = Field(2, ge=1)

    @property
    def attention(self) -> int:
        return self.depth
