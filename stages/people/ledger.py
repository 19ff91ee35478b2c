"""The ledger of a column of people: what went out to them, and what came back, under the root.

    answers/{column}/state/{number}.json     the pointer: which tables count, and a digest of all answers
    answers/{column}/tables/{digest}.parquet one export or import: keys, the picture's digest, values; who and when

A table is written once and named by its content; the pointer is written after the version that its writer has read, so
of two imports at a time none is lost. An answer holds for a sample with its very picture: where another picture bears
the same key by now, it is left out and counted. Of several answers to a sample, also to pictures of it in several
columns, the last import counts.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

from hyperloom.pipeline import plugins
from hyperloom.pipeline.errors import Superseded
from hyperloom.pipeline.fingerprint import fingerprint
from hyperloom.pipeline.root.pointer import Pointer
from hyperloom.pipeline.root.storage import Storage, sha256
from hyperloom.stages.base import GROUP, INDEX, KEY, modality_of
from hyperloom.stages.column import described
from hyperloom.stages.meaning import MeaningsDiffer, translation
from hyperloom.stages.table import read_table, write_table

EXPORTS, IMPORTS = "exports", "imports"
PICTURE, NAME, DIGEST, WHO, WHEN, COLUMN = "picture", "name", "digest", "who", "when", "column"
VALUE = "value"
TRIES = 10


@dataclass(frozen=True)
class PeopleEntry:
    """One row of a table: a sample, the digest of its picture, its file's name in an export, who answered when, the
    digest of the value; the value lies in row `row` of the table at `path`."""

    key: str
    group: str
    index: int
    picture: str
    name: str
    who: str
    when: str
    digest: str
    path: str
    row: int
    column: str = ""
    """The column that holds the picture."""


class PeopleLedger:
    """The ledger of `column`, such as semantic@human."""

    def __init__(self, storage: Storage, column: str):
        self.storage, self.column = storage, column
        self.folder = f"answers/{column}"
        self._tables: dict[str, Any] = {}
        self._pointer = Pointer(storage, f"{self.folder}/state", f"what people said of {column}")

    def state(self) -> dict[str, Any]:
        """Paths of the tables of exports and imports, and the digest of all answers; empty of nothing."""
        return dict(self._pointer.read().value or {})

    def entries(self, kind: str) -> Iterator[PeopleEntry]:
        """What stands in the tables of exports or imports, the oldest first."""
        for path in self.state().get(kind, []):
            table = read_table(self.storage, path, [KEY, GROUP, INDEX, PICTURE, NAME, WHO, WHEN, DIGEST, COLUMN])
            rows = zip(*(table[c].to_pylist() for c in table.column_names), strict=True)
            for i, (key, group, index, picture, name, who, when, digest, column) in enumerate(rows):
                yield PeopleEntry(key, group, index, picture, name, who, when, digest, path, i, column)

    def answers(self) -> dict[tuple[str, str], PeopleEntry]:
        """The answer that counts, by key and picture, in the order in which they were given."""
        return last_words(((entry.key, entry.picture), entry) for entry in self.entries(IMPORTS))

    def add(self, kind: str, entries: Sequence[PeopleEntry], values: Sequence[Any], modality: Any) -> None:
        """Add a table of `entries` with their values; their path and row are not looked at. Raises StorageError,
        Superseded."""
        path = self._write(entries, values, modality)
        for _ in range(TRIES):
            version = self._pointer.read()
            state = dict(version.value or {})
            state[kind] = [p for p in state.get(kind, []) if p != path] + [path]
            if kind == IMPORTS:
                given = chain(self.entries(IMPORTS), entries)
                state[DIGEST] = _digest(last_words(((e.key, e.picture), e.digest) for e in given))
            try:
                self._pointer.write(state, version)
                return
            except Superseded:
                continue
        raise Superseded(f"what people said of {self.column} changes all the time. Next: run the same command again")

    def values(self, entries: Sequence[PeopleEntry], modality: Any) -> list[Any]:
        """The values of entries in the meaning of `modality`; None for what says nothing. Raises ValueError where they
        mean something else."""
        values: list[Any] = [None] * len(entries)
        by_path: dict[str, list[int]] = {}
        for place, entry in enumerate(entries):
            by_path.setdefault(entry.path, []).append(place)
        for path, places in by_path.items():
            if path not in self._tables:
                self._tables[path] = read_table(self.storage, path, [VALUE])
            chosen = self._tables[path].take([entries[p].row for p in places])
            for place, value in zip(places, _decoded(chosen, modality), strict=True):
                values[place] = value
        return values

    def _write(self, entries: Sequence[PeopleEntry], values: Sequence[Any], modality: Any) -> str:
        import pyarrow as pa

        texts = {n: [getattr(e, n) for e in entries] for n in (KEY, GROUP, PICTURE, NAME, WHO, WHEN, DIGEST, COLUMN)}
        columns: dict[str, Any] = {name: pa.array(texts[name], pa.string()) for name in texts}
        columns[INDEX] = pa.array([e.index for e in entries], pa.int64())
        columns[VALUE] = modality.encode(list(values))
        fields = [pa.field(n, a.type) for n, a in columns.items() if n != VALUE]
        value = modality.field(self.column)
        data = write_table(columns, [*fields, pa.field(VALUE, value.type, metadata=value.metadata)])
        path = f"{self.folder}/tables/{sha256(data)[:16]}.parquet"
        self.storage.write(path, data)
        return path


def last_words(answers: Iterable[tuple[tuple[str, str], Any]]) -> dict[tuple[str, str], Any]:
    """The last answer by key and picture, in the order in which they were given."""
    last: dict[tuple[str, str], Any] = {}
    for place, answer in answers:
        last.pop(place, None)
        last[place] = answer
    return last


def _digest(answers: Mapping[tuple[str, str], str]) -> str:
    """Of all answers; of a sample's pictures, where it has answers to several, their order too."""
    several = Counter(key for key, _ in answers)
    order = [[key, picture] for key, picture in answers if several[key] > 1]
    return fingerprint([*sorted([*place, digest] for place, digest in answers.items()), *([order] if order else [])])


