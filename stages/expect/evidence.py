"""What was seen of a step: all that its expectations are compared with, small enough to be read by every plan.

Statistics of shards stand in their manifest; of other steps they are counted in units. It is kept beside the manifest
(`{stage}/{step}/expected.json`), so that a plan judges other limits without reading data.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from hyperloom.pipeline.commits.manifest import Manifest
from hyperloom.pipeline.commits.units import File
from hyperloom.pipeline.errors import StepFailed, Torn
from hyperloom.pipeline.root.storage import Storage
from hyperloom.pipeline.stage import StepRun
from hyperloom.stages.base import Partition, modality_of
from hyperloom.stages.catalogue import Catalogue, catalogue
from hyperloom.stages.column import described
from hyperloom.stages.expect.counter import counted
from hyperloom.stages.expect.expectation import Expectation, Likeness, columns
from hyperloom.stages.meaning import MeaningsDiffer, translation
from hyperloom.stages.modality.stored import stored
from hyperloom.stages.results import Consensus, Judged, Samples, Shards, Trained
from hyperloom.stages.table import read_table

REVISION = 4
"""What was measured otherwise is measured again."""
MEASURES = ("equal", "f1", "correlation", "angle")
"""Of agreement, the first that a modality has."""


@dataclass
class Evidence:
    """`columns`: their statistics; `groups`: samples by group, by column samples that have it; `sizes`: samples and
    groups by split, "" for all; `agreement`: consensus -> source -> figure (None: never compared); `moved`: column ->
    "measure step column" -> distance; `figures`: of a model or report; `revision`: how it was measured."""

    columns: dict[str, Any] = field(default_factory=dict)
    groups: dict[str, dict[str, int]] = field(default_factory=dict)
    sizes: dict[str, dict[str, int]] = field(default_factory=dict)
    agreement: dict[str, dict[str, float | None]] = field(default_factory=dict)
    moved: dict[str, dict[str, float]] = field(default_factory=dict)
    figures: dict[str, Any] = field(default_factory=dict)
    revision: int = 0

    def lacks(self, expected: Mapping[str, Any]) -> list[str]:
        """Columns of which nobody has looked yet whether they are as expected."""
        missing = [c for c in columns(expected) if c not in self.columns]
        return missing + [
            c for c, one in columns(expected).items() if one.drift and named(one.drift, c) not in self.moved.get(c, {})
        ]

    def keep(self, storage: Storage, manifest: Manifest) -> None:
        storage.write_json(_path(manifest), asdict(self))


def kept(storage: Storage, manifest: Manifest) -> Evidence:
    """What was seen of a finished step; of one that nobody has measured, what its manifest says."""
    try:
        seen = Evidence(**storage.read_json(_path(manifest)))
    except (FileNotFoundError, Torn, TypeError):
        return stated(manifest)
    return seen if seen.revision == REVISION else stated(manifest)


def stated(manifest: Manifest) -> Evidence:
    """What the manifest itself says."""
    seen = Evidence(revision=REVISION)
    if shards := Shards.of(manifest):
        marks = {c for c, about in shards.schema.items() if about.get("type") == "multilabel"}
        seen.columns = {c: {**f, **(_marked(f) if c in marks else {})} for c, f in shards.statistics.items()}
        seen.sizes = {
            "samples": {name: size.rows for name, size in shards.splits.items()},
            "groups": {name: len(size.groups) for name, size in shards.splits.items()},
        }
        seen.groups[""] = _summed((r.meta["group"], r.rows) for r in manifest.records)
    elif samples := Samples.of(manifest):
        own = {(r.space, str(r.meta.get("pid", r.id))): r.rows for r in manifest.records}
        seen.groups[""] = _summed((p.group, _rows(p, samples, own)) for p in samples.partitions)
    if consensus := Consensus.of(manifest):
        seen.agreement = {c: _agreed(matrix) for c, matrix in consensus.agreement.items()}
    if model := Trained.of(manifest):
        seen.figures = dict(model.final or {})
    if report := Judged.of(manifest):
        seen.figures = {who: dict(figures) for who, figures in report.figures.items()}
    for name, count in (("samples", sum), ("groups", len)):
        seen.sizes.setdefault(name, {})[""] = count(seen.groups.get("", {}).values())
    return seen


def look(step: StepRun, manifest: Manifest, expected: Mapping[str, Any]) -> Evidence:
    """Everything that `expected` asks about; what no manifest says is counted."""
    seen = stated(manifest)
    for column, one in columns(expected).items():
        if column not in seen.columns:
            seen.columns[column] = statistics(step, manifest, column)
        if _kind(step, column).markup == "marks":
            seen.columns[column] |= _marked(seen.columns[column])
        if one.each_group:
            seen.groups[column] = by_group(step, manifest, column)
        if one.drift:
            seen.moved[column] = {named(one.drift, column): _moved(step, manifest, one, column, seen.columns[column])}
    return seen


def named(likeness: Likeness, column: str) -> str:
    return f"{likeness.measure} {likeness.step} {likeness.column or column}"


def statistics(step: StepRun, manifest: Manifest, column: str) -> dict[str, Any]:
    """The statistics of a column: of the training split of shards, of all samples of other steps."""
    from hyperloom.stages.shard.statistics import merged

    if shards := Shards.of(manifest):
        return dict(shards.statistics.get(column, {"rows": 0, "missing": 1.0}))
    return dict(merged(_kind(step, column), figures_of(step, manifest, column)))


def figures_of(step: StepRun, manifest: Manifest, column: str) -> list[dict[str, Any]]:
    """What the statistics are merged of: a shard's or a file's own."""
    if shards := Shards.of(manifest):
        train = {shard.path for shard in shards.shards if shard.split == "train"}
        mine = (r.meta.get("statistics", {}) for r in manifest.records if r.files and r.file.path in train)
        return [statistics[column] for statistics in mine if column in statistics]
    offered = catalogue([manifest])
    files = _files(offered, column)
    figures = counted(step, column, [file for _, file in files if file])
    nothing = {"classes": [0] * len(kind.counted), "unknown": 0} if (kind := _kind(step, column)).counted else {}
    return figures + [{"rows": p.rows, "missing": p.rows, **nothing} for p, file in files if not file]


def by_group(step: StepRun, manifest: Manifest, column: str) -> dict[str, int]:
    """How many samples of each group have the column."""
    if Shards.of(manifest):
        counts = ((r.meta["group"], r.meta["statistics"][column]) for r in manifest.records)
        return _summed((group, one["rows"] - one["missing"]) for group, one in counts)
    files = _files(catalogue([manifest]), column)
    figures = iter(counted(step, column, [file for _, file in files if file]))
    known = [(p.group, one["rows"] - one["missing"] if file and (one := next(figures)) else 0) for p, file in files]
    return _summed(known)


def _moved(step: StepRun, here: Manifest, one: Expectation, column: str, mine: Mapping[str, Any]) -> float:
    """How far the column lies from that of the step it is compared with."""
    import numpy as np

    from hyperloom.stages.drift import distances

    assert one.drift is not None
    other, manifest = one.drift.column or column, step.compared[one.drift.step]
    _say_the_same(step, manifest, other, f"expect: {column}: drift from {one.drift.step}")
    its = statistics(step, manifest, other)
    if one.drift.measure == "shift":
        if "mean" not in mine or "mean" not in its:
            return 0.0  # as all distances where one side has counted nothing
        pairs = zip(mine["mean"], its["mean"], its["std"], strict=True)
        return float(max(abs(a - b) / max(std, 1e-12) for a, b, std in pairs))
    counts = [list(s["classes"].values()) if "classes" in s else _bins(s) for s in (its, mine)]
    if not all(counts):
        return 0.0
    distance = float(getattr(distances, one.drift.measure)(*(np.asarray(c, np.float64) for c in counts)))
    if not (kind := _kind(step, column)).counted and not kind.limits:
        sides = [figures_of(step, m, c) for m, c in ((manifest, other), (here, column))]
        distance = max(distance, _of_means(one.drift.measure, sides))
    return round(distance, 9)


def _of_means(measure: str, sides: Sequence[Sequence[Mapping[str, Any]]]) -> float:
    """How far the means of samples lie from those of the first of two sides, in even shares of these; 0 where chance
    alone may do that. The bins of numbers without a range are powers of four, and what moves within one is not seen."""
    import numpy as np

    from hyperloom.stages.drift import distances
    from hyperloom.stages.drift.measured import FINE, TENTHS, binned, of_small_unit, sampled

    known = [[figures for figures in side if "count" in figures] for side in sides]
    small = of_small_unit(known[0], [figures for side in known for figures in side])
    means = [[sampled(figures, small) for figures in side] for side in known]
    counts = binned(means, np.array([False, True]), FINE if measure == "ks" else TENTHS)
    if counts is None or not counts[1].sum():
        return 0.0
    distance = float(getattr(distances, measure)(*counts))
    chance = distances.noise(measure, counts.shape[1], *(int(side.sum()) for side in counts))
    return distance if distance > chance else 0.0


def _say_the_same(step: StepRun, manifest: Manifest, column: str, what: str) -> None:
    """Raises StepFailed where numbers of a step that is compared with are of other classes or another unit than the
    recipe's by now, as those of an older version may be."""
    if shards := Shards.of(manifest):
        about = shards.schema.get(column, {})
    else:
        file = next((file for _, file in _files(catalogue([manifest]), column) if file), None)
        about = described(read_table(step.storage, file.path, [column]).schema.field(column)) if file else {}
    try:
        mine = _kind(step, column)
        if not translation(stored(about, step.modalities, column).meaning, mine.meaning, ("it", "the recipe")):
            return
        why = "its classes or its unit are others than in the recipe"
    except MeaningsDiffer as error:
        why = str(error)
    raise StepFailed(f"{what}: {column}: {why}. Next: compare with a version of the same classes and unit")


