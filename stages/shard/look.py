"""A look at the classes of the shards: which of them a split lacks. It is said before anybody trains on it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from hyperloom.pipeline.commits.units import Record
from hyperloom.stages.shard.splits import SPLITS, SplitName

LISTED = 12
"""Classes that a sentence names."""


def absences(columns: Mapping[str, Any], records: Sequence[Record], places: Mapping[str, SplitName]) -> list[str]:
    """One sentence for each column (with its modality) whose classes are not all in `train`."""
    sentences = []
    for column, modality in columns.items():
        if not modality.categorical or len(modality.counted) < 2:
            continue
        seen: dict[str, set[int]] = {name: set() for name in SPLITS}
        for record in records:
            counts = record.meta["statistics"][column].get("classes", ())
            seen[places[record.meta["group"]]].update(i for i, count in enumerate(counts) if count)
        sentence = _sentence(modality.counted, seen)
        sentences += [f"{column}: {sentence}"] if sentence else []
    return sentences


def _sentence(names: Sequence[str], seen: Mapping[str, set[int]]) -> str:
    anywhere = set().union(*seen.values())
    if not anywhere:
        return ""
    parts = []
    for split in SPLITS[1:]:
        if others := seen[split] - seen["train"]:
            parts.append(f"no {_listed(names, others)} in train, but in {split}")
    if absent := set(range(len(names))) - anywhere:
        parts.append(f"no {_listed(names, absent)} in any split")
    return "; ".join(parts)


def _listed(names: Sequence[str], ids: set[int]) -> str:
    first = ", ".join(names[i] for i in sorted(ids)[:LISTED])
    more = f" and {len(ids) - LISTED} more" if len(ids) > LISTED else ""
    return f"class{'es' if len(ids) > 1 else ''} {first}{more}"
