"""Samples out to people: pictures, and what is said of them as pre-annotations, in the order that is worth their time.

What went out is kept (`stages.people.ledger`), so that what comes back unchanged is known to be so, whatever the column
says by then. Samples with an answer already stay here unless `again` is given.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from hyperloom.pipeline.errors import RecipeError
from hyperloom.pipeline.root.storage import Storage
from hyperloom.pipeline.spelling import near
from hyperloom.stages.base import GROUP, INDEX, KEY, Partition, is_human, modality_of
from hyperloom.stages.catalogue import Catalogue, catalogue
from hyperloom.stages.data.layer import PNG, encoded
from hyperloom.stages.formats.annotation import AnnotatedPicture, AnnotationSet
from hyperloom.stages.people import markup
from hyperloom.stages.people.ledger import EXPORTS, PeopleEntry, PeopleLedger, column_of, digest_of, picture_digest
from hyperloom.stages.results import Samples
from hyperloom.stages.table import read_table

PICTURES = "images"


class Worth(NamedTuple):
    """A sample: its partition's number, its row there, and how much it is worth a look."""

    worth: float
    partition: int
    row: int


@dataclass(frozen=True)
class Sending:
    """What is sent: predictions in `column` ("" for none: then `kind` alone says what is asked) over the pictures in
    `picture`, the highest of `order` first, at most `most`; samples that people have answered already if `again`.
    `folder`: where Label Studio serves the pictures from. `only`: a column of numbers; samples where it is 0 or missing
    stay."""

    column: str
    picture: str
    tool: str
    order: str = ""
    most: int = 0
    again: bool = False
    folder: str = ""
    only: str = ""


class Export:
    """Of the planned steps of a recipe, with its `modalities`."""

    def __init__(self, storage: Storage, steps: Sequence[Any], modalities: Mapping[str, Any], choice: Sending):
        if choice.most < 0:
            raise RecipeError(f"--most {choice.most}: expected how many samples go out (0: all)")
        self.storage, self.modalities, self.choice = storage, modalities, choice
        done = [s.manifest for s in steps if s.manifest is not None and Samples.of(s.manifest)]
        self.offered = catalogue(done)
        for column in filter(None, (choice.column, choice.picture, choice.order, choice.only)):
            _offers(self.offered, column, modalities)
        for option, column in (("order", choice.order), ("only", choice.only)):
            if column and modalities[modality_of(column)].shape != (1,):
                raise RecipeError(
                    f"--{option} {column}: not one number a sample. Next: `worth` or `out` of a select step"
                )
        self.kind = modalities[modality_of(choice.column)]
        self.view = modalities[modality_of(choice.picture)]
        if not getattr(self.view, "rgb", False):
            raise RecipeError(f"{choice.picture} is no picture. Next: --picture with a column of an image modality")
        held = markup.HELD[choice.tool]
        if self.kind.markup not in held:
            known = ", ".join(held)
            raise RecipeError(f"{choice.tool} does not hold {self.kind.type} ({choice.column}); it holds: {known}")
        sides = {"map": self.kind.shape, "masks": getattr(self.kind, "size", None)}.get(self.kind.markup)
        if sides is not None and tuple(sides) != self.view.shape[:2]:
            raise RecipeError(
                f"{choice.column} is {tuple(sides)}, its picture {choice.picture} {self.view.shape[:2]}: nobody "
                "could paint it exactly. Next: --picture with a column of the same size (the expert `resize` makes one)"
            )
        self.ledger = PeopleLedger(storage, column_of(choice.column))

    def write(self, target: Storage) -> dict[str, int]:
        """Write the pictures and the file below `target`. Returns how many samples went out, how many of them with a
        prediction, and how many stay because people have answered them. Raises StorageError."""
        places, answered = self._places()
        pictures: list[AnnotatedPicture] = []
        entries: list[PeopleEntry] = []
        values: list[Any] = []
        samples: dict[tuple[int, int], tuple[PeopleEntry, Any, AnnotatedPicture]] = {}
        for number in sorted({p.partition for p in places}):
            rows = [p.row for p in places if p.partition == number]
            for row, entry, value, shown in self._samples(number, rows):
                target.write(f"{PICTURES}/{entry.name}", encoded(self.view.picture(shown), PNG))
                samples[number, row] = entry, value, self._picture(entry, value)
        for place in places:
            entry, value, picture = samples[place.partition, place.row]
            entries.append(entry)
            values.append(value)
            pictures.append(picture)
        annotations = AnnotationSet(markup.categories(self.kind), pictures)
        for name, data in FILES[self.choice.tool](annotations, self.kind, self.choice):
            target.write(name, data)
        if entries:
            self.ledger.add(EXPORTS, entries, values, self.kind)
        return {"samples": len(entries), "predicted": sum(v is not None for v in values), "answered": answered}

    # -- inside --------------------------------------------------------------------------------------------------------
    def _places(self) -> tuple[list[Worth], int]:
        """The samples to send, the most worth first; and how many stay because they have an answer."""
        known = set() if self.choice.again else set(self.ledger.answers())
        places: list[Worth] = []
        answered = 0
        for number, partition in enumerate(self.offered.partitions):
            pictures = self._column(self.choice.picture, partition)
            if pictures is None:
                continue
            keys, array = pictures
            worth = self._numbers(self.choice.order, partition, keys)
            gate = self._numbers(self.choice.only, partition, keys)
            for row, key in enumerate(keys):
                if not array[row].is_valid or (self.choice.only and not gate[row] > 0):
                    continue
                if known and (key, picture_digest(array, row)) in known:
                    answered += 1
                    continue
                places.append(Worth(worth[row], number, row))
        places.sort(key=lambda p: (-p.worth if np.isfinite(p.worth) else np.inf, p.partition, p.row))
        return places[: self.choice.most or None], answered

    def _numbers(self, name: str, partition: Partition, keys: Sequence[str]) -> list[float]:
        """The column's number for each sample, NaN where there is none; 0 for all without a column."""
        if not name or (column := self._column(name, partition)) is None:
            return [float("nan") if name else 0.0] * len(keys)
        decoded, valid = self.modalities[modality_of(name)].decode(column[1])
        return [float(n[0]) if ok else float("nan") for n, ok in zip(decoded, valid, strict=True)]

    def _samples(self, number: int, rows: Sequence[int]) -> Iterator[tuple[int, PeopleEntry, Any, Any]]:
        """Of rows of a partition: what the ledger keeps, the prediction (None without) and the picture."""
        partition = self.offered.partitions[number]
        record = self.offered.ingested(partition.pid)
        seen = self._column(self.choice.picture, partition)
        if record is None or seen is None:
            return
        table = read_table(self.storage, record.file.path, [KEY, GROUP, INDEX])
        heads = {key: i for i, key in enumerate(table[KEY].to_pylist())}
        predicted = self._column(self.choice.column, partition)
        for row in rows:
            key = seen[0][row]
            value = None
            if predicted is not None and predicted[1][row].is_valid:
                value = self.kind.decode(predicted[1].slice(row, 1))[0][0]
            shown = self.view.decode(seen[1].slice(row, 1))[0][0]
            group, index = (table[name][heads[key]].as_py() for name in (GROUP, INDEX))
            digest = picture_digest(seen[1], row)
            yield row, PeopleEntry(key, group, index, digest, file_name(key), "", "", digest_of(value), "", 0,
                             self.choice.picture), value, shown  # fmt: skip

    def _column(self, column: str, partition: Partition) -> tuple[list[str], Any] | None:
        record = self.offered.record(column, partition.pid)
        if record is None or not record.files:
            return None
        table = read_table(self.storage, record.file.path, [KEY, column])
        return table[KEY].to_pylist(), table[column].combine_chunks()

    def _picture(self, entry: PeopleEntry, value: Any) -> AnnotatedPicture:
        height, width = self.view.shape[:2]
        picture = AnnotatedPicture(entry.name, width, height, group=entry.group, by=self.choice.column)
        picture.attributes["data"] = {"image": f"{PICTURES}/{entry.name}", "key": entry.key, "group": entry.group}
        picture.annotated = value is not None
        if value is not None:
            markup.draw(value, self.kind, picture)
        return picture


