"""Geometry: how a value moves with the picture it was made of, so that an augmentation keeps labels true."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

if TYPE_CHECKING:
    import torch


class Geometry:
    """The part of a modality that says where its values lie."""

    sides: ClassVar[Literal["none", "known", "unknown"]] = "none"
    """Have values a left and a right? `none`: they stay as they are when the picture is mirrored (classes of samples,
    texts, sounds). `known`: `mirrored` exchanges the two. `unknown`: nobody knows which numbers change, so mirroring is
    refused."""

    def mirrored(self, values: torch.Tensor) -> torch.Tensor:
        """`values` (n, *shape), a tensor of their own memory, with left and right exchanged; only of `known` sides."""
        raise TypeError(f"{type(self).__name__} says no way of being mirrored")
