"""Sources: where raw samples come from, cut into pieces whose content is their identity.

Planning and reading are apart. `pieces` runs while a recipe is planned: it looks at names and content digests only and
imports nothing heavy. `items` opens containers to learn how many samples they promise. `build` makes, in a worker, the
function that decodes. A path is where something lies, never what it is: identity comes from relative names and content,
so moving a data set costs nothing and new files cost only their own partitions.

A source never repairs: a sample that cannot be read is handed back as the error that says why.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field, field_validator

from hyperloom.pipeline.config import placement
from hyperloom.pipeline.errors import SourceError
from hyperloom.pipeline.fingerprint import payload
from hyperloom.pipeline.plugins import Plugin
from hyperloom.stages.base import modality_of
from hyperloom.stages.ingest.frame import Frame
from hyperloom.stages.ingest.sidefile import SideFiles

if TYPE_CHECKING:
    from hyperloom.pipeline.root.digests import Digests, FileDigest

IMAGES = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp")
SOUNDS = (".wav", ".flac", ".ogg", ".mp3", ".aiff")
VIDEOS = (
    *(".mp4", ".m4v", ".mov", ".avi", ".mkv", ".webm", ".mpg", ".mpeg"),
    *(".3gp", ".flv", ".gif", ".m2ts", ".mts", ".ogv", ".ts", ".wmv"),
)


@dataclass(frozen=True)
class Piece:
    """What is planned as one: a video, or the images of one group. `sides` maps column -> {path: sha256}."""

    name: str
    group: str
    files: tuple[FileDigest, ...] = ()
    sides: dict[str, dict[str, str]] = field(default_factory=dict)

    def facts(self) -> list[Any]:
        """[name, group, number of files, one digest over names and content of all of them]."""
        hashed = hashlib.sha256()
        for file in self.files:
            hashed.update(f"{file.name}\0{file.sha256}\n".encode())
        for column, digests in sorted(self.sides.items()):
            hashed.update(f"{column}\0{chr(0).join(digests.values())}\n".encode())
        return [self.name, self.group, len(self.files), hashed.hexdigest()]


@dataclass(frozen=True)
class Item:
    """One promised sample. `index` counts within the piece, `frame` within the file at `path`, `time` is the second at
    which that is shown, `frames` are all of a clip.

    `sides` holds the side file of each column that has one here; `digest` is the content behind the sample. `lost`
    samples, where it is not 0, are known to be missing, and the item stands for them.
    """

    key: str
    index: int
    path: str = ""
    frame: int = 0
    sides: dict[str, str] = field(default_factory=dict)
    digest: str = ""
    time: float | None = None
    frames: tuple[int, ...] = ()
    lost: int = 0


Values = dict[str, Any]
"""Column -> array in the modality's size, or None where this sample has none."""

Read = Callable[[list[Item]], Iterator[tuple[Item, Values | Exception]]]
"""Gives each item with its values, or with the ValueError that says why its content cannot be understood.

It raises OSError where a file cannot be reached: that may pass, so it fails the attempt and never costs a sample."""


def one_by_one(values: Callable[[Item], Values]) -> Read:
    """The reader of a source whose samples are read one by one; a ValueError of `values` is its sample's reason."""

    def read(items: list[Item]) -> Iterator[tuple[Item, Values | Exception]]:
        for item in items:
            try:
                result: Values | Exception = values(item)
            except ValueError as error:
                result = error
            yield item, result

    return read


class Source(Plugin):
    """Base of every source."""

    fits: ClassVar[bool] = True
    """Does it bring values of other sizes to that of their modality?"""

    def offers(self) -> tuple[str, ...]:
        """The columns this source makes, in order."""
        raise TypeError(f"the source {self.type!r} has no offers()")

    def pieces(self, digests: Digests) -> list[Piece]:
        """The pieces there are, sorted by name. Raises SourceError when there is nothing at all."""
        raise TypeError(f"the source {self.type!r} has no pieces()")

    def facts(self, digests: Digests) -> list[Any]:
        """What its samples follow from, for the step's identity; by default each piece with its content."""
        return [piece.facts() for piece in self.listed(digests)]

    def listed(self, digests: Digests) -> list[Piece]:
        """The same pieces, once in a look at recipes (`Digests.look`)."""
        return digests.listed("pieces", self, lambda: self.pieces(digests))

    def items(self, piece: Piece) -> list[Item]:
        """The samples that `piece` promises, in order. A piece that cannot be opened is one item."""
        raise TypeError(f"the source {self.type!r} has no items()")

    def check(self, modalities: dict[str, Any]) -> None:
        """Raise RecipeError when the recipe's modalities are not what this source can fill."""

    def beside(self, root: str) -> Source:
        """The source for a worker of this root, where reading needs to know it; by default as it is."""
        return self

    def build(self, modalities: dict[str, Any]) -> Read:
        """The function that decodes items of one piece, made once in a worker process."""
        raise TypeError(f"the source {self.type!r} has no build()")

    def order(self) -> str:
        """How the samples of a group follow one another, in words, where they may not be consecutive frames."""
        return ""

    def meaning(self, column: str) -> dict[str, Any]:
        """What makes a column what it is, apart from the files' content."""
        return {**payload(self), "column": column}

    def of_bytes(self, column: str, modality: Any) -> bool:
        """Is a value of the column all bytes of a file, which may lie beside a picture in the same sample?"""
        return False

    def revised_for(self, column: str, modality: Any) -> dict[str, int]:
        """What of a column's meaning has changed for such a modality alone, as `Stage.revised_for` says it."""
        return {}


