"""What people changed comes back: only that, as an answer with who and when.

A picture is known by the name it went out with, else by a key that ends like it. What it says is compared with the
answer that stands, else with all that went out for the sample; the same is no change, and a picture that nobody has
looked at says nothing. With `confirmed` what a person left as it was counts as an answer too (Label Studio alone says
who has looked). What cannot be understood is named with its reason; where it is more than the share that is allowed,
nothing is taken.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

import numpy as np

from hyperloom.pipeline.errors import SourceError
from hyperloom.stages.base import modality_of
from hyperloom.stages.formats.annotation import AnnotatedPicture, AnnotationSet
from hyperloom.stages.modality.flips import flips
from hyperloom.stages.people import markup
from hyperloom.stages.people.ledger import EXPORTS, IMPORTS, PeopleEntry, PeopleLedger, digest_of

SHOWN = 5


@dataclass
class Imported:
    """How many pictures were changed, are as they were, were not looked at; `faults`: picture -> reason; `ignored`:
    what the format says and no column holds; `classes`: how often each class became which other; `who`: answers by
    person; `remarks`: sentences about the file."""

    changed: int = 0
    same: int = 0
    unseen: int = 0
    faults: dict[str, str] = field(default_factory=dict)
    ignored: Counter[str] = field(default_factory=Counter)
    classes: Counter[tuple[str, str]] = field(default_factory=Counter)
    who: Counter[str] = field(default_factory=Counter)
    remarks: list[str] = field(default_factory=list)

    def lines(self, column: str) -> Iterator[str]:
        """What a person wants to know of it."""
        yield from self.remarks
        for name, why in list(self.faults.items())[:SHOWN]:
            yield f"{name}: {why}"
        if len(self.faults) > SHOWN:
            yield f"and {len(self.faults) - SHOWN} more"
        for text, count in self.ignored.items():
            yield f"{count} {text}: left out"
        people = ", ".join(f"{who or 'somebody'} {count}" for who, count in self.who.most_common(SHOWN))
        by = f" ({people})" if people else ""
        yield (
            f"{column}: {self.changed} changed{by}, {self.same} as they were, {self.unseen} not looked at, "
            f"{len(self.faults)} not understood"
        )

    def as_json(self) -> dict[str, Any]:
        table = [{"from": a, "to": b, "count": count} for (a, b), count in self.classes.most_common()]
        plain = {"changed": self.changed, "same": self.same, "unseen": self.unseen, "faults": self.faults}
        return {
            **plain,
            "who": dict(self.who),
            "ignored": dict(self.ignored),
            "classes": table,
            "remarks": self.remarks,
        }


def read_file(path: str, tool: str) -> AnnotationSet:
    """The annotations of one file of a tool. Raises SourceError."""
    from hyperloom.stages.formats import coco, cvat, label_studio

    try:
        with open(path, "rb") as file:
            data = file.read()
    except OSError as error:
        raise SourceError(f"cannot read {path}: {error.strerror or error}. Next: check the path") from error
    parse = {"label-studio": label_studio.parse, "cvat": cvat.parse, "coco": coco.parse}[tool]
    annotations = parse(data, path)
    if tool == "cvat":
        by, at = cvat.author(data, path)
        for picture in annotations.pictures:
            picture.by, picture.at = picture.by or by, picture.at or at
    return annotations


def take(
    ledger: PeopleLedger,
    kind: Any,
    annotations: AnnotationSet,
    confirmed: bool = False,
    who: str = "",
    when: str = "",
    allowed: float = 0.2,
    looked: bool = False,
) -> Imported:
    """Add what was changed to the ledger of a column whose modality is `kind`. `who` and `when` where the file does not
    say it; `looked`: does it say which pictures were looked at? `allowed`: the share of pictures that may not be
    understood. Raises SourceError, StorageError."""
    taking = _Taking(ledger, kind, confirmed, who, when, looked)
    for picture in annotations.pictures:
        taking.take(picture)
    report = taking.report
    report.remarks = [*annotations.remarks]
    total = len(annotations.pictures)
    if len(report.faults) > allowed * total:
        reasons = "; ".join(f"{name}: {why}" for name, why in list(report.faults.items())[:SHOWN])
        raise SourceError(
            f"{len(report.faults)} of {total} pictures are not understood, more than --max-quarantine {allowed:g} "
            f"allows ({reasons}). Nothing was taken. Next: mend them, or allow more"
        )
    if taking.entries:
        ledger.add(IMPORTS, taking.entries, taking.values, kind)
    return report


def file_time(path: str) -> str:
    """When a file was written, as a tool that says nothing of it leaves one to know."""
    return datetime.fromtimestamp(int(os.path.getmtime(path)), UTC).isoformat().replace("+00:00", "Z")


class _Taking:
    """Goes through pictures and gathers the answers that are new."""

    def __init__(self, ledger: PeopleLedger, kind: Any, confirmed: bool, who: str, when: str, looked: bool):
        self.ledger, self.kind, self.confirmed, self.who, self.when = ledger, kind, confirmed, who, when
        self.looked = looked
        self.report = Imported()
        self.entries: list[PeopleEntry] = []
        self.values: list[Any] = []
        self._sent: dict[str, list[PeopleEntry]] = {}
        for entry in ledger.entries(EXPORTS):
            self._sent.setdefault(entry.name, []).append(entry)
        self._by_key = _by_end(e for entries in self._sent.values() for e in entries)
        self._answers = ledger.answers()

    def take(self, picture: AnnotatedPicture) -> None:
        report = self.report
        report.ignored.update(picture.ignored)
        if picture.faults:
            report.faults[picture.name] = "; ".join(picture.faults)
            return
        sent = self._sent_as(picture)
        if not sent:
            report.faults[picture.name] = "no sample that went out has this name"
            return
        if not picture.annotated:
            report.unseen += 1
            return
        before = self.ledger.values(sent, self.kind)
        if not (picture.annotations or picture.labels or picture.texts or self.looked) and before[-1] is None:
            report.unseen += 1  # nothing went out and nothing is here: nobody says that he looked
            return
        try:
            value = markup.read(picture, self.kind, before[-1])
        except ValueError as error:
            report.faults[picture.name] = str(error)
            return
        if value is None:
            report.unseen += 1
        else:
            self._compare(picture, sent, before, value)

    def _compare(
        self, picture: AnnotatedPicture, sent: Sequence[PeopleEntry], before: Sequence[Any], value: Any
    ) -> None:
        latest = sent[-1]
        size = (picture.height or 1, picture.width or 1)
        standing = self._answers.get((latest.key, latest.picture))
        known = [*self.ledger.values([standing], self.kind)] if standing else list(before)
        same = any(markup.alike(value, other, self.kind, size) for other in known)
        if same and (standing is not None or not (self.confirmed and self.looked)):
            self.report.same += 1
            return
        who, when = picture.by or self.who, picture.at or self.when
        entry = replace(latest, who=who, when=when, digest=digest_of(value), name=picture.name)
        self.entries.append(entry)
        self.values.append(value)
        self.report.changed += 1
        self.report.who[who] += 1
        self.report.classes.update(_became(known[-1], value, self.kind))

    def _sent_as(self, picture: AnnotatedPicture) -> list[PeopleEntry]:
        """What went out for a picture, the last of its own picture last."""
        data = picture.attributes.get("data")
        name = os.path.basename(picture.name.replace("\\", "/"))
        sent = self._sent.get(name) or self._by_key.get(picture.name) or self._by_key.get(os.path.splitext(name)[0], [])
        if isinstance(data, Mapping) and data.get("key"):
            sent = [e for e in sent if e.key == data["key"]] or sent
        return [e for e in sent if e.picture == sent[-1].picture]


def _by_end(entries: Iterable[PeopleEntry]) -> dict[str, list[PeopleEntry]]:
    """Entries by key, and by the last part of it where only one sample ends so."""
    by: dict[str, list[PeopleEntry]] = {}
    ends: dict[str, set[str]] = {}
    for entry in entries:
        by.setdefault(entry.key, []).append(entry)
        ends.setdefault(os.path.splitext(os.path.basename(entry.key))[0], set()).add(entry.key)
    return {**{end: by[next(iter(keys))] for end, keys in ends.items() if len(keys) == 1}, **by}


def _became(before: Any, after: Any, kind: Any) -> Counter[tuple[str, str]]:
    """Which class became which, by pixel of maps and by sample else; nothing of what has no one class a place."""
    if before is None or kind.markup not in ("map", "choice"):
        return Counter()
    return flips(kind, np.atleast_1d(before), np.atleast_1d(after))


def column_named(ledgers: Sequence[str], column: str) -> str:
    """The column of people that a file belongs to: the one that is named, else the only one that went out."""
    if column:
        modality_of(column)
        return column
    if len(ledgers) != 1:
        raise SourceError(
            f"samples of {', '.join(ledgers) or 'nothing'} went out. Next: --column, such as semantic@human"
        )
    return ledgers[0]
