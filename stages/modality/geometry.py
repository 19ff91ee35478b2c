"""Geometry: how a value moves with the picture it was made of, so that an augmentation keeps labels true.

A type says what a mirror does to its values, what a window of the picture, brought back to the full size, does to
them, and what becomes of them when the picture turns about its middle. One that does not know refuses by name, before
anything runs. Where pixels of the moved picture come from, `window` and `turn` say, in shares of its sides; what lies
outside the picture is unknown (black in images).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, TypeVar

from hyperloom.stages.modality.sides import named, without
from hyperloom.stages.transfer import constant

if TYPE_CHECKING:
    import torch

M = TypeVar("M", bound=Any)
Symmetry = Literal["none", "known", "unknown"]


class Geometry:
    """The part of a modality that says where its values lie."""

    @property
    def sides(self) -> Symmetry:
        """Have values a left and a right? `none`: they stay as they are when the picture is mirrored (classes of
        samples, sounds). `known`: `mirrored` exchanges the two. `unknown`: nobody knows which numbers change, so
        mirroring is refused."""
        return "unknown"

    @property
    def sideless(self) -> str:
        """Of `unknown` sides: why, and what to do."""
        return "nobody knows which of its numbers change in a mirror"

    def mirrored(self, values: torch.Tensor) -> torch.Tensor:
        """`values` (n, *shape), a tensor of their own memory, with left and right exchanged; only of `known` sides."""
        raise TypeError(f"{type(self).__name__} says no way of being mirrored")

    @property
    def place(self) -> Symmetry:
        """Do values lie on the frame, so that they differ where only a window of the picture is shown? `none`: they
        belong to the sample as a whole. `known`: `windowed` takes them along. `unknown`: a crop is refused."""
        return "unknown"

    @property
    def placeless(self) -> str:
        """Of an `unknown` place: why, and what to do."""
        return "nobody knows what a window of the picture does to it"

    def windowed(self, values: torch.Tensor, windows: torch.Tensor) -> torch.Tensor:
        """`values` (n, *shape) of pictures of which one window each is shown, brought to the full size; only of a
        `known` place. `windows` (n, 3): top, left, and the share of both sides."""
        raise TypeError(f"{type(self).__name__} says no way of being cropped")

    @property
    def unturned(self) -> str:
        """Why values cannot be turned with their picture, and what to do; empty where they can, and where they belong
        to the sample as a whole (no `place`)."""
        own = type(self).turned is not Geometry.turned
        return "" if self.place == "none" or (self.place == "known" and own) else "nobody knows what a turn does to it"

    @property
    def sided(self) -> bool:
        """Do names in it say left or right, which a turn of more than 45 degrees may make untrue?"""
        return False

    def turned(self, values: torch.Tensor, angles: torch.Tensor, aspect: float) -> torch.Tensor:
        """`values` (n, *shape) of pictures that turn clockwise about their middle by `angles` (n,) in radians, `aspect`
        times as high as wide; only where `unturned` is empty and they have a `place`."""
        raise TypeError(f"{type(self).__name__} says no way of being turned")


class OffFrame:
    """The geometry of what a picture's frame does not move: sounds, graphs, tags."""

    @property
    def place(self) -> Symmetry:
        return "none"

    @property
    def sides(self) -> Symmetry:
        return "none"


class SidedClasses:
    """The sides of what has `classes`: those whose names differ in left and right alone are exchanged."""

    if TYPE_CHECKING:
        classes: tuple[str, ...]

    @property
    def sides(self) -> Symmetry:
        return "unknown" if without(self.classes) else "known"

    @property
    def sideless(self) -> str:
        return without(self.classes)

    @property
    def sided(self) -> bool:
        return named(self.classes)


class SignedNumbers:
    """The sides of numbers of which the field `mirror` says which change their sign; None: nobody knows."""

    if TYPE_CHECKING:
        mirror: tuple[int, ...] | None

    @property
    def sides(self) -> Symmetry:
        return "unknown" if self.mirror is None else "known" if self.mirror else "none"

    @property
    def sideless(self) -> str:
        return (
            "nobody knows which of its numbers change in a mirror. Next: mirror: [] on the modality says none, "
            "mirror: [0] that the first changes its sign"
        )

    def mirrored(self, values: torch.Tensor) -> torch.Tensor:
        return negated(values, self.mirror or ())


