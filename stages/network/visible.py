"""What a mask shows of a batch: which inputs of each sample and, of some, which squares of a grid.

A grid divides an input evenly whatever its size in pixels, so that one drawing serves networks that hide pixels and
networks that drop tokens. Slicing takes samples.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import torch

from hyperloom.stages.base import VALID

if TYPE_CHECKING:
    from hyperloom.stages.network.architecture import Architecture

Grid: TypeAlias = torch.Tensor | None


@dataclass(frozen=True)
class Visible:
    """`inputs` (N, inputs) bool; `squares[i]` (N, *grid) bool, or None where input i is shown or hidden as a whole.
    `kept` is what is known on the host of how many tokens each sample keeps."""

    inputs: torch.Tensor
    squares: tuple[Grid, ...] = ()
    kept: tuple[int, ...] | None = None

    def __getitem__(self, part: slice) -> Visible:
        squares = tuple(s if s is None else s[part] for s in self.squares)
        return Visible(self.inputs[part], squares, None if self.kept is None else self.kept[part])

    def to(self, device: torch.device | str) -> Visible:
        squares = tuple(s if s is None else s.to(device) for s in self.squares)
        return Visible(self.inputs.to(device), squares, self.kept)

    def sites(self, i: int, grid: Sequence[int]) -> torch.Tensor:
        """Which sites of input i are shown, on another grid: (N, *grid) bool, or (N, 1, ...) where it is a whole."""
        whole = self.inputs[:, i].view(-1, *[1] * len(grid))
        squares = self.squares[i] if self.squares else None
        return whole if squares is None else whole & resampled(squares, grid)


def resampled(squares: torch.Tensor, grid: Sequence[int]) -> torch.Tensor:
    """(N, *coarse) on a grid of as many dimensions, each site taking the square in which it lies."""
    for dim, size in enumerate(grid, 1):
        coarse = squares.shape[dim]
        if coarse != size:
            place = torch.arange(size, device=squares.device) * coarse // size
            squares = squares.index_select(dim, place)
    return squares


def present(architecture: Architecture, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
    """(N, inputs) bool: which inputs of each sample are there, with every column that they read."""
    every = [[batch[part.column + VALID] for part in i.parts] for i in architecture.inputs]
    return torch.stack([one[0] if len(one) == 1 else torch.stack(one, 1).all(1) for one in every], 1)


def answerable(seen: torch.Tensor, needed: Iterable[torch.Tensor]) -> np.ndarray:
    """(N,) bool: to which samples a network has an answer. Each must show an input, (N, inputs) being `seen`, and lack
    none of the columns that the network cannot do without, for each of which `needed` says who has it, (N,) bool."""
    every = seen.any(1)
    for known in needed:
        every = every & known
    given: np.ndarray = every.numpy()
    return given


def shown(present: torch.Tensor, mask: Visible | torch.Tensor) -> Visible:
    """What a mask shows of what is there, (N, inputs) bool: a sample of which it would show nothing shows all."""
    if isinstance(mask, torch.Tensor):
        mask = Visible(mask)
    any_square = [s.flatten(1).any(1) if s is not None else torch.ones_like(present[:, 0]) for s in mask.squares]
    seen = mask.inputs & torch.stack(any_square, 1) if any_square else mask.inputs
    both = present & seen
    empty = ~both.any(1)
    squares = tuple(s if s is None else s | empty.view(-1, *[1] * (s.ndim - 1)) for s in mask.squares)
    return Visible(torch.where(empty[:, None], present, both), squares, mask.kept)
