"""Consensus methods: several sources of one modality, or of others that say the same, become one column.

A method is an expert whose inputs are columns of one modality (and what says how sure they are), so the label worker
runs it, and what is missing in one source is simply not counted. A sample that no source has stays null. Ties never
depend on chance: they go to the source listed first. What people say (`semantic@human`) is no vote: where they say
something it is the outcome, and experts decide the rest (`people: equal` makes them one source among others).
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Literal, TypeAlias

from pydantic import Field, field_validator

from hyperloom.pipeline.errors import RecipeError
from hyperloom.stages.base import is_human, modality_of, source_of
from hyperloom.stages.label.expert import Batch, Expert, Function
from hyperloom.stages.meaning import MeaningsDiffer, translation

if TYPE_CHECKING:
    import numpy as np

    from hyperloom.pipeline.root.storage import Storage
    from hyperloom.stages.meaning import Translation
    from hyperloom.stages.modality import Modality

MethodOutput: TypeAlias = "tuple[Batch, np.ndarray | None]"
"""Columns made, and each sample's score, (N,): what `least` is compared with."""


class Method(Expert):
    """Base of every method. The stage fills in `in` (the sources, in order of preference, then what else is read) and
    `out`; subclasses implement `making`."""

    accepts_missing: ClassVar[bool] = True
    takes: ClassVar[str] = "all"
    """In words: which modalities it can do, see `fits`."""
    mixes: ClassVar[bool] = False
    """Does it take sources of other types than the outcome's, such as probabilities among classes?"""
    learns: ClassVar[bool] = False
    """Does it first go over all data for estimates? Then it has `tally` and `estimated`, see stages.consensus.tally."""

    in_: tuple[str, ...] = Field((), alias="in")
    out: tuple[str, ...] = ()
    foreign: tuple[str, ...] = ()
    """Sources of other modalities, which are brought into the classes and units of this one. Filled in by `over`."""
    truth: str = ""
    """A column that sources and outcome are compared with in the report, and that decides nothing."""
    people: Literal["first", "equal"] = "first"
    """Whether the columns of people outrank the other sources."""
    certain: ClassVar[float] = 1.0
    """What a further column of one number says where people decide."""

    def over(self, sources: tuple[str, ...], out: str, modalities: dict[str, Any], truth: str = "") -> Method:
        """This method for these columns. Raises RecipeError when it cannot do their modality."""
        modality = modalities.get(modality_of(out))
        if modality is not None and not self.fits(modality):
            raise RecipeError(f"{out}: {self.type!r} is for {self.takes} modalities, this one is {modality.type}")
        reads = (*sources, *self.reads(sources, out), *([truth] if truth else []))
        others = (c for c in sources if modality_of(c) != modality_of(out))
        foreign = tuple(c for c in others if not self._apart(c, out, modalities))
        method = self.model_copy(update={"in_": reads, "out": (out, *self.extra()), "truth": truth, "foreign": foreign})
        for column in method.compared(modalities):
            source = modalities.get(modality_of(column))
            if modality is not None and source is not None:
                method.translation(column, source, modality)
        return method

    def revised_for(self, modalities: Mapping[str, Any]) -> dict[str, int]:
        return self.changed(modalities.get(modality_of(self.out[0])), bool(self.human))

    def changed(self, modality: Modality | None, people: bool) -> dict[str, int]:
        """What has changed for an outcome of `modality` (None: nobody knows it), where `people` outrank experts: their
        texts, tags and series went on as those of experts did, and what they hid stayed where experts see it; tags were
        compared as far as both have some, boxes that overlap by half exactly were two, and that points are visible was
        a third number of each that agreed."""
        if modality is None:
            return {}
        first = people and self.people == "first"
        changed = {
            "longer tags": modality.ended and modality.categorical,
            "answers as a whole": modality.ended and first,
            "hidden points": modality.markup == "points" and first,
            "half of a box": modality.markup == "boxes",
            "places of points": modality.markup == "points",
        }
        return {name: 2 for name, concerned in changed.items() if concerned}

    def _apart(self, column: str, out: str, modalities: Mapping[str, Modality]) -> bool:
        """Is a source of another type than the outcome? Raises RecipeError unless the method `mixes` types."""
        source, modality = modalities.get(modality_of(column)), modalities.get(modality_of(out))
        apart = source is not None and modality is not None and type(source) is not type(modality)
        if apart and not self.mixes:
            assert source is not None and modality is not None
            raise RecipeError(f"{out}: {column} is of the type {source.type}, the outcome of the type {modality.type}")
        return apart

    def compared(self, modalities: Mapping[str, Modality]) -> tuple[str, ...]:
        """The columns of other modalities that must say the same as the outcome: sources, and probabilities that
        vote."""
        out = modalities.get(modality_of(self.out[0]))
        others = {c: modalities.get(modality_of(c)) for c in self.in_ if modality_of(c) != modality_of(self.out[0])}
        votes = (c for c, m in others.items() if m is not None and m.soft and c not in self.foreign)
        return (*self.foreign, *(votes if out is not None and out.meaning.names else ()))

    def translation(self, column: str, source: Modality, modality: Modality) -> Translation:
        """How a column's values become those of the outcome's modality. Raises RecipeError."""
        try:
            how = translation(source.meaning, modality.meaning, (column, self.out[0]))
        except MeaningsDiffer as error:
            raise RecipeError(f"{self.out[0]}: {column} says something else: {error}") from error
        if not source.teaches(modality) or (column in self.foreign and source.shape != modality.shape):
            raise RecipeError(f"{self.out[0]}: {column} is of another shape, {source.shape}, than {modality.shape}")
        if how.within is not None and not modality.holes:
            name = modality_of(self.out[0])
            raise RecipeError(
                f"{self.out[0]}: what {column} holds at an end of its range was clipped there and is unknown, of which "
                f"{name!r} has no notion. Next: `unknown: 0` on {name!r} (or `unknown: outside` on the other modality, "
                "if nothing was clipped)"
            )
        return how

    def brought(self, batch: Batch, modalities: dict[str, Any]) -> Batch:
        """The batch with all sources in the classes and units of the outcome."""
        modality, brought = modalities[modality_of(self.out[0])], {}
        for column in self.compared(modalities):
            source = modalities[modality_of(column)]
            if how := self.translation(column, source, modality):
                brought[column] = source.translated(batch[column], how)
        return {**batch, **brought}

    def fits(self, modality: Modality) -> bool:
        """Can it make one of several values of `modality`?"""
        return True

    def extra(self) -> tuple[str, ...]:
        """Further columns the method makes."""
        return ()

    def reads(self, sources: tuple[str, ...], out: str) -> tuple[str, ...]:
        """Further columns the method reads, of other modalities. Raises RecipeError for a wrong one."""
        return ()

    @property
    def sources(self) -> tuple[str, ...]:
        """The columns whose consensus it is."""
        return tuple(c for c in self._all if c not in self.human)

    @property
    def human(self) -> tuple[str, ...]:
        """The columns of people that outrank them, the first first; none where nobody else says anything."""
        columns = tuple(c for c in self._all if is_human(c)) if self.people == "first" else ()
        return columns if len(columns) < len(self._all) else ()

    @property
    def _all(self) -> tuple[str, ...]:
        own = modality_of(self.out[0])
        return tuple(c for c in self.in_ if (modality_of(c) == own or c in self.foreign) and c != self.truth)

    def making(self, modalities: dict[str, Any], storage: Storage) -> Callable[[Batch], MethodOutput]:
        """What makes the columns of a batch of which each sample has at least one source."""
        raise TypeError(f"the consensus method {self.type!r} has no making()")

    def build(self, modalities: dict[str, Any], storage: Storage) -> Function:
        import numpy as np

        from hyperloom.stages.label.algorithms.majority import SLACK

        make, least = self.making(modalities, storage), getattr(self, "least", 0.0)

        def call(batch: Batch) -> Batch:
            batch = self.brought(batch, modalities)
            present = np.any([batch[f"{c}?"] for c in (*self.sources, *self.human)], axis=0)
            chosen = {c: v[present] for c, v in batch.items()}
            if self.human:
                from hyperloom.stages.consensus.people import decided

                labels, score = decided(make, chosen, self, modalities)
            else:
                labels, score = make(chosen)
            kept = np.ones(present.sum(), bool) if score is None or not least else score >= least - SLACK
            return {c: _rows(v, present, kept if c == self.out[0] else None) for c, v in labels.items()}

        return call

    def measures(self, batch: Batch, labels: Batch, modalities: dict[str, Any]) -> dict[str, np.ndarray]:
        from hyperloom.stages.consensus.agreement import SourceColumn, agreement

        batch = self.brought(batch, modalities)
        compared = (*self.sources, *self.human, *([self.truth] if self.truth else []))
        columns: dict[str, SourceColumn] = {c: (batch[c], batch[f"{c}?"]) for c in compared}
        columns[self.out[0]] = (labels[self.out[0]], None)
        return agreement(columns, modalities[modality_of(self.out[0])])

    # -- of methods that learn -----------------------------------------------------------------------------------------
    def tally(self, sample: Batch, modalities: dict[str, Any]) -> dict[str, float]:
        """Counts and sums of one sample (leading axis 1), that add up over all samples."""
        raise TypeError(f"the consensus method {self.type!r} has no tally()")

    def estimated(self, total: Mapping[str, float], modalities: dict[str, Any]) -> Method:
        """This method with what the total tells."""
        raise TypeError(f"the consensus method {self.type!r} has no estimated()")

    def source_reliability(self) -> dict[str, float]:
        """What was estimated, for people: a figure for each source."""
        return {}


