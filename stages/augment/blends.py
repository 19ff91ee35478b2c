"""Blends: two samples of a batch become one, pictures and answers alike.

    augment: [flip, colour, {type: cutmix, alpha: 1.0}]

The other sample is drawn from the whole global batch, so a blend does not depend on how many workers share it. A blend
follows all other augmentations: both samples went through their geometry with all that they have. What lies on the
frame is cut and pasted as the picture is. Of all else, and of what `mixup` adds up, the answers of both samples teach,
each by its share: the loss is `share` times that against the own answers and `1 - share` times that against the
other's (Zhang et al. 2018). So class ids, boxes and texts can teach as well as probabilities, for which this has the
gradient of mixed probabilities.

In a batch, `column + OTHER` are the other sample's answers and `SHARE` (N,) how much the own ones count; `column + OWN`
are the own answers of a column that is an input too and was changed as such. Imports no torch.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, TypeAlias

import numpy as np
from pydantic import Field, field_validator

from hyperloom.pipeline.config import as_tuple
from hyperloom.pipeline.plugins import of
from hyperloom.stages.augment.views import Augment, Drawn
from hyperloom.stages.base import VALID
from hyperloom.stages.modality import Modality

if TYPE_CHECKING:
    import torch

    Tensors = dict[str, torch.Tensor]

OneBlend: TypeAlias = Annotated[Any, of("augment")]
OWN, OTHER, SHARE = "&own", "&other", "&share"


@dataclass(frozen=True)
class Pairs:
    """A batch and `others`, whose row i is the sample that its row i is to be blended with. `columns` are in both,
    `inputs` those that a network reads."""

    batch: Tensors
    others: Tensors
    columns: Mapping[str, Modality]
    inputs: Collection[str]

    def alike(self, columns: Collection[str]) -> torch.Tensor:
        """(n,) bool: has the other sample the same of these columns as the own?"""
        import torch

        return torch.stack([self.batch[c + VALID] == self.others[c + VALID] for c in columns]).all(0)


class Blend(Augment):
    """Base of augmentations that blend each sample with another one of the global batch."""

    probability: float = Field(1.0, ge=0, le=1)
    """Of each sample to be blended."""

    def takes(self, inputs: Mapping[str, Modality], answers: Mapping[str, Modality]) -> None:
        """Raises ValueError, naming it, for an input or a column that teaches which this blend would make untrue."""

    def blend(self, pairs: Pairs, drawn: Drawn) -> Tensors:
        """The batch, blended as `draw` drew."""
        raise TypeError(f"the blend {self.type!r} has no blend()")

    def _chosen(self, random: np.random.Generator, count: int, part: slice) -> torch.Tensor:
        import torch

        return torch.from_numpy(random.random(count) < self.probability)[part]


class MixUp(Blend):
    """mixup (Zhang et al. 2018): the sum of two pictures, `share` of one and the rest of the other, `share` drawn from
    Beta(alpha, alpha). A sample is mixed only with one that has the same inputs. Inputs are pictures and numbers;
    class ids, words, points and boxes have no sum and are refused as inputs, not as answers. Where one of both has no
    number (a shorter series, a hole in a map) there is what the one with the larger share has, so that a mixture is as
    long as the sample whose answer counts most."""

    revision: ClassVar[int] = 1
    alpha: float = Field(0.2, gt=0)

    def takes(self, inputs: Mapping[str, Modality], answers: Mapping[str, Modality]) -> None:
        wrong = [c for c, m in inputs.items() if not (m.averaged or m.rgb or m.times > 1)]
        if wrong:
            maps = all(inputs[column].height_width is not None for column in wrong)
            mend = "cutmix, which cuts and pastes them" if maps else "leave mixup out, or these out of `in:`"
            raise ValueError(f"mixup has no sum of two values of {', '.join(wrong)}. Next: {mend}")

    def draw(self, columns: Mapping[str, Modality], count: int, part: slice, generator: torch.Generator) -> Drawn:
        import torch

        random = _numpy(generator)
        share = torch.from_numpy(random.beta(self.alpha, self.alpha, count)).float()[part]
        return {"share": share, "chosen": self._chosen(random, count, part)}

    def blend(self, pairs: Pairs, drawn: Drawn) -> Tensors:
        import torch

        batch, others = pairs.batch, pairs.others
        share = torch.where(drawn["chosen"] & pairs.alike(pairs.inputs), drawn["share"], 1.0)
        changed = {**batch, SHARE: share}
        for column, modality in pairs.columns.items():
            changed[column + OTHER], changed[column + OTHER + VALID] = others[column], others[column + VALID]
            if column in pairs.inputs:
                own, other = (_numbers(values[column], modality) for values in (batch, others))
                changed[column + OWN] = batch[column]
                changed[column + OWN + VALID] = batch[column + VALID]
                weight = share.view(-1, *[1] * (own.ndim - 1))
                larger, mixed = own.where(weight >= 0.5, other), weight * own + (1 - weight) * other
                changed[column] = own.where(weight == 1, mixed.where(mixed == mixed, larger))
        return changed


class Paste(Blend):
    """Base of blends that paste a region of another picture, with all that lies on it, in the place where it was. Maps
    that teach are pasted alike; of what belongs to whole samples both answers teach, by the shares of the areas."""

    def draw(self, columns: Mapping[str, Modality], count: int, part: slice, generator: torch.Generator) -> Drawn:
        random = _numpy(generator)
        return {"chosen": self._chosen(random, count, part), "where": self.places(columns, count, part, random)}

    def places(
        self, columns: Mapping[str, Modality], count: int, part: slice, random: np.random.Generator
    ) -> torch.Tensor:
        """What `random` says of where to paste, for samples `part` of `count`: (n, ...)."""
        raise TypeError(f"the blend {self.type!r} has no places()")

    def region(self, pairs: Pairs, where: torch.Tensor) -> torch.Tensor:
        """(n, H, W) bool: what of each of the `others` is pasted, by pixels of any size of maps; `where` is what
        `places` drew, by default this itself."""
        return where

    def takes(self, inputs: Mapping[str, Modality], answers: Mapping[str, Modality]) -> None:
        flat = {c: m for c, m in {**inputs, **answers}.items() if m.height_width is None}
        if wrong := [c for c, m in flat.items() if c in inputs or m.place == "known"]:
            raise ValueError(f"{self.type} cannot paste a part of {', '.join(wrong)}. Next: leave it out, or mixup")

    def blend(self, pairs: Pairs, drawn: Drawn) -> Tensors:
        import torch

        from hyperloom.stages.network.visible import resampled

        maps = [c for c, m in pairs.columns.items() if m.height_width is not None]
        chosen = drawn["chosen"] & pairs.alike(maps)
        region = self.region(pairs, drawn["where"]) & chosen.view(-1, 1, 1)
        changed = {**pairs.batch, SHARE: 1 - region.float().mean((1, 2))}
        for column, modality in pairs.columns.items():
            own, other = pairs.batch[column], pairs.others[column]
            if column not in maps:
                changed[column + OTHER], changed[column + OTHER + VALID] = other, pairs.others[column + VALID]
                continue
            pasted = resampled(region, modality.height_width or region.shape[1:])
            pasted = pasted[:, None] if modality.times > 1 else pasted
            changed[column] = torch.where(pasted.view(*pasted.shape, *[1] * (own.ndim - pasted.ndim)), other, own)
        return changed


class CutMix(Paste):
    """CutMix (Yun et al. 2019): a window of another picture, whose share of the area is drawn from Beta(alpha, alpha)
    before it is cut at the edges."""

    revision: ClassVar[int] = 1
    alpha: float = Field(1.0, gt=0)

    def places(
        self, columns: Mapping[str, Modality], count: int, part: slice, random: np.random.Generator
    ) -> torch.Tensor:
        import torch

        sides = np.sqrt(random.beta(self.alpha, self.alpha, count))[:, None]
        inside = []
        for length in next(m.height_width for m in columns.values() if m.height_width):
            middle = random.random((count, 1))
            first, last = (np.rint((middle + side * sides / 2) * length) for side in (-1, 1))
            inside.append((np.arange(length) >= first) & (np.arange(length) < last))
        return torch.from_numpy(inside[0][:, :, None] & inside[1][:, None])[part]


class ClassMix(Paste):
    """ClassMix (Olsson et al. 2021): the pixels of half of another picture's classes, drawn anew, by the ids or the
    probabilities in the column `of`. Rare classes come into more pictures than they were seen in."""

    revision: ClassVar[int] = 1
    of: str

    def takes(self, inputs: Mapping[str, Modality], answers: Mapping[str, Modality]) -> None:
        super().takes(inputs, answers)
        modality = {**inputs, **answers}.get(self.of)
        if modality is None:
            raise ValueError(f"{self.type}: of: {self.of} is not read; there are {', '.join({**inputs, **answers})}")
        if modality.height_width is None or modality.regression:
            raise ValueError(f"{self.type}: of: {self.of} has no classes of pixels")

    def places(
        self, columns: Mapping[str, Modality], count: int, part: slice, random: np.random.Generator
    ) -> torch.Tensor:
        import torch

        return torch.from_numpy(random.random((count, columns[self.of].channels)))[part]

    def region(self, pairs: Pairs, where: torch.Tensor) -> torch.Tensor:
        import torch

        modality, values = pairs.columns[self.of], pairs.others[self.of]
        ids = values.argmax(-1) if modality.soft else values.long()
        known = modality.given(values) if modality.soft else (ids >= 0) & (ids < modality.channels)
        known &= pairs.others[self.of + VALID].view(-1, 1, 1)
        flat = torch.where(known, ids, modality.channels).flatten(1)  # the last place is for what is unknown
        present = torch.zeros(len(flat), modality.channels + 1, dtype=torch.bool, device=flat.device)
        present = present.scatter(1, flat, True)[:, :-1]
        place = where.masked_fill(~present, 2.0).argsort(1).argsort(1)
        taken = present & (place < (present.sum(1, keepdim=True) + 1) // 2)
        return torch.cat([taken, torch.zeros_like(taken[:, :1])], 1).gather(1, flat).view(ids.shape)


class OneOf(Blend):
    """One of several blends in each update, all as often: `{type: one-of, of: [mixup, cutmix]}`."""

    revision: ClassVar[int] = 1
    of: tuple[OneBlend, ...] = Field(min_length=2)

    _tuple = field_validator("of", mode="before")(as_tuple)

    @field_validator("of")
    @classmethod
    def _blends(cls, value: tuple[Any, ...]) -> tuple[Any, ...]:
        if wrong := [one.type for one in value if not isinstance(one, Blend)]:
            raise ValueError(f"of: {', '.join(wrong)} is no blend of two samples; list it before, on its own")
        return value

    def takes(self, inputs: Mapping[str, Modality], answers: Mapping[str, Modality]) -> None:
        for one in self.of:
            one.takes(inputs, answers)

    def draw(self, columns: Mapping[str, Modality], count: int, part: slice, generator: torch.Generator) -> Drawn:
        which = int(_numpy(generator).integers(len(self.of)))
        return {"which": which, "drawn": self.of[which].draw(columns, count, part, generator)}

    def blend(self, pairs: Pairs, drawn: Drawn) -> Tensors:
        blended: Tensors = self.of[drawn["which"]].blend(pairs, drawn["drawn"])
        return blended


def answers(batch: Mapping[str, Any], *columns: str) -> list[tuple[list[str], Any]]:
    """What teaches in a batch in place of `columns`, a target and what weighs it: their names in the batch, and (N,)
    how much each sample's count, None where all do. Two of a batch that was blended, else one."""
    own = [c + OWN if c + OWN in batch else c for c in columns]
    other = [c + OTHER if c + OTHER in batch else n for c, n in zip(columns, own, strict=True)]
    if other == own:
        return [(own, None)]
    return [(own, batch[SHARE]), (other, 1 - batch[SHARE])]


def _numbers(values: torch.Tensor, modality: Modality) -> torch.Tensor:
    """As float32, bytes of probabilities as such."""
    scale = 255 if modality.soft and not values.is_floating_point() else 1
    return values.float() / scale


def _numpy(generator: torch.Generator) -> np.random.Generator:
    """NumPy's generator, since torch draws no Beta."""
    import torch

    return np.random.default_rng(int(torch.randint(2**62, (), generator=generator)))
