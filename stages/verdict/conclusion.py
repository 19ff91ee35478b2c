"""What a verdict says: a word for each claim, with the figures that it comes from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from hyperloom.pipeline.counting import placed
from hyperloom.pipeline.result import Result, form
from hyperloom.stages.verdict.claims import VerdictWord


@dataclass(frozen=True)
class Conclusion:
    """One claim: its `word`, the value and the `interval` (None when too little was known) of what it is about, turned
    so that more is better, the same for each seed and each fold alone, the `smallest` effect that could have been seen
    (half the interval), the `border` that the interval was compared with, and each subject's figure."""

    word: VerdictWord
    value: float
    interval: Sequence[float] | None
    seeds: Sequence[float]
    folds: Sequence[float]
    smallest: float | None
    border: float
    sides: Mapping[str, float]

    def row(self) -> dict[str, Any]:
        """For tables."""
        low, high = self.interval or (None, None)
        numbers = {"value": self.value, "low": low, "high": high, "smallest": self.smallest}
        sides = " ".join(f"{who} {value:.4g}" for who, value in self.sides.items())
        numbers["against"] = self.border + 0.0  # a margin of none is no -0
        return {"word": self.word, **numbers, "seeds": " ".join(f"{s:+.3g}" for s in self.seeds), "sides": sides}

    def sentence(self) -> str:
        """In words."""
        if self.interval is None:
            return f"{self.word.upper()}: {placed(self.value, 4, '+')}, too few samples for an interval"
        low, high = (placed(end, 4, "+") for end in self.interval)
        text = f"{self.word.upper()}: {placed(self.value, 4, '+')} (95 % interval {low} to {high}"
        return f"{text}, smallest effect that could be seen {placed(self.smallest or 0.0, 4)})"


def _read_conclusions(value: Mapping[str, Any]) -> dict[str, Conclusion]:
    return {name: Conclusion(**one) for name, one in value.items()}


def _write_conclusions(value: Mapping[str, Conclusion]) -> dict[str, Any]:
    return {name: vars(one) for name, one in value.items()}


@dataclass(frozen=True)
class Concluded(Result):
    """A verdict over `folds` reports of `samples` in all: one `word` of its `claims`; what stands `beside` does not
    count."""

    noun: ClassVar[str] = "verdict"

    word: str
    claims: Mapping[str, Conclusion] = field(metadata=form(_read_conclusions, _write_conclusions))
    beside: Mapping[str, Conclusion] = field(metadata=form(_read_conclusions, _write_conclusions))
    folds: int = 1
    samples: int = 0
