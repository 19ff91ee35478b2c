"""Image files as a source: each file a sample, each group (a drive, a patient, a folder) a run of them in name order.

The group comes from `group`, searched in the relative name, else from the file's folder. With `(?P<index>\\d+)` in the
same expression the index within the group is the number in the name, so that gaps in a recording stay visible;
without, the files are counted.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from typing import TYPE_CHECKING, Any

from hyperloom.pipeline.errors import SourceError
from hyperloom.pipeline.fingerprint import fingerprint
from hyperloom.stages.base import modality_of
from hyperloom.stages.ingest.frame import frame_of
from hyperloom.stages.ingest.sidefile import fetch, understood
from hyperloom.stages.ingest.source import (
    IMAGES,
    SOUNDS,
    FileSource,
    Item,
    Piece,
    Read,
    Values,
    one_by_one,
    path_safe,
    stem,
)
from hyperloom.stages.remarks import remark

if TYPE_CHECKING:
    from hyperloom.pipeline.root.digests import Digests, FileDigest


class Files(FileSource):
    """`{type: files, path: images/*.jpg, group: '(?P<group>[^_/]+)_', columns: {semantic@truth: labels/{stem}.png}}`.

    The main column may have any modality that reads files: images, audio, text, arrays; of a folder only images
    count, or sounds if it has none. Keys are relative names without suffix. `only` keeps the files named there, by stem
    or key.
    """

    only: tuple[str, ...] = ()

    def pieces(self, digests: Digests) -> list[Piece]:
        listed = digests.files(self.path)
        files = self._wanted(listed)
        kinds: tuple[str, ...] = ("",)
        if digests.is_folder(self.path):
            images = [f for f in files if f.name.lower().endswith(IMAGES)]
            files = images or [f for f in files if f.name.lower().endswith(SOUNDS)]
            kinds = IMAGES if images else SOUNDS
        if not files:
            what = f"{self.path} holds no images ({', '.join(IMAGES)}) and no sounds ({', '.join(SOUNDS)})"
            raise SourceError(f"{what}. Next: check the path in the recipe")
        groups: dict[str, list[FileDigest]] = {}
        for file in files:
            groups.setdefault(self._group(file.name), []).append(file)
        pieces = [self._piece(group, members, digests) for group, members in sorted(groups.items())]
        beside = {path for piece in pieces for sides in piece.sides.values() for path in sides}
        unread = (f for f in listed if not f.name.lower().endswith(kinds) and f.path not in beside)
        digests.leave_out(unread, f"not {', '.join(kinds)}")
        self._check_keys(files)
        self._ask_about_stems(files)
        self.check_sides(pieces, [n for f in files for n in (stem(f.name), stem(f.name).rpartition("/")[2])])
        return pieces

    def items(self, piece: Piece) -> list[Item]:
        items = []
        for i, file in enumerate(piece.files):
            names = self._names(file.name)
            sides = {c: s.place(names) for c, s in self.columns.items() if s.shows(names)}
            sides = {c: path for c, path in sides.items() if path in piece.sides[c]}
            digest = fingerprint([file.sha256, {c: piece.sides[c][path] for c, path in sides.items()}])
            items.append(Item(names["key"], self._index(file.name, i), file.path, 0, sides, digest))
        if len({item.index for item in items}) < len(items):
            same = f"two files of the group {piece.group} have the same index by {self.group!r}"
            raise SourceError(f"{same}. Next: correct the pattern")
        return sorted(items, key=lambda item: item.index)

    def build(self, modalities: dict[str, Any]) -> Read:
        modality = modalities[modality_of(self.column)]

        def values(item: Item) -> Values:
            data = fetch(item.path)
            value = understood(modality.read, data, item.path)
            frame = frame_of(data, item.path, modality) if self.columns else None
            return {self.column: value, **self.read_sides(item, modalities, frame)}

        return one_by_one(values)

    def order(self) -> str:
        numbered = self.group and "index" in re.compile(self.group).groupindex
        return "" if numbered else "files in the order of their names"

    def _wanted(self, files: list[FileDigest]) -> list[FileDigest]:
        """The files that `only` names, all without it. Raises SourceError for a name that is not there."""
        if not self.only:
            return files
        keys = {f.name: stem(f.name) for f in files}
        kept = [f for f in files if {keys[f.name], keys[f.name].rpartition("/")[2]} & set(self.only)]
        present = {n for f in kept for n in (keys[f.name], keys[f.name].rpartition("/")[2])}
        if unknown := sorted(set(self.only) - present):
            what = f"'only' names {unknown[:5]}, which {self.path} does not have"
            raise SourceError(f"{what}. Next: correct the names")
        return kept

    def _piece(self, group: str, files: list[FileDigest], digests: Digests) -> Piece:
        sides: dict[str, dict[str, str]] = {column: {} for column in self.columns}
        for file in files:
            names = self._names(file.name)
            for column, side in self.columns.items():
                if side.shows(names):
                    sides[column].update(side.find({**names, "frame": 0}, digests))
        return Piece(group, group, tuple(files), sides)

    def _names(self, name: str) -> dict[str, Any]:
        key = stem(name)
        return {"key": key, "stem": key.rpartition("/")[2], "group": self._group(name)}

    def _group(self, name: str) -> str:
        match = self.match(name)
        return path_safe(match["group"] if match else os.path.dirname(name) or "all")

    def _index(self, name: str, position: int) -> int:
        match = self.match(name)
        return int(match["index"]) if match and "index" in match.re.groupindex else position

    def _ask_about_stems(self, files: list[FileDigest]) -> None:
        """Remark on pictures of several folders that share a side file, or a row, as they have the same stem."""
        stems = Counter(stem(file.name).rpartition("/")[2] for file in files)
        alike = [file for file in files if stems[stem(file.name).rpartition("/")[2]] > 1]
        for column, side in self.columns.items():
            given: dict[str, set[str]] = {}
            for file in alike if "{stem" in side.path or side.path.lower().endswith(".csv") else files:
                if side.shows(names := self._names(file.name)):
                    named = names["stem"] if side.path.lower().endswith(".csv") else side.place({**names, "frame": 0})
                    given.setdefault(f"{names['group']}/{named}" if "group" in side.path else named, set()).add(
                        file.name
                    )
            for owners in given.values():
                if len(owners) > 1 and len({stem(name).rpartition("/")[2] for name in owners}) == 1:
                    what = (
                        "rows may be called by the name with its folder"
                        if ".csv" in side.path
                        else "{key} has the folder"
                    )
                    remark(f"{column} is the same for files of one stem in several folders ({what})")

    def _check_keys(self, files: list[FileDigest]) -> None:
        seen: dict[str, str] = {}
        for file in files:
            other = seen.setdefault(stem(file.name), file.name)
            if other != file.name:
                both = f"{other} and {file.name} of {self.path} would share one key"
                raise SourceError(f"{both}. Next: rename one, or narrow the path")
