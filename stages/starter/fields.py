"""Fields of a table: what each seems to hold (a file, a class, a number, a text), told by its cells.

The field to learn is the one that the user names, else one called label, class, target and the like, else the last.
"""

from __future__ import annotations

import math
import os
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

from hyperloom.pipeline.errors import SourceError
from hyperloom.stages.ingest.numerals import PLAIN, Numerals
from hyperloom.stages.ingest.rows import Dialect, TableRow, rows
from hyperloom.stages.ingest.source import IMAGES, SOUNDS
from hyperloom.stages.modality.choice import NAMELESS, whole
from hyperloom.stages.starter.blanks import among_numbers, blanks
from hyperloom.stages.starter.given_split import is_split
from hyperloom.stages.starter.times import times
from hyperloom.stages.starter.truth import NotUnderstood
from hyperloom.stages.starter.written_numbers import numbers, numerals_of

TARGETS = ("label", "labels", "class", "target", "y", "category", "truth", "gt", "sentiment", "kind", "species")
OWNERS = r"(group|subject|patient|speaker|user|session|document|drive|site|batch|flight|recording)"
GROUPS = re.compile(OWNERS, re.IGNORECASE)
"""Of words: `speaker name`. Of numbers it may also be a measure, such as `user age`, so that these must be called as
OWN says."""
OWN = re.compile(rf"(.*[^a-z])?(sub)?{OWNERS}s?[ _.-]?(id|no|nr|num|number|name|key|code|index)?\.?", re.IGNORECASE)
KEYS = re.compile(
    r"((row|line|record|sample|image)[ _-]?)?(id|key|name|uuid|index|idx|no|nr|num|number|nummer)\.?|file(name)?",
    re.IGNORECASE,
)
MOST_CLASSES = 50
FILED = ("image", "audio", "document")
"""Kinds whose cells name files."""
FILES = 0.8
"""The share of cells that must be names of files that exist."""
WORDY = 30
"""Letters from which a text is no name of a class."""
LONGEST = 400
SEPARATORS = (",", ";", "\t", "|")
ENCODINGS = ("utf-8", "utf-16", "cp1252")


@dataclass
class TableField:
    """A field: `kind` is image, audio, document, text, category, scalar, time or nothing; `cells` are those with a
    value."""

    name: str
    kind: str
    cells: list[str]
    classes: list[str] = field(default_factory=list)
    folder: str = ""
    """What the files are named relative to."""
    number: int = 1
    """Which of those it is whose names have the same letters."""
    unknown: int = 0
    """Cells with a -1 that names no class."""

    @property
    def modality(self) -> str:
        """Its name in a recipe."""
        letters = unicodedata.normalize("NFKD", self.name.casefold()).encode("ascii", "ignore").decode()
        plain = re.sub(r"[^a-z0-9_]+", "_", letters).strip("_") or "field"
        plain = plain if plain[0].isalpha() else f"f_{plain}"
        return plain if self.number == 1 else f"{plain}_{self.number}"

    @property
    def owns(self) -> bool:
        """Does it seem to say what rows belong to?"""
        if self.kind in ("text", *FILED):
            return False
        worded = self.kind in ("", "category") and GROUPS.search(self.name)
        return bool(worded or OWN.fullmatch(self.name))

    def among(self, row: TableRow) -> bool:
        """Has a row a value of it?"""
        return not self._valued.isdisjoint(_cells([row.get(self.name)]))

    @cached_property
    def _valued(self) -> frozenset[str]:
        return frozenset(self.cells)

    def definition(self, sides: tuple[int, int], sound: tuple[int, float]) -> dict[str, Any]:
        """Its modality; `sides` of pictures, rate and seconds of sounds."""
        if self.kind == "image":
            return {"type": "image", "size": list(sides)}
        if self.kind == "audio":
            return {"type": "audio", "rate": sound[0], "seconds": sound[1], "cut": True}
        if self.kind == "document":
            return {"type": "text", "length": LONGEST, "cut": True}
        if self.kind == "text":
            lengths = sorted(len(c.encode()) for c in self.cells)
            return {
                "type": "text",
                "length": min(LONGEST, max(8, lengths[int(0.95 * (len(lengths) - 1))])),
                "cut": True,
            }
        return {"type": "category", "classes": self.classes} if self.kind == "category" else {"type": "scalar"}


