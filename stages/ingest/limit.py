"""`limit: N` of an ingest step: the first samples of each group, N in all."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from hyperloom.stages.ingest.source import Item


def limited(groups: Sequence[str], items: Sequence[list[Item]], limit: int | None) -> list[list[Item]]:
    """The items of each piece, whose group is in `groups`, of which at most `limit` are left: as many of each group as
    there is room for, the first groups one more where it does not come out even."""
    sizes = Counter[str]()
    for group, listed in zip(groups, items, strict=True):
        sizes[group] += len(listed)
    if limit is None or limit >= sizes.total():
        return list(items)
    left, kept = _shares(sizes, limit), []
    for group, listed in zip(groups, items, strict=True):
        kept.append(listed[: left[group]])
        left[group] -= len(kept[-1])
    return kept


def _shares(sizes: Counter[str], limit: int) -> dict[str, int]:
    """How many of each group: the small ones whole, the others alike."""
    shares, rest = {}, limit
    order = sorted(sizes, key=lambda group: sizes[group])  # stable: equal ones in the order of the source
    for i, group in enumerate(order):
        shares[group] = min(sizes[group], -(-rest // (len(order) - i)) if sizes[group] else 0)
        rest -= shares[group]
    return shares
