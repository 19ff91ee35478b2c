"""The hierarchical bootstrap of verdicts: folds, then seeds, then blocks of samples, all sides drawn together.

Samples that lie beside each other resemble each other, and so do trainings on the same fold. So a draw first takes
folds, within each copy of one seeds, and blocks of samples by the weights that `stages.measure.intervals` draws from
their names (Poisson, so that every subject meets the same samples); a level with one member is not drawn. With few
folds the interval is about as wide as from the worst fold to the best, which is what few folds can tell.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from hyperloom.pipeline.errors import RecipeError

LEVEL = 0.95
Statistic = Callable[[Sequence[np.ndarray]], np.ndarray]
"""Means of the arms, each (N,), to the N values that a claim is about."""


@dataclass(frozen=True)
class Arm:
    """A subject in all folds: `values`, (folds, seeds), and `draws`, (folds, seeds, draws), of one figure."""

    name: str
    values: np.ndarray
    draws: np.ndarray


@dataclass(frozen=True)
class Bootstrapped:
    """`value` of the statistic on all samples, its interval (None when too little was known), and its value for each
    seed and each fold alone."""

    value: float
    interval: tuple[float, float] | None
    seeds: tuple[float, ...]
    folds: tuple[float, ...]


def bootstrap(arms: Sequence[Arm], statistic: Statistic) -> Bootstrapped:
    """The outcome of a statistic of several arms. Arms with one seed meet all seeds of the others. Raises RecipeError
    where arms have different numbers of seeds."""
    count = max(arm.values.shape[1] for arm in arms)
    for arm in arms:
        if arm.values.shape[1] not in (1, count):
            some = ", ".join(f"{a.name} {a.values.shape[1]}" for a in arms)
            raise RecipeError(f"the sides of a claim have different numbers of seeds ({some}). Next: train as many")
    values = [_spread(arm.values, count) for arm in arms]
    drawn = _resampled([_spread(arm.draws, count) for arm in arms])
    known = statistic(drawn)
    known = known[np.isfinite(known)]
    edge = (1 - LEVEL) / 2
    enough = len(known) >= arms[0].draws.shape[2] / 2
    low, high = np.quantile(known, [edge, 1 - edge]) if enough else (np.nan, np.nan)
    return Bootstrapped(
        float(statistic([v.mean().reshape(1) for v in values])[0]),
        (float(low), float(high)) if enough else None,
        tuple(float(x) for x in statistic([v.mean(0) for v in values])),
        tuple(float(x) for x in statistic([v.mean(1) for v in values])),
    )


def _spread(values: np.ndarray, seeds: int) -> np.ndarray:
    return np.repeat(values, seeds, 1) if values.shape[1] == 1 else values


def _resampled(arms: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Each arm's mean in each draw, (draws,), of (folds, seeds, draws)."""
    folds, seeds, draws = arms[0].shape
    generator, every = np.random.default_rng(0), np.arange(draws)
    totals = [np.zeros(draws) for _ in arms]
    for _ in range(folds):  # a fold that is drawn twice has its seeds drawn twice
        fold = generator.integers(folds, size=draws)
        seed = generator.integers(seeds, size=(seeds, draws))
        for total, arm in zip(totals, arms, strict=True):
            total += arm[fold, seed, every].mean(0)
    return [total / folds for total in totals]