@dataclass
class TableLook:
    """A table: how its text is written, its rows that can be read by their number in it, its fields; `key`, `group` and
    `time` are names of fields, or empty. `by_time`: are its rows to be grouped by `time`, whatever else says what
    belongs together?"""

    path: str
    dialect: dict[str, Any]
    content: dict[int, TableRow]
    fields: list[TableField]
    key: str = ""
    group: str = ""
    split: str = ""
    """The field that deals the rows to training and test (see stages.starter.given_split)."""
    time: str = ""
    by_time: bool = False
    worded: dict[str, list[str]] = field(default_factory=dict)
    """By field of numbers or dates the words among them that mean no value there, and are a class of another field."""

    def named(self, name: str) -> TableField | None:
        return next((f for f in self.fields if f.name.casefold() == name.casefold()), None)

    def cell(self, one: TableField) -> Any:
        """What a recipe says of a field whose cells are values."""
        words = self.worded.get(one.name)
        return {"field": one.name, "missing": [*self.dialect.get("missing", ()), *words]} if words else one.name

    def splits(self, row: TableRow) -> bool:
        """Does the field `split` deal this row?"""
        field = self.named(self.split)
        return field is not None and field.among(row)

    def owners(self) -> list[TableField]:
        """The fields that seem to say what rows belong to, in groups of several."""
        return [f for f in self.fields if f.owns and 3 <= len(set(f.cells)) < len(self.content)]

    def files(self) -> TableField | None:
        """The field that names pictures or sounds."""
        return next((f for f in self.fields if f.kind in FILED), None)


def look(path: str, folders: Sequence[str]) -> TableLook:
    """Look at a table, whose files are named relative to its own folder or one of `folders`. Raises NotUnderstood."""
    dialect, content = _read(path)
    readable = {number: row for number, row in enumerate(content) if not isinstance(row, ValueError)}
    plain = list(readable.values())
    if not plain:
        raise NotUnderstood(f"{path} holds no row. Next: give a table whose first line names the fields")
    names = list(dict.fromkeys(name for row in plain for name in row if name))
    cells = {name: _cells(row.get(name) for row in plain) for name in names}
    texts = {name: _cells(v for row in plain if isinstance(v := row.get(name), str)) for name in names}
    numerals = numerals_of(texts, dialect.get("separator", ""))

    def numeric(some: Sequence[str]) -> bool:
        return numbers(some, numerals) or times(some) is not None

    nothing = blanks(list(cells.values()), numeric)
    cells = {name: [c for c in some if c.strip() not in nothing] for name, some in cells.items()}
    worded = {name: words for name, some in cells.items() if (words := among_numbers(some, numeric))}
    cells |= {name: [c for c in cells[name] if c.strip() not in words] for name, words in worded.items()}
    folders = (os.path.dirname(path), *folders)
    fields = [_field(name, cells[name], [row.get(name) for row in plain], numerals, folders) for name in names]
    _distinguish(fields)
    marks = {"decimal": numerals.decimal, "thousands": numerals.thousands}
    marks = {name: mark for name, mark in marks.items() if mark != getattr(PLAIN, name)}
    missing = {"missing": list(nothing)} if nothing else {}
    seen = TableLook(path, {**dialect, **marks, **missing}, readable, fields, worded=worded)
    unique = [f for f in fields if len(set(f.cells)) == len(plain)]
    named = [f.name for f in unique if KEYS.fullmatch(f.name) or f.kind in FILED]
    seen.key = next(iter(named or [f.name for f in unique if _counts(f.cells)]), "")
    splits = sorted((f for f in fields if f.cells and is_split(set(f.cells))), key=lambda f: -len(f.cells))
    seen.split = splits[0].name if splits else ""
    seen.group = next((f.name for f in seen.owners() if f.name != seen.split), "")
    seen.time = next((f.name for f in fields if f.kind == "time" and len(set(f.cells)) > 1), "")
    return seen


