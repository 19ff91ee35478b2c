"""Files of annotations, of one data set or of one picture each, as a list of the pictures that they name.

A file of a whole data set is parsed when the recipe is planned, since only it knows the pictures; of files that belong
to one picture each, names and digests are enough. One file among several that cannot be read is a picture that is
quarantined under the file's name. A picture that several files list, as of a project that was exported twice, is one.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING

from hyperloom.pipeline.errors import SourceError
from hyperloom.pipeline.fingerprint import fingerprint
from hyperloom.stages.formats import coco, cvat, label_studio, panoptic, yolo
from hyperloom.stages.formats.annotation import AnnotationSet
from hyperloom.stages.formats.identity import digest
from hyperloom.stages.ingest.sidefile import fetch
from hyperloom.stages.ingest.source import IMAGES, stem

if TYPE_CHECKING:
    from hyperloom.pipeline.root.digests import Digests, FileDigest

WHOLE: dict[str, tuple[Callable[[bytes, str], AnnotationSet], tuple[str, ...]]] = {
    "coco": (coco.parse, (".json",)),
    "coco-panoptic": (panoptic.parse, (".json",)),
    "cvat": (cvat.parse, (".xml", ".zip")),
    "label-studio": (label_studio.parse, (".json",)),
    "label-studio-predictions": (lambda data, path: label_studio.parse(data, path, "predictions"), (".json",)),
}
"""Formats of whole data sets: their reader, and how names of their files end."""
ADDRESSED = ("label-studio", "label-studio-predictions")
"""Formats that name pictures by addresses, of which one file may have several."""
EACH = {"yolo": (".txt",), "voc": (".xml",), "labelme": (".json",), "cityscapes": ("_polygons.json",)}
"""Formats of a file a picture: how names of these end."""
NAMES = ("data.yaml", "data.yml", "dataset.yaml", "classes.txt", "obj.names")
STREET = ("_gtFine", "_gtCoarse")
"""What Cityscapes adds to the stem of a picture, whose own ends with `_leftImg8bit`."""


@dataclass
class ListedPicture:
    """A picture that annotations name: what its reader needs (`sides`), and the digest of what is marked in it."""

    name: str
    group: str
    digest: str
    sides: dict[str, str] = field(default_factory=dict)
    marks: str = ""
    """The digest without ids, of one of several files, or of one of which another may be of the same picture."""
    at: str = ""
    """When somebody annotated it last; nothing where the file does not say."""
    annotated: bool = True


class AnnotationFiles:
    """The files of `path` in one format; see the source `annotated` for the rest."""

    def __init__(self, form: str, path: str, images: str, names: str, maps: str, digests: Digests):
        self.form, self.path, self.images, self.names, self.maps = form, path, images, names, maps
        self._digests = digests

    def listed(self) -> list[ListedPicture]:
        """The pictures, in the files' order. Raises SourceError."""
        suffixes = EACH.get(self.form) or WHOLE[self.form][1]
        every = self._digests.files(self.path)
        files = [f for f in every if f.name.lower().endswith(suffixes) and os.path.basename(f.name) not in NAMES]
        if not files:
            what = f"{self.path} holds no file of annotations in {self.form} ({', '.join(suffixes)})"
            raise SourceError(f"{what}. Next: check path and format in the recipe")
        if self.form in EACH:
            return self._of_each(files)
        several = len(files) > 1
        listed = [one for file in files for one in self._of_whole(file, several)]
        return joined(listed) if several else listed

    def _of_whole(self, file: FileDigest, several: bool) -> list[ListedPicture]:
        sides = {"annotations": file.path, "sha": file.sha256}
        try:
            parsed = parsed_whole(self.form, file.path, file.sha256)
        except SourceError as error:
            if not several:
                raise
            return [ListedPicture(file.name, "", file.sha256, {"fault": str(error)})]
        listed = [ListedPicture(p.name, p.group, digest(p), dict(sides)) for p in parsed.pictures]
        for one, picture in zip(listed, parsed.pictures, strict=True):
            if several or self.form in ADDRESSED:
                one.marks, one.at, one.annotated = digest(picture, ids=False), picture.at, picture.annotated
            if picture.map:
                folder = self.maps or file.path.removesuffix(".json")
                one.sides["map"] = f"{folder}/{picture.map}"
                one.digest = fingerprint([one.digest, self._sha(one.sides["map"])])
        if listed and parsed.remarks:
            listed[0].sides["remarks"] = json.dumps([f"{file.name}: {text}" for text in parsed.remarks])
        return listed

    def _sha(self, path: str) -> str:
        return self._digests.file(path).sha256 if os.path.isfile(path) else "absent"

    def _of_each(self, files: list[FileDigest]) -> list[ListedPicture]:
        """One a picture, by equal relative names without suffix, or else equal base names."""
        known = self._classes()
        pictures = [f.name for f in self._digests.files(self.images) if f.name.lower().endswith(IMAGES)]
        whole = {self._stem(name): name for name in pictures}
        bases: dict[str, list[str]] = {}
        for name in pictures:
            bases.setdefault(self._stem(name).rsplit("/", 1)[-1], []).append(name)
        listed, seen = [], set()
        for file in files:
            own = self._stem(file.name)
            same = bases.get(own.rsplit("/", 1)[-1], [])
            name = whole.get(own) or (same[0] if len(same) == 1 else own)
            sides = {"annotations": file.path, "sha": file.sha256, **known}
            marks = fingerprint([file.sha256, known.get("names", "")])
            listed.append(ListedPicture(name, "", marks, sides, marks))
            seen.add(name)
        without = sorted(set(pictures) - seen)
        return listed + [ListedPicture(name, "", "", {"nobody": "yes"}) for name in without]

    def _stem(self, name: str) -> str:
        plain = stem(name)
        if self.form == "cityscapes":
            plain = plain.removesuffix("_polygons").removesuffix("_leftImg8bit")
            for ending in STREET:
                plain = plain.removesuffix(ending)
        return plain

    def _classes(self) -> dict[str, str]:
        """YOLO's classes as JSON."""
        if self.form != "yolo":
            return {}
        folder = self.path if os.path.isdir(self.path) else os.path.dirname(self.path)
        above = [folder, os.path.dirname(folder.rstrip("/")), os.path.dirname(os.path.dirname(folder.rstrip("/")))]
        beside = (f"{place}/{name}" for place in above for name in NAMES)
        path = self.names or next((p for p in beside if os.path.isfile(p)), "")
        if not path:
            what = f"{self.path} has no file that names its classes ({', '.join(NAMES)})"
            raise SourceError(f"{what}. Next: names: data.yaml on the source")
        known = yolo.names_in(fetch(path), path)
        return {"names": json.dumps([list(known.names), known.points, known.dims])}


