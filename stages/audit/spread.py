"""How samples lie: what stands alone, where sources differ, what is empty, how classes are spread over splits, and the
slices in which labels are foretold worst."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from hyperloom.stages.audit.finding import AuditFinding, far, percent
from hyperloom.stages.audit.labels import Doubt
from hyperloom.stages.shard.splits import SPLITS

TOGETHER = 10
"""Nearest samples that say how alone one is."""
ALONE = 1.8
"""Times the median distance, at least."""
APART = 0.15
"""Difference of shares of a class, or of hits in a slice, below which nothing is said."""
DIFFER = 0.02
"""Share of a value in which sources differ, below which nothing is said."""
RARE = 0.1
"""Where sources of more samples than this share differ by more than usual, usual are those that differ at all."""
FEWEST = 20
CHANCE = 0.01
MOST_SLICES = 500


def loneliness(apart: np.ndarray) -> np.ndarray:
    """(N,) log of the mean distance of the nearest TOGETHER over the median of that; NaN where there are none."""
    near = apart[:, :TOGETHER]
    mean = np.where(np.isfinite(near).all(1), near.mean(1), np.nan)
    known = mean[np.isfinite(mean)]
    middle = float(np.median(known)) if len(known) else 1.0
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.log(np.maximum(mean, 1e-12) / max(middle, 1e-12))


def outliers(alone: np.ndarray, keys: Sequence[str], rate: float) -> AuditFinding | None:
    """Samples far from all others."""
    odd = far(alone, float(np.log(ALONE)))
    count = int(odd.sum())
    if count <= rate * len(keys) * 0.1:
        return None
    worst = [keys[i] for i in np.argsort(np.where(odd, -alone, np.inf), kind="stable")[:count]]
    text = f"{count} of {len(keys)} samples ({percent(count / len(keys))}) are like no others"
    act = "look at them; `where: {outlier@audit: {above: 0.5}}` in a select step leaves them out"
    return AuditFinding("outlier", "samples", count, len(keys), text, act, worst)


def disagreement(
    name: str, differ: np.ndarray, columns: Sequence[str], keys: Sequence[str], least: float
) -> AuditFinding | None:
    """Samples on which sources of a modality differ far more than usually, and by more than `least`."""
    odd = far(differ, least)
    if odd.sum() > RARE * np.isfinite(differ).sum():  # most agree wholly, and every other would be far off
        odd = far(np.where(differ > 0, differ, np.nan), least)
    count = int(odd.sum())
    if not count:
        return None
    order = np.argsort(np.where(odd, -np.nan_to_num(differ), np.inf), kind="stable")[:count]
    text = (
        f"{name}: {', '.join(columns)} differ by {differ[order[0]]:.2g} at worst and {np.nanmedian(differ):.2g} in the "
        f"middle; {count} of {len(keys)} samples lie far above that"
    )
    act = f"`order: {{agreement@audit: lowest}}, n: {count}` in a select step gives them to people"
    return AuditFinding("disagreement", name, count, len(keys), text, act, [keys[i] for i in order])


def faults(stated: Sequence[str], keys: Sequence[str]) -> list[AuditFinding]:
    """Samples that are empty or constant, one finding for each way."""
    by_way: dict[str, list[str]] = {}
    for key, words in zip(keys, stated, strict=True):
        for word in words.split("; ") if words else ():
            by_way.setdefault(word, []).append(key)
    act = "`where: {fault@audit: {above: 0.5}}` in a select step leaves them out"
    return [
        AuditFinding("fault", word, len(mine), len(keys), f"{len(mine)} of {len(keys)} samples: {word}", act, mine)
        for word, mine in sorted(by_way.items())
    ]


def balance(
    column: str, names: Sequence[str], weights: np.ndarray, splits: Sequence[str]
) -> tuple[list[dict[str, object]], list[AuditFinding]]:
    """Rows of a table, and findings, of (N, classes) shares of classes by split."""
    where = np.array(splits)
    present: list[str] = [s for s in SPLITS if s in splits] or sorted(set(splits))
    sums = {s: weights[where == s].sum(0) for s in present}
    rows = [
        {"column": column, "class": name, **{s or "all": float(round(sums[s][k], 2)) for s in present}}
        for k, name in enumerate(names)
    ]
    findings = []
    for one in present[1:]:
        train, other = sums[present[0]], sums[one]
        act = f"`split: {{stratify: {column}}}` in the shard step, or another salt"
        lacking = [names[int(k)] for k in np.flatnonzero((other > 0) & (train <= 0))]
        unseen = [names[int(k)] for k in np.flatnonzero((train >= 1) & (other <= 0))]
        for which, words in (
            (lacking, f"occur in `{one}` and never in `{present[0]}`"),
            (unseen, f"never occur in `{one}`"),
        ):
            if which:
                text = f"{column}: {len(which)} of {len(names)} classes {words} ({', '.join(which[:8])})"
                findings.append(AuditFinding("balance", column, len(which), len(names), text, act))
        shares = [s / max(1e-9, s.sum()) for s in (train, other)]
        apart = float(np.abs(shares[0] - shares[1]).sum() / 2)
        if apart > APART + 2 * np.sqrt(len(names) / max(1.0, min(train.sum(), other.sum()))) / 2:
            worst = int(np.abs(shares[0] - shares[1]).argmax())
            text = (
                f"{column}: classes are spread otherwise in `{one}` than in `{present[0]}`, by {percent(apart)} in "
                f"all; most {names[worst]}, {percent(shares[1][worst])} against {percent(shares[0][worst])}"
            )
            findings.append(AuditFinding("balance", column, 0, len(splits), text, act))
    return rows, findings


def weak(doubt: Doubt, slices: Mapping[str, Sequence[str]], total: int) -> AuditFinding | None:
    """The slice whose labels are foretold worst: by APART worse than elsewhere, and by more than chance (a test of two
    shares, corrected for all slices that were looked at)."""
    known = doubt.right >= 0
    tried = list(_slices(doubt, known, slices))
    if not tried:
        return None
    gap, z, name, inside, (mine, rest) = max(tried, key=lambda one: one[1])
    chance = float(np.exp(-z * z / 2)) * len(tried)
    if gap < APART or chance > CHANCE or len(tried) > MOST_SLICES:
        return None
    column, _, value = name.partition("=")
    text = (
        f"{doubt.column} is foretold worst where {column} is {value}: {percent(mine)} against {percent(rest)} "
        f"elsewhere ({inside} of {total} samples; {len(tried)} slices looked at)"
    )
    act = f"`evaluate: {{slices: [{column}]}}` watches it, `balance: {column}` in a select step evens it out"
    return AuditFinding("weak", doubt.column, inside, total, text, act)


def _slices(
    doubt: Doubt, known: np.ndarray, slices: Mapping[str, Sequence[str]]
) -> Iterator[tuple[float, float, str, int, tuple[float, float]]]:
    for column, values in slices.items():
        each = np.array(values, object)
        for value in sorted({str(v) for v in values if v}):
            inside = known & (each == value)
            rest = known & ~inside
            count = int(inside.sum()), int(rest.sum())
            if min(count) < FEWEST:
                continue
            mine, other = float((doubt.right[inside] == 1).mean()), float((doubt.right[rest] == 1).mean())
            both = float((doubt.right[known] == 1).mean())
            spread = np.sqrt(max(both * (1 - both), 1e-9) * (1 / count[0] + 1 / count[1]))
            yield other - mine, max(0.0, (other - mine) / spread), f"{column}={value}", count[0], (mine, other)
