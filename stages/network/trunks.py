"""Trunks: the part of the network that all tasks share, as a recipe names it, and how inputs come together for it.

A trunk gives two modules: the *fusion* takes encoded inputs and what is visible of them, the *network* what the fusion
made, and gives `stages.network.features.Features` for the heads. A trunk that is `per_task` is also given the names of
the tasks that are asked for, and gives what all share and features of their own for those tasks that have some
(adapters, experts, task tokens, heads at a depth). Its `width` is the one number by which its size grows,
so `parameters: 430k` can choose it. This module holds the recipe's side and imports no torch; networks live in modules
of their own (`stages.network.unet`, `.mobile`, `.espnet`, `.vit`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal, NamedTuple, Self

from pydantic import Field, field_validator

from hyperloom.pipeline.plugins import Plugin
from hyperloom.pipeline.spelling import near

if TYPE_CHECKING:
    from torch import nn

    from hyperloom.stages.network.architecture import Architecture, Input, Task
    from hyperloom.stages.network.features import Sizes


class MapPlace(NamedTuple):
    """A map inside a trunk: the module of the network whose output it is, and its channels."""

    module: str
    channels: int


class Trunk(Plugin):
    """Base of trunks."""

    per_task: ClassVar[bool] = False
    """Does the network compute something for each task? Then it is called `network(fused, tasks)`, and returns
    `(Features, {task: Features})`."""
    folds: ClassVar[bool] = False
    """Does it read inputs that are a whole number of times as large as what is predicted?"""
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
    def fresh(self) -> Self:
        """This trunk with all that its width decides written out, as a network that begins now gets it; `width` must be
        known."""
        return self

    @property
    def sizes(self) -> Sizes:
        """Channels of what the network gives; `width` must be known."""
        raise TypeError(f"the trunk {self.type!r} has no sizes")

    @property
    def variants(self) -> tuple[Self, ...]:
        """Forms of this trunk among which a device's time decides; itself where nothing is left open."""
        return (self,)

    @property
    def maps(self) -> dict[int, MapPlace]:
        """The last map of each size inside the network, by stride: 4 for a quarter of the picture's sides; none where
        it has no maps. `width` must be known."""
        return {}

    @property
    def named(self) -> tuple[str, ...]:
        """The classes of which its planes are scores before any training, one name a plane; none where they are just
        features. Heads of such classes begin with them."""
        return ()

    def sizes_of(self, task: Task) -> Sizes:
        """Channels of the features that the head of `task` sees."""
        return self.sizes

    def check(self, inputs: Sequence[Input], tasks: Sequence[Task]) -> None:
        """Raises ValueError, naming what could, when this trunk cannot take an input or serve a task."""
        for item in inputs:
            item.encoder.check(item)

    def grid(self, item: Input, patch: int) -> tuple[int, ...]:
        """What of an input a mask may hide on its own, squares being `patch` pixels wide; (1,) for nothing."""
        return item.encoder.grid(item, patch)

    def fusion(self, architecture: Architecture) -> nn.Module:
        """(encoded inputs, Visible or None) -> what the network takes."""
        raise TypeError(f"the trunk {self.type!r} has no fusion()")

    def build(self, architecture: Architecture) -> nn.Module:
        """The network, initialised from the current seed; `width` must be known."""
        raise TypeError(f"the trunk {self.type!r} has no build()")


