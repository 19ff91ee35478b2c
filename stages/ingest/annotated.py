"""Pictures annotated by other tools, as a source: COCO, CVAT, Label Studio, YOLO, VOC, LabelMe, Cityscapes.

What a column takes of an annotation follows from the type of its modality (`stages.formats.values`); the readers are
`stages.formats`. A sample is a picture that the annotations list; its identity is the picture's content and what is
marked in it, so new annotations cost the pictures they are of. What is wrong with a picture, or that it is not there,
is quarantined by its name; what no column can hold is left out, counted and said once.
"""

from __future__ import annotations

import json
import os
import re
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field, field_validator

from hyperloom.pipeline.config import placement
from hyperloom.pipeline.errors import RecipeError, SourceError
from hyperloom.pipeline.fingerprint import fingerprint
from hyperloom.stages.base import modality_of
from hyperloom.stages.formats.values import TYPES, takes_one_label
from hyperloom.stages.ingest.annotation_files import AnnotationFiles, ListedPicture
from hyperloom.stages.ingest.parts import part_of
from hyperloom.stages.ingest.sidefile import fetch
from hyperloom.stages.ingest.source import (
    IMAGES,
    Item,
    Piece,
    Read,
    Source,
    Values,
    group_pattern,
    one_by_one,
    path_safe,
    stem,
)
from hyperloom.stages.remarks import remark

if TYPE_CHECKING:
    from hyperloom.pipeline.root.digests import Digests, FileDigest

FormatName = Literal[
    "coco", "coco-panoptic", "cvat", "label-studio", "label-studio-predictions", "yolo", "voc", "labelme", "cityscapes"
]


class Annotated(Source):
    """`{type: annotated, format: coco, path: instances.json, images: val2017, columns: [rgb@camera, objects@truth]}`.

    `path` is a file of annotations, a folder of them or a pattern; `images` the folder, or pattern, of the pictures
    that they name. `columns` are the picture and what its annotations say, by the types of their modalities. `group`
    is a regular expression with `(?P<group>...)` on a picture's name; by default its folder. `parts` deals pictures
    into so many groups instead. `names` is the file with YOLO's classes (data.yaml); by default that beside the labels.
    """

    revision: ClassVar[int] = 3
    format: FormatName
    path: str = placement()
    images: str = placement()
    columns: tuple[str, ...] = Field(min_length=1)
    group: str = ""
    parts: int = Field(0, ge=0, le=1000)
    names: str = placement("")
    maps: str = placement("")
    """The folder of the pictures of ids that a panoptic file names; by default the file's own, without `.json`."""

    _pattern = field_validator("group")(group_pattern)

    def offers(self) -> tuple[str, ...]:
        for column in self.columns:
            modality_of(column)
        return self.columns

    def check(self, modalities: dict[str, Any]) -> None:
        for column in self.columns:
            modality = modalities[modality_of(column)]
            if not modality.rgb and modality.type not in TYPES:
                kinds = ", ".join(TYPES)
                raise RecipeError(f"{column}: annotations give a picture or {kinds}, and this is {modality.type}")
        if sum(modalities[modality_of(c)].rgb for c in self.columns) > 1:
            raise RecipeError("annotations have one picture a sample. Next: name one column of an image modality")

    def pieces(self, digests: Digests) -> list[Piece]:
        named = self._files(digests).listed()
        pictures = {f.name: f for f in digests.files(self.images) if f.name.lower().endswith(IMAGES)}
        if not pictures:
            raise SourceError(
                f"{self.images} holds no images ({', '.join(IMAGES)}). Next: check `images` in the recipe"
            )
        places = Places(pictures)
        groups: dict[str, list[FileDigest]] = {}
        keys: dict[str, str] = {}
        for one, file in of_one_file([(one, places.file(one.name)) for one in named], self.path):
            key = stem(file.name if file else one.name)
            if keys.setdefault(key, one.name) != one.name:
                both = f"{keys[key]} and {one.name} of {self.path} would share one key"
                raise SourceError(f"{both}. Next: rename one")
            groups.setdefault(self._group(one), []).append(self._digest(one, file))
        unlisted = [f for f in pictures.values() if f.path not in places.used]
        digests.leave_out(unlisted, f"not named in {os.path.basename(self.path.rstrip('/'))}")
        if not groups:
            raise SourceError(f"{self.path} lists no picture. Next: check the path in the recipe")
        return [Piece(group, group, tuple(files)) for group, files in sorted(groups.items())]

    def items(self, piece: Piece) -> list[Item]:
        items = []
        for index, file in enumerate(piece.files):
            sides = json.loads(file.path)
            items.append(Item(file.name, index, sides.pop("picture"), 0, sides, file.sha256))
            for sentence in json.loads(sides.pop("remarks", "[]")):
                remark(sentence)
        return items

    def build(self, modalities: dict[str, Any]) -> Read:
        kinds = {c: modalities[modality_of(c)] for c in self.columns}

        def read(item: Item) -> Values:
            from hyperloom.stages.ingest.annotation_reader import values

            return values(item, self.format, kinds, fetch)

        return one_by_one(read)

    def order(self) -> str:
        return "pictures in the order of the annotations"

    def meaning(self, column: str) -> dict[str, Any]:
        """Which file says it is content of the samples."""
        return {"type": self.type, "revision": type(self).revision, "column": column}

    def revised_for(self, column: str, modality: Any) -> dict[str, int]:
        """Pictures with labels that answer other questions were in quarantine; parts of LabelMe's groups were things of
        their own."""
        if self.format == "labelme" and modality.markup in ("boxes", "masks", "map"):
            return {"parts": 2}
        return {"labels": 2} if takes_one_label(modality) else {}

    def _files(self, digests: Digests) -> AnnotationFiles:
        return AnnotationFiles(self.format, self.path, self.images, self.names, self.maps, digests)

    def _group(self, one: ListedPicture) -> str:
        if self.group:
            match = re.search(self.group, one.name)
            if match is None:
                what = f"{one.name!r} of {self.path} does not match group {self.group!r}"
                raise SourceError(f"{what}. Next: correct the pattern or the path")
            return path_safe(match["group"])
        if self.parts:
            return part_of(stem(one.name), self.parts)
        return path_safe(one.group or os.path.dirname(one.name) or "all")

    def _digest(self, one: ListedPicture, file: FileDigest | None) -> FileDigest:
        """A sample as if it were a file, whose path holds what its reader needs."""
        from hyperloom.pipeline.root.digests import FileDigest

        sides = {"picture": file.path if file else "", "name": one.name, **one.sides}
        content = fingerprint([file.sha256 if file else "absent", one.digest])
        return FileDigest(json.dumps(sides), stem(file.name if file else one.name), 0, content)


