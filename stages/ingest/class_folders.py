"""Folders by class as a source: what lies in a folder has the class that the folder is called.

    {type: folders, path: photos, columns: {rgb@camera: file, kind@truth: folder}}

The folder is the last one of a file's name, or the first with `level: first` (photos/cat/2019/a.jpg). Samples are dealt
into `parts` groups by a hash of their names: by folder each class would be a group, and a split would lose it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field, model_validator

from hyperloom.pipeline.config import placement
from hyperloom.pipeline.errors import SourceError
from hyperloom.pipeline.fingerprint import fingerprint
from hyperloom.stages.base import modality_of
from hyperloom.stages.ingest.parts import part_of
from hyperloom.stages.ingest.sidefile import fetch
from hyperloom.stages.ingest.source import IMAGES, SOUNDS, Item, Piece, Read, Source, Values, one_by_one, stem

if TYPE_CHECKING:
    from hyperloom.pipeline.root.digests import Digests, FileDigest


class ClassFolders(Source):
    """`columns` names one column of the files and one of their folders' names. `only` takes these folders alone."""

    revision: ClassVar[int] = 1
    path: str = placement()
    columns: dict[str, Literal["file", "folder"]] = Field(min_length=2, max_length=2)
    level: Literal["first", "last"] = "last"
    parts: int = Field(20, ge=1, le=1000)
    only: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _one_each(self) -> ClassFolders:
        if sorted(self.columns.values()) != ["file", "folder"]:
            raise ValueError("columns: one is `file` and one `folder`")
        return self

    def offers(self) -> tuple[str, ...]:
        for column in self.columns:
            modality_of(column)
        return tuple(self.columns)

    def pieces(self, digests: Digests) -> list[Piece]:
        listed = digests.files(self.path)
        files = [f for f in listed if f.name.lower().endswith((*IMAGES, *SOUNDS)) and "/" in f.name]
        digests.leave_out((f for f in listed if f not in files), "in no folder, or neither picture nor sound")
        files = [f for f in files if not self.only or self._folder(f.name) in self.only]
        if not files:
            raise SourceError(f"{self.path} holds no folders of pictures or sounds. Next: check the path in the recipe")
        groups: dict[str, list[FileDigest]] = {}
        keys: dict[str, str] = {}
        for file in files:
            key = stem(file.name)
            if keys.setdefault(key, file.name) != file.name:
                raise SourceError(f"{keys[key]} and {file.name} would share one key. Next: rename one")
            groups.setdefault(part_of(key, self.parts), []).append(file)
        return [Piece(group, group, tuple(members)) for group, members in sorted(groups.items())]

    def items(self, piece: Piece) -> list[Item]:
        return [
            Item(stem(f.name), i, f.path, 0, {"": self._folder(f.name)}, fingerprint([f.sha256, self._folder(f.name)]))
            for i, f in enumerate(piece.files)
        ]

    def build(self, modalities: dict[str, Any]) -> Read:
        (main,) = (c for c, what in self.columns.items() if what == "file")
        (label,) = (c for c, what in self.columns.items() if what == "folder")
        kind, classes = modalities[modality_of(main)], modalities[modality_of(label)]

        def values(item: Item) -> Values:
            value = kind.read(fetch(item.path), item.path)
            return {main: value, label: self._label(item.sides[""], classes)}

        return one_by_one(values)

    def order(self) -> str:
        return "files in the order of their names"

    def meaning(self, column: str) -> dict[str, Any]:
        plain = {"type": self.type, "revision": type(self).revision, "column": column}
        return plain | ({"level": self.level} if self.columns[column] == "folder" else {})

    def _folder(self, name: str) -> str:
        parts = name.split("/")
        return parts[0] if self.level == "first" else parts[-2]

    def _label(self, folder: str, classes: Any) -> Any:
        if folder not in getattr(classes, "counted", ()):
            raise ValueError(f"the folder {folder!r} is no class. Next: add it to the classes, or only: on the source")
        return classes.fit(folder)
