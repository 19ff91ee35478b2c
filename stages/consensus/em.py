"""Expectation maximisation for Dawid & Skene's model (Applied Statistics 28, 1979), over counted answer patterns.

Items with the same answers have the same posterior, so a million pixels cost what their distinct patterns cost.
"""

from __future__ import annotations

import numpy as np

SETTLED = 1e-7
"""The largest change of a probability at which the iteration ends."""


def dawid_skene(
    patterns: np.ndarray, counts: np.ndarray, classes: int, confusions: bool = True, iterations: int = 200
) -> tuple[np.ndarray, np.ndarray]:
    """Class frequencies (K,) and tables (S, K, K): [s, t, l] is how probably source s says l where the truth is t.

    `patterns` (P, S) holds class ids, -1 for no answer; `counts` (P,) how often each occurs. It begins with the
    majority. One imagined answer a row, half of it right, keeps tables of rare classes defined.
    """
    answered = (patterns >= 0).any(1)
    patterns, counts = patterns[answered], counts[answered]
    votes = patterns[:, :, None] == np.arange(classes)  # (P, S, K)
    shares = votes.sum(1) / np.maximum(votes.sum((1, 2)), 1)[:, None]
    imagined = 0.5 * np.eye(classes) + 0.5 / classes
    prior, tables = np.full(classes, 1 / classes), np.tile(imagined, (patterns.shape[1], 1, 1))
    for _ in range(iterations):
        weighted = shares * counts[:, None]
        prior = (weighted.sum(0) + 1 / classes) / (counts.sum() + 1)
        tables = np.einsum("pt,psl->stl", weighted, votes.astype(np.float64)) + imagined
        tables /= tables.sum(2, keepdims=True)
        if not confusions:
            tables = _single(weighted, votes)
        before, shares = shares, posterior(patterns, prior, tables)
        if len(shares) == 0 or np.abs(shares - before).max() < SETTLED:
            break
    return prior, tables


def posterior(patterns: np.ndarray, prior: np.ndarray, tables: np.ndarray) -> np.ndarray:
    """Probabilities of the classes given each pattern's answers, (P, K)."""
    log = np.tile(np.log(prior), (len(patterns), 1))
    for source, table in enumerate(np.log(np.maximum(tables, 1e-300))):
        votes = patterns[:, source]
        log += np.where((votes >= 0)[:, None], table.T[votes], 0.0)
    odds = np.exp(log - log.max(1, keepdims=True))
    return odds / odds.sum(1, keepdims=True)


def _single(weighted: np.ndarray, votes: np.ndarray) -> np.ndarray:
    """Tables with one share of right answers a source, mistakes spread evenly over the other classes."""
    classes = votes.shape[2]
    right = np.einsum("pt,pst->s", weighted, votes.astype(np.float64)) + 0.5
    share = right / (np.einsum("pt,ps->s", weighted, votes.any(2).astype(np.float64)) + 1)
    wrong = (1 - share) / max(classes - 1, 1)
    eye = np.eye(classes)
    return share[:, None, None] * eye + wrong[:, None, None] * (1 - eye)
