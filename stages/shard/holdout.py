"""Holdout: a split `val` out of training groups, where the shards have none.

What is held back follows from the shards alone, not from a seed: members of a family, a teacher and its student, and
two trainings that differ in anything else are compared on the same samples. With enough groups whole groups are held
back: those whose names have the lowest hashes, until a tenth of the rows is together. With few groups it is the end of
every shard, so `val` then looks like what is trained on and flatters; `words` says which. Files stay as they are; only
the manifest that a training reads says something else.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from hyperloom.pipeline.commits.manifest import Manifest
from hyperloom.stages.results import ShardFile, Shards, SplitSize

SHARE = 0.1
"""Of the training rows, at least."""
MOST = 0.25
"""No single group with more of the rows is held back."""
GROUPS = 5
"""With fewer training groups than this, the ends of shards are held back."""


@dataclass(frozen=True)
class Holdout:
    """The manifest as a training reads it, and what was held back, in words; empty where nothing could be."""

    manifest: Manifest
    words: str


def held_out(manifest: Manifest) -> Holdout:
    """`manifest` of shards with a split `val` taken from `train`."""
    shards = Shards.from_manifest(manifest)
    train = [s for s in shards.shards if s.split == "train"]
    groups = _groups(train)
    if groups:
        files = [replace(s, split="val") if s.split == "train" and s.group in groups else s for s in shards.shards]
        words = f"{', '.join(sorted(groups))} of the {len({s.group for s in train})} training groups"
    else:
        files = [part for s in shards.shards for part in (_ends(s) if s.split == "train" else [s])]
        words = "the end of each training shard, for there are few groups: figures of val flatter"
    rows = sum(s.rows for s in files if s.split == "val")
    if not rows or not any(s.split == "train" for s in files):
        return Holdout(manifest, "")
    body = {**manifest.body, "shards": [vars(s) for s in files], "splits": _sizes(shards, files)}
    return Holdout(replace(manifest, body=body), f"{words} ({rows} samples)")


def _groups(train: Sequence[ShardFile]) -> set[str]:
    """The groups to hold back; none where there are few."""
    rows: dict[str, int] = {}
    for shard in train:
        rows[shard.group] = rows.get(shard.group, 0) + shard.rows
    total, held = sum(rows.values()), set[str]()
    if len(rows) < GROUPS:
        return held
    for group in sorted(rows, key=lambda g: hashlib.sha256(g.encode()).digest()):
        if sum(rows[g] for g in held) >= SHARE * total:
            break
        if rows[group] <= MOST * total:
            held.add(group)
    return held


def _ends(shard: ShardFile) -> list[ShardFile]:
    """A shard in two: what is trained on, and its end."""
    rows = shard.rows - math.ceil(SHARE * shard.rows)
    if not rows:
        return [shard]
    held = replace(shard, split="val", rows=shard.rows - rows, part=(rows, shard.rows))
    return [replace(shard, rows=rows, part=(0, shard.rows)), held]


def _sizes(shards: Shards, files: Sequence[ShardFile]) -> dict[str, dict[str, object]]:
    """The splits' sizes. Groups of which parts lie in both are named in both."""
    names = dict.fromkeys(["train", "val", *shards.splits])
    mine = {name: [s for s in files if s.split == name] for name in names}
    return {
        n: vars(SplitSize(sum(s.rows for s in m), len(m), sorted({s.group for s in m if s.group})))
        for n, m in mine.items()
    }
