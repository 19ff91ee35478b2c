"""Ingest: raw files become partitions, the same columns and keys for every later step.

A partition is up to `rows` consecutive samples of one group and one unit of work. Its id is a fingerprint of what its
columns mean, the samples' keys and indices, and the content behind them; so new files make new partitions and leave
the others, and everything computed from those, alone. (A file that lands in the middle of a group moves the later
partitions of that group.)
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from pydantic import Field

from hyperloom.pipeline.commits.manifest import Manifest
from hyperloom.pipeline.commits.records import Records
from hyperloom.pipeline.commits.units import Record, Unit, Worker, left_out
from hyperloom.pipeline.counting import counted
from hyperloom.pipeline.errors import SourceError
from hyperloom.pipeline.fingerprint import SHORT, fingerprint, payload
from hyperloom.pipeline.planning.check import StepCheck
from hyperloom.pipeline.plugins import of
from hyperloom.pipeline.root.digests import Digests
from hyperloom.pipeline.stage import Forecast, Stage, StepRun
from hyperloom.stages import remarks
from hyperloom.stages.base import ORDER, Partition, Producer, modality_of
from hyperloom.stages.ingest.check import checked
from hyperloom.stages.ingest.frame import Framed
from hyperloom.stages.ingest.limit import limited
from hyperloom.stages.ingest.look import suspicions
from hyperloom.stages.ingest.source import Item, Piece
from hyperloom.stages.remarks import announce
from hyperloom.stages.results import Ingested
from hyperloom.stages.schema import SamplesSchema, recheck

if TYPE_CHECKING:
    from hyperloom.stages.ingest.source import Source

PID_DIGITS = 16
OURS = (".hyperloom", "hyperloom.yaml")
"""What `hyperloom init` puts beside the data: nobody misses it."""


class Ingest(Stage):
    """`{stage: ingest, source: {type: video, path: flights/*.mp4}, group: flight, rows: 32}`.

    `group` is the grouping's name, which `shard` splits by; `rows` is the size of a partition.
    """

    revision: ClassVar[int] = 1
    source: Annotated[Any, of("source")]
    group: str = "group"
    rows: int = Field(32, ge=1)
    partitions: tuple[str, ...] = ()
    """Only the partitions with these ids: what a pilot takes. Their units are those of the whole."""
    limit: int | None = Field(None, ge=1)
    """So many samples in all, dealt evenly over the groups and the first of each, so that every split keeps some."""

    def uses(self) -> set[str]:
        return {modality_of(column) for column in self.source.offers()}

    def revised_for(self, modalities: Mapping[str, Any]) -> dict[str, int]:
        kinds = {c: kind for c in self.source.offers() if (kind := modalities.get(modality_of(c))) is not None}
        moved = {n: v for c, kind in kinds.items() for n, v in self._moved(c, kind).items()}
        return {**moved, **{n: v for c in kinds for n, v in self._turned(c, kinds).items()}}

    def _turned(self, column: str, kinds: Mapping[str, Any]) -> dict[str, int]:
        """Labels in rows and tars were not compared with how their picture is turned. `kinds`: modalities by column."""
        return {"turned": 2} if column in Framed(kinds).labels and self.source.of_bytes(column, kinds[column]) else {}

    def _moved(self, column: str, modality: Any) -> dict[str, int]:
        """Class maps that a file has in another size were resized to up to half a pixel beside their picture; of
        numbers with a large offset the last digits were lost before it was added; boxes of a picture as it is stored
        (LabelImg's VOC, LabelMe's JSON) were taken for those of the turned one."""
        sides = getattr(self.source, "columns", ())
        side = sides.get(column) if isinstance(sides, Mapping) else None
        moved = {"nearest": 2} if self.source.fits and modality.markup == "map" else {}
        moved |= self.source.revised_for(column, modality)
        path = str(getattr(side, "path", ""))
        moved |= {"stored boxes": 2} if modality.markup == "boxes" and path.lower().endswith((".xml", ".json")) else {}
        if side is None or not getattr(side, "shifted", False):
            return moved
        return moved | {"offset": 3 if side.path.endswith((".json", ".txt")) else 2}

    def check(self, step: StepCheck) -> SamplesSchema:
        return checked(self, step)

    def facts(self, digests: Digests) -> dict[str, Any]:
        return {"pieces": digests.listed("facts", self.source, lambda: self.source.facts(digests))}

    def units(self, step: StepRun) -> tuple[list[Unit], dict[str, Worker]]:
        units, workers, _ = self._planned(step)
        return units, workers

    def run(self, step: StepRun) -> Ingested:
        units, workers, left_out = self._planned(step)
        records = step.run_units(units, workers)
        if not any(record.rows for record in records):
            raise SourceError(self._nothing(step, records))
        step.records = records
        result = self._result(units[0].space, records, step.modalities)
        looks = (r.meta.get("look", {}) for r in records)
        sentences = [*left_out, *_remarks(records), *suspicions(looks, step.modalities)]
        announce(step, sentences)
        return replace(result, remarks=sentences)

    def _planned(self, step: StepRun) -> tuple[list[Unit], dict[str, Worker], list[str]]:
        """Units, their worker, and what is to be said of files that are not used, or not wholly."""
        from hyperloom.stages.ingest.worker import IngestWorker

        recheck(step)
        source: Source = self.source
        modalities = {name: step.modalities[name] for name in self.uses()}
        digests = Digests(step.storage)
        with remarks.collected() as texts:
            pieces = source.pieces(digests)
        digests.save()
        space, taken = self._space(modalities), dict.fromkeys((p.group for p in pieces), 0)
        units: list[Unit] = []
        listed = []
        for piece in pieces:
            with remarks.collected() as counts:
                listed.append(source.items(piece))
            texts.update(counts)
        for piece, items in zip(pieces, limited([p.group for p in pieces], listed, self.limit), strict=True):
            for start in range(0, len(items), self.rows):
                units.append(self._unit(space, piece, items[start : start + self.rows], taken[piece.group], modalities))
            if items:
                apart = 1 if items[-1].time is None else 2  # two films of a group do not follow each other
                taken[piece.group] += items[-1].index + apart
        if self.partitions:
            units = [unit for unit in units if unit.id in self.partitions]
        others = {why: [n for n in names if n not in OURS] for why, names in digests.left_out.items()}
        many = {why: counted(len(names), "file") for why, names in others.items() if names}
        unused = [f"{files} left out, {why}: {_few(others[why])}" for why, files in many.items()]
        unused += [text if count == 1 else f"{counted(count, 'file')}: {text}" for text, count in texts.items()]
        return units, {"ingest": IngestWorker(source.beside(str(step.storage)), modalities)}, unused

    def forecast(self, step: StepRun) -> Forecast:
        """As far as names and containers tell: a sample that turns out not to be readable is counted here."""
        units, _ = self.units(step)
        records = Records(
            Record(u.space, u.id, _promised(u), (), 0, {k: u.payload[k] for k in ("group", "first")}) for u in units
        )
        step.records = records
        return Forecast(units, step.manifest(self._result(units[0].space, records, step.modalities), {}))

    def growth(self, step: StepRun, before: Manifest) -> int:
        then = {p.pid: p for p in Ingested.from_manifest(before).partitions}
        units, _ = self.units(step)
        now = {unit.id for unit in units}
        grown, lost = Counter[str](), Counter[str]()
        for unit in units:
            if unit.id not in then:
                grown[unit.payload["group"]] += _promised(unit)
        for partition in then.values():
            if partition.pid not in now:
                lost[partition.group] += partition.rows
        return sum(max(rows - lost[group], 1) for group, rows in grown.items())

    def producers(self, manifest: Manifest) -> dict[str, str]:
        columns = Ingested.from_manifest(manifest).columns
        return {column.space: f"{column.about.get('source', '')} {'+'.join(columns)}" for column in columns.values()}

    def _result(self, space: str, records: Sequence[Record], modalities: dict[str, Any]) -> Ingested:
        columns = {}
        for column in self.source.offers():
            about = {"stage": "ingest", "source": self.source.type, **self.source.meaning(column)}
            about |= {ORDER: order} if (order := self.source.order()) else {}
            columns[column] = Producer(column, space, self._column(column, modalities), about)
        partitions = [Partition(r.id, r.meta["group"], r.meta["first"], r.rows) for r in records if r.rows]
        return Ingested(columns, partitions, self.group, sum(r.quarantined for r in records))

    def _column(self, column: str, modalities: dict[str, Any]) -> str:
        """The identity of one column: what it means, whatever files it comes from."""
        modality, kinds = modalities[modality_of(column)], {c: modalities[modality_of(c)] for c in self.source.offers()}
        meaning = {"source": self.source.meaning(column), "modality": payload(modality)}
        moved = {**self._moved(column, modality), **self._turned(column, kinds)}
        return fingerprint({"revision": self.revision, **meaning, **moved})

    def _space(self, modalities: dict[str, Any]) -> str:
        columns = {column: self._column(column, modalities) for column in self.source.offers()}
        return f"ingest/{fingerprint(columns)[:SHORT]}"

    def _unit(self, space: str, piece: Piece, items: list[Item], before: int, modalities: dict[str, Any]) -> Unit:
        """`before` is how many indices of the group earlier pieces have taken."""
        moved = [{**vars(item), "index": item.index + before} for item in items]
        samples = [[item["key"], item["index"], item["digest"]] for item in moved]
        pid = fingerprint({"columns": space, "group": piece.group, "samples": samples})[:PID_DIGITS]
        payload = {"group": piece.group, "first": moved[0]["index"], "items": moved}
        return Unit(space, pid, "ingest", payload, rows=len(moved))

    def _nothing(self, step: StepRun, records: Sequence[Record]) -> str:
        count = sum(record.quarantined for record in records)
        first = left_out(step.storage, records[0].space, records[0].id)[0]
        return (
            f"the step {step.name!r} could not read a single one of its {count} samples; the first, {first['key']}: "
            f"{first['error']}. Next: check the files that the recipe's source names"
        )


def _promised(unit: Unit) -> int:
    return sum(not item["lost"] for item in unit.payload["items"])


def _few(names: list[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def _remarks(records: Sequence[Record]) -> list[str]:
    """What readers left out or took for granted, each once with the number of files."""
    counts: Counter[str] = Counter()
    for record in records:
        counts.update(record.meta.get("remarks", {}))
    return [f"{counted(count, 'file')}: {text}" for text, count in sorted(counts.items())]