def joined(listed: list[ListedPicture]) -> list[ListedPicture]:
    """Each picture once. Of several that say the same the first counts, else the one that somebody annotated, or that
    was annotated last; where nothing tells, the picture has a fault."""
    chosen: dict[str, ListedPicture] = {}
    counts = Counter[str]()
    known = [text for one in listed for text in json.loads(one.sides.pop("remarks", "[]"))]  # also of those that go
    for one in listed:
        other = chosen.setdefault(one.name, one)
        if other is one:
            continue
        files = _apart(*(p.sides.get("annotations", p.name) for p in (other, one)))
        where = f"{files[0]} and {files[1]}"
        if one.marks == other.marks:
            counts[f"in both {where}, and count once"] += 1
        elif one.annotated != other.annotated or (one.at and other.at and one.at != other.at):
            later = (one.annotated, one.at) > (other.annotated, other.at)
            chosen[one.name] = one if later else other
            counts[f"in both {where} with other marks, and the later ones count"] += 1
        else:
            other.sides["fault"] = f"{where} both list {one.name}, and mark it differently"
            other.digest = fingerprint([other.digest, one.digest])  # it is another sample than either file's
    pictures = list(chosen.values())
    if known or counts:
        sentences = [f"{count} pictures stand {text}" for text, count in counts.items()]
        pictures[0].sides["remarks"] = json.dumps([*known, *sentences])
    return pictures


def _apart(one: str, other: str) -> tuple[str, str]:
    """Two files by their names, where those tell them apart."""
    names = os.path.basename(one), os.path.basename(other)
    return names if names[0] != names[1] else (one, other)


@lru_cache(maxsize=4)
def parsed_whole(form: str, path: str, sha256: str) -> AnnotationSet:
    """What the file of this digest says. Raises SourceError."""
    return WHOLE[form][0](fetch(path), path)