def file_name(key: str) -> str:
    """The name of a sample's picture: its key, in characters that every tool leaves as they are."""
    plain = re.sub(r"[^A-Za-z0-9.]+", "_", key).strip("_.")
    exact = plain == key
    return f"{plain}.png" if exact else f"{plain}_{hashlib.sha256(key.encode()).hexdigest()[:6]}.png"


def _offers(offered: Catalogue, column: str, modalities: Mapping[str, Any]) -> None:
    if column not in offered.producers:
        known = sorted(c for c in offered.producers if not is_human(c))
        raise RecipeError(
            f"no step that is done offers {column!r}{near(column, known)}; there are: {', '.join(known)}. Next: "
            "hyperloom run, or another column"
        )
    if modality_of(column) not in modalities:
        raise RecipeError(f"{column}: the recipe defines no modality {modality_of(column)!r}. Next: define it")


def _label_studio(annotations: AnnotationSet, kind: Any, choice: Sending) -> Iterator[tuple[str, bytes]]:
    from hyperloom.stages.formats import label_studio_writer
    from hyperloom.stages.people.interface import interface

    yield "tasks.json", label_studio_writer.written(annotations, "predictions", choice.folder)
    yield "interface.xml", interface(kind).encode()


def _cvat(annotations: AnnotationSet, kind: Any, choice: Sending) -> Iterator[tuple[str, bytes]]:
    from hyperloom.stages.formats import cvat_writer
    from hyperloom.stages.people.interface import labels

    yield "annotations.xml", cvat_writer.written(annotations)
    yield "labels.json", labels(kind)


def _coco(annotations: AnnotationSet, kind: Any, choice: Sending) -> Iterator[tuple[str, bytes]]:
    from hyperloom.stages.formats import coco_writer

    yield "annotations.json", coco_writer.written(annotations)


FILES: dict[str, Callable[[AnnotationSet, Any, Sending], Iterator[tuple[str, bytes]]]] = {
    "label-studio": _label_studio, "cvat": _cvat, "coco": _coco,
}  # fmt: skip
"""By tool, its files."""
