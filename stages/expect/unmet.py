"""Unmet expectations: those that fail, each a sentence with its line and what was seen, and samples that show it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from hyperloom.pipeline.root.storage import Storage
from hyperloom.stages.base import KEY, modality_of
from hyperloom.stages.expect.evidence import Evidence, named
from hyperloom.stages.expect.expectation import (
    COUNTED,
    EACH_GROUP,
    FIGURES,
    Bounds,
    Expectation,
    columns,
    within,
    written,
)
from hyperloom.stages.table import read_table

SHOWN = 3
Wrongness = Callable[[Any, np.ndarray, np.ndarray], np.ndarray]
"""Of a modality, rows (N, ...) in memory and which are there, (N,) how wrong each is; 0 for not at all."""


@dataclass(frozen=True)
class Unmet:
    """An expectation that fails: `line` as the recipe has it, what was `seen` instead, and which samples show it:
    those of `groups`, or the worst by `wrong`."""

    column: str
    line: str
    seen: str
    warn: bool = False
    wrong: Wrongness | None = None
    groups: tuple[str, ...] = ()

    def sentence(self, samples: Sequence[str] = ()) -> str:
        such = f" ({', '.join(samples)})" if samples else ""
        return f"expect: {self.column}: {self.line}: {self.seen}{such}"


def unmet(expected: Mapping[str, Any], seen: Evidence) -> list[Unmet]:
    """Those that fail."""
    failing: list[Unmet] = []
    for name in COUNTED:
        for split, least in expected.get(name, {}).items():
            if (count := seen.sizes.get(name, {}).get(split, 0)) < least:
                failing.append(Unmet(name, f"{split}: {least}" if split else str(least), f"there are {count}"))
    if EACH_GROUP in expected:
        failing += _of_groups(EACH_GROUP, expected[EACH_GROUP], seen.groups.get("", {}), False)
    for place, bounds in expected.get(FIGURES, {}).items():
        failing += _of_figure(place, bounds, seen.figures)
    for column, one in columns(expected).items():
        if column in seen.columns:
            failing += _of_column(column, one, seen.columns[column])
        if one.each_group:
            failing += _of_groups(column, one.each_group, seen.groups.get(column, {}), one.warn)
        failing += [*_of_agreement(column, one, seen), *_of_drift(column, one, seen)]
    return failing


def samples(storage: Storage, paths: Sequence[str], modalities: Mapping[str, Any], failing: Unmet) -> list[str]:
    """Keys of samples that show it, the worst first, of the first files that have some."""
    worst: list[tuple[float, str]] = []
    kind: Any = modalities[modality_of(failing.column)] if "@" in failing.column else None
    for path in paths if failing.wrong and kind else ():
        table = read_table(storage, path, [KEY, failing.column])
        rows, present = kind.unpack(table[failing.column])
        assert failing.wrong is not None
        wrong = failing.wrong(kind, kind.to_memory(rows), np.asarray(present, bool))
        worst += [(-float(wrong[i]), str(table[KEY][int(i)].as_py())) for i in np.flatnonzero(wrong > 0)]
        if len(worst) >= SHOWN:
            break
    return [key for _, key in sorted(worst)[:SHOWN]]


# -- inside ------------------------------------------------------------------------------------------------------------
def _of_column(column: str, one: Expectation, seen: Mapping[str, Any]) -> Iterator[Unmet]:
    if one.missing is not None and seen["missing"] > one.missing:
        what = f"{seen['missing']:.3g} of the samples have none"
        yield Unmet(
            column, f"missing: {one.missing:g}", what, one.warn, lambda _, rows, present: (~present).astype(float)
        )
    counts = seen.get("classes", {})
    for name in one.classes:
        if not counts.get(name):
            yield Unmet(column, f"classes: {name}", "it does not occur", one.warn, _any)
    known = seen.get("of", sum(counts.values()))
    for name, bounds in one.share.items():
        share = counts.get(name, 0) / known if known else 0.0
        if not known or not within(share, bounds):
            what = f"it is {share:.3g}" if known else "nothing of it is known"
            few = bounds[0] is not None and share < bounds[0]
            side = (bounds[0], None) if few else (None, bounds[1])  # who lies beyond the other border is not to blame
            yield Unmet(column, f"share: {name}: {written(bounds)}", what, one.warn, _by_share(name, side))
    if (one.mean or one.range) and "mean" not in seen and not counts:
        line = f"mean: {written(one.mean)}" if one.mean else f"range: {written(one.range)}" if one.range else ""
        yield Unmet(column, line, "there are no numbers", one.warn)
    if one.mean and "mean" in seen:
        means = [m for m in seen["mean"] if not within(m, one.mean)]
        if means:
            what = f"it is {means[0]:.4g}"
            yield Unmet(column, f"mean: {written(one.mean)}", what, one.warn, _beyond(one.mean, True))
    if one.range and "min" in seen:
        low, high = min(seen["min"]), max(seen["max"])
        if not all(within(end, one.range) or within(end, _as_stored(one.range)) for end in (low, high)):
            what = f"they go from {low:.4g} to {high:.4g}"
            yield Unmet(column, f"range: {written(one.range)}", what, one.warn, _beyond(one.range, False))


def _as_stored(bounds: Bounds) -> Bounds:
    """Bounds as numbers are kept: what is .1 in a file is a little more."""
    low, high = (None if bound is None else float(np.float32(bound)) for bound in bounds)
    return low, high


def _of_groups(name: str, bounds: Bounds, counts: Mapping[str, int], warn: bool) -> Iterator[Unmet]:
    wrong = {group: count for group, count in counts.items() if not within(count, bounds)}
    if wrong:
        least = sorted(wrong, key=lambda group: (wrong[group], group))
        what = f"{len(wrong)} of {len(counts)} groups have others, {least[0]!r} has {wrong[least[0]]}"
        line = written(bounds) if name == EACH_GROUP else f"each_group: {written(bounds)}"
        yield Unmet(name, line, what, warn, groups=tuple(least[:SHOWN]))


def _of_figure(place: tuple[str, ...], bounds: Bounds, figures: Mapping[str, Any]) -> Iterator[Unmet]:
    value: Any = figures
    for part in place:
        value = value.get(part) if isinstance(value, Mapping) else None
    line = f"{'/'.join(place)}: {written(bounds)}"
    if isinstance(value, bool) or not isinstance(value, int | float):
        known = figures
        for part in place[:-1]:
            known = known.get(part, {}) if isinstance(known, Mapping) else {}
        yield Unmet(FIGURES, line, f"there is no such figure; known: {', '.join(sorted(map(str, known))) or 'none'}")
    elif not within(value, bounds):
        yield Unmet(FIGURES, line, f"it is {value:.4g}")


def _of_agreement(column: str, one: Expectation, seen: Evidence) -> Iterator[Unmet]:
    known = seen.agreement.get(column, {})
    if one.agreement is None:
        return
    limits = one.agreement if isinstance(one.agreement, dict) else dict.fromkeys(known, one.agreement)
    if not limits and not isinstance(one.agreement, dict):
        yield Unmet(column, f"agreement: {written(one.agreement)}", "it was compared with nothing", one.warn)
    for source, bounds in limits.items():
        line, value = f"agreement: {source}: {written(bounds)}", known.get(source)
        if source not in known:
            yield Unmet(column, line, f"it was compared with {', '.join(known) or 'nothing'}", one.warn)
        elif value is None:
            yield Unmet(column, line, "no sample has both", one.warn)
        elif not within(value, bounds):
            yield Unmet(column, line, f"it is {value:.3g}", one.warn, _any)


def _of_drift(column: str, one: Expectation, seen: Evidence) -> Iterator[Unmet]:
    if one.drift is None:
        return
    moved = seen.moved.get(column, {}).get(named(one.drift, column))
    if moved is not None and moved > one.drift.most:
        what = f"it is {moved:.3g} from {one.drift.step} ({one.drift.measure})"
        yield Unmet(column, f"drift: most {one.drift.most:g}", what, one.warn, _any)


def _any(kind: Any, rows: np.ndarray, present: np.ndarray) -> np.ndarray:
    """Samples to look at, of what no single one is to blame for."""
    return present.astype(float)


def _by_share(name: str, bounds: Bounds) -> Wrongness:
    """How far a sample's own share of a class lies beyond the bounds."""

    def wrong(kind: Any, rows: np.ndarray, present: np.ndarray) -> np.ndarray:
        place, count, far = list(kind.counted).index(name), len(kind.counted), np.zeros(len(rows))
        low, high = (-np.inf if bounds[0] is None else bounds[0], np.inf if bounds[1] is None else bounds[1])
        for i in np.flatnonzero(present):
            if kind.markup == "marks":
                own = rows[i, place : place + 1]
                hits = own[own <= 1] == 1
            else:
                ids = np.asarray(kind.tallied(rows[i : i + 1])).reshape(-1)
                hits = ids[(ids >= 0) & (ids < count)] == place
            if len(hits):
                far[i] = max(low - hits.mean(), hits.mean() - high, 0.0)
        return far

    return wrong


def _beyond(bounds: Bounds, mean: bool) -> Wrongness:
    """How far the numbers of each sample, or their mean, lie beyond the bounds."""
    low, high = (-np.inf if bounds[0] is None else bounds[0], np.inf if bounds[1] is None else bounds[1])

    def wrong(kind: Any, rows: np.ndarray, present: np.ndarray) -> np.ndarray:
        flat = rows.reshape(len(rows), -1).astype(np.float64)
        flat = np.where(np.isfinite(flat), flat, np.nan)
        flat = np.where(present[:, None] & np.isfinite(flat).any(1, keepdims=True), flat, 0.0 if np.isinf(low) else low)
        least, most = (np.nanmean(flat, 1),) * 2 if mean else (np.nanmin(flat, 1), np.nanmax(flat, 1))
        far: np.ndarray = np.where(present, np.maximum(np.maximum(low - least, most - high), 0), 0)
        return far

    return wrong