def group_pattern(value: str) -> str:
    """`value` as it is. Raises ValueError unless it is empty or a regular expression with `(?P<group>...)`."""
    try:
        if value and "group" not in re.compile(value).groupindex:
            raise ValueError("group needs a part (?P<group>...)")
    except re.error as error:
        raise ValueError(f"group is no regular expression: {error}") from error
    return value


class FileSource(Source):
    """A source of ordinary files: a main column, and further columns from files beside them.

    `path` is a glob pattern, a folder or one file (relative to where the command runs, or any fsspec URL). `group` is a
    regular expression with `(?P<group>...)`, searched in each file's relative name.
    """

    framed: ClassVar[bool] = False
    """Is a sample a frame of a file, which a row of a table may name by its number?"""
    path: str = placement()
    column: str = "rgb@camera"
    group: str = ""
    columns: SideFiles = Field(default_factory=dict)

    _pattern = field_validator("group")(group_pattern)

    def offers(self) -> tuple[str, ...]:
        columns = (self.column, *self.columns)
        for column in columns:
            modality_of(column)
        return columns

    def meaning(self, column: str) -> dict[str, Any]:
        """Which files show a side column (`only`) is content of the samples, so it is left out here."""
        plain = {"type": self.type, "revision": type(self).revision, "column": column}
        if column in self.columns:
            plain["file"] = {k: v for k, v in payload(self.columns[column]).items() if k != "only"}
            plain |= {"rows": 2} if self.columns[column].path.lower().endswith(".csv") else {}
        return plain

    def match(self, name: str) -> re.Match[str] | None:
        """The group pattern on a relative name; None without a pattern. Raises SourceError where it does not match."""
        match = re.search(self.group, name) if self.group else None
        if self.group and match is None:
            what = f"{name!r} of {self.path} does not match group {self.group!r}"
            raise SourceError(f"{what}. Next: correct the pattern or the path")
        return match

    def read_sides(self, item: Item, modalities: dict[str, Any], frame: Frame | None = None) -> Values:
        """The side columns of a sample, whose picture is `frame`. Raises ValueError, naming the column, and OSError."""
        values: Values = {}
        for column, side in self.columns.items():
            path = item.sides.get(column)
            names = (*((str(item.frame),) if self.framed else ()), item.key, item.key.rpartition("/")[2])
            try:
                modality = modalities[modality_of(column)]
                values[column] = side.load(path, names, modality, frame, column) if path else None
            except ValueError as error:
                raise ValueError(f"{column}: {error}") from error
        return values

    def check_sides(self, pieces: list[Piece], stems: Iterable[str]) -> None:
        """Raise SourceError for a side column that no sample has, and for names in `only` that do not exist."""
        names = set(stems)
        for column, side in self.columns.items():
            unknown = sorted(set(side.only) - names)
            if unknown:
                what = f"{column}: 'only' names {unknown[:5]}, which {self.path} does not have"
                raise SourceError(f"{what}. Next: correct the names")
            if not any(piece.sides.get(column) for piece in pieces):
                what = f"{column}: no file matches {side.path!r} for any sample of {self.path}"
                raise SourceError(f"{what}. Next: correct that path")


def path_safe(name: str) -> str:
    """`name` as one path component; what had to be changed is told apart by a short digest."""
    safe = re.sub(r"[^A-Za-z0-9._=+-]", "_", name).lstrip(".") or "_"
    return safe if safe == name else f"{safe}-{hashlib.sha256(name.encode()).hexdigest()[:6]}"


def stem(name: str) -> str:
    """A relative name without its suffix."""
    head, dot, tail = name.rpartition(".")
    return head if dot and "/" not in tail and head and not head.endswith("/") else name
