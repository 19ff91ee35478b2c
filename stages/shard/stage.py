"""The shard stage: frames and all their labels, joined by key into Parquet files that training reads and users keep.

    shards: {stage: shard, data: [frames, labels, votes], split: {by: flight, test: 0.2}, shard_mb: 64, codec: lz4}

A shard holds consecutive partitions of one group, so a split never cuts a group, and says nothing of the split: it is
named by what is in it (content of every partition's files). So new groups add shards and rewrite none, another split
rewrites nothing, and a group that grows gets a new last shard. Rows are ingest's; a missing label stays null.
The statistics are those of the training split, so that nothing of the test data reaches a model.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, ClassVar

from pydantic import Field, field_validator

from hyperloom.pipeline.commits.manifest import Manifest
from hyperloom.pipeline.commits.units import Record, Unit, Worker
from hyperloom.pipeline.config import StepName, as_tuple
from hyperloom.pipeline.counting import counted
from hyperloom.pipeline.errors import RecipeError, StepFailed
from hyperloom.pipeline.fingerprint import SHORT, fingerprint, payload
from hyperloom.pipeline.planning.check import StepCheck
from hyperloom.pipeline.stage import Stage, StepRun
from hyperloom.stages import provenance
from hyperloom.stages.base import Partition, modality_of
from hyperloom.stages.catalogue import Catalogue, catalogue
from hyperloom.stages.remarks import announce
from hyperloom.stages.results import Ingested, ShardFile, Shards, SplitSize
from hyperloom.stages.schema import ShardsSchema, made_by, recheck, unread
from hyperloom.stages.shard import turns, wild
from hyperloom.stages.shard.check import SIZE, checked
from hyperloom.stages.shard.content import doubles, telling
from hyperloom.stages.shard.look import absences
from hyperloom.stages.shard.splits import SPLITS, Split, SplitName, stratum
from hyperloom.stages.shard.statistics import merged
from hyperloom.stages.table import ROW_GROUP_MB, Codec

ID_DIGITS = 16


class Shard(Stage):
    """`data`: an ingest step, and label and consensus steps over it. `columns`: what to keep of them; all if empty."""

    revision: ClassVar[int] = 5
    data: tuple[StepName, ...] = Field(min_length=1)
    columns: tuple[str, ...] = ()
    split: Split = Split()
    keep: str = ""
    """A column of one number, such as the choice of a select step: samples where it is 0 or missing are left out."""
    shard_mb: float = Field(64, gt=0)
    """Bytes aimed at in one shard, as the inputs' files count them. A single partition is never cut."""
    row_group_mb: float = Field(ROW_GROUP_MB, gt=0)
    """Uncompressed MiB aimed at in one row group, which a loader reads as one. A single sample is never cut."""
    codec: Codec = "lz4"
    """zstd (level 1) is small, lz4 reads twice as fast for a sixth more bytes, none asks most of the disk."""

    _list = field_validator("data", "columns", mode="before")(as_tuple)

    @field_validator("columns")
    @classmethod
    def _named(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for column in value:
            try:
                modality_of(column)
            except RecipeError as error:
                raise ValueError(str(error)) from error
        return value

    def revised(self) -> int:
        """What lies together by its copies is told otherwise than at first; other splits are as they were."""
        return type(self).revision + bool(self.split.apart)

    def uses(self) -> set[str]:
        return {modality_of(column) for column in (*self.columns, self.keep) if column}

    def check(self, step: StepCheck) -> ShardsSchema:
        return checked(self, step)

    def units(self, step: StepRun) -> tuple[list[Unit], dict[str, Worker]]:
        from hyperloom.stages.shard.worker import Joiner

        offered = self._catalogue(step)
        columns = self._columns(offered)
        modalities = {name: step.modalities[name] for name in sorted({modality_of(c) for c in columns})}
        meaning = {
            "revision": self.revision,
            "columns": list(columns),
            "modalities": {name: payload(modality) for name, modality in modalities.items()},
            "codec": self.codec,
        }
        if self.keep:
            meaning["keep"] = [self.keep, payload(step.modalities[modality_of(self.keep)])]
        if self.row_group_mb != ROW_GROUP_MB:
            meaning["row_group_mb"] = self.row_group_mb
        if any(modality.markup == "masks" for modality in modalities.values()):
            meaning["crowds"] = "not counted"  # they were; a step whose shards are there keeps them
        space = f"shard/{fingerprint(meaning)[:SHORT]}"
        keys = {r.id: r for m in _ingests(step) for r in m.records}
        units = [self._unit(space, columns, offered, keys, run) for run in self._runs(offered, columns)]
        tells = telling(_raw(offered, columns), modalities)
        joiner = Joiner(columns, modalities, self.codec, self.row_group_mb, tells)
        if self.keep:
            joiner.keep = (self.keep, step.modalities[modality_of(self.keep)])
        return units, {"shard": joiner}

    def run(self, step: StepRun) -> Shards:
        offered = self._catalogue(step)
        late = self.split.stratify or self.split.apart
        split, absent = self._split_of(step, offered)
        places = None if late else split.assign(p.group for p in offered.partitions)
        units, workers = self.units(step)
        step.records = step.run_units(units, workers)
        columns = self._columns(offered)
        gaps = _gaps(columns, units)
        if self.keep:
            kept, every = sum(r.rows for r in step.records), sum(p.rows for p in offered.partitions)
            step.events.emit("note", step.name, text=f"{kept} of {every} samples are kept by {self.keep}")
            if not kept:
                raise StepFailed(f"step {step.name!r}: {self.keep} keeps no sample. Next: see who makes it")
        for column, count in gaps.items():
            what = f"{count} of {len(offered.partitions)} partitions have no {column}: null in all of their rows"
            step.events.emit("note", step.name, text=what)
        places = places or self._placed(step, columns, split)
        lacking = absences({c: step.modalities[modality_of(c)] for c in columns}, step.records, places)
        doubled = doubles(step.storage, step.records, places)
        remarks = [*absent, *lacking, *doubled, *_oddities(step, columns), *_counted(step.records)]
        announce(step, remarks)
        producers = {c: offered.producer(c) for c in columns}
        provenance.emit_tags(step, producers)
        return Shards(
            schema={c: {"modality": modality_of(c), **step.modalities[modality_of(c)].to_recipe()} for c in columns},
            shards=[_file(record, places) for record in step.records if record.rows or not self.keep],
            splits={name: _size(step.records, places, name) for name in SPLITS},
            columns=producers,
            statistics=_statistics(step, columns, places),
            gaps=gaps,
            sources=[f"{m.stage}/{m.fingerprint}" for m in step.inputs.values()],
            telling=telling(_raw(offered, columns), step.modalities),
            remarks=[*_remarks(step), *remarks],
        )

    def _catalogue(self, step: StepRun) -> Catalogue:
        """What the inputs offer."""
        recheck(step)
        offered = catalogue(step.inputs[name] for name in self.data)
        offered.partitions = [p for p in offered.partitions if offered.ingested(p.pid)]  # others have no rows here
        return offered

    def _columns(self, offered: Catalogue) -> tuple[str, ...]:
        """The columns to keep. Raises RecipeError for one that was made for not a single one of these partitions."""
        columns = self.columns or tuple(sorted(offered.producers))
        for column in columns:
            people = made_by(offered.producer(column).about) == "people"  # they may not have answered yet
            if offered.partitions and not (people or any(offered.record(column, p.pid) for p in offered.partitions)):
                raise RecipeError(
                    f"{column} was made for none of the {len(offered.partitions)} partitions of these frames. "
                    "Next: let the step that makes it read the ingest step that is listed here"
                )
        return columns

    def _split_of(self, step: StepRun, offered: Catalogue) -> tuple[Split, list[str]]:
        """The split without what is pinned and could not be read, which is said."""
        gone = {group for manifest in _ingests(step) for group in unread(manifest)}
        split = self.split.without(gone, {p.group for p in offered.partitions})
        lost = [g for name, pinned in self.split.pin.items() for g in pinned if g not in split.pin[name]]
        remark = f"split.pin: nothing of {', '.join(lost)} could be read, so no split has it"
        return split, [remark] if lost else []

    def _placed(self, step: StepRun, columns: tuple[str, ...], split: Split) -> dict[str, SplitName]:
        """The split of each group, where that follows from what is in it."""
        if not split.apart:
            return split.assign(self._strata(step))
        from hyperloom.stages.shard.together import sentence, together

        sets = together(step.storage, step.records, split.apart, columns, step.modalities)
        if text := sentence(sets):
            step.events.emit("note", step.name, text=text)
        return split.joined(sets)

    def _strata(self, step: StepRun) -> dict[str, str]:
        """Group -> stratum, from what was counted while its shards were written."""
        groups: dict[str, list[Record]] = {}
        for record in step.records:
            groups.setdefault(record.meta["group"], []).append(record)
        if self.split.stratify == SIZE:
            return {group: str(sum(r.rows for r in mine).bit_length()) for group, mine in groups.items()}
        column = self.split.stratify
        modality = step.modalities[modality_of(column)]
        counted = {g: merged(modality, [r.meta["statistics"][column] for r in mine]) for g, mine in groups.items()}
        return {group: stratum(modality, statistics) for group, statistics in counted.items()}

    def _runs(self, offered: Catalogue, columns: tuple[str, ...]) -> Iterator[list[Partition]]:
        """Partitions to go together: of one group, in order, until the byte target is met."""
        run: list[Partition] = []
        size = 0
        for partition in offered.partitions:
            mine = _bytes(offered, columns, partition)
            if run and (run[0].group != partition.group or size + mine > self.shard_mb * 1e6):
                yield run
                run, size = [], 0
            run.append(partition)
            size += mine
        if run:
            yield run

    def _unit(
        self, space: str, columns: tuple[str, ...], offered: Catalogue, keys: dict[str, Record], run: list[Partition]
    ) -> Unit:
        parts, identity = [], []
        for partition in run:
            keys_file = keys[partition.pid].file
            read = (*columns, self.keep) if self.keep else columns
            files = {c: r.file for c in dict.fromkeys(read) if (r := offered.record(c, partition.pid)) and r.files}
            parts.append(
                {"pid": partition.pid, "keys": keys_file.path, "columns": {c: file.path for c, file in files.items()}}
            )
            identity.append([partition.pid, keys_file.sha256, {c: file.sha256 for c, file in files.items()}])
        group = run[0].group
        id_ = fingerprint({"group": group, "parts": identity})[:ID_DIGITS]
        return Unit(space, id_, "shard", {"group": group, "parts": parts})


def _ingests(step: StepRun) -> list[Manifest]:
    return [manifest for manifest in step.inputs.values() if Ingested.of(manifest)]


def _raw(offered: Catalogue, columns: Iterable[str]) -> list[str]:
    """The columns that came as they are."""
    return [c for c in columns if made_by(offered.producer(c).about) == "raw"]


def _counted(records: Iterable[Record]) -> list[str]:
    """What the workers remarked of values, once each with the number of samples."""
    counts: Counter[str] = Counter()
    for record in records:
        counts.update(record.meta.get("remarks", {}))
    return [f"{counted(count, 'sample')}: {text}" for text, count in sorted(counts.items())]


def _remarks(step: StepRun) -> list[str]:
    """What the steps behind the shards had to say of their data."""
    return list(dict.fromkeys(text for m in step.inputs.values() for text in m.body.get("remarks", ())))


def _bytes(offered: Catalogue, columns: tuple[str, ...], partition: Partition) -> int:
    """Bytes of a partition's files, each counted once, though only some of its columns may be wanted."""
    records = {r.space: r for c in columns if (r := offered.record(c, partition.pid)) and r.files}
    return sum(record.file.bytes for record in records.values())


def _gaps(columns: Sequence[str], units: Sequence[Unit]) -> dict[str, int]:
    """For each column that lacks some, how many partitions nobody made it for (or every sample is in quarantine)."""
    parts = [part["columns"] for unit in units for part in unit.payload["parts"]]
    missing = {column: sum(column not in part for part in parts) for column in columns}
    return {column: count for column, count in missing.items() if count}


def _file(record: Record, places: dict[str, SplitName]) -> ShardFile:
    group = record.meta["group"]
    path, rows, size = record.file.path, record.rows, record.meta["row_group"]
    return ShardFile(path, places[group], rows, size, record.file.bytes, group)


def _size(records: Sequence[Record], places: dict[str, SplitName], name: SplitName) -> SplitSize:
    mine = [r for r in records if places[r.meta["group"]] == name]
    groups = sorted(group for group, place in places.items() if place == name)
    return SplitSize(sum(r.rows for r in mine), len(mine), groups)


def _statistics(step: StepRun, columns: tuple[str, ...], places: dict[str, SplitName]) -> dict[str, Any]:
    mine = [r for r in step.records if places[r.meta["group"]] == "train"]
    return {c: _summed(step, c, mine) for c in columns}


def _summed(step: StepRun, column: str, records: Sequence[Record]) -> dict[str, Any]:
    """Statistics of a column over some shards, with the samples whose values are wild."""
    figures = [record.meta["statistics"][column] for record in records]
    statistics = merged(step.modalities[modality_of(column)], figures)
    if "wild" in statistics:
        counted = [record for record, mine in zip(records, figures, strict=True) if "count" in mine]
        statistics["wild"]["samples"] = wild.samples(step.storage, counted, statistics["wild"].pop("at"))
    return statistics


def _oddities(step: StepRun, columns: Sequence[str]) -> list[str]:
    """A sentence for each column with wild values, and for angles that come round, in whatever split."""
    every = [(c, _summed(step, c, step.records)) for c in columns]
    strange = [wild.sentence(column, statistics["wild"]) for column, statistics in every if "wild" in statistics]
    angles = (turns.sentence(column, step.modalities[modality_of(column)], statistics) for column, statistics in every)
    return [*strange, *filter(None, angles)]
