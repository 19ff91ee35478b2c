"""Meaning: what the numbers of a column say, and how those of one column become those of another.

Two columns that meet (a target and its task, an expert and a consensus, a champion and a recipe, the weights of an
older network and a newer one) need more in common than a shape: their classes and the order of these, their unit, their
range. A modality says its `meaning`, and `translation` compares two, here and nowhere else: the same classes in another
order are mapped by name, other units of one kind are converted, a range within a wider one is kept, all else is
refused, with both sides in the message. What a translation does to values is the modality's to say
(`Modality.translated`, `Modality.mean_translated`).

Not here: shapes (`Modality.teaches`), and what stands for unknown, which in memory is one thing for each type (255, -1,
NaN), whatever a file or a column of bytes has in its place.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from hyperloom.stages import quantity

WIDEST = 256
"""Ids of one byte, of which the last stands for unknown."""

END = 1e-3
"""How near to an end of a range, in shares of it, a number that was stored in few digits may be of one beyond it."""


class MeaningsDiffer(ValueError):
    """Two columns that do not say the same, in words."""


@dataclass(frozen=True)
class Meaning:
    """`names` of classes or points in the order of ids and channels, empty where numbers have none; `ordered`, whether
    that order means something itself (levels); `unit`, empty where none was given; `range`, the numbers that values go
    from and to, None where nobody said; `further` facts by name, which must be the same."""

    names: tuple[str, ...] = ()
    ordered: bool = False
    unit: str = ""
    range: tuple[float, float] | None = None
    clipped: bool = False
    further: tuple[tuple[str, Any], ...] = ()


@dataclass(frozen=True)
class Translation:
    """From values of one meaning to those of another: `places` says for each class of the first where it is in the
    second (empty: the same order), `factor` what numbers are multiplied by, `within` between which numbers of the first
    they say what they are (those on an end were clipped, and the second reaches further; None: all). Its methods take
    arrays of NumPy and tensors of torch alike. One that changes nothing is false."""

    places: tuple[int, ...] = ()
    factor: float = 1.0
    within: tuple[float, float] | None = None

    def __bool__(self) -> bool:
        return bool(self.places) or self.factor != 1.0 or self.within is not None

    def ids(self, values: Any) -> Any:
        """Ids of any shape and integer type; -1, 255 and all that is no class stay as they are."""
        if not self.places:
            return values
        table = np.arange(max(WIDEST, len(self.places)) + 1)
        table[: len(self.places)] = self.places
        table[-1] = -1
        if isinstance(values, np.ndarray):
            return table[values].astype(values.dtype)
        import torch

        return torch.from_numpy(table).to(values.device)[values.long()].to(values.dtype)

    def channels(self, values: Any, axis: int = -1) -> Any:
        """What has one number for each class along `axis`."""
        if not self.places:
            return values
        order = np.argsort(self.places)
        if isinstance(values, np.ndarray):
            return np.take(values, order, axis)
        import torch

        return values.index_select(axis % values.ndim, torch.from_numpy(order).to(values.device))

    def numbers(self, values: Any) -> Any:
        """Numbers in the other unit."""
        return values if self.factor == 1.0 else values * self.factor

    def clear(self, values: Any, numbers: Any) -> Any:
        """`numbers`, what `values` (..., C) became, with NaN in all channels where one was clipped."""
        if self.within is None:
            return numbers
        clear = ((values > self.within[0]) & (values < self.within[1])).all(-1)[..., None]
        nothing = float("nan")
        return (
            np.where(clear, numbers, np.float32(nothing))
            if isinstance(clear, np.ndarray)
            else numbers.where(clear, nothing)
        )

    def scaled(self, numbers: Sequence[float]) -> tuple[float, ...]:
        """Some numbers in the other unit."""
        return tuple(self.factor * n for n in numbers)


def translation(source: Meaning, target: Meaning, sides: tuple[str, str] = ("one", "the other")) -> Translation:
    """How values of `source` become values of `target`. Raises MeaningsDiffer, which calls the two by `sides`."""
    places = _places(source, target, sides)
    factor = _factor(source.unit, target.unit, sides)
    within = _within(source, target, factor, sides)
    facts = dict(target.further)
    for name, value in source.further:
        if name in facts and facts[name] != value:
            raise _differ(name, str(value), str(facts[name]), sides)
    return Translation(places, factor, within)


def _places(source: Meaning, target: Meaning, sides: tuple[str, str]) -> tuple[int, ...]:
    mine, theirs = source.names, target.names
    if not mine or not theirs or mine == theirs:
        return ()
    same = len(mine) == len(set(mine)) == len(theirs) and set(mine) == set(theirs)
    if not same or source.ordered or target.ordered:
        what = "order of the levels" if same else "classes"
        raise _differ(what, f"[{', '.join(mine)}]", f"[{', '.join(theirs)}]", sides)
    return tuple(theirs.index(name) for name in mine)


def _factor(source: str, target: str, sides: tuple[str, str]) -> float:
    factor = quantity.factor(source, target)
    if factor is not None:
        return factor
    differ = _differ("unit", source or "not given", target or "not given", sides)
    if source and target:
        raise differ
    raise MeaningsDiffer(
        f"{differ}. Next: `unit: {source or target}` on the modality that gives none, if it is in that"
    )


def _within(source: Meaning, target: Meaning, factor: float, sides: tuple[str, str]) -> tuple[float, float] | None:
    """Between which numbers of `source` all are clear; None: anywhere. A range within the other is kept where both have
    a unit: without one [0, 1] in [0, 255] may be the same thing on two scales. One that reaches further has values that
    the other cannot hold."""
    if not source.range or not target.range:
        return None
    ends = tuple(factor * end for end in source.range)
    same = [math.isclose(a, b, rel_tol=1e-6, abs_tol=1e-9) for a, b in zip(ends, target.range, strict=True)]
    inside = (same[0] or ends[0] > target.range[0]) and (same[1] or ends[1] < target.range[1])
    if all(same):
        return None
    if inside and source.unit and target.unit:
        near = END * (source.range[1] - source.range[0])
        low = -math.inf if same[0] else source.range[0] + near
        return (low, math.inf if same[1] else source.range[1] - near) if source.clipped else None
    differ = _differ("range", _interval(source), _interval(target), sides)
    if not inside:
        raise differ
    raise MeaningsDiffer(f"{differ}. Next: `unit:` on both, if their numbers are on one scale")


def _differ(what: str, source: str, target: str, sides: tuple[str, str]) -> MeaningsDiffer:
    return MeaningsDiffer(f"the {what} of {sides[0]}: {source}; of {sides[1]}: {target}")


def _interval(meaning: Meaning) -> str:
    low, high = meaning.range or (0.0, 0.0)
    return f"{low:g} to {high:g}{' ' + meaning.unit if meaning.unit else ''}"