def of_one_file(
    listed: list[tuple[ListedPicture, FileDigest | None]], path: str
) -> list[tuple[ListedPicture, FileDigest | None]]:
    """Each file once. A name that ends as its file's does goes before those that share no more than the last part,
    whose pictures are not here. Two that fit as well, as of a store that was moved, count once where they are marked
    the same; else they may be two pictures, and the file has a fault."""
    exact = {file.path for one, file in listed if file and _ends_alike(one.name, file.name)}
    first: dict[str, ListedPicture] = {}
    output: list[tuple[ListedPicture, FileDigest | None]] = []
    same = 0
    for one, file in listed:
        if file and file.path in exact and not _ends_alike(one.name, file.name):
            output.append((one, None))
            continue
        other = first.setdefault(file.path, one) if file else one
        if other is one:
            output.append((one, file))
        elif one.marks and one.marks == other.marks:
            same += 1
        elif file:
            names = [other.name, one.name]
            if names[0] == names[1]:  # of one picture there are two files of labels
                names = [p.sides.get("annotations", p.name) for p in (other, one)]
            differ = ", and are marked differently" if one.marks else ""
            both = f"{names[0]} and {names[1]} of {path} are both of {file.name}{differ}"
            other.sides["fault"] = f"{both}. Next: keep both with their folders below `images`, or take one out"
            other.digest = fingerprint([other.digest, one.digest])
    if same:
        sides = output[0][0].sides
        known = json.loads(sides.get("remarks", "[]"))
        sides["remarks"] = json.dumps([*known, f"{same} pictures stand under two names, and count once"])
    return output


def _ends_alike(name: str, file: str) -> bool:
    plain = _plain(name)
    return plain == file or plain.endswith(f"/{file}") or file.endswith(f"/{plain}")


def _plain(name: str) -> str:
    return os.path.normpath(name.replace("\\", "/")).lstrip("/")


class Places:
    """Where the pictures lie that annotations name: by relative name, else by the end of it, else by the base name
    where only one has it."""

    def __init__(self, pictures: dict[str, FileDigest]):
        self._pictures = pictures
        self.used: set[str] = set()
        self._by_base: dict[str, list[str]] = {}
        for name in pictures:
            self._by_base.setdefault(name.rsplit("/", 1)[-1], []).append(name)

    def file(self, name: str) -> FileDigest | None:
        """The picture's file; None where it is not there."""
        plain = _plain(name)
        match = self._pictures.get(plain)
        if match is None:
            same = self._by_base.get(plain.rsplit("/", 1)[-1], [])
            ends = [n for n in same if plain.endswith("/" + n) or n.endswith("/" + plain)]
            chosen = ends or same
            match = self._pictures[chosen[0]] if len(chosen) == 1 else None
        if match is not None:
            self.used.add(match.path)
        return match
