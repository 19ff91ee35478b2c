"""The reference: the shards that newer ones are compared with, and which shards are newer.

Of a champion it is what it was judged on or trained on, as its release names them: of the two, the shards with more
columns of those at hand. The rows that count are those of the training split. A shard is newer when the reference has
none with its samples and the same values in the columns that are compared (stages.drift.held), so frames that were
there before and labels that did not change are not, though they be stored otherwise or beside other columns.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from hyperloom.pipeline.commits import manifest as manifests
from hyperloom.pipeline.commits.manifest import Manifest
from hyperloom.pipeline.commits.units import Record
from hyperloom.pipeline.errors import RecipeError
from hyperloom.pipeline.plugins import parse
from hyperloom.pipeline.root.storage import Storage
from hyperloom.stages.meaning import MeaningsDiffer, translation
from hyperloom.stages.results import Judged, Shards

Maker = tuple[str, str]
"""Stage and fingerprint of a step."""


@dataclass(frozen=True)
class Side:
    """Shards of one side of a comparison, by group."""

    manifest: Manifest
    shards: Shards
    records: dict[str, list[Record]]
    turned: frozenset[str] = frozenset()
    """Columns whose counts are in another order of the classes than the files."""

    @property
    def rows(self) -> int:
        return sum(r.rows for mine in self.records.values() for r in mine)

    def reordered(self, places: Mapping[str, Sequence[int]]) -> Side:
        """The same with the counts of classes of some columns in another order: `places` says where each class is."""
        records = {group: [_reordered(r, places) for r in mine] for group, mine in self.records.items()}
        return replace(self, records=records, turned=frozenset(places))

    @property
    def sources(self) -> list[Maker]:
        """The steps whose columns were joined."""
        return [(stage, fingerprint) for stage, _, fingerprint in (s.rpartition("/") for s in self.shards.sources)]


def of_champion(storage: Storage, release: str, columns: Sequence[str]) -> Manifest | None:
    """The shards behind a champion's `release` that have most of `columns`; None where none is there any more."""
    known = [shards for shards in _candidates(storage, release) if Shards.of(shards)]
    return max(known, key=lambda m: len(set(Shards.from_manifest(m).schema) & set(columns)), default=None)


def _candidates(storage: Storage, release: str) -> Iterator[Manifest]:
    released = manifests.load(storage, "release", release)
    config = released.payload.get("config", {}) if released else {}
    steps = (("evaluate", config.get("report")), ("distill", config.get("model")))
    report, model = (manifests.load(storage, stage, named(f)) if f else None for stage, f in steps)
    if report and (judged := Judged.of(report)):
        shards = manifests.load(storage, judged.lineage.stage, judged.lineage.shards)
        yield from [shards] if shards else []
    data = named(model.payload.get("config", {}).get("data")) if model else ""
    shards = manifests.load(storage, "shard", data) if data else None
    yield from [shards] if shards else []


def named(value: object) -> str:
    """The fingerprint of a step in a payload."""
    return str(value.get("step", "")) if isinstance(value, dict) else str(value or "")


def training(manifest: Manifest) -> Side:
    """The training split of the reference."""
    shards = Shards.from_manifest(manifest)
    train = {s.path for s in shards.shards if s.split == "train"}
    return Side(manifest, shards, _grouped(r for r in manifest.records if r.files and r.file.path in train))


def newer(manifest: Manifest, reference: Manifest, columns: Sequence[str], places: Mapping[str, Sequence[int]]) -> Side:
    """The shards that hold other samples than the reference, or other values in `columns`, whatever their split.
    `places` as in `Side.reordered`, of the reference."""
    from hyperloom.stages.drift.held import strangers

    theirs = {g: [_reordered(r, places) for r in old] for g, old in _grouped(_filled(reference)).items()}
    mine = ((g, strangers(now, theirs.get(g, ()), columns)) for g, now in _grouped(_filled(manifest)).items())
    return Side(manifest, Shards.from_manifest(manifest), {group: records for group, records in mine if records})


def _filled(manifest: Manifest) -> Iterator[Record]:
    return (record for record in manifest.records if record.rows)


def _grouped(records: Iterator[Record]) -> dict[str, list[Record]]:
    """By group. Raises RecipeError for shards that keep nothing to compare."""
    groups: dict[str, list[Record]] = {}
    for record in records:
        if not {"group", "statistics", "row_group"} <= set(record.meta):
            raise RecipeError(
                f"the shards in {record.space} keep no statistics of their own. Next: let a step of the stage `shard` "
                "write them"
            )
        groups.setdefault(record.meta["group"], []).append(record)
    return groups


def reordered(mine: Mapping[str, Any] | None, theirs: Mapping[str, Any] | None) -> tuple[int, ...] | str:
    """Where the classes of a column before are now, when it differs in their order alone; else why it cannot be
    compared, empty where one side has no such column. Both are modalities as the shards say them."""
    if mine is None or theirs is None:
        return ""
    now, before = (parse("modality", {k: v for k, v in side.items() if k != "modality"}) for side in (mine, theirs))
    try:
        how = translation(before.meaning, now.meaning, ("before", "now"))
    except MeaningsDiffer as error:
        return str(error)
    if how.factor != 1.0:
        return f"in {before.meaning.unit} before, in {now.meaning.unit} now"
    alike = type(now) is type(before) and now.shape == before.shape and now.counted and how.places
    return how.places if alike else "of another size, storage or colours before"


def _reordered(record: Record, places: Mapping[str, Sequence[int]]) -> Record:
    statistics = dict(record.meta["statistics"])
    for column, place in places.items():
        counts = statistics[column]["classes"]
        figures = {**statistics[column], "classes": [counts[place.index(i)] for i in range(len(counts))]}
        if samples := figures.get("samples"):
            most = [[place[int(id_)], *rest] for id_, *rest in samples.get("most", ())]
            figures["samples"] = {**samples, "most": sorted(most, key=lambda entry: entry[0])}
        statistics[column] = figures
    return replace(record, meta={**record.meta, "statistics": statistics})
