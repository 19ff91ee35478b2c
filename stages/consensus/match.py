"""Match: boxes or instances of several sources become one set, what overlaps being one thing.

Going from the surest thing on, each joins the thing of another source that it overlaps most, one of its own class
first; what too few sources see is left out. A thing's class is that of most weight, its mask what at least half of its
weight covers, its box the mean (Solovyev, Wang & Gabruseva 2021), its score the mean over all sources that are there,
so that what one of two sees has half the score.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field, field_validator

from hyperloom.stages.consensus.methods import MethodOutput, Weighted
from hyperloom.stages.label.expert import Batch
from hyperloom.stages.modality import overlap, packed

if TYPE_CHECKING:
    import numpy as np

    from hyperloom.pipeline.root.storage import Storage
    from hyperloom.stages.modality import Modality


@dataclass
class Thing:
    """One thing of a source: its weight there, and what it is."""

    source: int
    weight: float
    kind: int
    score: float
    box: np.ndarray
    mask: np.ndarray | None = None
    id: int = 0
    crowd: bool = False


@dataclass
class SameThings:
    """Things of several sources that are one; the first is the surest."""

    members: list[Thing] = field(default_factory=list)

    @property
    def weight(self) -> float:
        return sum(m.weight for m in self.members)

    @property
    def kind(self) -> int:
        weights: dict[int, float] = {}
        for member in self.members:
            weights[member.kind] = weights.get(member.kind, 0.0) + member.weight * member.score
        return max(weights, key=lambda k: weights[k])


class Match(Weighted):
    """`{method: {type: match, overlap: 0.5, share: 0.5}}`. `overlap` is the intersection over union from which two
    things are one, `share` the weight of the sources that must see a thing, of all that are there."""

    revision: ClassVar[int] = 1
    takes: ClassVar[str] = "boxes and instances"
    overlap: float = Field(0.5, gt=0, le=1)
    share: float = Field(0.5, gt=0, le=1)

    @field_validator("confidence")
    @classmethod
    def _things_have_scores(cls, value: dict[str, str]) -> dict[str, str]:
        if value:
            raise ValueError("things have scores of their own. Next: weights, for sources")
        return value

    def fits(self, modality: Modality) -> bool:
        return modality.measure in ("boxes", "instances")

    def making(self, modalities: dict[str, Any], storage: Storage) -> Callable[[Batch], MethodOutput]:
        import numpy as np

        from hyperloom.stages.base import modality_of

        modality = modalities[modality_of(self.out[0])]

        def make(batch: Batch) -> MethodOutput:
            rows = []
            for i in range(len(batch[self.sources[0]])):
                present = [c for c in self.sources if batch[f"{c}?"][i]]
                weights = [self.weight(c) for c in present]
                things = [
                    t for n, (c, w) in enumerate(zip(present, weights, strict=True))
                    for t in _things(batch[c][i], modality, n, w)
                ]  # fmt: skip
                kept = self._kept(things, sum(weights))
                rows.append(_value(kept, sum(weights), modality))
            return {self.out[0]: np.stack(rows)}, None

        return make

    def _kept(self, things: list[Thing], total: float) -> list[SameThings]:
        sets: list[SameThings] = []
        for thing in sorted(things, key=lambda t: -t.score):  # stable: equal scores in the order of the sources
            free = [c for c in sets if all(m.source != thing.source for m in c.members)]
            fits = [(_overlap(thing, c.members[0]), c) for c in free]
            near = [(fit + (c.kind == thing.kind), c) for fit, c in fits if fit >= self.overlap]
            if near:
                max(near, key=lambda pair: pair[0])[1].members.append(thing)
            else:
                sets.append(SameThings([thing]))
        return [c for c in sets if c.weight >= self.share * total - 1e-9]


def _things(value: np.ndarray, modality: Any, source: int, weight: float) -> list[Thing]:
    import numpy as np

    if modality.measure == "boxes":
        rows = value[~np.isnan(value).any(1)]
        return [Thing(source, weight, int(r[4]), float(r[5]), r[:4]) for r in rows]
    one = modality.unpacked_value(value)
    return [
        Thing(source, weight, int(one.classes[i]), float(one.scores[i]), one.boxes[i], one.masks[i], int(one.ids[i]),
              bool(one.crowd[i]))
        for i in range(len(one))
    ]  # fmt: skip


def _overlap(one: Thing, other: Thing) -> float:
    if one.mask is not None and other.mask is not None:
        return float(overlap.of_masks(one.mask[None], other.mask[None])[0, 0])
    return float(overlap.most(one.box[None], other.box[None])[0, 0])


def _value(sets: list[SameThings], total: float, modality: Any) -> np.ndarray:
    """The outcome, surest things first; of more than the modality holds the weakest are left out and said."""
    import numpy as np

    from hyperloom.stages.modality.boxes import padded, strongest

    scored = [(sum(m.weight * m.score for m in c.members) / total, c) for c in sets]
    scored = strongest(sorted(scored, key=lambda pair: -pair[0]), modality.most)
    if modality.measure == "boxes":
        rows = [[*_mean_box(c), c.kind, min(1.0, score)] for score, c in scored]
        return padded(np.array(rows, np.float32).reshape(-1, 6), modality.most, "boxes", "most")
    masks = [_vote(c) for _, c in scored]
    size = modality.sides_in_pixels
    stack = np.stack(masks) if masks else np.zeros((0, *size), bool)
    firsts = [min(c.members, key=lambda m: m.source) for _, c in scored]
    instances = packed.Unpacked(
        np.arange(1, len(scored) + 1, dtype=np.int64),
        np.array([c.kind for _, c in scored], np.int64),
        np.array([min(1.0, score) for score, _ in scored], np.float32),
        np.array([m.crowd for m in firsts], bool),
        packed.boxes_of(stack),
        stack,
    )
    return packed.pack(instances, modality.most, size)


def _mean_box(same: SameThings) -> np.ndarray:
    import numpy as np

    weights = [max(m.weight * m.score, 1e-9) for m in same.members]
    return np.average([m.box for m in same.members], axis=0, weights=weights)


def _vote(same: SameThings) -> np.ndarray:
    """What at least half of the weight covers; where that is nothing, the surest thing's own."""
    import numpy as np

    share = np.zeros_like(same.members[0].mask, np.float64)
    for member in same.members:
        share += member.weight * np.asarray(member.mask)
    mask = share >= same.weight / 2
    return np.asarray(mask if mask.any() else same.members[0].mask)
