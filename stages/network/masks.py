"""Masks: what of its inputs a training step may see, whole modalities or patches.

Hiding whole modalities at random samples one hyper-edge of the graph "these modalities -> all tasks" in each forward
pass, so that one network learns every edge and can later be asked along any of them (PHG-MAE 2025; MultiMAE, Bachmann
et al. 2022). Hiding patches makes it reconstruct what lies between (He et al. 2022). A patch is a square of a raster or
a token of a sequence; numbers of whole samples are one patch. Invariants: all is drawn for the whole global batch, so
it does not depend on how many workers share it; the same generator gives the same mask; no sample is left without a
visible input (its loss would teach noise); with `full: false` none keeps all of them (a masked-reconstruction loss
would be 0/0). A mask says nothing of inputs that are missing in the data: the model hides those by itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar, Literal, Self

from pydantic import Field, field_validator, model_validator

from hyperloom.pipeline.config import as_tuple
from hyperloom.pipeline.plugins import Plugin
from hyperloom.stages.base import modality_of

if TYPE_CHECKING:
    import torch

    from hyperloom.stages.network.architecture import Architecture
    from hyperloom.stages.network.visible import Visible


class Mask(Plugin):
    """Base of masks: `sample` gives, for `count` samples, which of the input columns are visible, and `draw` what of
    them."""

    def sample(self, columns: Sequence[str], count: int, generator: torch.Generator) -> torch.Tensor:
        """(count, len(columns)) bool, True = visible."""
        raise TypeError(f"the mask {self.type!r} has no sample()")

    def draw(self, architecture: Architecture, count: int, generator: torch.Generator) -> Visible:
        """What an update shows of each of `count` samples; by default whole inputs."""
        from hyperloom.stages.network.visible import Visible

        return Visible(self.sample(architecture.columns, count, generator))

    def hidden_inputs(self, columns: Sequence[str]) -> list[bool]:
        """Which columns are never visible, in training or after."""
        return [False] * len(columns)

    def shown_inputs(self, columns: Sequence[str]) -> list[bool]:
        """Which columns every sample shows in training, as far as a mask says so."""
        return [False] * len(columns)

    def check(self, columns: Sequence[str]) -> None:
        """Raises ValueError when this mask names what is no input."""


def hidden_of(mask: Mask, architecture: Architecture) -> tuple[str, ...]:
    """The inputs of a network that are never visible to it."""
    columns = architecture.columns
    return tuple(c for c, never in zip(columns, mask.hidden_inputs(columns), strict=True) if never)


class NoMask(Mask):
    """Everything is visible."""

    revision: ClassVar[int] = 1

    def sample(self, columns: Sequence[str], count: int, generator: torch.Generator) -> torch.Tensor:
        import torch

        return torch.ones(count, len(columns), dtype=torch.bool)

    def shown_inputs(self, columns: Sequence[str]) -> list[bool]:
        return [True] * len(columns)


class NamingMask(Mask):
    """Base of masks in which `visible` and `hidden` name columns or modalities that always or never show."""

    visible: tuple[str, ...] = ()
    hidden: tuple[str, ...] = ()

    _tuple = field_validator("visible", "hidden", mode="before")(as_tuple)

    @model_validator(mode="after")
    def _disjoint(self) -> Self:
        both = sorted(set(self.visible) & set(self.hidden))
        if both:
            raise ValueError(f"{', '.join(both)} cannot be both always visible and always hidden")
        return self

    def hidden_inputs(self, columns: Sequence[str]) -> list[bool]:
        return [self._named(c, self.hidden) for c in columns]

    def shown_inputs(self, columns: Sequence[str]) -> list[bool]:
        return [self._named(c, self.visible) for c in columns]

    def check(self, columns: Sequence[str]) -> None:
        known = set(columns) | {modality_of(c) for c in columns}
        unknown = [n for n in (*self.visible, *self.hidden) if n not in known]
        if unknown:
            raise ValueError(f"the mask names {', '.join(unknown)}, but the inputs are {', '.join(columns)}")
        if all(self._named(c, self.hidden) for c in columns):
            raise ValueError("the mask hides every input; leave one out of `hidden`")

    @staticmethod
    def _named(column: str, names: Sequence[str]) -> bool:
        return column in names or modality_of(column) in names


class ModalityMask(NamingMask):
    """Each modality is visible with probability `keep`, independently; at least one always is.

    `visible` and `hidden` name columns or modalities that are always or never visible. `by` says what is hidden as a
    whole: a `modality` with all its sources, or each `column` alone. A subset is drawn for `each` sample or batch.
    """

    revision: ClassVar[int] = 1
    keep: float = Field(0.5, ge=0, le=1)
    by: Literal["modality", "column"] = "column"
    each: Literal["sample", "batch"] = "sample"
    full: bool = True
    """May a sample keep all its inputs?"""
    alone: float = Field(0.0, ge=0, lt=1)
    """Share of the samples that show a picture and nothing else, as a student will see them: the one of several inputs
    that is an image, or one of these at random. Counts while training; members of an ensemble are drawn without it."""

    def shown_inputs(self, columns: Sequence[str]) -> list[bool]:
        if self.alone:
            return [False] * len(columns)
        every = self.keep == 1 and self.full  # else one input of each sample is hidden
        return [(every or self._named(c, self.visible)) and not self._named(c, self.hidden) for c in columns]

    def draw(self, architecture: Architecture, count: int, generator: torch.Generator) -> Visible:
        return self.left_alone(super().draw(architecture, count, generator), architecture, count, generator)

    def left_alone(
        self, visible: Visible, architecture: Architecture, count: int, generator: torch.Generator
    ) -> Visible:
        """`visible`, but for the share of the samples that show a picture alone."""
        import torch

        banned = self.hidden_inputs(architecture.columns)
        pictures = [i for i, item in enumerate(architecture.inputs) if item.modality.rgb and not banned[i]]
        if not self.alone or not pictures:
            return visible
        drawn = torch.rand(count if self.each == "sample" else 1, 2, generator=generator)
        which = torch.tensor(pictures)[(drawn[:, 1] * len(pictures)).long()]
        only = torch.arange(visible.inputs.shape[1]) == which[:, None]
        return replace(visible, inputs=torch.where(drawn[:, :1] < self.alone, only, visible.inputs))

    def sample(self, columns: Sequence[str], count: int, generator: torch.Generator) -> torch.Tensor:
        import torch

        units = self._units(columns)
        pinned = torch.tensor([self._named(c, self.visible) for c in columns])
        banned = torch.tensor(self.hidden_inputs(columns))
        rows = count if self.each == "sample" else 1
        draws = torch.rand(rows, max(units) + 1, generator=generator)[:, units]
        shown = ((draws < self.keep) | pinned) & ~banned
        free = ~pinned & ~banned
        if free.any():
            shown = self._guard(shown, draws, free, units)
        return shown.expand(count, -1).contiguous()

    def _guard(self, shown: torch.Tensor, draws: torch.Tensor, free: torch.Tensor, units: list[int]) -> torch.Tensor:
        """Show the likeliest free unit where nothing is visible; hide the unlikeliest where not all may be."""
        import torch

        of_unit = torch.tensor(units)
        masked = draws.masked_fill(~free, 2.0)
        first = of_unit[masked.argmin(1)]
        empty = ~shown.any(1, keepdim=True)
        shown = shown | (empty & free & (of_unit == first[:, None]))
        if not self.full and len(set(of_unit[free].tolist())) + int((~free).any()) > 1:
            last = of_unit[draws.masked_fill(~free, -1.0).argmax(1)]
            complete = (shown | ~free).all(1, keepdim=True) & shown[:, free].all(1, keepdim=True)
            shown = shown & ~(complete & free & (of_unit == last[:, None]))
        return shown

    def _units(self, columns: Sequence[str]) -> list[int]:
        names = [modality_of(c) if self.by == "modality" else c for c in columns]
        order = list(dict.fromkeys(names))
        return [order.index(n) for n in names]
