"""Masks that hide patches (see `stages.network.masks`): at random in every modality, together with whole modalities, or
allotted over the modalities anew for each sample.

    mask: {type: patch, keep: 0.25, patch: 16}
    mask: {type: both, keep: 0.5, patches: {keep: 0.5}}
    mask: {type: dirichlet, keep: 0.17, alpha: 1.0, visible: caption}

Every sample keeps at least one patch, and of an input of several patches never all.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from hyperloom.pipeline.config import Config
from hyperloom.stages.network.masks import ModalityMask, NamingMask

if TYPE_CHECKING:
    import torch

    from hyperloom.stages.network.architecture import Architecture
    from hyperloom.stages.network.visible import Visible


class Squares(Config):
    """`keep` is the share of the patches that show; a raster's are `patch` pixels wide (by default as the trunk has
    them, else 16)."""

    keep: float = Field(0.25, gt=0, lt=1)
    patch: int | None = Field(None, ge=1)


class PatchMask(NamingMask):
    """The same share of the patches of each input, drawn for each sample. Inputs that are one patch show or not, with
    the same chance. Those named in `visible` show whole, those in `hidden` never."""

    revision: ClassVar[int] = 1
    keep: float = Field(0.25, gt=0, lt=1)
    patch: int | None = Field(None, ge=1)
    """Side of the squares in pixels; by default the trunk's patches, else 16."""

    def sample(self, columns: Sequence[str], count: int, generator: torch.Generator) -> torch.Tensor:
        import torch

        return ~torch.tensor(self.hidden_inputs(columns)).expand(count, -1)

    def draw(self, architecture: Architecture, count: int, generator: torch.Generator) -> Visible:
        from hyperloom.stages.network.visible import Visible

        columns, grids = architecture.columns, architecture.grids(self.patch)
        kept = [share(grid, self.keep, count, generator) for grid in grids]
        kept = [k | True if self._named(c, self.visible) else k for k, c in zip(kept, columns, strict=True)]
        return _guarded(Visible(self.sample(columns, count, generator), tuple(kept)), generator)


class BothMask(ModalityMask):
    """Whole modalities as `type: modality` hides them, and of those that show, only a share of the patches."""

    revision: ClassVar[int] = 1
    patches: Squares = Squares()

    def shown_inputs(self, columns: Sequence[str]) -> list[bool]:
        return NamingMask.shown_inputs(self, columns) if not self.alone else [False] * len(columns)

    def draw(self, architecture: Architecture, count: int, generator: torch.Generator) -> Visible:
        from hyperloom.stages.network.visible import Visible

        inputs = self.sample(architecture.columns, count, generator)
        kept = []
        for column, grid in zip(architecture.columns, architecture.grids(self.patches.patch), strict=True):
            drawn = share(grid, self.patches.keep, count, generator)
            kept.append(drawn | True if self._named(column, self.visible) or math.prod(grid) == 1 else drawn)
        return self.left_alone(Visible(inputs, tuple(kept)), architecture, count, generator)


class DirichletMask(NamingMask):
    """A fixed number of visible patches for each sample, allotted over its inputs by a draw from a symmetric Dirichlet
    distribution (Bachmann et al. 2022): small `alpha` shows almost one input alone, large `alpha` all alike. What an
    input cannot take goes to the others. Inputs named in `visible` show whole and do not count."""

    revision: ClassVar[int] = 1
    keep: float = Field(0.17, gt=0, lt=1)
    alpha: float = Field(1.0, gt=0)
    patch: int | None = Field(None, ge=1)

    def sample(self, columns: Sequence[str], count: int, generator: torch.Generator) -> torch.Tensor:
        import torch

        return ~torch.tensor(self.hidden_inputs(columns)).expand(count, -1)

    def draw(self, architecture: Architecture, count: int, generator: torch.Generator) -> Visible:
        import torch

        from hyperloom.stages.network.visible import Visible

        columns, grids = architecture.columns, architecture.grids(self.patch)
        inputs = self.sample(columns, count, generator)
        free = [i for i, c in enumerate(columns) if inputs[0, i] and not self._named(c, self.visible)]
        sizes = torch.tensor([math.prod(grids[i]) for i in free])
        squares = [torch.ones(count, *grid, dtype=torch.bool) for grid in grids]
        if free:
            budget = min(max(1, round(self.keep * int(sizes.sum()))), int(sizes.sum()))
            allotted = allotment(sizes, budget, self.alpha, count, generator)
            for n, i in enumerate(free):
                ranks = torch.rand(count, int(sizes[n]), generator=generator).argsort(1).argsort(1)
                squares[i] = (ranks < allotted[:, n : n + 1]).view(count, *grids[i])
        return Visible(inputs, tuple(squares))


def allotment(sizes: torch.Tensor, budget: int, alpha: float, count: int, generator: torch.Generator) -> torch.Tensor:
    """(count, inputs) patches to show: each row sums to `budget` and no input gets more than it has, `sizes` (inputs,).
    Shares are Dirichlet; whole patches are dealt by largest remainder, what is over to the inputs with most room."""
    import torch

    shares = torch._standard_gamma(torch.full((count, len(sizes)), alpha), generator=generator)
    shares = shares / shares.sum(1, keepdim=True).clamp(min=1e-20)
    ideal = shares * budget
    given = torch.minimum(ideal.floor().long(), sizes)
    for _ in range(budget):
        short = budget - given.sum(1)
        if not short.any():
            break
        room = sizes - given
        order = torch.where(room > 0, ideal - given, -torch.inf).argsort(1, descending=True).argsort(1)
        given = given + ((order < short[:, None]) & (room > 0)).long()
    return given


def share(grid: Sequence[int], keep: float, count: int, generator: torch.Generator | None) -> torch.Tensor:
    """(count, *grid) bool with the nearest number of true ones to `keep`, at least one and not all; a single one is
    true with that chance."""
    import torch

    sites = math.prod(grid)
    drawn = torch.rand(count, sites, generator=generator)
    if sites == 1:
        return (drawn < keep).view(count, *grid)
    return (drawn.argsort(1).argsort(1) < share_of(sites, keep)).view(count, *grid)


def share_of(sites: int, keep: float) -> int:
    """How many of several sites `share` shows."""
    return min(max(1, round(keep * sites)), sites - 1)


def _guarded(visible: Visible, generator: torch.Generator) -> Visible:
    """Where all that a sample may see came out hidden, because all its inputs are single patches, one of them shows."""
    import torch

    seen = torch.stack([s.flatten(1).any(1) for s in visible.squares if s is not None], 1) & visible.inputs
    luck = torch.rand(seen.shape, generator=generator).masked_fill(~visible.inputs, -1.0).argmax(1)
    empty = ~seen.any(1)
    squares = [
        s if s is None else s | (empty & (luck == i)).view(-1, *[1] * (s.ndim - 1))
        for i, s in enumerate(visible.squares)
    ]
    return type(visible)(visible.inputs, tuple(squares))
