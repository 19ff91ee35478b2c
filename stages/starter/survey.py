"""A survey of a folder: which files lie there, by what they seem to be.

It goes by names alone, by the rules by which a source will list them later (`pipeline.root.filelist`): hidden files and
names that nobody can write are left out. Nothing is opened here.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from hyperloom.pipeline.counting import counted
from hyperloom.pipeline.errors import SourceError
from hyperloom.pipeline.root import filelist
from hyperloom.stages.ingest.rows import TABLES
from hyperloom.stages.ingest.source import IMAGES, SOUNDS, VIDEOS

ARRAYS = (".npy", ".npz")
NETWORKS = (".onnx", ".tflite", ".pt", ".pth", ".pt2", ".safetensors", ".h5", ".pb", ".keras")
NOTES = (".json", ".xml", ".txt", ".yaml", ".yml", ".names")
"""What may hold annotations, names of classes, or texts."""
KINDS = {
    "pictures": IMAGES, "videos": VIDEOS, "sounds": SOUNDS, "tables": TABLES, "arrays": ARRAYS, "networks": NETWORKS,
    "notes": NOTES,
}  # fmt: skip
RECIPE, LIST, COPIES = "hyperloom.yaml", "hyperloom-files.csv", "hyperloom-labels"
"""What `init` itself writes there; the last is a folder."""


@dataclass(frozen=True)
class DataFile:
    """A file: where it lies, and its name relative to the folder that was looked at."""

    path: str
    name: str

    @property
    def folder(self) -> str:
        return os.path.dirname(self.path)

    @property
    def base(self) -> str:
        """The name without folder."""
        return os.path.basename(self.path)

    @property
    def stem(self) -> str:
        """The name without folder and suffix."""
        return os.path.splitext(self.base)[0]

    @property
    def suffix(self) -> str:
        return os.path.splitext(self.path)[1]


@dataclass
class Survey:
    """The files of `folder` by kind; `others` are what nothing here reads, by suffix."""

    folder: str
    kinds: dict[str, list[DataFile]] = field(default_factory=dict)
    others: dict[str, list[str]] = field(default_factory=dict)
    roots: list[str] = field(default_factory=list)
    """Roots of runs, whose files are passed by."""

    def of(self, kind: str) -> list[DataFile]:
        return self.kinds.get(kind, [])

    def counted(self) -> str:
        """What lies there, in words."""
        words = [counted(len(files), kind.removesuffix("s")) for kind, files in self.kinds.items() if files]
        return ", ".join(words) or "no file that is read here"

    def unread(self) -> list[str]:
        """A sentence for each kind of file that nothing reads, and for each root."""
        return [
            *(f"{name} is the root of other runs: what lies there is passed by" for name in self.roots),
            *self._unread(),
        ]

    def _unread(self) -> list[str]:
        return [
            f"{counted(len(names), 'file')} {suffix or 'without suffix'} not read, such as {names[0]}. "
            f"Next: {_mend(suffix)}"
            for suffix, names in sorted(self.others.items())
        ]


def survey(folder: str) -> Survey:
    """Look at a local folder. Raises SourceError where there is none."""
    path = os.path.abspath(os.path.expanduser(folder))
    if not os.path.isdir(path):
        raise SourceError(
            f"{folder} is no folder here. Next: give the folder that holds your pictures, sounds or tables"
        )
    listed = filelist.find(path)
    seen = Survey(path, roots=[name for name, why in listed.left_out.items() if why == filelist.OTHER])
    for file in listed.files:
        if file.name in (RECIPE, LIST) or file.name.startswith(f"{COPIES}/"):
            continue
        suffix = os.path.splitext(file.name)[1].lower()
        kind = next((kind for kind, suffixes in KINDS.items() if suffix in suffixes), None)
        if kind is None:
            seen.others.setdefault(suffix, []).append(file.name)
        else:
            seen.kinds.setdefault(kind, []).append(DataFile(file.path, file.name))
    return seen


def is_note(path: str) -> bool:
    """Is it a file that may hold annotations of many pictures, such as COCO's?"""
    return os.path.splitext(path)[1].lower() in NOTES and os.path.isfile(os.path.expanduser(path))


def is_table(path: str) -> bool:
    """Is it a file that is to be read as a table?"""
    return os.path.isfile(os.path.expanduser(path)) and not is_note(path)


def noted(path: str) -> Survey:
    """One file with annotations, as what a folder holds."""
    whole = os.path.abspath(os.path.expanduser(path))
    return Survey(os.path.dirname(whole), {"notes": [DataFile(whole, os.path.basename(whole))]})


def _mend(suffix: str) -> str:
    """How to bring such files into a form that is read."""
    if suffix in (".heic", ".heif", ".avif", ".cr2", ".nef", ".arw", ".dng", ".raw", ".psd", ".svg"):
        return f"convert them to JPEG or PNG (magick mogrify -format jpg *{suffix})"
    if suffix in (".xls", ".xlsx", ".ods", ".feather", ".db", ".sqlite"):
        return "export them as CSV or Parquet"
    if suffix in (".m4a", ".aac", ".wma", ".opus"):
        return f"convert them to FLAC (for f in *{suffix}; do ffmpeg -i $f $f.flac; done)"
    return "a source of your own reads them (docs/plugin.md), or leave them"


def common(files: Iterable[DataFile]) -> str:
    """The deepest folder that holds all these files."""
    return os.path.commonpath([f.folder for f in files])


def key(file: DataFile, root: str) -> str:
    """The name of a file relative to `root`, without its suffix, as sources write keys."""
    below = f"{root}{os.sep}"
    name = file.path[len(below) :] if file.path.startswith(below) else os.path.relpath(file.path, root)
    return os.path.splitext(name)[0].replace(os.sep, "/")


def spread(items: Sequence[DataFile], count: int) -> list[DataFile]:
    """So many of the files, evenly over all."""
    if len(items) <= count:
        return list(items)
    return [items[round(i * (len(items) - 1) / (count - 1))] for i in range(count)]
