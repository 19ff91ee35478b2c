"""Slices: figures of a part of the judged samples, by any column, and on which part somebody is weakest.

    slices: [weather@truth, group, {column: speed@telemetry, bins: 4}]

A slice is the samples of one class (of a category, an ordinal, each of a multilabel), of one group, or with a number in
one bin; what has no value is `unknown` (`no value` where a class is called so). Its figures are called
`semantic.miou[weather@truth=night]`, in a gate too.

Whoever looks at many parts finds a bad one by chance. So each part is compared with all others by the bootstrap of
`stages.measure.intervals` (the same drawn units on both sides; Student's t of the smaller side's units), and the
probabilities of one subject are corrected for all looks at it (Holm 1979). Parts of fewer than FEWEST units have
figures and no probability.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from pydantic import Field, field_validator

from hyperloom.pipeline.config import Config
from hyperloom.pipeline.errors import SourceError
from hyperloom.pipeline.planning.check import StepCheck
from hyperloom.pipeline.root.storage import Storage
from hyperloom.stages.base import GROUP, KEY, modality_of
from hyperloom.stages.measure.intervals import Intervals, Sheets
from hyperloom.stages.measure.measure import directions
from hyperloom.stages.schema import Offer, defined
from hyperloom.stages.table import read_table

UNKNOWN, NO_VALUE = "unknown", "no value"
"""What samples without a value are called; the second where a class is called as the first."""
FEWEST = 5
"""Resampled units of a slice, and of the rest, below which nothing is said of chance."""
MOST = 200
"""Values of one column."""
DRAWS = 200
"""Enough for a standard deviation."""
SURE = 0.05


class Slice(Config):
    """`weather@truth`, `group`, or `{column: speed@telemetry, bins: 4}`: bins of as many samples each, as far as equal
    numbers, which stay together, let them be; or with `edges: [10, 30]` below 10, 10 to 30, and from 30 on."""

    column: str
    bins: int = Field(4, ge=2, le=50)
    edges: tuple[float, ...] = ()

    @field_validator("edges")
    @classmethod
    def _rising(cls, value: tuple[float, ...]) -> tuple[float, ...]:
        if any(a >= b for a, b in pairwise(value)):
            raise ValueError(f"edges: expected rising numbers, got {list(value)}")
        return value

    @property
    def rounded(self) -> bool:
        """Is an edge one that a stored number is not exactly, or that six digits do not write?"""
        return any(float(np.float32(edge)) != edge or float(f"{edge:g}") != edge for edge in self.edges)


def check(slices: Sequence[Slice], step: StepCheck, offered: Offer) -> dict[str, frozenset[str] | None]:
    """By column the values that its slices can have, None where only the data tell. Notes what no slice can be of."""
    values: dict[str, frozenset[str] | None] = {}
    for i, one in enumerate(slices):
        if one.column == GROUP:
            values[GROUP] = None
            continue
        where = ("slices", i, "column")
        if not (offered.want(step, where, one.column) and defined(one.column, step, where)):
            continue
        kind = step.modalities[modality_of(one.column)]
        if _names(kind):
            values[one.column] = frozenset([*kind.counted, _nothing(kind)])
        elif kind.shape == (1,):
            values[one.column] = frozenset([*_labels(one), UNKNOWN])
        else:
            what = f"slices: {one.column} has no one class or number for a sample"
            step.mistake(where, f"{what}. Next: a category, ordinal, multilabel or scalar, or `group`")
    return values


def members(
    slices: Sequence[Slice], storage: Storage, paths: Sequence[str], modalities: Mapping[str, Any]
) -> dict[str, set[str]]:
    """`column=value` -> keys of its samples. Raises SourceError for a column with too many values."""
    parts: dict[str, set[str]] = {}
    for one in slices:
        tables = [read_table(storage, path, [KEY, one.column]) for path in paths]
        keys = [key for table in tables for key in table[KEY].to_pylist()]
        if one.column == GROUP:
            each = [[str(group)] for table in tables for group in table[GROUP].to_pylist()]
        else:
            kind = modalities[modality_of(one.column)]
            read = [kind.unpack(table[one.column]) for table in tables]
            each = _values(one, kind, *(np.concatenate(part) for part in zip(*read, strict=True)))
        mine: dict[str, set[str]] = {}
        for key, values in zip(keys, each, strict=True):
            for value in values:
                mine.setdefault(f"{one.column}={value}", set()).add(key)
        if len(mine) > MOST:
            raise SourceError(f"slices: {one.column} has {len(mine)} values, more than {MOST}. Next: a coarser column")
        parts |= dict(sorted(mine.items()))
    return parts


def named(figure: str) -> tuple[str, str]:
    """A figure and its slice: `semantic.miou` and `weather@truth=night`, or nothing."""
    whole, bracket, part = figure.partition("[")
    return (whole, part.removesuffix("]")) if bracket and part.endswith("]") else (figure, "")


def judged_modality(figure: str) -> str:
    """Of `semantic.miou[weather@truth=night]` the modality, `semantic`."""
    return named(figure)[0].rpartition(".")[0]


@dataclass(frozen=True)
class Looked:
    """Figures by slice of one subject."""

    who: str
    rows: list[dict[str, Any]]

    def sentence(self) -> str:
        """On which slice it is weaker than elsewhere by more than chance; empty where nothing could be told."""
        sure = [row for row in self.rows if row["p"] is not None]
        if not sure:
            return ""
        worst = min(sure, key=lambda row: (row["p"], row["slice"]))
        if worst["p"] > SURE:
            return f"{self.who}: no slice is worse than chance would show ({len(sure)} looked at)"
        modality, _, measure = worst["figure"].rpartition(".")
        return (
            f"{self.who} is weakest where {worst['slice'].replace('=', ' is ', 1)}: {modality} {measure} "
            f"{worst['value']:.3g} against {worst['elsewhere']:.3g} elsewhere ({worst['samples']} samples; p "
            f"{_small(worst['p'])}, corrected for {len(sure)} looks)"
        )


def look(who: str, sheets: Sheets, names: Mapping[str, Any], parts: Mapping[str, Collection[str]]) -> Looked:
    """All figures of each part; the metric of each modality is compared with that of the rest."""
    rows = list(_rows(who, sheets, names, parts))
    looked = sorted((row for row in rows if row["p"] is not None), key=lambda row: row["p"])
    reached = 0.0
    for i, row in enumerate(looked):
        row["p"] = reached = min(1.0, max(reached, row["p"] * (len(looked) - i)))
    return Looked(who, rows)


def drawing(config: Intervals | None) -> Intervals:
    """How slices are drawn."""
    return (config or Intervals()).model_copy(update={"draws": DRAWS})


# -- inside ------------------------------------------------------------------------------------------------------------
def _rows(
    who: str, sheets: Sheets, names: Mapping[str, Any], parts: Mapping[str, Collection[str]]
) -> Iterator[dict[str, Any]]:
    kinds = dict(names.values())
    every = set(sheets.keys)
    for part, keys in parts.items():
        inside = every & set(keys)
        rest = every - inside
        figures, others = sheets.figures(names, inside), sheets.figures(names, rest)
        units = [len({sheets.units[key] for key in side}) for side in (inside, rest)]
        drawn = [sheets.draws(names, side) for side in (inside, rest)] if min(units) >= FEWEST else [{}, {}]
        for figure, value in figures.items():
            modality, _, measure = figure.rpartition(".")
            p = None
            if measure == kinds[modality].metric and figure in others:
                up = directions(kinds[modality])[measure]
                one, other = (side.get(figure) for side in drawn)
                p = _chance(value - others[figure], one, other, up, min(units) - 1)
            yield {"who": who, "slice": part, "samples": len(inside), "figure": figure, "value": value,
                   "elsewhere": others.get(figure), "p": p}  # fmt: skip


def _chance(
    difference: float, one: np.ndarray | None, other: np.ndarray | None, up: bool, degrees: int
) -> float | None:
    """How probable a difference to the worse of this size is by chance; None where that cannot be told."""
    if one is None or other is None:
        return None
    drawn = one - other
    drawn = drawn[np.isfinite(drawn)]
    spread = float(drawn.std(ddof=1)) if len(drawn) > DRAWS / 2 else 0.0
    worse = -difference if up else difference
    if spread <= 0:
        return None
    return _beyond(worse / spread, degrees)


def _beyond(t: float, degrees: int) -> float:
    """How probable Student's t lies above `t`: with t = sqrt(n) tan(angle) its density is cos(angle) ** (n - 1)."""
    angles = np.linspace(-math.pi / 2, math.pi / 2, 20_001)
    density = np.cos(angles) ** (degrees - 1)
    share = np.concatenate([[0.0], np.cumsum((density[1:] + density[:-1]) / 2)])
    return float(1 - np.interp(math.atan(t / math.sqrt(degrees)), angles, share / share[-1]))


