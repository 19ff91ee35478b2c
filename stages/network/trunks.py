"""Trunks: the part of the network that all tasks share, as a recipe names it, and how inputs come together for it.

A trunk gives two modules: the *fusion* takes encoded inputs and what is visible of them, the *network* what the fusion
made, and gives `stages.network.features.Features` for the heads. A trunk that is `per_task` is also given the names of
the tasks that are asked for, and gives what all share and features of their own for those tasks that have some
(adapters, experts, task tokens, heads at a depth). Its `width` is the one number by which its size grows,
so `parameters: 430k` can choose it. Here are the bases; each trunk is the recipe's side of one network, in a module
that imports no torch (`stages.network.unet_trunk`, `.inverted_trunk`, `.espnet_trunk`, `.vit_trunk`), and the network
lives in another (`.unet`, `.mobile`, `.espnet`, `.vit`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar, NamedTuple, Self

from pydantic import Field

from hyperloom.pipeline.plugins import Plugin

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
