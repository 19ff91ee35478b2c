"""How good the shuffling is, against true permutations of the same samples; docs/loader.md states these figures."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from hyperloom.stages.shard.order import epoch

ROWS, GROUPS, POOL, BATCH, EPOCHS = 8, 500, 32, 32, 60
COUNT = ROWS * GROUPS
Line = np.ndarray


def ours(number: int) -> Line:
    """Positions before shuffling, in the order of an epoch."""
    order = epoch([ROWS] * GROUPS, 0, number, POOL)
    return order.visits * ROWS + order.rows


def true(number: int) -> Line:
    return np.random.default_rng(number).permutation(COUNT)


def unshuffled_groups(number: int) -> Line:
    """What a loader does that permutes files and reads each from its start."""
    groups = np.random.default_rng(number).permutation(GROUPS)
    return (groups[:, None] * ROWS + np.arange(ROWS)).reshape(-1)


def correlation(line: Line) -> float:
    return float(np.corrcoef(line, np.arange(COUNT))[0, 1])


def step(line: Line) -> float:
    """Mean distance, before shuffling, of samples that follow each other; 1 (a third of all samples) is by chance."""
    return float(np.abs(np.diff(line)).mean() / (COUNT / 3))


def neighbours(line: Line) -> float:
    """Share of samples that are followed by one of their own row group."""
    return float((np.diff(line // ROWS) == 0).mean())


def sources(line: Line) -> float:
    """Row groups in a batch, as a share of its samples."""
    batches = (line // ROWS)[: COUNT - COUNT % BATCH].reshape(-1, BATCH)
    return float(np.mean([len(set(batch)) for batch in batches.tolist()]) / BATCH)


def over_epochs(measure: Callable[[Line], float], made: Callable[[int], Line]) -> np.ndarray:
    return np.array([measure(made(number)) for number in range(EPOCHS)])


def test_positions_before_and_after_do_not_correlate() -> None:
    """Zero on average, and spread as if the row groups were the samples that are permuted (they are)."""
    found, best = over_epochs(correlation, ours), over_epochs(correlation, true)
    assert abs(found.mean()) < 4 * found.std() / np.sqrt(EPOCHS)
    assert best.std() == pytest.approx(1 / np.sqrt(COUNT), rel=0.4)
    assert found.std() == pytest.approx(1 / np.sqrt(GROUPS), rel=0.4)


def test_epochs_do_not_resemble_each_other() -> None:
    ranks = np.array([np.argsort(ours(number)) for number in range(8)])
    between = np.corrcoef(ranks)[np.triu_indices(8, 1)]
    assert np.abs(between).max() < 5 / np.sqrt(GROUPS)


@pytest.mark.parametrize(
    ("measure", "least", "most"), [(step, 0.93, 1.0), (neighbours, 0.0, 0.04), (sources, 0.60, 1.0)]
)
def test_samples_that_were_together_are_torn_apart(measure, least: float, most: float) -> None:
    """Close to a true permutation, and far from permuting files alone."""
    found, best, files = (over_epochs(measure, made).mean() for made in (ours, true, unshuffled_groups))
    assert least <= found <= most
    assert abs(found - best) < abs(found - files) / 1.5


def test_no_more_row_groups_than_the_pool_is_a_true_permutation() -> None:
    """Every place of the epoch is equally likely for every sample: first, second and last quarter alike."""
    orders = [epoch([4] * 8, 0, number, POOL) for number in range(400)]
    lines = np.array([np.argsort(order.visits * 4 + order.rows) for order in orders])
    assert np.abs(lines.mean(0) - 15.5).max() < 5 * 9.24 / np.sqrt(400)
    assert np.abs(lines.std(0) - 9.24).max() < 1.0


if __name__ == "__main__":
    for measure in (correlation, step, neighbours, sources):
        for made in (ours, true, unshuffled_groups):
            values = over_epochs(measure, made)
            print(measure.__name__, made.__name__, f"{values.mean():.4f} +- {values.std():.4f}")
