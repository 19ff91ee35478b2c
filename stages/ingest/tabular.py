"""Tables as a source: each row a sample, its cells values or the names of files.

Formats: CSV, TSV, JSON lines, Parquet and CoNLL-U (see `stages.ingest.rows`). A row's identity is what its mapped cells
hold and what lies in the files that they name, so new rows cost their own partitions only; Parquet counts by file.
An empty cell is a missing value. A row that cannot be understood, or names a file that is not there, is quarantined.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterator
from functools import lru_cache
from itertools import groupby
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field, field_validator, model_validator

from hyperloom.pipeline.config import as_tuple, placement
from hyperloom.pipeline.errors import RecipeError, SourceError
from hyperloom.pipeline.fingerprint import fingerprint
from hyperloom.pipeline.spelling import near
from hyperloom.stages.base import modality_of
from hyperloom.stages.ingest.cell import Cell, named
from hyperloom.stages.ingest.declared import Declared
from hyperloom.stages.ingest.excerpt import ExcerptReader, is_video
from hyperloom.stages.ingest.film import installed
from hyperloom.stages.ingest.frame import Framed
from hyperloom.stages.ingest.numerals import PLAIN, Numerals, hint
from hyperloom.stages.ingest.parts import Namesakes, field_of, identity
from hyperloom.stages.ingest.rows import NAMED, TABLES, Dialect, stored
from hyperloom.stages.ingest.rowstore import TableRow, TableRows
from hyperloom.stages.ingest.sidefile import fetch, understood
from hyperloom.stages.ingest.source import Item, Piece, Read, Source, Values, stem
from hyperloom.stages.ingest.thousands import MarkedNumbers
from hyperloom.stages.remarks import remark

if TYPE_CHECKING:
    from hyperloom.pipeline.root.digests import Digests, FileDigest

FROM_FILES = ("image", "audio", "clip", "dense", "segmentation", "soft")
"""Types whose values are not written into cells."""


class Table(Source):
    """`{type: table, path: a.csv, key: id, group: speaker, columns: {digit@truth: digit, sound@mic: {file: clip}}}`.

    `path` is a file, a folder or a pattern; .json (lines or a list of objects), .txt and .lst are read where it ends in
    that. `columns` maps a column to the field that holds its values, or to `{file: field}` where that holds file names
    (see `stages.ingest.cell`). `key` names the field with the samples' names (by default the file's name and the row's
    number), `group` the one with what they belong to (by default all rows of a file are one group); `when[:7]` takes
    its first letters, of dates such as 2026-11-27 the month. `fields` names those of a text whose first line does not.
    `separator` (by default `,`, a tab in .tsv, a blank in .txt and .lst), `encoding`, `decimal` and `thousands` say how
    tables of text are written, `missing` which cells mean that there is no value, beside empty ones; a column's own
    `missing` stands in its place.
    """

    revision: ClassVar[int] = 1
    path: str = placement()
    columns: dict[str, Cell] = Field(min_length=1)
    key: str = ""
    group: str = ""
    parts: int = Field(0, ge=0, le=1000)
    """Without `group`: rows are dealt into so many groups, by a hash of their key."""
    separator: str = Field("", max_length=1)
    encoding: str = "utf-8"
    decimal: Literal[".", ","] = "."
    thousands: Literal["", ",", ".", " ", "'"] = ""
    """What stands between thousands; without it `1,234` is no number."""
    missing: tuple[str, ...] = ()
    fields: tuple[str, ...] = ()
    decoder: Literal["auto", "av", "opencv"] = placement("auto", validate_default=True)
    """Of videos that rows name: PyAV where the process that plans has it (the extra `video`), else OpenCV."""

    _list = field_validator("missing", "fields", mode="before")(as_tuple)
    _installed = field_validator("decoder")(installed)

    @field_validator("columns", mode="before")
    @classmethod
    def _short(cls, value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        return {k: {"field": v} if isinstance(v, str) else v for k, v in value.items()}

    @model_validator(mode="after")
    def _two_marks(self) -> Table:
        if self.thousands == self.decimal:
            raise ValueError(f"thousands and decimal are both {self.decimal!r}: give decimal, too")
        return self

    def revised(self) -> int:
        """With a decimal comma, `missing: [-999]` means -999,0 too by now, and parts of files have seconds with one."""
        read = any(self._missing(c) or c.start or c.end or c.duration for c in self.columns.values())
        return super().revised() + (self.decimal == "," and read)

    def revised_for(self, column: str, modality: Any) -> dict[str, int]:
        """Classes such as `1,5` were read as numbers."""
        rewritten = any(PLAIN._replace(decimal=self.decimal).one(name) != name for name in modality.counted)
        return {"classes": 2} if self.columns[column].field and rewritten else {}

    def of_bytes(self, column: str, modality: Any) -> bool:
        return bool(self.columns[column].file) or modality.height_width is not None  # a map is no other cell

    @property
    def numerals(self) -> Numerals:
        return Numerals(self.decimal, self.thousands)

    def offers(self) -> tuple[str, ...]:
        for column in self.columns:
            modality_of(column)
        return tuple(self.columns)

    def check(self, modalities: dict[str, Any]) -> None:
        for column, cell in self.columns.items():
            kind = modalities[modality_of(column)].type
            if kind in FROM_FILES and cell.field and not self._holds_bytes():
                raise RecipeError(f"{column}: {kind} values come from files. Next: write {{file: {cell.field}}}")

    def pieces(self, digests: Digests) -> list[Piece]:
        named = tuple(ending for ending in NAMED if self.path.lower().endswith(ending))
        files = [f for f in digests.files(self.path) if f.name.lower().endswith((*TABLES, *named))]
        if not files:
            raise SourceError(f"{self.path} holds no table ({', '.join(TABLES)}). Next: check the path in the recipe")
        seen: dict[str, str] = {}
        namesakes, pieces = Namesakes(self.group), []
        for table in files:
            groups: dict[str, list[FileDigest]] = {}
            content = self._read(table.path, table.sha256)
            self._check_fields(table, content)
            marked = MarkedNumbers(
                {c.field: c for c in self.columns.values() if c.field and not self.thousands}, self.decimal
            )
            for number, row in enumerate(content.each(self._planned(table))):
                if not isinstance(row, ValueError):
                    marked.look(row, self._absent)
                    namesakes.look(row)
                key, group = self._names(table, number, row)
                other = seen.setdefault(key, f"row {number + 1} of {table.name}")
                if other != f"row {number + 1} of {table.name}":
                    both = f"{other} and row {number + 1} of {table.name} have the same key {key!r}"
                    raise SourceError(f"{both}. Next: name a field whose values differ as `key`")
                groups.setdefault(group, []).append(self._digest(table, number, key, row, digests))
            marked.say()
            pieces += [Piece(f"{stem(table.name)}/{g}", g, tuple(files)) for g, files in sorted(groups.items())]
        namesakes.say()
        if not pieces:
            raise SourceError(f"{self.path} holds no row. Next: check the path in the recipe")
        return pieces

    def items(self, piece: Piece) -> list[Item]:
        items = []
        for index, file in enumerate(piece.files):
            digest, _, number = file.sha256.partition(":")
            table, _, version = file.path.rpartition("#")
            items.append(Item(file.name, index, table, int(number), {"": version}, digest))
        return items

    def build(self, modalities: dict[str, Any]) -> Read:
        assert self.decoder != "auto"
        kinds = {c: modalities[modality_of(c)] for c in self.columns}
        framed, compared = Framed(kinds), set[tuple[str, str]]()
        files = ExcerptReader(self.decoder, framed)

        def read(items: list[Item]) -> Iterator[tuple[Item, Values | Exception]]:
            for item, row in self._rows_of(items):
                if (table := (item.path, item.sides[""])) not in compared:
                    Declared(*table).compare(self.columns, modalities)
                    compared.add(table)
                try:
                    if isinstance(row, ValueError):
                        raise row
                    values = {c: self._value(c, row, item, kinds[c], files) for c in framed.order(kinds)}
                    yield item, {c: values[c] for c in kinds}
                except ValueError as error:
                    yield item, error

        return read

    def _rows_of(self, items: list[Item]) -> Iterator[tuple[Item, TableRow | ValueError]]:
        """Each with its row; those of one table are looked up together."""
        fields = frozenset(name for cell in self.columns.values() for name in cell.mentioned)
        for (path, version), some in groupby(items, key=lambda item: (item.path, item.sides[""])):
            listed = list(some)
            yield from zip(listed, self._read(path, version).at([i.frame for i in listed], fields), strict=True)

    def _planned(self, table: FileDigest) -> frozenset[str]:
        """The fields that planning looks at: a row of Parquet is known by its number."""
        cells = self.columns.values()
        named = (name for cell in cells for name in cell.mentioned if name != cell.field)
        fields = {self.key, field_of(self.group), *named}
        if not table.name.lower().endswith(".parquet"):
            fields |= {cell.field for cell in cells}
        return frozenset(fields - {""})

    def meaning(self, column: str) -> dict[str, Any]:
        """How rows are named and grouped shows in the samples; here counts where one column's values are."""
        cell = self.columns[column]
        plain = {"type": self.type, "revision": self.revised(), "column": column, "field": cell.field or cell.file}
        plain |= cell.meaning()
        plain |= {"decimal": self.decimal} if self.decimal != "." else {}
        plain |= {"thousands": self.thousands} if self.thousands else {}
        return plain | ({"missing": missing} if (missing := self._missing(cell)) else {})

    def _read(self, path: str, sha256: str) -> TableRows:
        return _rows(path, sha256, Dialect(self.encoding, self.separator, self.fields))

    def _check_fields(self, table: FileDigest, content: TableRows) -> None:
        """Raise SourceError for a field of the recipe that no row of the table has."""
        if all(isinstance(row, ValueError) for row in content.each(frozenset())):
            return
        present = content.names()
        mentioned = (field for cell in self.columns.values() for field in cell.mentioned)
        expected = [self.key, field_of(self.group), *mentioned]
        for name in filter(None, expected):
            if name not in present:
                same = next((p for p in present if p.strip().casefold() == name.strip().casefold()), "")
                hint = f"; did you mean {same!r}?" if same else near(name, present)
                fields = ", ".join(present)
                raise SourceError(
                    f"{table.path} has no field {name!r}; it has {fields}{hint or '.'} Next: correct the recipe"
                )

    def _holds_bytes(self) -> bool:
        """Only Parquet has cells that are a file's bytes."""
        return self.path.lower().endswith(".parquet") or os.path.isdir(os.path.expanduser(self.path))

    def _names(self, table: FileDigest, number: int, row: TableRow | ValueError) -> tuple[str, str]:
        """Key and group of a row."""
        name = stem(table.name)
        if isinstance(row, ValueError):
            return identity({}, name, number)
        return identity(row, name, number, self.key, self.group, self.parts)

    def _digest(
        self, table: FileDigest, number: int, key: str, row: TableRow | ValueError, digests: Digests
    ) -> FileDigest:
        """A row as if it were a file: its digest is that of its cells and of the files they name."""
        from hyperloom.pipeline.root.digests import FileDigest

        place = f"{table.path}#{table.sha256}"
        if isinstance(row, ValueError):
            return FileDigest(place, key, 0, f"{fingerprint([table.sha256, number])}:{number}")
        if table.name.lower().endswith(".parquet"):
            content: Any = [table.sha256, number]
        else:
            content = {c: row.get(cell.field) for c, cell in sorted(self.columns.items()) if cell.field}
        files: dict[str, Any] = {}
        for column, cell in self.columns.items():
            try:
                path = self._file(cell, row, table.path)
            except ValueError:  # reading it says why
                continue
            if path:
                files[column] = digests.file(path).sha256 if "://" in path or os.path.isfile(path) else "absent"
                files[column] = [files[column], self.decoder] if is_video(path) else files[column]
            if spoken := [row.get(f) for f in (cell.start, cell.end, cell.duration) if f]:
                files[column] = [files.get(column), spoken]
        return FileDigest(place, key, 0, f"{fingerprint([content, files])}:{number}")

    def _file(self, cell: Cell, row: TableRow, table: str) -> str:
        """The file that a row names; empty where it names none. Raises ValueError where a name cannot be made."""
        name = cell.name(row, self._missing(cell))
        if not name:
            return ""
        folder = cell.folder or table.rpartition("/")[0]
        folder = folder if "://" in folder else os.path.abspath(os.path.expanduser(folder))
        return name if "://" in name or os.path.isabs(name) else f"{folder}/{name}"

    def _value(self, column: str, row: TableRow, item: Item, modality: Any, files: ExcerptReader) -> Any:
        cell = self.columns[column]
        try:
            if cell.file:
                path = self._file(cell, row, item.path)
                return files.read(path, cell.part(row, self.numerals), modality, column) if path else None
            value = row.get(cell.field)
            if cell.field not in row and (other := _same_but_case(cell.field, row)):
                raise ValueError(f"the row has no {cell.field!r}, but {other!r}")
            if self._absent(cell, value):
                return None
            if value == "" and modality.textual:
                return modality.fit(value) if cell.empty else _nothing_said(cell.field, item.path)
            if (modality.counted or modality.textual) and value != "":
                value = named(Declared(item.path, item.sides[""]).feature(cell), value)
            return self._cell(
                value, item.key, modality, lambda data, name: files.read_bytes(column, data, name, modality)
            )
        except FileNotFoundError as error:
            raise ValueError(f"{column}: {error.filename or error} is not there") from error
        except ValueError as error:
            raise ValueError(f"{column}: {error}") from error

    def _missing(self, cell: Cell) -> tuple[str, ...]:
        """What means that there is no value in the cells of a column."""
        return self.missing if cell.missing is None else cell.missing

    def _absent(self, cell: Cell, value: Any) -> bool:
        """Does `missing` name it? A number in whatever form it is written: -999 is -999.0 too."""
        words = self._missing(cell)
        if not words or isinstance(value, bool | bytes | dict | list):
            return False
        as_number = self.numerals.number
        number = as_number(value)
        return any(m.strip() == str(value).strip() or (number is not None and as_number(m) == number) for m in words)

    def _cell(self, value: Any, name: str, modality: Any, read: Callable[[bytes, str], Any]) -> Any:
        """What a cell holds as a value; None for an empty one. Lists and objects may be written as JSON; `read` reads a
        file's bytes."""
        if isinstance(value, dict) and set(value) <= {"bytes", "path", "sampling_rate"}:  # how data sets keep files
            if value.get("bytes") is None and value.get("path"):
                raise ValueError(f"the table has {value['path']!r} by name alone. Next: {{file: ..}} with this field")
            value, name = value.get("bytes"), value.get("path") or name
        if value is None or value == "" or (isinstance(value, float) and value != value):
            return None
        if isinstance(value, bytes):
            return read(value, name)
        if isinstance(value, str) and value[0] in "[{" and not modality.textual:
            value = json.loads(value)
        if isinstance(value, str) and modality.plain_numbers:
            value = self.numerals.plain(value)
        elif isinstance(value, str) and not modality.textual and value not in modality.counted:
            value = self.numerals.one(value)
        try:
            return understood(modality.fit, modality.cell(value))
        except ValueError as error:
            raise ValueError(f"{error}{hint(value)}") from error


def _nothing_said(field: str, table: str) -> None:
    """No value, of an empty text; said where a table could have said null."""
    if not table.lower().endswith((".csv", ".tsv", ".txt", ".lst")):
        remark(f"empty texts of {field!r} count as missing (if they are values: empty: true on the column)")


def _same_but_case(name: str, row: TableRow) -> str:
    return next((other for other in row if other.casefold() == name.casefold()), "")


@lru_cache(maxsize=4)
def _rows(path: str, sha256: str, dialect: Dialect) -> TableRows:
    """The rows of a table, kept for the next partition. Raises SourceError when it is not the one that was planned."""
    data = fetch(path)
    if hashlib.sha256(data).hexdigest() != sha256:
        raise SourceError(f"{path} was changed while it was read. Next: run the same command again")
    return stored(data, path, dialect)