class Weighted(Method):
    """A method whose sources may count differently.

    `weights: {espnet: 2, color: 0.5}`, by source or column, else 1. `confidence: {deeplab: soft@deeplab, espnet:
    score@espnet}` names, by source or column, what says how sure a source is at each place: probabilities of a `soft`
    modality, which then vote in the source's stead, or one dense channel of numbers >= 0, which multiplies its weight.
    Where a source is there and its confidence is not, in a whole sample or at one place (NaN, or probabilities that sum
    to nothing), it counts fully.
    """

    by_source: dict[str, float] = Field(default_factory=dict, alias="weights")
    confidence: dict[str, str] = Field(default_factory=dict)

    @field_validator("by_source")
    @classmethod
    def _positive(cls, value: dict[str, float]) -> dict[str, float]:
        if any(w <= 0 for w in value.values()):
            raise ValueError("weights are above 0; leave a source out with `of`")
        return value

    def over(self, sources: tuple[str, ...], out: str, modalities: dict[str, Any], truth: str = "") -> Method:
        for what, named in (("weights", self.by_source), ("confidence", self.confidence)):
            unknown = set(named) - set(sources) - {source_of(s) for s in sources}
            if unknown:
                raise RecipeError(
                    f"{out}: {what} for {', '.join(sorted(unknown))}, but the sources are {', '.join(sources)}"
                )
        for column in self.confidence.values():
            modality = modalities.get(modality_of(column))
            if modality is not None and not modality.soft and modality.shape[-1:] != (1,):
                raise RecipeError(f"{out}: confidence: {column} is neither soft nor of one channel")
        return super().over(sources, out, modalities, truth)

    def reads(self, sources: tuple[str, ...], out: str) -> tuple[str, ...]:
        columns = tuple(dict.fromkeys(self.confidence.values()))
        if own := [c for c in columns if modality_of(c) == modality_of(out)]:
            raise RecipeError(f"{out}: confidence: {own[0]} is of the modality itself; give it one of its own")
        return columns

    def revised(self) -> int:
        return super().revised() + bool(self.confidence)

    def weight(self, column: str) -> float:
        return self.by_source.get(column, self.by_source.get(source_of(column), 1.0))

    def sure(self, column: str) -> str:
        """The column that says how sure `column` is; empty for none."""
        return self.confidence.get(column, self.confidence.get(source_of(column), ""))

    def sureness(self, batch: Batch, sure: str) -> tuple[np.ndarray, np.ndarray]:
        """What the column `sure` says, (N, ..., C), nothing below 0; and where it says anything, (N, ..., 1) bool."""
        import numpy as np

        given = batch[sure]
        known = np.isfinite(given).all(-1, keepdims=True) & batch[f"{sure}?"].reshape(-1, *(1,) * (given.ndim - 1))
        if given.shape[-1] > 1:
            known &= given.sum(-1, keepdims=True) > 0
        return np.where(known, np.maximum(given, 0), 0), known


class Copy(Method):
    """The first listed source that has the sample."""

    def making(self, modalities: dict[str, Any], storage: Storage) -> Callable[[Batch], MethodOutput]:
        import numpy as np

        def make(batch: Batch) -> MethodOutput:
            values = np.array(batch[self.sources[-1]])
            for column in reversed(self.sources[:-1]):
                present = batch[f"{column}?"]
                values[present] = batch[column][present]
            return {self.out[0]: values}, None

        return make


def below(share: float) -> bool:
    """Is a share less as float32 than as it is written? Samples that reached such a border exactly were left out."""
    stored: float = struct.unpack("f", struct.pack("f", share))[0]
    return stored < share


def _rows(values: np.ndarray, present: np.ndarray, kept: np.ndarray | None) -> Any:
    """A value for each sample of the batch; None where no source is there, or where it is not kept."""
    rows: list[Any] = [None] * len(present)
    for place, row in enumerate(present.nonzero()[0]):
        rows[row] = values[place] if kept is None or kept[place] else None
    return rows
