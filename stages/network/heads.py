"""Heads: from a trunk's features to the predictions of one task, as a recipe names them.

    model: {heads: {semantic: {type: "mine:Prototypes", per_class: 4}}}

A task takes the head that its modality names (`modality.head`, a name of `stages.PLUGINS["head"]` or "module:Class"),
unless the recipe names another under the task. What a head builds is a module: `forward(features)` gives raw
predictions with channels second, (N, C, *sites), as objectives take them: logits of classes, standardised numbers. With
`forced` it is called `forward(features, target)` while it trains, with what the task's first target column holds as
objectives see it (or None where nobody gives one), and gives the same shape as without (teacher forcing, Williams &
Zipser 1989); that is how a decoder is taught that goes from one token to the next. A module may have `finish(raw)`,
which gives what people take, in the modality's layout, (N, *sites, C); else the processor's is taken. Named loss terms
of its own are `stages.network.terms`. This module holds the recipe's side and imports no torch; the modules lie in
`stages.network.pooled_heads`, `site_heads` and `box_heads`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from hyperloom.pipeline.plugins import Plugin

if TYPE_CHECKING:
    import torch
    from torch import nn

    from hyperloom.stages.network.architecture import Architecture, Task
    from hyperloom.stages.network.features import Sizes


class Head(Plugin):
    """Base of heads."""

    planes: ClassVar[bool] = False
    """Does it read the trunk's planes? Then there must be a raster."""
    forced: ClassVar[bool] = False
    """Is it given its own target while it trains?"""
    ranked: ClassVar[bool] = False
    """Are answers rows of things by falling score, which are others' rows in another network? Of several networks then
    what the module's `maps(raw)` gives is pooled, and `rows(maps)` makes the answer."""

    def check(self, task: Task) -> None:
        """Raises ValueError when this head cannot predict the task."""

    def build(self, task: Task, sizes: Sizes, architecture: Architecture) -> nn.Module:
        """The module for `task`, of features of `sizes`, initialised from the current seed."""
        raise TypeError(f"the head {self.type!r} has no build()")

    def reordered(self, name: str, weight: torch.Tensor, order: torch.Tensor) -> torch.Tensor | None:
        """A weight of the module, `name` being its own there, with the classes in another order: place i is for what
        was class `order[i]`. None where nobody knows which numbers are whose."""
        return None


class DenseHead(Head):
    """Every pixel: classes, numbers, directions or colours. Clips come frame by frame."""

    planes: ClassVar[bool] = True

    def build(self, task: Task, sizes: Sizes, architecture: Architecture) -> nn.Module:
        from hyperloom.stages.network import site_heads

        layers = site_heads.DenseLayers(sizes.planes, task.modality.planes)
        layers.begin(architecture.trunk.named, task.modality.meaning.names)
        return layers

    def reordered(self, name: str, weight: torch.Tensor, order: torch.Tensor) -> torch.Tensor | None:
        return weight.index_select(0, order)


class ClassifyHead(Head):
    """One class of a sample, or any number of them."""

    def build(self, task: Task, sizes: Sizes, architecture: Architecture) -> nn.Module:
        from hyperloom.stages.network import pooled_heads

        return pooled_heads.PooledLayers(sizes.pooled, task.modality.channels)

    def reordered(self, name: str, weight: torch.Tensor, order: torch.Tensor) -> torch.Tensor | None:
        return weight.index_select(0, order)


class OrdinalHead(Head):
    """Ordered levels by a cumulative link (McCullagh 1980)."""

    def build(self, task: Task, sizes: Sizes, architecture: Architecture) -> nn.Module:
        from hyperloom.stages.network import pooled_heads

        return pooled_heads.OrdinalLayers(sizes.pooled, task.modality.channels)


class RegressHead(Head):
    """Numbers of a sample."""

    def build(self, task: Task, sizes: Sizes, architecture: Architecture) -> nn.Module:
        from hyperloom.stages.network import pooled_heads

        return pooled_heads.RegressLayers(sizes.pooled, task.modality.shape)

    def reordered(self, name: str, weight: torch.Tensor, order: torch.Tensor) -> torch.Tensor | None:
        """Of points: all x, then all y, then whether each is visible."""
        return weight.unflatten(0, (-1, len(order))).index_select(1, order).flatten(0, 1)


class EmbedHead(Head):
    """A point in a space of directions."""

    def build(self, task: Task, sizes: Sizes, architecture: Architecture) -> nn.Module:
        from hyperloom.stages.network import pooled_heads

        return pooled_heads.EmbedLayers(sizes.pooled, task.modality.channels)


class TokensHead(Head):
    """A class for each place of a sequence, all at once."""

    def build(self, task: Task, sizes: Sizes, architecture: Architecture) -> nn.Module:
        from hyperloom.stages.network import site_heads

        return site_heads.TokenLayers(sizes.memory, task.modality.places, task.modality.channels)

    def reordered(self, name: str, weight: torch.Tensor, order: torch.Tensor) -> torch.Tensor | None:
        return weight.index_select(0, order) if name.startswith("out.") else weight


class SeriesHead(Head):
    """Numbers over time."""

    def build(self, task: Task, sizes: Sizes, architecture: Architecture) -> nn.Module:
        from hyperloom.stages.network import site_heads

        modality = task.modality
        return site_heads.SeriesLayers(sizes.memory, modality.shape[0], modality.channels, modality.grid(1))


class PairHead(Head):
    """Which nodes belong together."""

    def build(self, task: Task, sizes: Sizes, architecture: Architecture) -> nn.Module:
        from hyperloom.stages.network import site_heads

        return site_heads.PairLayers(sizes.memory, task.modality.nodes)  # type: ignore[attr-defined]


class BoxesHead(Head):
    """Objects in a picture by their centres."""

    planes: ClassVar[bool] = True
    ranked: ClassVar[bool] = True

    def build(self, task: Task, sizes: Sizes, architecture: Architecture) -> nn.Module:
        from hyperloom.stages.network import box_heads

        modality = task.modality
        return box_heads.BoxLayers(sizes.planes, len(modality.classes), modality.most, architecture.size)  # type: ignore[attr-defined]

    def reordered(self, name: str, weight: torch.Tensor, order: torch.Tensor) -> torch.Tensor | None:
        """The last layer has the classes first, then the sides of a box."""
        if not name.startswith("out."):
            return weight
        return weight.index_select(0, order.new_tensor([*order, *range(len(order), len(weight))]))


class InstancesHead(DenseHead):
    """Things with a mask each: classes, centres and offsets of every pixel (`stages.network.instance_maps`)."""

    def build(self, task: Task, sizes: Sizes, architecture: Architecture) -> nn.Module:
        from hyperloom.stages.network import instance_heads

        modality = task.modality
        if modality.sides_in_pixels != architecture.size:  # type: ignore[attr-defined]
            sides = "x".join(map(str, modality.sides_in_pixels))  # type: ignore[attr-defined]
            raise ValueError(
                f"{task.name}: masks of {sides} from a network of {'x'.join(map(str, architecture.size))} pixels. "
                "Next: give both the same size"
            )
        return instance_heads.InstanceLayers(sizes.planes, modality.channels)

    def reordered(self, name: str, weight: torch.Tensor, order: torch.Tensor) -> torch.Tensor | None:
        """Classes come first, then what is of all of them."""
        return weight.index_select(0, order.new_tensor([*order, *range(len(order), len(weight))]))