def target(seen: TableLook, task: str) -> TableField:
    """The field to learn. Raises NotUnderstood for one that is not there, or holds nothing that can be learned."""
    usual = next((f for n in TARGETS if (f := seen.named(n)) and f.kind), None)
    others = [f for f in seen.fields if f.kind in ("category", "scalar") and f.name not in (seen.group, seen.split)]
    last = others[-1] if others else None
    chosen = seen.named(task) if task else usual or last
    listed = ", ".join(f.name for f in seen.fields)
    if chosen is None:
        raise NotUnderstood(f"{seen.path} has no field {task or 'to learn'!r}; it has {listed}. Next: --task FIELD")
    if chosen.kind not in ("category", "scalar", "text"):
        raise NotUnderstood(f"{seen.path}: nothing can be learned of {chosen.name}. Next: --task with one of {listed}")
    if chosen.kind == "scalar" and (classes := _classes(chosen.cells)):
        known = [c for c in chosen.cells if str(whole(c)) in classes]
        unknown = len(chosen.cells) - len(known)
        chosen = replace(chosen, kind="category", classes=classes, cells=known, unknown=unknown)
        seen.fields = [chosen if f.name == chosen.name else f for f in seen.fields]
    return chosen


def _read(path: str) -> tuple[dict[str, Any], list[Any]]:
    """The rows, and how the table is written where that is not the usual way."""
    with open(path, "rb") as file:
        data = file.read()
    problem: Exception | None = None
    for encoding in ENCODINGS:
        for separator in ("", *SEPARATORS):
            try:
                content = rows(data, path, Dialect(encoding, separator))
            except SourceError as error:
                problem = problem or error
                continue
            written = {"encoding": encoding} if encoding != "utf-8" else {}
            return {**written, **({"separator": separator} if separator else {})}, content
    raise NotUnderstood(str(problem))


def _cells(values: Iterable[Any]) -> list[str]:
    return [str(v) for v in values if v not in (None, "") and not (isinstance(v, float) and math.isnan(v))]


def _distinguish(fields: Sequence[TableField]) -> None:
    """Give fields that would have one name in a recipe (`Länge`, `Lange`, all in Cyrillic letters) a number each."""
    taken = set[str]()
    for one in fields:
        while one.modality in taken:
            one.number += 1
        taken.add(one.modality)


def _field(
    name: str, cells: list[str], values: Sequence[Any], numerals: Numerals, folders: Sequence[str]
) -> TableField:
    if not cells or any(isinstance(v, list | dict | bytes) for v in values):
        return TableField(name, "", cells)
    for kind, suffixes in (("image", IMAGES), ("audio", SOUNDS), ("document", (".txt",))):
        named = [c for c in cells if c.lower().endswith(suffixes)]
        near = [f for f in folders if named and os.path.isfile(os.path.join(f, named[0]))]
        if len(named) >= FILES * len(cells) and near:
            return TableField(name, kind, cells, folder=near[0])
    if numbers(cells, numerals):
        return TableField(name, "scalar", cells)
    if times(cells) is not None:
        return TableField(name, "time", cells)
    counts = Counter(cells)
    if len(counts) <= MOST_CLASSES and len(counts) <= len(cells) / 2 and max(map(len, counts)) < 2 * WORDY:
        return TableField(name, "category", cells, sorted(counts))
    if sum(map(len, cells)) / len(cells) >= WORDY / 2:
        return TableField(name, "text", cells)
    return TableField(name, "", cells)


def _classes(cells: Sequence[str]) -> list[str]:
    """Few whole numbers, most often, are classes, also as `1.0`, which they become where some are missing. -1 is one in
    two numbers, or in -1, 0 and 1; beside more it says that nobody knows."""
    numbers = Counter(map(whole, cells))
    if None in numbers or not (2 <= len(numbers) <= 20 and len(numbers) <= len(cells) / 5):
        return []
    known = sorted(n for n in numbers if n is not None)
    nameless = known[0] == NAMELESS and len(known) > 2 and not set(known) <= {-1, 0, 1}
    return [str(n) for n in known[nameless:]]


def _counts(cells: Sequence[str]) -> bool:
    """Are they 0, 1, 2, .. or 1, 2, 3, .. in their order?"""
    return cells[0] in ("0", "1") and all(cell == str(i) for i, cell in enumerate(cells, int(cells[0])))
