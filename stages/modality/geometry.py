"""Geometry: how a value moves with the picture it was made of, so that an augmentation keeps labels true.

A type says what a mirror does to its values, and what a window of the picture, brought back to the full size, does to
them. One that does not know refuses by name, before anything runs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, TypeVar

from hyperloom.stages.modality.sides import without

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

    def windowed(self, values: torch.Tensor, windows: torch.Tensor) -> torch.Tensor:
        """`values` (n, *shape) of pictures of which one window each is shown, brought to the full size; only of a
        `known` place. `windows` (n, 3): top, left, and the share of both sides."""
        raise TypeError(f"{type(self).__name__} says no way of being cropped")


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


def nearest(values: torch.Tensor, windows: torch.Tensor) -> torch.Tensor:
    """(n, H, W, ...) as each one's window shows it, by the nearest pixel."""
    import torch

    height, width = values.shape[1:3]
    rows, columns = (_places(windows[:, axis], windows[:, 2], size) for axis, size in ((0, height), (1, width)))
    samples = torch.arange(len(values), device=values.device)[:, None, None]
    rows, columns = (p.floor().long() for p in (rows * height, columns * width))
    return values[samples, rows.clamp(0, height - 1)[:, :, None], columns.clamp(0, width - 1)[:, None]]


def between(values: torch.Tensor, windows: torch.Tensor) -> torch.Tensor:
    """(n, H, W, C) float32 as each one's window shows it, linearly between pixels."""
    import torch
    from torch.nn.functional import grid_sample

    height, width = values.shape[1:3]
    rows, columns = (2 * _places(windows[:, a], windows[:, 2], size) - 1 for a, size in ((0, height), (1, width)))
    shape = (len(values), height, width)
    grid = torch.stack([columns[:, None].expand(shape), rows[:, :, None].expand(shape)], -1)
    planes = values.permute(0, 3, 1, 2).float()
    return grid_sample(planes, grid, padding_mode="border", align_corners=False).permute(0, 2, 3, 1)


def _places(first: torch.Tensor, share: torch.Tensor, size: int) -> torch.Tensor:
    """(n, size): where the middle of each pixel lies, in shares of the whole side."""
    import torch

    middles = (torch.arange(size, device=first.device) + 0.5) / size
    return first[:, None] + share[:, None] * middles


def exchanged(ids: torch.Tensor, order: tuple[int, ...]) -> torch.Tensor:
    """Class ids with each id i below the number of classes replaced by `order[i]`; others stay."""
    import torch

    if order == tuple(range(len(order))):
        return ids
    table = torch.tensor(order, dtype=torch.int64, device=ids.device)
    known = (ids >= 0) & (ids < len(order))
    return torch.where(known, table[torch.where(known, ids, 0).long()].to(ids.dtype), ids)


def negated(values: torch.Tensor, places: tuple[int, ...]) -> torch.Tensor:
    """Numbers (n, ..., C) with another sign at these places of the last axis."""
    values[..., list(places)] *= -1
    return values


def inside(modality: M, count: int) -> M:
    """The modality, whose `mirror` names places below `count`. Raises ValueError for others."""
    wrong = [place for place in modality.mirror or () if not 0 <= place < count]
    if wrong:
        raise ValueError(f"mirror: {wrong[0]} is none of the {count} places from 0")
    return modality