def _bins(statistics: Mapping[str, Any]) -> list[int]:
    return list(statistics.get("histogram", {}).get("counts", ()))


def _kind(step: StepRun, column: str) -> Any:
    return step.modalities[modality_of(column)]


def _files(offered: Catalogue, column: str) -> list[tuple[Partition, File | None]]:
    """The file of each partition; None where nobody made the column for it, or all of its samples are left out."""
    records = ((p, offered.record(column, p.pid)) for p in offered.partitions)
    return [(p, r.file if r is not None and r.files else None) for p, r in records]


def _rows(partition: Partition, samples: Samples, own: Mapping[tuple[str, str], int]) -> int:
    """Samples of a partition: those that were read, where this step did it."""
    spaces = {producer.space for producer in samples.columns.values()}
    counts = [own[space, partition.pid] for space in spaces if (space, partition.pid) in own]
    return max(counts, default=0 if own else partition.rows)


def _marked(figures: Mapping[str, Any]) -> dict[str, int]:
    """Of classes of which a sample may have several: the samples that shares of them are of."""
    from hyperloom.stages.shard.statistics import samples_of

    return {"of": samples_of(figures)}


def _agreed(matrix: Mapping[str, Any]) -> dict[str, float | None]:
    """Of each source the figure against the outcome, which is the last column; None of those never compared."""
    rows = next((matrix[m] for m in MEASURES if m in matrix), None)
    pairs = zip(matrix["columns"][:-1], rows[-1] if rows else (), strict=False)
    return dict(pairs)


def _summed(pairs: Iterable[tuple[str, int]]) -> dict[str, int]:
    sums: dict[str, int] = {}
    for group, count in pairs:
        sums[group] = sums.get(group, 0) + int(count)
    return sums


def _path(manifest: Manifest) -> str:
    return f"{manifest.folder}/expected.json"
