"""Intervals: how far figures, and differences of figures, could have come out otherwise on other frames.

A bootstrap that is paired and needs no second pass (Hanley & MacGibbon 2006; Chamandy et al., KDD 2012): each resampled
unit counts Poisson(1) times in each draw, drawn from its name. So every subject meets the same resampled frames, the
result does not depend on how the work was spread, and two reports over the same shards can be compared draw by draw.
The unit is a frame, a block of consecutive frames (they resemble each other, and single ones would look more certain
than they are), or a whole group. Bounds are quantiles of the draws.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Collection, Mapping, Sequence
from typing import Any, Literal, TypeAlias

import numpy as np
from pydantic import Field

from hyperloom.pipeline.commits.units import Record
from hyperloom.pipeline.config import Config
from hyperloom.pipeline.root.storage import Storage
from hyperloom.stages.measure.measure import measure_of
from hyperloom.stages.measure.scores import measures
from hyperloom.stages.measure.sheet import read_names, read_sheet
from hyperloom.stages.measure.sums import Gathered, order, unpacked

ReadSheet: TypeAlias = "tuple[list[str], list[str], dict[str, dict[str, np.ndarray]]]"
"""What `read_sheet` gives."""
Draws: TypeAlias = "dict[str, np.ndarray]"
"""`modality.measure` -> (draws,) float64; NaN where a draw had nothing to measure."""
FEWEST = 2
"""Resampled units below which nothing can be said."""


class Intervals(Config):
    """`{draws: 1000, level: 0.95, over: blocks, block: 8}`."""

    draws: int = Field(1000, ge=100, le=100_000)
    level: float = Field(0.95, gt=0, lt=1)
    over: Literal["frames", "blocks", "groups"] = "blocks"
    block: int = Field(8, ge=1)
    """Consecutive frames of a block."""
    seed: int = Field(0, ge=0)

    def bounds(self, draws: np.ndarray) -> list[float] | None:
        """Lower and upper bound of what was drawn; None when too few draws had an answer."""
        known = draws[np.isfinite(draws)]
        if len(known) < self.draws / 2:
            return None
        edge = (1 - self.level) / 2
        low, high = np.quantile(known, [edge, 1 - edge])
        return [float(low), float(high)]


def resampled(
    config: Intervals, storage: Storage, records: Sequence[Record], names: Mapping[str, Any]
) -> tuple[Draws, int]:
    """Draws of all figures of one subject, and how many units were resampled.

    `names`: what the sheets call it -> (modality's name, modality).
    """
    sheets = Sheets(config, storage, records)
    return sheets.draws(names), sheets.resampled


class Sheets:
    """The statistics of one subject's samples, to be added up over any of them, as they are and as they are drawn."""

    def __init__(self, config: Intervals, storage: Storage, records: Sequence[Record]):
        self._config, paths = config, [record.files[1].path for record in records]
        self._sheets = [read_sheet(storage, path) for path in paths]
        self.units = _units(config, [row for path in paths for row in read_names(storage, path)])
        """By key the name of the unit that is resampled."""
        self.resampled = len(set(self.units.values()))

    @property
    def keys(self) -> list[str]:
        return list(self.units)

    def answered(self, name: str, modality: Any) -> set[str]:
        """Keys of the samples of which what the sheets call `name`, of `modality`, has an answer."""
        return {
            key
            for keys, _, sums in self._sheets
            if name in sums
            for key, count in zip(keys, measure_of(modality).answers(sums[name]), strict=True)
            if count > 0
        }

    def figures(self, names: Mapping[str, Any], only: Collection[str] | None = None) -> dict[str, float]:
        """Figures over all samples, or those with the keys `only`; named as `resampled` names them."""
        once = dict.fromkeys(self.units, np.ones(1))
        return {name: float(values[0]) for name, values in self._measured(once, names, only, 1).items()}

    def draws(self, names: Mapping[str, Any], only: Collection[str] | None = None) -> Draws:
        """The same in each draw; empty where there are too few units."""
        drawn = {unit: _weights(self._config, unit) for unit in dict.fromkeys(self.units.values())}
        if len(drawn) < FEWEST:
            return {}
        weights = {key: drawn[unit] for key, unit in self.units.items()}
        return self._measured(weights, names, only, self._config.draws)

    def _measured(
        self, weights: Mapping[str, np.ndarray], names: Mapping[str, Any], only: Collection[str] | None, count: int
    ) -> Draws:
        totals = _drawn(self._sheets, weights, names, only)
        draws: Draws = {}
        for name, (label, modality) in names.items():
            for measure, values in _figures(count, modality, totals.get(name, {})).items():
                draws[f"{label}.{measure}"] = values
        return draws


def student_t(values: Sequence[float], level: float) -> list[float] | None:
    """The interval of a mean over a few seeds, by Student's t; None for a single one."""
    count = len(values)
    if count < FEWEST:
        return None
    mean, spread = float(np.mean(values)), float(np.std(values, ddof=1)) / math.sqrt(count)
    angle = np.linspace(0, math.pi / 2, 20_001)  # t = sqrt(n - 1) tan(angle) has the density cos(angle) ** (n - 2)
    density = np.cos(angle) ** (count - 2)
    share = np.concatenate([[0.0], np.cumsum((density[1:] + density[:-1]) / 2)])
    reach = math.sqrt(count - 1) * math.tan(float(np.interp(level, share / share[-1], angle)))
    return [mean - reach * spread, mean + reach * spread]


# -- inside ------------------------------------------------------------------------------------------------------------
def _units(config: Intervals, rows: Sequence[tuple[str, int, str]]) -> dict[str, str]:
    """The name of each sample's resampled unit, by its key. Blocks are cut along a group in the order of its samples,
    wherever its shards are cut."""
    if config.over != "blocks":
        return {key: group if config.over == "groups" else key for group, _, key in rows}
    units, first, place = {}, ("", ""), 0
    for group, _, key in sorted(rows):
        place = place + 1 if group == first[0] else 0
        if place % config.block == 0:
            first = (group, key)
        units[key] = first[1]
    return units


def _drawn(
    sheets: Sequence[ReadSheet],
    weights: Mapping[str, np.ndarray],
    names: Mapping[str, Any],
    only: Collection[str] | None,
) -> dict[str, dict[str, Any]]:
    """The statistics of each name as they come out in each draw, by its place: (draws, ...). Counts add up exactly
    shard by shard; sums of other numbers are added in the order of the keys, so that no digit depends on where shards
    are cut; rows are weighed."""
    totals: dict[str, dict[str, Any]] = {}
    others: dict[tuple[str, str], list[tuple[str, Any]]] = {}
    for every_key, _, sums in sheets:
        places = [i for i, key in enumerate(every_key) if only is None or key in only]
        if not places:
            continue
        keys = [every_key[i] for i in places]
        every = np.stack([weights[key] for key in keys], 1)  # (draws, N)
        for name in names:
            for stat, all_values in sums.get(name, {}).items():
                values = all_values if only is None else all_values[places]
                if values.dtype.kind == "i":
                    drawn = (every @ values.reshape(len(values), -1)).reshape(-1, *values.shape[1:])
                    mine = totals.setdefault(name, {})
                    mine[stat] = mine[stat] + drawn if stat in mine else drawn
                else:
                    others.setdefault((name, stat), []).extend(zip(keys, values, strict=True))
    for (name, stat), rows in others.items():
        if isinstance(rows[0][1], str):
            totals.setdefault(name, {})[stat] = _Weighed(rows, weights)
            continue
        drawn = totals.setdefault(name, {}).get(stat, np.zeros(1))
        for key, value in sorted(rows, key=lambda row: row[0]):
            drawn = drawn + np.multiply.outer(weights[key], value)
        totals[name][stat] = drawn
    return totals


class _Weighed:
    """Gathered rows of several samples as they count in each draw: by place, what `measures` takes."""

    def __init__(self, samples: Sequence[tuple[str, str]], weights: Mapping[str, np.ndarray]):
        parts = [unpacked(text) for _, text in samples]
        rows = np.concatenate(parts)
        places = order(rows)
        self._rows = Gathered(rows[places])
        self._owner = np.repeat(np.arange(len(parts)), [len(part) for part in parts])[places]
        self._weights = np.stack([weights[key] for key, _ in samples])  # (samples, draws)

    def __getitem__(self, draw: int) -> Gathered:
        return self._rows.weighed(self._weights[self._owner, draw])


def _weights(config: Intervals, unit: str) -> np.ndarray:
    """How often the unit counts in each draw, (draws,) float64."""
    seed = int.from_bytes(hashlib.sha256(f"{config.seed}/{unit}".encode()).digest()[:16], "big")
    return np.random.default_rng(seed).poisson(1.0, config.draws).astype(np.float64)


def _figures(count: int, modality: Any, totals: Mapping[str, Any]) -> dict[str, np.ndarray]:
    figures: dict[str, np.ndarray] = {}
    for draw in range(count if totals else 0):
        for measure, value in measures(modality, {stat: values[draw] for stat, values in totals.items()}).items():
            figures.setdefault(measure, np.full(count, np.nan))[draw] = value
    return figures