def window(windows: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """(n, H, W, 2): where each pixel of a picture of this size comes from that shows one window (n, 3) each, x and y in
    shares of the sides."""
    import torch

    rows, columns = (windows[:, i, None] + windows[:, 2:] * _middles(windows, size[i]) for i in (0, 1))
    shape = (len(windows), *size)
    return torch.stack([columns[:, None].expand(shape), rows[:, :, None].expand(shape)], -1)


def turn(angles: torch.Tensor, aspect: float, size: tuple[int, int]) -> torch.Tensor:
    """(n, H, W, 2), as `window`, of pictures that turn clockwise by `angles` (n,)."""
    import torch

    x, y = (_middles(angles, size[i]) - 0.5 for i in (1, 0))
    shape = (len(angles), *size)
    places = torch.stack([x.expand(shape), y[:, None].expand(shape)], -1)
    return carried(places, -angles, aspect) + 0.5


def carried(offsets: torch.Tensor, angles: torch.Tensor, aspect: float = 1.0) -> torch.Tensor:
    """(n, ..., 2) pairs of x and y, y downwards, turned clockwise; in shares of a width and of a height that is
    `aspect` times as long."""
    import torch

    cosine, sine = (f(angles).view(-1, *[1] * (offsets.ndim - 2)) for f in (torch.cos, torch.sin))
    x, y = offsets[..., 0], offsets[..., 1] * aspect
    return torch.stack([cosine * x - sine * y, (sine * x + cosine * y) / aspect], -1)


def nearest(values: torch.Tensor, places: torch.Tensor, unknown: int) -> torch.Tensor:
    """(n, H, W) by the nearest pixel to each place; `unknown` outside the picture."""
    import torch

    height, width = values.shape[1:3]
    samples = torch.arange(len(values), device=values.device)[:, None, None]
    columns, rows = (places * constant((width, height), places.dtype, places.device)).floor().long().unbind(-1)
    chosen = values[samples, rows.clamp(0, height - 1), columns.clamp(0, width - 1)]
    return chosen.where(inside(places), torch.full_like(chosen, unknown))


def between(values: torch.Tensor, places: torch.Tensor) -> torch.Tensor:
    """(n, H, W, C) float32 at each place, linearly between pixels; 0 outside the picture."""
    from torch.nn.functional import grid_sample

    planes = values.permute(0, 3, 1, 2).float()
    moved = grid_sample(planes, 2 * places - 1, padding_mode="border", align_corners=False).permute(0, 2, 3, 1)
    return moved * inside(places)[..., None]


def inside(places: torch.Tensor) -> torch.Tensor:
    """(..., 2) shares of the sides -> (...) bool: which lie in the picture. NaN does not."""
    return ((places >= 0) & (places <= 1)).all(-1)


def _middles(like: torch.Tensor, size: int) -> torch.Tensor:
    """(size,): where the middle of each pixel lies, in shares of the whole side."""
    import torch

    return (torch.arange(size, device=like.device) + 0.5) / size


def exchanged(ids: torch.Tensor, order: tuple[int, ...]) -> torch.Tensor:
    """Class ids with each id i below the number of classes replaced by `order[i]`; others stay."""
    import torch

    if order == tuple(range(len(order))):
        return ids
    table = constant(order, torch.int64, ids.device)
    known = (ids >= 0) & (ids < len(order))
    return torch.where(known, table[torch.where(known, ids, 0).long()].to(ids.dtype), ids)


def negated(values: torch.Tensor, places: tuple[int, ...]) -> torch.Tensor:
    """Numbers (n, ..., C) with another sign at these places of the last axis."""
    for place in places:
        values[..., place] *= -1
    return values


def mirrored_places(modality: M, count: int) -> M:
    """The modality, whose `mirror` names places below `count`. Raises ValueError for others."""
    wrong = [place for place in modality.mirror or () if not 0 <= place < count]
    if wrong:
        raise ValueError(f"mirror: {wrong[0]} is none of the {count} places from 0")
    return modality
