"""Claims: what a recipe says that a comparison will show, and the rule that gives each a word.

    over_plain: {ours: joint, theirs: plain, figure: digit.accuracy}
    no_worse:   {ours: small, theirs: large, figure: semantic.miou, is: not worse, margin: 0.01}
    keeps:      {ours: student, theirs: ensemble, figure: semantic.miou, is: keeps, at: 0.9}
    grows:      {figure: semantic.miou, is: grows, dial: {s8: 8, s32: 32, s128: 128}, theirs: plain}
    more_so:    {ours: a, theirs: b, figure: digit.accuracy, is: interaction, than: {ours: c, theirs: d}}
    foretold:   {figure: digit.accuracy, is: ranks, pairs: {x: {ours: a, theirs: b, predictor: 0.3}, ...}}

A claim *holds* when the whole interval lies on its side and no seed on the other (three seeds resampled are too kind);
it is *reversed* when the whole interval lies on the other side; anything else is *not shown*. There is no fourth word.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal

from pydantic import Field, model_validator

from hyperloom.pipeline.config import Config

VerdictWord = Literal["holds", "reversed", "not shown"]
HOLDS: VerdictWord = "holds"
REVERSED: VerdictWord = "reversed"
UNSHOWN: VerdictWord = "not shown"
FEWEST_PAIRS = 3
OWNERS = {"margin": "not worse", "at": "keeps", "dial": "grows", "than": "interaction", "pairs": "ranks"}
"""What is given for one kind of claim alone: beside another it would move the border, or be passed over."""


class Pair(Config):
    """Two subjects of a report: a model, a family of seeds, an expert or a consensus."""

    ours: str
    theirs: str


class PredictedPair(Pair):
    """A pair, and a number from elsewhere that is said to foretell its gain."""

    predictor: float


class Claim(Config):
    """One claim about one `figure` (`modality.measure`) of the reports. Which way is better is known by the measure, so
    that D, ours minus theirs, is turned until more of it is better."""

    figure: str = Field(pattern=r"^.+\..+$")
    ours: str = ""
    theirs: str = ""
    is_: Literal["better", "not worse", "keeps", "grows", "interaction", "ranks"] = Field("better", alias="is")
    margin: float = Field(0.0, ge=0)
    """Of `not worse`: D may be so far below 0."""
    at: float | None = Field(None, gt=0)
    """Of `keeps`: the share of theirs that ours must keep."""
    dial: dict[str, float] = {}
    """Of `grows`: subjects and what was turned up; `theirs` is taken from each, where it is given."""
    than: Pair | None = None
    """Of `interaction`: the pair whose D must be smaller."""
    pairs: dict[str, PredictedPair] = {}
    """Of `ranks`."""

    @model_validator(mode="after")
    def _whole(self) -> Claim:
        kind, pair = self.is_, bool(self.ours and self.theirs)
        for name, owner in OWNERS.items():
            if owner != kind and getattr(self, name) != type(self).model_fields[name].default:
                raise ValueError(
                    f"{name} is for `is: {owner}`, not for `is: {kind}`. Next: leave it out, or say {owner}"
                )
        needs = {
            "keeps": (self.at is not None, "at: the share to keep"),
            "grows": (len(set(self.dial.values())) > 1, "dial: subjects with two values at least"),
            "interaction": (self.than is not None, "than: the pair to compare with"),
            "ranks": (len(self.pairs) >= FEWEST_PAIRS, f"pairs: {FEWEST_PAIRS} at least"),
        }
        if not needs.get(kind, (True, ""))[0]:
            raise ValueError(f"is: {kind} needs {needs[kind][1]}")
        if kind not in ("grows", "ranks") and not pair:
            raise ValueError(f"is: {kind} compares two: give ours and theirs")
        if pair and self.ours == self.theirs:
            raise ValueError(f"ours and theirs are both {self.ours!r}")
        return self

    def subjects(self) -> Iterator[str]:
        """Everybody whom the claim names."""
        pairs = [*([self.than] if self.than else []), *self.pairs.values()]
        named = [self.ours, self.theirs, *self.dial, *(who for pair in pairs for who in (pair.ours, pair.theirs))]
        yield from dict.fromkeys(filter(None, named))

    @property
    def border(self) -> float:
        """What the interval is compared with."""
        return self.at if self.is_ == "keeps" and self.at is not None else -self.margin

    def word(self, interval: Sequence[float] | None, seeds: Sequence[float]) -> VerdictWord:
        """The word for an interval and the value of each seed."""
        if interval is None:
            return UNSHOWN
        if interval[0] > self.border and all(value > self.border for value in seeds):
            return HOLDS
        return REVERSED if interval[1] < self.border else UNSHOWN


def together(words: Sequence[VerdictWord]) -> VerdictWord:
    """One word of several: `holds` if all hold; `reversed` if one is and none holds; else `not shown`."""
    if words and all(word == HOLDS for word in words):
        return HOLDS
    return REVERSED if REVERSED in words and HOLDS not in words else UNSHOWN
