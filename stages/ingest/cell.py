"""Cells: where the values of one column are in the rows of a table.

    digit@truth: digit                                            the cells of a field are the values
    digit@truth: {field: digit, names: [zero, one, two]}          they count classes in this order, from 0
    age@table:   {field: age, missing: ["-1", NA]}                in this column these mean that there is no value
    note@table:  {field: note, empty: true}                       a text may be empty, and is a value then
    sound@mic:   {file: audio_filepath, start: offset, duration: duration}      they name files, of which a part counts
    clip@camera: {file: "{youtube_id}_{time_start:06d}_{time_end:06d}.mp4"}     a file's name is made of several

Knows rows and no files.
"""

from __future__ import annotations

import string
from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import field_validator, model_validator

from hyperloom.pipeline.config import Config, as_tuple, placement
from hyperloom.stages.ingest.excerpt import Excerpt
from hyperloom.stages.ingest.numerals import PLAIN, Numerals, hint
from hyperloom.stages.modality.choice import real, whole

CLASS_LABEL = "ClassLabel"


class Cell(Config):
    """Where a column's values are: in the cells of `field`, or in the files that the cells of `file` name."""

    field: str = ""
    file: str = ""
    """A field, or a name with fields in braces, which Python's rules of formatting fill in."""
    folder: str = placement("")
    """The folder that file names are relative to; by default the table's own."""
    start: str = ""
    """A field with seconds, from which on a sound or video counts, up to those of `end` or for those of `duration`."""
    end: str = ""
    duration: str = ""
    names: tuple[str, ...] = ()
    """The classes that numbers of `field` stand for, from 0; by default what the table says itself (`ClassLabel` of
    Hugging Face's data sets), else the order of the modality's."""

    missing: tuple[str, ...] | None = None
    """Which cells of this column mean that there is no value, in place of those that the source says."""
    empty: bool = False
    """Is an empty text a value? JSON lines and Parquet tell it from none (null); in CSV every empty cell is one."""

    _list = field_validator("names", "missing", mode="before")(as_tuple)

    @model_validator(mode="after")
    def _one(self) -> Cell:
        if bool(self.field) == bool(self.file):
            raise ValueError("give either field (the cell is the value) or file (the cell names a file)")
        if (self.start or self.end or self.duration) and not self.file:
            raise ValueError("start, end and duration are of a file: give file")
        if self.end and self.duration:
            raise ValueError("give either end or duration")
        if self.empty and not self.field:
            raise ValueError("empty is of a text in a field: give field")
        if self.names and not self.field:
            raise ValueError("names are those of numbers in a field: give field")
        try:
            named = [name for _, name, _, _ in string.Formatter().parse(self.file)]
        except ValueError as error:
            raise ValueError(f"file: {self.file!r} is no name with fields in braces: {error}") from error
        if "" in named:
            raise ValueError(f"file: {self.file!r} has braces without the name of a field")
        return self

    @property
    def mentioned(self) -> Iterator[str]:
        """Every field that it reads."""
        yield from filter(None, (self.field, self.start, self.end, self.duration))
        if "{" in self.file:
            yield from (name for _, name, _, _ in string.Formatter().parse(self.file) if name)
        elif self.file:
            yield self.file

    def meaning(self) -> dict[str, Any]:
        """What bears meaning besides the field that is read."""
        return {n: v for n in ("start", "end", "duration", "names", "empty") if (v := getattr(self, n))}

    def name(self, row: Mapping[str, Any], missing: tuple[str, ...]) -> str:
        """The file that a row names; empty where it names none. Raises ValueError where a name cannot be made."""
        if "{" not in self.file:
            value = row.get(self.file) if self.file else None
            value = value.get("path") if isinstance(value, dict) else value  # how data sets name files
            return "" if _nothing(value, missing) else str(value)
        parts = []
        for text, field, how, _ in string.Formatter().parse(self.file):
            parts.append(text)
            if field is None:
                continue
            if _nothing(value := row.get(field), missing):
                return ""
            try:
                parts.append(format(_fitting(value, how or ""), how or ""))
            except ValueError as error:
                raise ValueError(f"{field}: {value!r} does not go into {self.file!r}: {error}") from error
        return "".join(parts)

    def part(self, row: Mapping[str, Any], numerals: Numerals = PLAIN) -> Excerpt | None:
        """The part of its file that a row means; None for all of it. Raises ValueError for what is no such part."""
        if not (self.start or self.end or self.duration):
            return None
        begin = self._seconds(row, self.start, numerals)
        end = self._seconds(row, self.end, numerals)
        length = self._seconds(row, self.duration, numerals)
        if length is not None:
            end = (begin or 0.0) + length
        if begin is None and end is None:
            return None
        part = Excerpt(begin or 0.0, end)
        if part.begin < 0 or (end is not None and end <= part.begin):
            raise ValueError(f"{part} is no part of a file")
        return part

    def _seconds(self, row: Mapping[str, Any], field: str, numerals: Numerals) -> float | None:
        value = row.get(field) if field else None
        if value is None or value == "":
            return None
        seconds = numerals.number(value)
        if seconds is None or not abs(seconds) < float("inf"):
            raise ValueError(f"{field}: {value!r} is no number of seconds{hint(value)}")
        return seconds


def named(feature: Any, value: Any) -> Any:
    """A value of a data set with the names of classes in place of their numbers. `feature` is its type as `datasets` of
    Hugging Face writes it: {"_type": "ClassLabel", "names": [..]}, lists and objects of such. -1 is no class: None.
    Raises ValueError for a number beyond the names."""
    if isinstance(feature, list):
        feature = {"_type": "Sequence", "feature": feature[0] if feature else None}
    if not isinstance(feature, dict) or value is None:
        return value
    kind = feature.get("_type")
    if kind == CLASS_LABEL:
        names, number = feature.get("names") or (), whole(value)
        if number is None or not -1 <= number < len(names):
            raise ValueError(f"expected a number up to {len(names) - 1} ({', '.join(names)}), got {value!r}")
        return None if number < 0 else names[number]
    if isinstance(kind, str):
        inner = feature.get("feature")
        if isinstance(value, dict):  # a sequence of objects is kept as an object of sequences
            return {n: named([inner.get(n)], v) if isinstance(inner, dict) else v for n, v in value.items()}
        return [named(inner, v) for v in value] if isinstance(value, list) else value
    return {n: named(feature.get(n), v) for n, v in value.items()} if isinstance(value, dict) else value


def classes_of(feature: Any) -> tuple[str, ...]:
    """The names of the classes in a type, also of lists of them; none of other types."""
    inner = feature[0] if isinstance(feature, list) and feature else feature
    if not isinstance(inner, dict):
        return ()
    return tuple(inner.get("names") or ()) if inner.get("_type") == CLASS_LABEL else classes_of(inner.get("feature"))


def _nothing(value: Any, missing: tuple[str, ...]) -> bool:
    return value is None or value == "" or str(value) in missing


def _fitting(value: Any, how: str) -> Any:
    """A cell as what a rule of formatting takes: `06d` a whole number, `.1f` any."""
    if how[-1:] in "dxXob" and how:
        number = whole(value)
        if number is None:
            raise ValueError("it is no whole number")
        return number
    if how[-1:] in "eEfFgG%" and how:
        return real(value) if isinstance(value, str) else float(value)
    return value if how else str(value)
