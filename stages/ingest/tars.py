"""WebDataset tars as a source: files of one name up to the first dot are one sample, their endings say what each is.

    {type: webdataset, path: shards/*.tar, columns: {rgb@camera: jpg, label@truth: cls, caption@truth: txt}}

A column is what `modality.read` makes of the file with its ending; `cls` is the number or name of a class. A tar is one
group, as its samples were drawn together, unless `group` finds another in their keys; its order is kept. A tar that was
cut gives its whole samples, and one entry in quarantine for the rest.
"""

from __future__ import annotations

import hashlib
import io
import tarfile
from functools import lru_cache
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field, field_validator

from hyperloom.pipeline.config import placement
from hyperloom.pipeline.errors import SourceError
from hyperloom.pipeline.fingerprint import fingerprint
from hyperloom.stages.base import modality_of
from hyperloom.stages.ingest.frame import Framed
from hyperloom.stages.ingest.sidefile import fetch
from hyperloom.stages.ingest.source import Item, Piece, Read, Source, Values, group_pattern, one_by_one, path_safe, stem
from hyperloom.stages.remarks import remark

if TYPE_CHECKING:
    from hyperloom.pipeline.root.digests import Digests

PLAIN = ("cls", "cls2", "index", "inx", "id", "txt", "text", "transcript")
"""Endings of files that hold one word or number as text."""
DIGEST = "/sha256"
"""What no ending is called."""
TORN = "what follows in a tar that is cut off"


class WebDataset(Source):
    """`columns` maps a column to the ending of its files (`jpg`, or several: `jpg;png`)."""

    revision: ClassVar[int] = 1
    path: str = placement()
    columns: dict[str, str] = Field(min_length=1)
    group: str = ""

    _pattern = field_validator("group")(group_pattern)

    def offers(self) -> tuple[str, ...]:
        for column in self.columns:
            modality_of(column)
        return tuple(self.columns)

    def pieces(self, digests: Digests) -> list[Piece]:
        files = [f for f in digests.files(self.path) if f.name.lower().endswith(".tar")]
        if not files:
            raise SourceError(f"{self.path} holds no .tar. Next: check the path in the recipe")
        return [Piece(stem(f.name), path_safe(stem(f.name)), (f,)) for f in files]

    def items(self, piece: Piece) -> list[Item]:
        (file,) = piece.files
        members, torn = _members(file.path, file.sha256)
        endings = {e for text in self.columns.values() for e in text.split(";")}
        items, others = [], set[str]()
        for index, (key, parts) in enumerate(members.items()):
            others |= set(parts) - endings
            if not endings & set(parts):
                continue
            places = {e: f"{parts[e][0]}:{parts[e][1]}" for e in sorted(endings & set(parts))}
            digest = fingerprint([file.sha256, key, places])
            sides = {**places, DIGEST: file.sha256}
            items.append(Item(f"{piece.name}/{key}", index, file.path, 0, sides, digest))
        for ending in sorted(others):
            remark(f"files .{ending} of {file.name} are no column and are left out")
        if not items and not torn:
            raise SourceError(f"{file.path} holds no file of {', '.join(sorted(endings))}. Next: mend columns")
        if torn:
            items.append(Item(f"{piece.name}/torn", len(members), file.path, 0, {"": torn}, file.sha256, lost=1))
        return items

    def build(self, modalities: dict[str, Any]) -> Read:
        kinds = {c: modalities[modality_of(c)] for c in self.columns}
        framed = Framed(kinds)

        def values(item: Item) -> Values:
            if "" in item.sides:
                raise ValueError(item.sides[""])
            read = {c: self._value(c, item, kinds[c], framed) for c in framed.order(kinds)}
            return {c: read[c] for c in kinds}

        return one_by_one(values)

    def meaning(self, column: str) -> dict[str, Any]:
        return {"type": self.type, "revision": type(self).revision, "column": column, "ending": self.columns[column]}

    def order(self) -> str:
        return "files in the order of the tars"

    def of_bytes(self, column: str, modality: Any) -> bool:
        return True

    def _value(self, column: str, item: Item, modality: Any, framed: Framed) -> Any:
        for ending in self.columns[column].split(";"):
            if (place := item.sides.get(ending)) is None:
                continue
            offset, size = map(int, place.split(":"))
            data = fetched(item.path, item.sides[DIGEST])[offset : offset + size]
            if len(data) < size:
                raise ValueError(f"{column}: .{ending} is cut off after {len(data)} of {size} bytes")
            try:
                if ending in PLAIN and not modality.textual:
                    return modality.fit(modality.cell(data.decode().strip()))
                framed.look(column, data, name := f"{item.key}.{ending}", modality)
                return modality.read(data, name)
            except (ValueError, UnicodeDecodeError) as error:
                raise ValueError(f"{column}: {error}") from error
        return None


@lru_cache(maxsize=2)
def fetched(path: str, sha256: str) -> bytes:
    """The bytes of the tar of this digest, kept for the next sample. Raises SourceError for another."""
    data = fetch(path)
    if hashlib.sha256(data).hexdigest() != sha256:
        raise SourceError(f"{path} was changed while it was read. Next: run the same command again")
    return data


@lru_cache(maxsize=8)
def _members(path: str, sha256: str) -> tuple[dict[str, dict[str, tuple[int, int]]], str]:
    """Key -> ending -> (offset, size) of a tar's files in order, and what is wrong with the rest of it."""
    members: dict[str, dict[str, tuple[int, int]]] = {}
    data, torn = fetched(path, sha256), ""
    try:
        with tarfile.open(fileobj=io.BytesIO(data), mode="r:") as tar:
            for member in tar:
                if not member.isfile():
                    continue
                folder, slash, base = member.name.removeprefix("./").rpartition("/")
                name, _, ending = base.partition(".")
                if not name or not ending:
                    continue
                if member.offset_data + member.size > len(data):
                    torn = f"{member.name}: the tar is cut off there"
                    break
                parts = members.setdefault(f"{folder}{slash}{name}", {})
                if parts.setdefault(ending.lower(), (member.offset_data, member.size))[0] != member.offset_data:
                    raise SourceError(f"{path} has two files {member.name}. Next: make it anew")
    except tarfile.TarError as error:
        torn = f"{TORN}: {error}"
        if not members:
            raise SourceError(f"{path} is no whole tar: {error}. Next: fetch it again") from error
    return members, torn