class PlanesTrunk(Trunk):
    """Base of trunks that read planes: rasters, and numbers and classes of whole samples as planes of one value. A
    raster of n times the size of the tasks is folded into n * n times its planes (space to depth, Shi et al. 2016), so
    that the network sees finer than it answers at hardly any cost."""

    folds: ClassVar[bool] = True
    least: ClassVar[int] = 8
    """Frames have at least so many pixels a side."""

    def check(self, inputs: Sequence[Input], tasks: Sequence[Task]) -> None:
        sequences = [i.column for i in inputs if not i.processor.in_planes]
        if sequences:
            raise ValueError(f"the trunk {self.type} cannot read {', '.join(sequences)}, which is no raster; a vit can")
        if encoded := [i.column for i in inputs if i.chosen]:
            raise ValueError(
                f"the trunk {self.type} reads planes, so {', '.join(encoded)} can have no encoder; in a vit it can"
            )
        sizes = [i.processor.size for i in inputs if i.processor.size]
        if not sizes:
            raise ValueError(f"the trunk {self.type} needs a raster among its inputs; a vit does not")
        smallest = min([*sizes, *(t.processor.size for t in tasks if t.processor.size)])
        if min(smallest) < self.least:
            least = f"{self.least}x{self.least}"
            raise ValueError(f"the trunk {self.type} needs frames of at least {least} pixels, got {smallest}")

    def grid(self, item: Input, patch: int) -> tuple[int, ...]:
        return item.processor.pixels(patch)

    def fusion(self, architecture: Architecture) -> nn.Module:
        from hyperloom.stages.network import unet

        return unet.Planes(architecture.size, architecture.folds)


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


class EspNetTrunk(PlanesTrunk):
    """ESPNet (Mehta et al. 2018, see `stages.network.espnet`), whose published weights have seen streets: a training
    starts from them by `start`. It reads one picture, whose sides are multiples of 8."""

    revision: ClassVar[int] = 1
    width: int | None = Field(None, ge=1, le=64)
    """Blocks at an eighth of the sides, the paper's q (published: 8); left out, the model's `parameters` choose it.
    Weights of more blocks fit: the first ones are taken."""
    depth: int = Field(2, ge=1, le=64)
    """Blocks at a quarter of the sides, the paper's p."""
    classes: Annotated[int, Field(ge=1, le=1024)] | Annotated[tuple[str | None, ...], Field(min_length=1)] = 20
    """Classes of the published weights, with which its decoder works: how many, or the name of each in this recipe,
    null for what is none of them. With names, classes of one name are scored together, and heads of these names begin
    with the scores."""

    @property
    def sizes(self) -> Sizes:
        from hyperloom.stages.network.features import Sizes

        return Sizes(len(self.named) or self.count, 256, 256)

    @property
    def count(self) -> int:
        """Classes of the published weights."""
        return self.classes if isinstance(self.classes, int) else len(self.classes)

    @property
    def named(self) -> tuple[str, ...]:
        return () if isinstance(self.classes, int) else tuple(dict.fromkeys(c for c in self.classes if c is not None))

    @property
    def groups(self) -> tuple[tuple[int, ...], ...]:
        """For each of the names, the published classes that are scored together."""
        names = () if isinstance(self.classes, int) else self.classes
        return tuple(tuple(i for i, c in enumerate(names) if c == name) for name in self.named)

    def check(self, inputs: Sequence[Input], tasks: Sequence[Task]) -> None:
        super().check(inputs, tasks)
        names = ", ".join(i.column for i in inputs)
        if len(inputs) > 1 or inputs[0].beside or not inputs[0].processor.colours or inputs[0].modality.planes != 3:
            raise ValueError(f"the trunk espnet reads one picture in colours, got {names}; a unet reads more")
        if any(side % 8 for side in inputs[0].processor.size or ()):
            size = inputs[0].processor.size
            raise ValueError(f"the trunk espnet needs a picture whose sides are multiples of 8, got {size} of {names}")
        known = {name for task in tasks for name in task.modality.meaning.names}
        if unknown := [name for name in self.named if name not in known]:
            raise ValueError(
                f"the trunk espnet: classes: no task has a class {unknown[0]!r}{near(unknown[0], known)}. Next: write "
                "null for a published class that is none of yours"
            )

    def fusion(self, architecture: Architecture) -> nn.Module:
        from hyperloom.stages.network import espnet

        return espnet.Picture()

    def build(self, architecture: Architecture) -> nn.Module:
        from hyperloom.stages.network import espnet

        (picture,), (fold,) = architecture.inputs, architecture.folds
        return espnet.EspTrunk(self.count, self.depth, self.chosen, self.groups, picture.scale, fold)


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