def digest_of(value: Any) -> str:
    """A digest of a decoded value, or of nothing."""
    return "" if value is None else hashlib.sha256(value.tobytes()).hexdigest()[:16]


def picture_digest(array: Any, row: int) -> str:
    """A digest of a sample's picture as it is stored."""
    cell = array[row]
    data = cell.as_buffer() if hasattr(cell, "as_buffer") and cell.is_valid else repr(cell.as_py()).encode()
    return hashlib.sha256(data).hexdigest()[:16]


def _decoded(table: Any, modality: Any) -> list[Any]:
    field, array = table.schema.field(VALUE), table[VALUE]
    about: Mapping[str, Any] = described(field)
    known = {k: v for k, v in about.items() if k in type(modality).model_fields or k == "type"}
    was = plugins.parse("modality", known) if known.get("type") == modality.to_recipe()["type"] else modality
    was = was.model_copy(update={"size": modality.size}) if hasattr(modality, "size") and was.size is None else was
    try:
        how = translation(was.meaning, modality.meaning, ("the answers", "the recipe"))
    except MeaningsDiffer as error:
        raise ValueError(str(error)) from error
    decoded, valid = was.decode(array)
    if how:
        decoded = was.translated(decoded, how)
    if decoded.shape[1:] != modality.shape:
        raise ValueError(f"the answers are of the shape {decoded.shape[1:]}, the recipe wants {modality.shape}")
    return [value if ok else None for value, ok in zip(decoded, valid, strict=True)]


def column_of(column: str) -> str:
    """The column of people beside a column: semantic@human of semantic@votes."""
    from hyperloom.stages.base import HUMAN

    return f"{modality_of(column)}@{HUMAN}"
