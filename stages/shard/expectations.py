"""Expectations: what the training split must be like, or nothing learns from it.

    expect:
      semantic@truth: {missing: 0.1, classes: [road], share: {road: [0.05, 0.9]}}
      depth@midas: {mean: [2, 20], range: [0, 80], warn: true}
      agreement@votes: {mean: [0.6, 1]}
      samples: {train: 1000, test: 100}
      groups: {train: 10}

They say what to refuse, never what a step makes, so they are in no identity: the step's shards stay as they are, its
manifest is not written while one fails, and a plan looks at those of finished steps anew. Each is a sentence with its
line, what was seen, and up to three samples; with `warn: true` it is said and stops nothing. Figures are those of the
step's statistics, of the training split. Not here: drift against another step (the stage `drift`).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from pydantic import Field, field_validator

from hyperloom.pipeline.check import StepCheck
from hyperloom.pipeline.config import Config
from hyperloom.pipeline.storage import Storage
from hyperloom.stages.base import KEY, modality_of
from hyperloom.stages.schema import Offer, defined
from hyperloom.stages.shard.splits import SPLITS
from hyperloom.stages.table import read_table

COUNTED = ("samples", "groups")
"""What is expected of splits instead of a column."""
SHOWN = 3
Bounds = tuple[float | None, float | None]
"""The lowest and the highest; null for any."""


class Expectation(Config):
    """Of a column: the highest share of samples without it, classes that occur, the share of a class among what is
    known, bounds of the mean and of all numbers."""

    missing: float | None = Field(None, ge=0, le=1)
    classes: tuple[str, ...] = ()
    share: dict[str, Bounds] = {}
    mean: Bounds | None = None
    range: Bounds | None = None
    warn: bool = False

    @field_validator("mean", "range")
    @classmethod
    def _rising(cls, value: Bounds | None) -> Bounds | None:
        if value and None not in value and value[0] > value[1]:  # type: ignore[operator]
            raise ValueError(f"expected the lower number first, got {list(value)}")
        return value


@dataclass(frozen=True)
class Unmet:
    """An expectation that fails: `line` as the recipe has it, what was `seen` instead, and which samples show it."""

    column: str
    line: str
    seen: str
    warn: bool = False
    wrong: Callable[[np.ndarray, np.ndarray], np.ndarray] | None = None
    """Of rows (N, ...) in memory and which are there, (N,) how wrong each is; 0 for not at all."""

    def sentence(self, samples: Sequence[str] = ()) -> str:
        such = f" ({', '.join(samples)})" if samples else ""
        return f"expect: {self.column}: {self.line}: {self.seen}{such}"


def parsed(value: Any) -> dict[str, Any]:
    """`expect:` of a recipe. Raises ValueError."""
    if not isinstance(value, Mapping):
        raise ValueError(f"expect: expected columns, samples or groups by name, got {value!r}")
    expected: dict[str, Any] = {}
    for name, written in value.items():
        if name in COUNTED:
            wrong = [split for split in written if split not in SPLITS or not isinstance(written[split], int)]
            if wrong:
                raise ValueError(
                    f"expect: {name}: {wrong[0]!r}: expected the lowest number by split ({', '.join(SPLITS)})"
                )
            expected[name] = dict(written)
        else:
            modality_of(name)
            expected[name] = Expectation.model_validate(written)
    return expected


def check(expected: Mapping[str, Any], step: StepCheck, offered: Offer) -> None:
    """Note columns that the shards will not have, classes that there are none of, numbers of what has classes."""
    for column, one in expected.items():
        where = ("expect", column)
        if column in COUNTED or not (offered.want(step, where, column) and defined(column, step, where)):
            continue
        kind = step.modalities[modality_of(column)]
        for name in (*one.classes, *one.share):
            if name not in kind.counted:
                step.unknown(where, name, f"expect: {column} has no class", kind.counted)
        if kind.counted and (one.mean or one.range):
            step.mistake(
                where, f"expect: {column} has classes, no numbers. Next: `share: {{class: [lowest, highest]}}`"
            )


def lines(expected: Mapping[str, Any]) -> list[str]:
    """Each as a plan shows it."""
    shown = {
        n: one if n in COUNTED else one.model_dump(mode="json", exclude_defaults=True) for n, one in expected.items()
    }
    return [f"{name}: {json.dumps(one)}" for name, one in shown.items()]


def unmet(
    expected: Mapping[str, Any], statistics: Mapping[str, Mapping[str, Any]], sizes: Mapping[str, Mapping[str, int]]
) -> list[Unmet]:
    """Those that fail. `statistics` by column; `sizes`: `samples` and `groups` by split."""
    failing: list[Unmet] = []
    for column, one in expected.items():
        if column in COUNTED:
            for split, least in one.items():
                if (count := sizes[column].get(split, 0)) < least:
                    failing.append(Unmet(column, f"{split}: {least}", f"there are {count}"))
        elif column in statistics:
            failing += _of_column(column, one, statistics[column])
    return failing


def _of_column(column: str, one: Expectation, seen: Mapping[str, Any]) -> Iterator[Unmet]:
    if one.missing is not None and seen["missing"] > one.missing:
        what = f"{seen['missing']:.3g} of the samples have none"
        yield Unmet(column, f"missing: {one.missing:g}", what, one.warn, lambda rows, present: (~present).astype(float))
    counts = seen.get("classes", {})
    for name in one.classes:
        if not counts.get(name):
            yield Unmet(column, f"classes: {name}", "it does not occur", one.warn)
    known = sum(counts.values())
    for name, bounds in one.share.items():
        share = counts.get(name, 0) / known if known else 0.0
        if not _within(share, bounds):
            yield Unmet(column, f"share: {name}: {_written(bounds)}", f"it is {share:.3g}", one.warn)
    if one.mean and "mean" in seen:
        means = [m for m in seen["mean"] if not _within(m, one.mean)]
        if means:
            yield Unmet(
                column, f"mean: {_written(one.mean)}", f"it is {means[0]:.4g}", one.warn, _beyond(one.mean, True)
            )
    if one.range and "min" in seen:
        low, high = min(seen["min"]), max(seen["max"])
        if not (_within(low, one.range) and _within(high, one.range)):
            what = f"they go from {low:.4g} to {high:.4g}"
            yield Unmet(column, f"range: {_written(one.range)}", what, one.warn, _beyond(one.range, False))


def samples(storage: Storage, paths: Sequence[str], modalities: Mapping[str, Any], failing: Unmet) -> list[str]:
    """Keys of samples that show it, the worst first, of the first files that have some."""
    worst: list[tuple[float, str]] = []
    for path in paths if failing.wrong else ():
        table = read_table(storage, path, [KEY, failing.column])
        rows, present = modalities[modality_of(failing.column)].unpack(table[failing.column])
        kind = modalities[modality_of(failing.column)]
        assert failing.wrong is not None
        wrong = failing.wrong(kind.to_memory(rows), np.asarray(present, bool))
        worst += [(-float(wrong[i]), str(table[KEY][int(i)].as_py())) for i in np.flatnonzero(wrong > 0)]
        if len(worst) >= SHOWN:
            break
    return [key for _, key in sorted(worst)[:SHOWN]]


def _within(number: float, bounds: Bounds) -> bool:
    low, high = bounds
    return (low is None or number >= low) and (high is None or number <= high)


def _beyond(bounds: Bounds, mean: bool) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
    """How far the numbers of each sample, or their mean, lie beyond the bounds."""
    low, high = (-np.inf if bounds[0] is None else bounds[0], np.inf if bounds[1] is None else bounds[1])

    def wrong(rows: np.ndarray, present: np.ndarray) -> np.ndarray:
        flat = rows.reshape(len(rows), -1).astype(np.float64)
        flat = np.where(np.isfinite(flat), flat, np.nan)
        flat = np.where(present[:, None] & np.isfinite(flat).any(1, keepdims=True), flat, 0.0 if np.isinf(low) else low)
        least, most = (np.nanmean(flat, 1),) * 2 if mean else (np.nanmin(flat, 1), np.nanmax(flat, 1))
        far: np.ndarray = np.where(present, np.maximum(np.maximum(low - least, most - high), 0), 0)
        return far

    return wrong


def _written(bounds: Bounds) -> str:
    return f"[{', '.join('null' if b is None else f'{b:g}' for b in bounds)}]"
