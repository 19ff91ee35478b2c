"""What each sample is, by a digest of 8 bytes: so that equal samples are known wherever they lie and whatever they are
called.

A sample is told apart by what it looks like: the bytes of its picture, else of its largest raw column; where all raw
columns are small (a table) by all of them together. Truth is no part of it, and neither are labels. The digests are
made of the bytes that sharding has in hand anyway and stand in the unit's record, 11 characters a sample, beside the
ids of the partitions (`meta["content"]`, `meta["pids"]`). An absent value has the digest 0 and equals nothing.
"""

from __future__ import annotations

import base64
import hashlib
import math
from collections.abc import Iterable, Mapping, Sequence
from itertools import combinations
from typing import Any

import numpy as np

from hyperloom.pipeline.commits.units import Record
from hyperloom.pipeline.root.storage import Storage
from hyperloom.stages.base import KEY, TRUTH, modality_of, source_of
from hyperloom.stages.shard import likeness
from hyperloom.stages.shard.splits import SPLITS
from hyperloom.stages.table import read_table

LARGE = 64
"""Numbers in a value that tell samples apart by themselves."""
SHOWN = 3
"""Equal samples that are named."""
EQUAL = (
    "{count} are samples of `{one}` too, byte for byte ({first}). Next: remove the copies, or pin their groups to one "
    "split"
)
NEAR = (
    "{count} look like copies of samples of `{one}`, in another encoding or size ({first}). Next: look at these; if "
    "they are the same, remove them, or pin their groups to one split"
)


def telling(raw: Iterable[str], modalities: Mapping[str, Any]) -> tuple[str, ...]:
    """Of the `raw` columns those that say what a sample is; none where only truth is there."""
    columns = sorted(c for c in raw if source_of(c) != TRUTH)
    sizes = {c: math.prod(modalities[modality_of(c)].shape) for c in columns}
    large = [c for c in columns if sizes[c] >= LARGE]
    picture = [c for c in large if getattr(modalities[modality_of(c)], "rgb", False)]
    return (max(picture or large, key=lambda c: sizes[c]),) if large else tuple(columns)


def digests(columns: Sequence[Any]) -> np.ndarray:
    """(N,) uint64 of Arrow arrays of N rows each: one digest a row over all of them."""
    rows = [[_bytes(value) for value in column] for column in columns]
    return np.array([_digest(values) for values in zip(*rows, strict=True)], "<u8")


def _bytes(value: Any) -> Any:
    if not value.is_valid:
        return None
    return value.as_buffer() if hasattr(value, "as_buffer") else repr(value.as_py()).encode()


def _digest(values: Sequence[Any]) -> int:
    if all(value is None for value in values):
        return 0
    hashed = hashlib.sha256()
    for value in values:
        if len(values) > 1:
            hashed.update(b"%d;" % (-1 if value is None else len(value)))
        hashed.update(b"" if value is None else value)
    return int.from_bytes(hashed.digest()[:8], "little") or 1


def packed(values: np.ndarray) -> str:
    """The digests as they stand in a record."""
    return base64.b64encode(values.tobytes()).decode()


def content(record: Record) -> np.ndarray:
    """(rows,) uint64, 0 where nothing is known; of a unit's record."""
    text = record.meta.get("content")
    return np.zeros(record.rows, "<u8") if text is None else np.frombuffer(base64.b64decode(text), "<u8")


def doubles(storage: Storage, records: Sequence[Record], places: Mapping[str, str]) -> list[str]:
    """Of each two splits that have samples in common, or such that look alike, how many and the first of them."""
    splits: dict[str, list[Record]] = {}
    for record in records:
        splits.setdefault(places[record.meta["group"]], []).append(record)
    known = {split: together(mine) for split, mine in splits.items()}
    seen = {split: likeness.together(mine) for split, mine in splits.items()}
    order = [split for split in SPLITS if split in splits]
    sentences = []
    for one, other in combinations(order, 2):
        same = np.isin(known[other], known[one]) & (known[other] != 0)
        equal = [(place, int(np.argmax(known[one] == known[other][place]))) for place in np.flatnonzero(same).tolist()]
        like = likeness.alike(seen[other], seen[one])
        near = [(place, int(like[place])) for place in np.flatnonzero((like >= 0) & ~same).tolist()]
        for pairs, sign, what in ((equal, "=", EQUAL), (near, "~", NEAR)):
            if pairs:
                named = [[_key(storage, splits[s], i) for s, i in ((other, a), (one, b))] for a, b in pairs[:SHOWN]]
                first = ", ".join(f"{a} {sign} {b}" for a, b in named) + (", .." if len(pairs) > SHOWN else "")
                count = f"{len(pairs)} of {len(known[other])} samples of the split `{other}`"
                sentences.append(what.format(count=count, one=one, first=first))
    return sentences


def together(records: Sequence[Record]) -> np.ndarray:
    """The digests of all rows of these records, in order."""
    return np.concatenate([content(record) for record in records] or [np.zeros(0, "<u8")])


def _key(storage: Storage, records: Sequence[Record], place: int) -> str:
    for record in records:
        if place < record.rows:
            return str(read_table(storage, record.file.path, [KEY])[KEY][int(place)].as_py())
        place -= record.rows
    raise IndexError(place)