def _small(p: float) -> str:
    return f"{p:.2g}" if p >= 1e-3 else "below 0.001"


def _names(kind: Any) -> bool:
    """Has a sample one of the classes, or a mark of one byte for each?"""
    marks = kind.shape == (len(kind.counted),) and kind.dtype.kind == "u"
    return bool(kind.counted) and (kind.shape == () or marks)


def _nothing(kind: Any) -> str:
    """What samples without a class are called."""
    return NO_VALUE if UNKNOWN in kind.counted else UNKNOWN


def _labels(one: Slice) -> list[str]:
    if not one.edges:
        return [f"{i + 1} of {one.bins}" for i in range(one.bins)]
    edges = [_written(edge) for edge in one.edges]
    between = [f"{a} to {b}" for a, b in pairwise(edges)]
    return [f"below {edges[0]}", *between, f"from {edges[-1]}"]


def _written(edge: float) -> str:
    """In as few digits as tell it from every other: a million and one is not 1e+06."""
    short = f"{edge:g}"
    return short if float(short) == edge else repr(edge).removesuffix(".0")


def _values(one: Slice, kind: Any, rows: np.ndarray, valid: np.ndarray) -> list[list[str]]:
    """The values of each sample."""
    if kind.shape == ():
        known = valid & kind.known(rows)
        return [[kind.counted[int(row)]] if ok else [_nothing(kind)] for row, ok in zip(rows, known, strict=True)]
    if _names(kind):
        return [
            [name for name, mark in zip(kind.counted, row, strict=True) if mark == 1] if ok else [_nothing(kind)]
            for row, ok in zip(rows, valid, strict=True)
        ]
    numbers = np.where(valid & np.isfinite(rows[:, 0]), rows[:, 0], np.nan).astype(np.float64)
    known, labels = np.isfinite(numbers), _labels(one)
    edges = np.array(one.edges, rows.dtype).astype(np.float64)  # as the numbers are stored: .7 lies from .7 on
    places = np.searchsorted(edges, numbers, side="right")
    if not one.edges and known.any():
        places[known] = _shared_out(numbers[known], one.bins)
    return [[labels[place]] if ok else [UNKNOWN] for place, ok in zip(places, known, strict=True)]


def _shared_out(numbers: np.ndarray, bins: int) -> np.ndarray:
    """(N,) the bin of each number, from 0. Equal ones are in that of their middle: of a column that is 0 for most all
    bins below an edge that is 0 too would be empty, and all that is more lie with what is 0."""
    shares, ranked = np.arange(1, bins) / bins, np.sort(numbers)
    edges = np.quantile(ranked, shares)
    lowest, highest = (np.searchsorted(edges, numbers, side=side) for side in ("left", "right"))
    first, last = (np.searchsorted(ranked, numbers, side=side) for side in ("left", "right"))
    middle = np.searchsorted(shares, (first + last) / (2 * len(numbers)), side="right")
    return np.where(last - first > 1, np.clip(middle, lowest, highest), highest)
