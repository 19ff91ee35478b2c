"""Consensus methods: several sources of one modality become one column.

A method is an expert whose inputs are columns of one modality; so the label worker runs it, and what is missing in one
source is simply not counted. A sample that no source has stays null. Ties never depend on chance: they go to the source
listed first.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field, field_validator

from pipeline.errors import RecipeError
from stages.base import modality_of, source_of
from stages.label.expert import Batch, Expert, Function

if TYPE_CHECKING:
    import numpy as np

    from pipeline.storage import Storage


class Method(Expert):
    """Base of every method. The stage fills in `in` (the sources, in order of preference) and `out`."""

    accepts_missing: ClassVar[bool] = True
    types: ClassVar[tuple[str, ...]] = ()
    """Types of modality it can do; empty for all."""

    in_: tuple[str, ...] = Field((), alias="in")
    out: tuple[str, ...] = ()

    def over(self, sources: tuple[str, ...], out: str, modalities: dict[str, Any]) -> Method:
        """This method for these columns. Raises RecipeError when it cannot do their modality."""
        modality = modalities.get(modality_of(out))
        if self.types and modality is not None and modality.type not in self.types:
            raise RecipeError(
                f"{out}: {self.type!r} is for {' and '.join(self.types)} modalities, this one is {modality.type}"
            )
        return self.model_copy(update={"in_": sources, "out": (out, *self.extra())})

    def extra(self) -> tuple[str, ...]:
        """Further columns the method makes."""
        return ()

    def measures(self, batch: Batch, made: Batch, modalities: dict[str, Any]) -> dict[str, np.ndarray]:
        from stages.consensus.agreement import Column, agreement

        columns: dict[str, Column] = {c: (batch[c], batch[f"{c}?"]) for c in self.in_}
        columns[self.out[0]] = (made[self.out[0]], None)
        return agreement(columns, modalities[modality_of(self.out[0])])


class Weighted(Method):
    """A method whose sources may count differently: `weights: {espnet: 2, color: 0.5}`, by source or column, else 1."""

    by_source: dict[str, float] = Field(default_factory=dict, alias="weights")

    @field_validator("by_source")
    @classmethod
    def _positive(cls, value: dict[str, float]) -> dict[str, float]:
        if any(w <= 0 for w in value.values()):
            raise ValueError("weights are above 0; leave a source out with `of`")
        return value

    def over(self, sources: tuple[str, ...], out: str, modalities: dict[str, Any]) -> Method:
        unknown = set(self.by_source) - set(sources) - {source_of(s) for s in sources}
        if unknown:
            raise RecipeError(
                f"{out}: weights for {', '.join(sorted(unknown))}, but the sources are {', '.join(sources)}"
            )
        return super().over(sources, out, modalities)

    def weight(self, column: str) -> float:
        return self.by_source.get(column, self.by_source.get(source_of(column), 1.0))


class Vote(Weighted):
    """Each pixel's class by weighted majority of the sources that say one; 255 where none does, or fewer than `quorum`.

    `quorum` is the share of the weight of all that vote at a pixel which the winner needs. `agreement` names a dense
    one-channel column that gets that share, 0..1. With `smooth` (pixels) the votes of the surroundings count too.
    """

    types: ClassVar[tuple[str, ...]] = ("segmentation",)
    quorum: float = Field(0.0, ge=0, le=1)
    agreement: str = ""
    smooth: float = Field(0.0, ge=0)

    def extra(self) -> tuple[str, ...]:
        return (self.agreement,) if self.agreement else ()

    def build(self, modalities: dict[str, Any], storage: Storage) -> Function:
        from stages.consensus.vote import vote

        classes = len(modalities[modality_of(self.out[0])].classes)
        weights = [self.weight(c) for c in self.in_]

        def call(batch: Batch) -> Batch:
            winner, share = vote([batch[c] for c in self.in_], weights, classes, self.quorum, self.smooth)
            return dict(zip(self.out, (winner, share[..., None]), strict=False))

        return call


class Mean(Weighted):
    """Weighted mean of the sources that are there; of unit vectors, made of length one again."""

    types: ClassVar[tuple[str, ...]] = ("dense", "soft", "vector")

    def build(self, modalities: dict[str, Any], storage: Storage) -> Function:
        import numpy as np

        modality = modalities[modality_of(self.out[0])]

        def call(batch: Batch) -> Batch:
            total = np.zeros_like(batch[self.in_[0]])
            weight = np.zeros((len(total), *(1,) * (total.ndim - 1)), np.float32)
            for column in self.in_:
                mine = self.weight(column) * batch[f"{column}?"].astype(np.float32).reshape(weight.shape)
                total += mine * batch[column]
                weight += mine
            return {self.out[0]: _unit(total / weight, modality)}

        return call


class Median(Method):
    """Median of the sources that are there, value by value; of unit vectors, made of length one again."""

    types: ClassVar[tuple[str, ...]] = ("dense", "soft", "vector")

    def build(self, modalities: dict[str, Any], storage: Storage) -> Function:
        import numpy as np

        modality = modalities[modality_of(self.out[0])]

        def call(batch: Batch) -> Batch:
            made = np.empty_like(batch[self.in_[0]])
            for i in range(len(made)):
                made[i] = np.median([batch[c][i] for c in self.in_ if batch[f"{c}?"][i]], axis=0)
            return {self.out[0]: _unit(made, modality)}

        return call


class Copy(Method):
    """The first listed source that has the sample."""

    def build(self, modalities: dict[str, Any], storage: Storage) -> Function:
        import numpy as np

        def call(batch: Batch) -> Batch:
            made = np.array(batch[self.in_[-1]])
            for column in reversed(self.in_[:-1]):
                there = batch[f"{column}?"]
                made[there] = batch[column][there]
            return {self.out[0]: made}

        return call


def _unit(values: np.ndarray, modality: Any) -> np.ndarray:
    import numpy as np

    if not getattr(modality, "direction", False):
        return values
    return values / np.maximum(np.linalg.norm(values, axis=-1, keepdims=True), 1e-6)
