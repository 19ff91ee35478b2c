"""Contrast: objectives that need no labels, only that two looks at one sample agree more than looks at two samples.

    extras:
      pairs: {type: contrastive, between: [rgb@camera, caption@web], temperature: 0.1}
      views: {type: contrastive, between: [rgb@camera], keep: 0.5}

InfoNCE (van den Oord, Li & Vinyals 2018; Radford et al. 2021): each input is shown alone, what the trunk pools of it is
a point on a sphere, and of all samples of the batch, those of other workers too, the own one must be the nearest. One
input alone is compared with itself under two random sets of patches. Extras are tasks to the balancer, by their names.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field, field_validator

from pipeline.plugins import Plugin

if TYPE_CHECKING:
    import torch

    from stages.train.model import MultiTask
    from stages.train.world import World


class Extra(Plugin):
    """Base of objectives of whole samples that need no target."""

    def check(self, columns: Sequence[str]) -> None:
        """Raises ValueError when this objective names what is no input."""

    def count(self, columns: Sequence[str], there: torch.Tensor) -> torch.Tensor:
        """How many samples count, (); `there` is (N, inputs) bool."""
        raise TypeError(f"the objective {self.type!r} has no count()")

    def loss(self, model: MultiTask, planes: list[torch.Tensor], there: torch.Tensor, world: World) -> torch.Tensor:
        """The sum of the losses of this rank's samples, (), from encoded inputs. All ranks call it together."""
        raise TypeError(f"the objective {self.type!r} has no loss()")


class Contrastive(Extra):
    """`between` names one input column, or several, of which each pair is contrasted."""

    revision: ClassVar[int] = 1
    between: tuple[str, ...] = Field(min_length=1)
    temperature: float = Field(0.1, gt=0)
    weight: float = Field(1.0, gt=0)
    keep: float = Field(0.5, gt=0, lt=1)
    """Share of the patches in each of two views of one input."""

    @field_validator("between", mode="before")
    @classmethod
    def _tuple(cls, value: Any) -> Any:
        return (value,) if isinstance(value, str) else value

    def check(self, columns: Sequence[str]) -> None:
        if unknown := [c for c in self.between if c not in columns]:
            raise ValueError(f"contrast between {', '.join(unknown)}, but the inputs are {', '.join(columns)}")

    @property
    def pairs(self) -> list[tuple[str, str]]:
        return list(combinations(self.between, 2)) or [(self.between[0], self.between[0])]

    def count(self, columns: Sequence[str], there: torch.Tensor) -> torch.Tensor:
        return sum(self._both(columns, there, pair).sum() for pair in self.pairs)  # type: ignore[return-value]

    def loss(self, model: MultiTask, planes: list[torch.Tensor], there: torch.Tensor, world: World) -> torch.Tensor:
        columns = model.architecture.columns
        import torch

        total = torch.zeros((), device=there.device)
        for first, second in self.pairs:
            looks = [self._point(model, planes, columns.index(c), first == second) for c in (first, second)]
            both = self._both(columns, there, (first, second))
            total = total + (info_nce(looks[0], looks[1], both, self.temperature, world)) * self.weight
        return total

    @staticmethod
    def _both(columns: Sequence[str], there: torch.Tensor, pair: tuple[str, str]) -> torch.Tensor:
        return there[:, columns.index(pair[0])] & there[:, columns.index(pair[1])]

    def _point(self, model: MultiTask, planes: list[torch.Tensor], i: int, views: bool) -> torch.Tensor:
        """(N, P) unit vectors: what is pooled of input i alone."""
        import torch
        from torch.nn.functional import normalize

        from stages.train.patches import share
        from stages.train.visible import Visible

        inputs = torch.zeros(len(planes[i]), len(planes), dtype=torch.bool, device=planes[i].device)
        inputs[:, i] = True
        squares: list[torch.Tensor | None] = [None] * len(planes)
        if views:
            squares[i] = share(model.architecture.grids()[i], self.keep, len(inputs), None).to(inputs.device)
        return normalize(model.features(planes, Visible(inputs, tuple(squares))).pooled.float(), dim=1)


def info_nce(
    one: torch.Tensor, other: torch.Tensor, both: torch.Tensor, temperature: float, world: World
) -> torch.Tensor:
    """Sum over this rank's samples with both looks, (): cross-entropy of finding the own one among all ranks' samples,
    averaged over the two directions. `one`, `other` (N, P) unit vectors, `both` (N,) bool."""
    import torch
    from torch.nn.functional import cross_entropy

    everyone = [world.together(look) for look in (one, other)]
    there = world.together(both.float()[:, None])[:, 0] > 0.5
    own = world.place(len(one)) + torch.arange(len(one), device=one.device)
    total = one.new_zeros(())
    for look, among in ((one, everyone[1]), (other, everyone[0])):
        scores = (look @ among.T / temperature).masked_fill(~there, -1e4)
        total = total + torch.where(both, cross_entropy(scores, own, reduction="none"), 0.0).sum() / 2
    return total
