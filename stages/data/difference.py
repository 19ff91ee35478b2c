"""The difference of two versions of a step: which columns and samples came and went, and what flipped in those of both.

Files that are the same are not opened, rows whose bytes are the same are not decoded: two versions of a large step that
differ in little cost little. Classes are counted by from and to (pixels of maps, samples else), numbers by how far they
moved, boxes matched by their overlap, all others by how many samples differ.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from hyperloom.pipeline.commits.manifest import Manifest
from hyperloom.pipeline.errors import RecipeError
from hyperloom.pipeline.root.storage import Storage
from hyperloom.stages.base import KEY
from hyperloom.stages.catalogue import catalogue
from hyperloom.stages.column import described
from hyperloom.stages.meaning import MeaningsDiffer, translation
from hyperloom.stages.modality import overlap
from hyperloom.stages.modality.flips import flips
from hyperloom.stages.modality.stored import stored
from hyperloom.stages.results import Samples, Shards
from hyperloom.stages.table import read_table

BATCH = 256
"""Rows that are decoded at a time."""
SHOWN = 3
GroupFiles = dict[str, list[tuple[str, str]]]
"""Group -> path and digest of each of its files, in order."""


class OfferedFiles(NamedTuple):
    """The partitions that a step offers, also those of which it has no file (where no person has answered), and that of
    each file."""

    partitions: set[str]
    of: dict[str, str]


@dataclass
class ColumnDifference:
    """Of one column in samples of both: how many there are, how many differ, have no value any more (`lost`) or by now
    (`gained`); `flips`: from, to -> count; `moved`: sum and largest of what numbers moved by, and how many numbers;
    `boxes`: what became of them; `unlike`: why the two cannot be compared; `examples`: keys that differ."""

    column: str
    both: int = 0
    differ: int = 0
    gained: int = 0
    lost: int = 0
    flips: Counter[tuple[str, str]] = field(default_factory=Counter)
    moved: list[float] = field(default_factory=lambda: [0.0, 0.0, 0.0])
    boxes: Counter[str] = field(default_factory=Counter)
    unlike: str = ""
    examples: list[str] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        plain = {n: getattr(self, n) for n in ("column", "both", "differ", "gained", "lost", "examples")}
        if self.flips:
            plain["flips"] = [{"from": a, "to": b, "count": n} for (a, b), n in self.flips.most_common()]
        if self.moved[2]:
            plain |= {"mean_change": self.moved[0] / self.moved[2], "largest_change": self.moved[1]}
        plain |= {"boxes": dict(self.boxes)} if self.boxes else {}
        return plain | ({"unlike": self.unlike} if self.unlike else {})


@dataclass
class Difference:
    """Columns and samples that came and went, and what differs in those of both."""

    came_columns: list[str] = field(default_factory=list)
    went_columns: list[str] = field(default_factory=list)
    came: int = 0
    went: int = 0
    both: int = 0
    examples: dict[str, list[str]] = field(default_factory=lambda: {"came": [], "went": []})
    columns: list[ColumnDifference] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        return {
            "columns_came": self.came_columns, "columns_went": self.went_columns,
            "samples": {"came": self.came, "went": self.went, "both": self.both, "examples": self.examples},
            "columns": [column.as_json() for column in self.columns],
        }  # fmt: skip


def difference(
    storage: Storage, before: Manifest, after: Manifest, modalities: Mapping[str, Any], only: tuple[str, ...] = ()
) -> Difference:
    """From `before` to `after`, over the columns `only` (all, if empty). Raises RecipeError for what has no samples."""
    sides = [_files(before), _files(after)]
    known = [set(side) for side in sides]
    if missing := sorted(set(only) - known[0] - known[1]):
        raise RecipeError(f"neither has the column {missing[0]!r}; there are: {', '.join(sorted(known[0] | known[1]))}")
    mine = [k & set(only) if only else k for k in known]
    result = Difference(sorted(mine[1] - mine[0]), sorted(mine[0] - mine[1]))
    common = sorted(mine[0] & mine[1])
    offered = [_offered(manifest) for manifest in (before, after)]
    _samples(storage, sides, offered, common or sorted(known[0] | known[1]), result)
    for column in common:
        one = _of_column(storage, column, sides[0][column], sides[1][column], modalities, result.both)
        _without_file(storage, one, [side[column] for side in sides], offered)
        result.columns.append(one)
    return result


# -- inside ------------------------------------------------------------------------------------------------------------
def _files(manifest: Manifest) -> dict[str, GroupFiles]:
    """Files by column and group. Raises RecipeError."""
    files: dict[str, GroupFiles] = {}
    if shards := Shards.of(manifest):
        digests = {file.path: file.sha256 for file in manifest.all_files()}
        for column in shards.schema:
            for shard in shards.shards:
                file = shard.path, digests.get(shard.path, "")
                files.setdefault(column, {}).setdefault(shard.group, []).append(file)
    elif samples := Samples.of(manifest):
        offered = catalogue([manifest])
        for column in samples.columns:
            files[column] = {}
            for partition in offered.partitions:
                record = offered.record(column, partition.pid)
                if record is not None and record.files:
                    files[column].setdefault(partition.group, []).append((record.file.path, record.file.sha256))
    else:
        raise RecipeError(f"a {manifest.stage} step has no samples to compare")
    return files


def _offered(manifest: Manifest) -> OfferedFiles:
    """Nothing of shards, whose files lack no sample."""
    offered = OfferedFiles(set(), {})
    if Shards.of(manifest) is None and (samples := Samples.of(manifest)):
        known = catalogue([manifest])
        for partition in known.partitions:
            offered.partitions.add(partition.pid)
            records = (known.record(column, partition.pid) for column in samples.columns)
            offered.of.update((r.file.path, partition.pid) for r in records if r is not None and r.files)
    return offered


def _samples(
    storage: Storage,
    every: Sequence[dict[str, GroupFiles]],
    offered: Sequence[OfferedFiles],
    columns: list[str],
    result: Difference,
) -> None:
    """Count the samples of one and of both: those that have a file of any of the columns, on this side or, where the
    partition is offered here too, on the other."""
    groups = {g for side in every for c in columns for g in side.get(c, {})}
    for group in sorted(groups):
        sides = [{path: d for c in columns for path, d in side.get(c, {}).get(group, ())} for side in every]
        if set(sides[0].values()) == set(sides[1].values()) and sides[0]:
            keys = [_keys(storage, sides[0])] * 2
        else:
            keys = [_keys(storage, side) for side in sides]
        here = [
            keys[i]
            | {k: path for k, path in keys[1 - i].items() if offered[1 - i].of.get(path) in offered[i].partitions}
            for i in (0, 1)
        ]
        went, came = [k for k in here[0] if k not in here[1]], [k for k in here[1] if k not in here[0]]
        result.went, result.came = result.went + len(went), result.came + len(came)
        result.examples = {n: [*result.examples[n], *rows][:SHOWN] for n, rows in (("came", came), ("went", went))}
        result.both += sum(1 for key in here[0] if key in here[1])


def _keys(storage: Storage, paths: Mapping[str, str]) -> dict[str, str]:
    """Key -> a file that holds it."""
    return {key: path for path in paths for key in read_table(storage, path, [KEY])[KEY].to_pylist()}


def _without_file(
    storage: Storage, result: ColumnDifference, sides: Sequence[GroupFiles], offered: Sequence[OfferedFiles]
) -> None:
    """Count values of partitions that both offer and one has no file of: all of them came, or went."""
    for mine, (side, other) in enumerate(((sides[0], sides[1]), (sides[1], sides[0]))):
        theirs = {offered[1 - mine].of.get(path) for files in other.values() for path, _ in files}
        for path in (path for files in side.values() for path, _ in files):
            pid = offered[mine].of.get(path)
            if pid not in theirs and pid in offered[1 - mine].partitions:
                table = read_table(storage, path, [KEY, result.column])
                valued = table.filter(table[result.column].is_valid())
                result.gained += valued.num_rows * mine
                result.lost += valued.num_rows * (1 - mine)
                result.examples = (result.examples + valued[KEY].to_pylist())[:SHOWN]


def _of_column(
    storage: Storage, column: str, a: GroupFiles, b: GroupFiles, modalities: Mapping[str, Any], both: int
) -> ColumnDifference:
    """What differs of one column in samples of both."""
    result = ColumnDifference(column, both)
    for group in sorted(set(a) | set(b)):
        mine, its = a.get(group, []), b.get(group, [])
        same = {d for _, d in mine} & {d for _, d in its}  # files that both have are not opened
        tables = [_read(storage, [p for p, d in side if d not in same], column) for side in (mine, its)]
        if tables[0] is not None and tables[1] is not None:
            for keys, left, right in _differing(*tables):
                _compare(result, column, keys, left, right, modalities)
        if result.unlike:
            break
    return result


def _read(storage: Storage, paths: list[str], column: str) -> Any:
    import pyarrow as pa

    tables = [read_table(storage, path, [KEY, column]) for path in paths]
    return pa.concat_tables(tables, promote_options="none") if tables else None


def _differing(a: Any, b: Any) -> Iterator[tuple[list[str], Any, Any]]:
    """Keys and rows of samples of both whose bytes are not the same, some at a time."""
    import pyarrow as pa
    import pyarrow.compute as pc

    places = pc.index_in(a[KEY], b[KEY])
    rows = np.flatnonzero(places.is_valid().to_numpy(zero_copy_only=False))
    for start in range(0, len(rows), BATCH):
        some = pa.array(rows[start : start + BATCH])
        left, right = a.take(some), b.take(pc.take(places, some))
        pairs = zip(left[left.column_names[1]], right[right.column_names[1]], strict=True)
        others = [i for i, (x, y) in enumerate(pairs) if x.is_valid != y.is_valid or not x.equals(y)]
        unequal = pa.array(others, pa.int64())
        if len(unequal):
            yield left[KEY].take(unequal).to_pylist(), left.take(unequal), right.take(unequal)


def _compare(
    result: ColumnDifference, column: str, keys: list[str], left: Any, right: Any, modalities: Mapping[str, Any]
) -> None:
    """Count what differs in rows of both sides."""
    kinds = [stored(described(table.schema.field(column)), modalities, column) for table in (left, right)]
    (old, has_old), (new, has_new) = (k.decode(t[column]) for k, t in zip(kinds, (left, right), strict=True))
    try:
        if how := translation(kinds[0].meaning, kinds[1].meaning, ("before", "after")):
            old = kinds[0].translated(old, how)
    except MeaningsDiffer as error:
        result.unlike = str(error)
        return
    if old.shape[1:] != new.shape[1:]:
        result.unlike = f"its shape was {old.shape[1:]} and is {new.shape[1:]}"
        return
    result.gained += int((~has_old & has_new).sum())
    result.lost += int((has_old & ~has_new).sum())
    both = has_old & has_new
    exact = old.dtype.kind == "f"
    unequal = both & ~np.array([np.array_equal(x, y, equal_nan=exact) for x, y in zip(old, new, strict=True)])
    result.differ += int(unequal.sum())
    if unequal.any():
        _count(result, kinds[1], old[unequal], new[unequal])
    touched = [key for key, one in zip(keys, unequal | (has_old != has_new), strict=True) if one]
    result.examples = (result.examples + touched)[:SHOWN]


def _count(result: ColumnDifference, kind: Any, old: np.ndarray, new: np.ndarray) -> None:
    if kind.markup == "boxes":
        for one, other in zip(old, new, strict=True):
            result.boxes.update(_boxes(kind, one, other, result.flips))
    elif kind.markup in ("map", "choice"):
        result.flips.update(flips(kind, old, new))
    elif kind.markup == "marks":
        for i, name in enumerate(kind.counted):
            words = {0: f"not {name}", 1: name}
            both = Counter(zip(old[:, i].tolist(), new[:, i].tolist(), strict=True))
            named = {(words.get(a, "unknown"), words.get(b, "unknown")): n for (a, b), n in both.items() if a != b}
            result.flips.update(named)
    elif old.dtype.kind == "f":
        if kind.markup == "points":  # where one is hidden it has no place
            both = kind.given(old) & kind.given(new)
            old, new = kind.compared(old)[both], kind.compared(new)[both]
        far = np.abs(old.astype(np.float64) - new)
        far = far[np.isfinite(far)]
        if far.size:
            total, largest, count = result.moved
            result.moved = [total + float(far.sum()), max(largest, float(far.max())), count + far.size]


def _boxes(kind: Any, old: np.ndarray, new: np.ndarray, flips: Counter[tuple[str, str]]) -> Counter[str]:
    """What became of the boxes of a sample: each is matched with the one it overlaps most, the best pairs first."""
    a, b = (rows[~np.isnan(rows[:, 0])].astype(np.float64) for rows in (old, new))
    counts = Counter[str]()
    overlaps = overlap.most(a[:, :4], b[:, :4])
    left, right = set(range(len(a))), set(range(len(b)))
    for place in np.argsort(-overlaps, axis=None, kind="stable"):
        i, j = divmod(int(place), max(1, len(b)))
        if overlaps.size and overlaps[i, j] >= overlap.HALF and i in left and j in right:
            left.discard(i)
            right.discard(j)
            flip = a[i, 4] != b[j, 4]
            counts["another class" if flip else "same" if np.abs(a[i, :4] - b[j, :4]).max() < 1e-6 else "moved"] += 1
            if flip:
                flips[kind.classes[int(a[i, 4])], kind.classes[int(b[j, 4])]] += 1
    counts.update({name: n for name, n in (("went", len(left)), ("came", len(right))) if n})
    return counts
