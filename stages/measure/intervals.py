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
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal, TypeAlias

import numpy as np
from pydantic import Field

from hyperloom.pipeline.config import Config
from hyperloom.pipeline.storage import Storage
from hyperloom.pipeline.units import Record
from hyperloom.stages.measure.scores import measures
from hyperloom.stages.measure.sheet import read_sheet

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
    totals: dict[str, dict[str, np.ndarray]] = {}
    units: dict[str, np.ndarray] = {}
    for record in records:
        keys, groups, sums = read_sheet(storage, record.files[1].path)
        names_of = list(_units(config, keys, groups))
        units.update({name: _weights(config, name) for name in dict.fromkeys(names_of) if name not in units})
        weights = np.stack([units[name] for name in names_of], 1)  # (draws, N)
        for name in names:
            for stat, values in sums.get(name, {}).items():
                drawn = (weights @ values.reshape(len(values), -1)).reshape(-1, *values.shape[1:])
                mine = totals.setdefault(name, {})
                mine[stat] = mine[stat] + drawn if stat in mine else drawn
    if len(units) < FEWEST:
        return {}, len(units)
    draws: Draws = {}
    for name, (label, modality) in names.items():
        for measure, values in _figures(config, modality, totals.get(name, {})).items():
            draws[f"{label}.{measure}"] = values
    return draws, len(units)


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
def _units(config: Intervals, keys: Sequence[str], groups: Sequence[str]) -> Iterator[str]:
    """The name of each sample's resampled unit."""
    first = 0
    for row, (key, group) in enumerate(zip(keys, groups, strict=True)):
        if config.over == "groups":
            yield group
        elif config.over == "frames":
            yield key
        else:
            if group != groups[first] or row - first >= config.block:
                first = row
            yield keys[first]


def _weights(config: Intervals, unit: str) -> np.ndarray:
    """How often the unit counts in each draw, (draws,) float64."""
    seed = int.from_bytes(hashlib.sha256(f"{config.seed}/{unit}".encode()).digest()[:16], "big")
    return np.random.default_rng(seed).poisson(1.0, config.draws).astype(np.float64)


def _figures(config: Intervals, modality: Any, totals: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    figures: dict[str, np.ndarray] = {}
    for draw in range(config.draws if totals else 0):
        for measure, value in measures(modality, {stat: values[draw] for stat, values in totals.items()}).items():
            figures.setdefault(measure, np.full(config.draws, np.nan))[draw] = value
    return figures
