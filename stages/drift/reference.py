"""The reference: the shards that newer ones are compared with, and which shards are newer.

Of a champion it is what it was judged on or trained on, as its release names them: of the two, the shards with more
columns of those at hand. The rows that count are those of the training split. A shard is newer when the reference does
not have it; shards are named by their content, so frames that were there before and labels that did not change are not.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from hyperloom.pipeline import manifest as manifests
from hyperloom.pipeline.errors import RecipeError
from hyperloom.pipeline.manifest import Manifest
from hyperloom.pipeline.storage import Storage
from hyperloom.pipeline.units import Record
from hyperloom.stages.results import Judged, Shards

Maker = tuple[str, str]
"""Stage and fingerprint of a step."""


@dataclass(frozen=True)
class Side:
    """Shards of one side of a comparison, by group."""

    manifest: Manifest
    shards: Shards
    records: dict[str, list[Record]]

    @property
    def rows(self) -> int:
        return sum(r.rows for mine in self.records.values() for r in mine)

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


def newer(manifest: Manifest, reference: Manifest) -> Side:
    """The shards that the reference does not have, whatever their split."""
    known = {(r.space, r.id) for r in reference.records}
    fresh = (r for r in manifest.records if r.rows and (r.space, r.id) not in known)
    return Side(manifest, Shards.from_manifest(manifest), _grouped(fresh))


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
