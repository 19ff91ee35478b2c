"""The files of a collection: tars as WebDataset reads them, or files and a list that names them. Samples come one by
one; a tar is written when its group is whole, a list at the end."""

from __future__ import annotations

import csv
import io
import json
import tarfile
from collections import Counter
from collections.abc import Mapping
from typing import Any

from hyperloom.pipeline.errors import RecipeError
from hyperloom.pipeline.root.storage import Storage
from hyperloom.stages.base import GROUP, KEY
from hyperloom.stages.data.portable import FileCell, PortableField
from hyperloom.stages.data.tool_export import relative_name
from hyperloom.stages.ingest.source import path_safe
from hyperloom.stages.modality.sound_files import decode_sound
from hyperloom.stages.remarks import remark

MOST = 256 << 20
"""Bytes of a tar, after which a group goes on in another: whoever reads one of its samples holds it in memory."""
POINT = "%2E"
"""What a point in the last part of a key becomes: behind the first, WebDataset's ending begins."""


class Tars:
    """DIR/{group}.tar; what does not fit, or comes later, in {group}~00001.tar, which is no group's name."""

    def __init__(self, target: Storage, fields: Mapping[str, PortableField]):
        self._target, self._fields = target, fields
        shared = Counter(field.ending for field in fields.values())
        self._alone = {c for c, field in fields.items() if shared[field.ending] == 1}
        self._group, self._sink, self._seen, self._count = "", io.BytesIO(), Counter[str](), 0
        self._tar: tarfile.TarFile | None = None

    def add(self, key: str, group: str, cells: Mapping[str, Any]) -> None:
        if self._tar is None or group != self._group or self._sink.tell() > MOST:
            self._close()
            self._group, self._sink = group, io.BytesIO()
            self._tar = tarfile.TarFile(fileobj=self._sink, mode="w")
        if all(cell is None for cell in cells.values()):
            remark("samples without any value have no file, and are in no tar")
        folder, slash, base = relative_name(key.removeprefix(f"{group}/")).rpartition("/")
        for column, cell in cells.items():
            if cell is None:
                continue
            ending = self._ending(column, cell.ending if isinstance(cell, FileCell) else "")
            member = tarfile.TarInfo(f"{folder}{slash}{base.replace('.', POINT)}.{ending}")
            data = _content(cell)
            member.size = len(data)
            self._tar.addfile(member, io.BytesIO(data))

    def finish(self) -> int:
        self._close()
        return self._count

    def source(self) -> dict[str, Any]:
        endings = {c: ";".join(self._ending(c, e) for e in f.ending.split(";")) for c, f in self._fields.items()}
        return {"type": "webdataset", "path": self._target.full("*.tar"), "columns": endings}

    def _ending(self, column: str, ending: str) -> str:
        field = self._fields[column]
        ending = ending or field.ending
        return ending if column in self._alone else f"{field.name.lower()}.{ending}"

    def _close(self) -> None:
        if self._tar is None:
            return
        self._tar.close()
        name, place = path_safe(self._group), self._seen[self._group]
        self._seen[self._group] += 1
        self._target.write(f"{name}~{place:05d}.tar" if place else f"{name}.tar", self._sink.getvalue())
        self._count += 1


class ListedFiles:
    """`metadata.csv`, `metadata.jsonl` or `manifest.jsonl` with a row a sample, beside the files that it names."""

    def __init__(self, target: Storage, fields: Mapping[str, PortableField], layout: str):
        self._target, self._fields, self._layout, self._files = target, fields, layout, Counter[str]()
        self._blank = {c: {"": False, None: False} for c in fields}
        """Of each column: has it had empty texts, and missing values?"""
        files = [c for c, field in fields.items() if field.is_file]
        kinds = {c: fields[c].feature["_type"] for c in files}  # `datasets` takes all `_file_name`s for one kind
        self._named = {c: f"{fields[c].name}_{'file_name' if kinds[c] == kinds[files[0]] else 'path'}" for c in files}
        sounds = [c for c in files if kinds[c] == "Audio"]
        first = (sounds if layout == "manifest" else files)[:1]
        self._named |= dict.fromkeys(first, "audio_filepath" if layout == "manifest" else "file_name")
        self._timed = first[0] if layout == "manifest" else ""
        names = [KEY, GROUP, *(self._named.get(c, field.name) for c, field in fields.items())]
        self._header = [*names, *(["duration"] if self._timed else [])]
        if twice := [name for name, count in Counter(self._header).items() if count > 1]:
            raise RecipeError(
                f"two fields would be called {twice[0]!r}. Next: --columns with fewer, or another modality"
            )
        self._sink = io.StringIO(newline="")
        self._table = csv.writer(self._sink, lineterminator="\n")
        if layout == "csv":
            self._table.writerow(self._header)

    def add(self, key: str, group: str, cells: Mapping[str, Any]) -> None:
        row: dict[str, Any] = {KEY: key, GROUP: group}
        for column, cell in cells.items():
            if cell is None or (isinstance(cell, str) and not cell):
                self._blank[column][cell] = True
            row[self._named.get(column, self._fields[column].name)] = self._kept(column, key, cell)
        if self._timed:
            row["duration"] = _seconds(cells[self._timed])
        if self._layout == "csv":
            self._table.writerow([_cell(row[name]) for name in self._header])
        else:
            self._sink.write(json.dumps(row, ensure_ascii=False) + "\n")

    def _kept(self, column: str, key: str, cell: Any) -> Any:
        """A plain value as it is; a file is written, and is its name."""
        if not isinstance(cell, FileCell):
            return cell
        folder = "files" if len(self._named) == 1 else f"files/{self._fields[column].name}"
        name = f"{folder}/{relative_name(key)}.{cell.ending}"
        self._target.write(name, bytes(cell))
        self._files[name] += 1
        return name

    def finish(self) -> int:
        self._target.write(self._name, self._sink.getvalue().encode())
        return len(self._files) + 1

    def source(self) -> dict[str, Any]:
        columns: dict[str, Any] = {c: field.name for c, field in self._fields.items()}
        for column, blank in self._blank.items():
            if blank[""] and self._layout == "csv" and blank[None]:
                remark(f"{column} has empty texts and missing values, which CSV does not tell apart: both are missing")
            elif blank[""]:
                columns[column] = {"field": self._fields[column].name, "empty": True}
        columns |= {c: {"file": name} for c, name in self._named.items()}
        return {"type": "table", "path": self._target.full(self._name), "key": KEY, "group": GROUP, "columns": columns}

    @property
    def _name(self) -> str:
        return {"csv": "metadata.csv", "jsonl": "metadata.jsonl", "manifest": "manifest.jsonl"}[self._layout]


def _cell(value: Any) -> Any:
    """Of CSV: lists as JSON; a float of 32 bits reads back as itself."""
    return json.dumps(value, ensure_ascii=False) if isinstance(value, list | dict) else value


def _seconds(cell: Any) -> float | None:
    if cell is None:
        return None
    sound, rate = decode_sound(cell)
    return round(len(sound) / rate, 6)


def _content(cell: Any) -> bytes:
    if isinstance(cell, str):
        return cell.encode()
    return bytes(cell) if isinstance(cell, bytes) else json.dumps(cell, ensure_ascii=False).encode()
