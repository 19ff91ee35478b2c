"""The samples that are judged, and which of them a lesson holds too: known by partition, and by what they look like.

A copy under another name, in another group or read by another ingest step is the same sample, since it has the same
digest (`stages.shard.content`). Groups of one name without a sample in common are named apart: they may be the same
flight, or two that happen to be called alike. Nothing but manifests is read.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from hyperloom.pipeline.commits import manifest as manifests
from hyperloom.pipeline.commits.manifest import Manifest
from hyperloom.pipeline.commits.units import Record
from hyperloom.pipeline.root.storage import Storage
from hyperloom.stages.base import modality_of
from hyperloom.stages.lesson import Lesson
from hyperloom.stages.results import Shards
from hyperloom.stages.shard import likeness
from hyperloom.stages.shard.content import together

PLAIN = ("all", "none")
"""What sources call a group of which nothing is known."""


@dataclass(frozen=True)
class SplitSamples:
    """The samples of one split: by row its group, its partition, its digest (0 where that is not known), and what its
    picture looks like (`stages.shard.likeness`)."""

    groups: np.ndarray
    partitions: np.ndarray
    digests: np.ndarray
    telling: tuple[str, ...]
    looks: np.ndarray
    whole: bool
    """Do the records say which partitions they hold?"""

    def __len__(self) -> int:
        return len(self.groups)

    @staticmethod
    def of(manifest: Manifest, split: str) -> SplitSamples:
        """Of a step that made shards. An empty `split` is all of them."""
        shards = Shards.from_manifest(manifest)
        mine = {s.path: s.group for s in shards.shards if s.rows and (not split or s.split == split)}
        records = [r for r in manifest.records if any(file.path in mine for file in r.files)]
        groups = [mine[next(f.path for f in r.files if f.path in mine)] or r.meta.get("group", "") for r in records]
        rows = [r.rows for r in records]
        parts = [part for r in records for part in r.meta.get("pids", ())]
        pids = np.array([_number(pid) for pid, _ in parts], "<u8")
        partitions = np.repeat(pids, [count for _, count in parts]) if parts else pids
        whole = len(partitions) == sum(rows)
        names = np.repeat(np.array(groups, object), rows)
        looks = likeness.together(records)
        return SplitSamples(names, partitions, together(records), tuple(shards.telling), looks, whole)


@dataclass(frozen=True)
class Overlap:
    """Of the judged samples those that somebody learned from: how many, how many of them only as copies elsewhere, and
    the groups that hold them; `alike`: further ones that look like a copy, and `like`, their groups;
    `namesakes` are further groups whose names are known, without a sample in common.
    `compared`: could it be told at all?"""

    samples: int = 0
    copies: int = 0
    groups: tuple[str, ...] = ()
    namesakes: tuple[str, ...] = ()
    compared: bool = True
    alike: int = 0
    like: tuple[str, ...] = ()


class JudgedSamples:
    """The samples of `split` of the shards that an evaluation reads. `known`: manifests that are at hand."""

    def __init__(self, storage: Storage, shards: Manifest, split: str, known: Iterable[Manifest] = ()):
        self._storage, self._shards, self._split = storage, shards, split
        self._known = {f"{m.stage}/{m.fingerprint}": m for m in (*known, shards)}
        self._overlaps: dict[tuple[str, str], Overlap] = {}

    @cached_property
    def samples(self) -> SplitSamples:
        return SplitSamples.of(self._shards, self._split)

    def overlap(self, lesson: Lesson) -> Overlap:
        """With the samples of a lesson that names shards."""
        key = (lesson.shards, lesson.split)
        if key not in self._overlaps:
            self._overlaps[key] = self._overlap(*key)
        return self._overlaps[key]

    def _overlap(self, shards: str, split: str) -> Overlap:
        stage, _, fingerprint = shards.rpartition("/")
        manifest = self._known.get(shards) or manifests.load(self._storage, stage, fingerprint)
        if manifest is None or Shards.of(manifest) is None:
            return Overlap(compared=False)
        mine, theirs = self.samples, SplitSamples.of(manifest, split)
        names = set(mine.groups) & set(theirs.groups)
        if not (mine.whole and theirs.whole):  # all that is known are names
            held = np.isin(mine.groups, list(names))
            return Overlap(int(held.sum()), 0, tuple(sorted(names)), (), bool(names))
        same = np.isin(mine.partitions, np.unique(theirs.partitions))
        copies = np.zeros(len(mine), bool)
        near = np.zeros(len(mine), bool)
        if comparable(mine.telling, theirs.telling) and len(theirs):
            near = likeness.alike(mine.looks, theirs.looks) >= 0
            copies = np.isin(mine.digests, theirs.digests) & (mine.digests != 0) & ~same
        groups = tuple(sorted(set(mine.groups[same | copies])))
        namesakes = tuple(sorted(names - set(groups) - set(PLAIN)))
        near &= ~(same | copies)
        like = tuple(sorted(set(mine.groups[near])))
        return Overlap(int((same | copies).sum()), int(copies.sum()), groups, namesakes, True, int(near.sum()), like)


def _number(pid: str) -> int:
    """64 bits of a partition's id."""
    return int.from_bytes(hashlib.sha256(pid.encode()).digest()[:8], "little")


def comparable(one: Sequence[str], other: Sequence[str]) -> bool:
    """Are digests of these columns of one kind? A picture is a picture, whoever took it."""
    return bool(one) and sorted(map(modality_of, one)) == sorted(map(modality_of, other))


def hidden(inputs: Iterable[str], records: Sequence[Record], offered: Mapping[str, object]) -> dict[str, int]:
    """By input the judged samples that lack it: all of one that the shards do not have. Inputs that are there are left
    out."""
    rows = sum(r.rows for r in records)
    lacking = {}
    for column in inputs:
        counted = [r.meta.get("statistics", {}).get(column, {}).get("missing", 0) for r in records]
        missing = rows if column not in offered else sum(counted)
        if missing:
            lacking[column] = missing
    return lacking
