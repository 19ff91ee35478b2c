"""The files that a recipe's path names: one folder, one file or a pattern, local or in any fsspec store, by one rule.

- A path that exists is taken literally, before it is taken as a pattern; of a pattern, as many folders as exist are.
- `*` and `?` stay within a folder, `**` does not. A folder means all files below it.
- Left out, with the reason: hidden files (`._IMG.jpg`, `.cache/`), names that are no UTF-8, broken links, links to what
  is listed anyway (so links in circles end). The markers that object stores keep for folders are no files.
- Nor are files below the root of a run, whose pictures are no samples: unless the path itself leads into it. That of
  another recipe is known by what every run leaves there, and said.
- A file's `name` is relative to the fixed part of the path, in Unicode's normal form C, and belongs to its identity;
  `path` opens it.
"""

from __future__ import annotations

import glob
import os
import re
import unicodedata
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any, Literal, NamedTuple
from urllib.parse import unquote

from hyperloom.pipeline.errors import SourceError

EVERYTHING = "**"
ROOT = "the root"
OTHER = "the root of other runs: name it in the path, without wildcards, if its files are meant"
MARKS = ("claims", "events", "steps")
"""Folders of every root that runs have used."""
FORMS: tuple[Literal["NFC", "NFD"], ...] = ("NFC", "NFD")


@dataclass(frozen=True)
class ListedFile:
    """A file: what opens it, its relative name, and what a remote store says of its content (size and version)."""

    path: str
    name: str
    mark: tuple[int, str] | None = None


class Hit(NamedTuple):
    """Something below the fixed part of a path: a file, or (`fault`) what is left out and why. `identity` tells local
    files apart by what they are; a link's is that of what it leads to."""

    file: ListedFile
    identity: tuple[int, int] | None = None
    fault: str = ""


@dataclass
class FileList:
    """What a path names, by name; `folder` where that is a folder; `left_out` has names with the reason."""

    folder: bool
    files: list[ListedFile] = field(default_factory=list)
    left_out: dict[str, str] = field(default_factory=dict)
    passed_by: bool = False
    """Does the root lie below what was looked through?"""


def local(path: str) -> str:
    """The absolute local path of a path or of a `file://` URL; another URL as it is."""
    if path.startswith("/") and not path.endswith("/") and "//" not in path and "/." not in path:
        return path  # as it would be in the end: of each file this is asked several times
    if path.startswith(("file://", "local://")):
        plain = path.split("://", 1)[1]
        return plain if os.path.exists(plain) else unquote(plain)
    return path if "://" in path else os.path.abspath(os.path.expanduser(path))


def form_that_exists(path: str, exists: Callable[[str], bool]) -> str:
    """`path`, or where nothing is there the form of it, letters composed or decomposed, in which something is."""
    if path.isascii() or exists(path):
        return path
    return next((p for form in FORMS if exists(p := unicodedata.normalize(form, path))), path)


def normal(name: str) -> str:
    """A name in the form that composed and decomposed letters share."""
    return name if name.isascii() else unicodedata.normalize("NFC", name)


def find(path: str, root: str = "") -> FileList:
    """The files that `path` names; of those below `root` (a folder or URL) only where `path` leads into it. Raises
    SourceError for two with one name, OSError, and a store's own errors."""
    path = local(path)
    pattern, hits = (_remote if "://" in path else _local)(path, root)
    matches = re.compile(_expression(pattern), re.DOTALL).fullmatch
    listed, names, seen = FileList(pattern == EVERYTHING), dict[str, str](), set[tuple[int, int]]()
    for file, identity, fault in hits:
        if fault == ROOT:
            listed.passed_by = True
            continue
        if fault == OTHER:
            listed.left_out[_readable(file.name)] = fault
            continue
        if not matches(file.name):
            continue
        fault = fault or ("" if _is_text(file.name) else "the name is no UTF-8: rename it")
        if not fault and identity in seen:
            fault = "a link to a file that is listed anyway"
        if fault:
            listed.left_out[_readable(file.name)] = fault
            continue
        if identity is not None:
            seen.add(identity)
        other = names.setdefault(normal(file.name), file.path)
        if other != file.path:
            raise SourceError(f"{other} and {file.path} differ only in how letters are composed. Next: remove one")
        listed.files.append(replace(file, name=normal(file.name)))
    listed.files.sort(key=lambda file: file.name)
    return listed


def _expression(pattern: str) -> str:
    from fsspec.utils import glob_translate

    return ".*" if pattern == EVERYTHING else glob_translate(pattern)


def _readable(name: str) -> str:
    """A name that can be printed, whatever its bytes are."""
    return name.encode("utf-8", "backslashreplace").decode()


def _is_text(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def _split(path: str, is_there: Any, is_folder: Any) -> tuple[str, str]:
    """The part of `path` that is taken literally, and the pattern below it. A file's literal part is its folder."""
    if not glob.has_magic(path) or is_there(path):
        if is_folder(path):
            return path, EVERYTHING
        folder, _, name = path.rpartition("/")
        return folder, glob.escape(name)
    parts = path.split("/")
    fixed = next(i for i, part in enumerate(parts) if glob.has_magic(part))
    while fixed < len(parts) - 1 and is_folder("/".join(parts[: fixed + 1])):
        fixed += 1
        while fixed < len(parts) - 1 and not glob.has_magic(parts[fixed]):
            fixed += 1
    return "/".join(parts[:fixed]), "/".join(parts[fixed:])


def _depth(pattern: str) -> int | None:
    """How many folders deep a pattern may look; None for as deep as there is."""
    return None if EVERYTHING in pattern else pattern.count("/") + 1


def _hidden(pattern: str, name: str) -> bool:
    """Is a part of the name hidden, where the pattern asks for none that is?"""
    return any(p.startswith(".") for p in name.split("/")) and not any(p.startswith(".") for p in pattern.split("/"))


# -- local -------------------------------------------------------------------------------------------------------------
def _local(path: str, root: str) -> tuple[str, Iterator[Hit]]:
    base, pattern = _split(path, os.path.lexists, os.path.isdir)
    own = bool(root) and "://" not in root and os.path.isdir(root) and not _inside(os.path.realpath(base), root)
    return pattern, _walked(base or "/", pattern, _identity(root) if own else None)


def _inside(path: str, root: str) -> bool:
    root = os.path.realpath(root)
    return path == root or path.startswith(f"{root.rstrip('/')}/")


def _walked(base: str, pattern: str, root: tuple[int, int] | None) -> Iterator[Hit]:
    """What lies below a folder, but for the folder `root`: first what is there itself, then what links lead to."""
    depth, seen = _depth(pattern), {_identity(base)} if os.path.isdir(base) else set()
    folders, links = [(base, "")] if seen else [], deque[tuple[str, str]]()
    while folders or links:
        if folders:
            for entry in _entries(*folders.pop()):
                path, name = entry.path, entry.name
                if entry.identity == root:
                    yield Hit(ListedFile(path, name), fault=ROOT)
                elif _hidden(pattern, name):
                    yield Hit(ListedFile(path, name), fault="hidden")
                elif entry.link:
                    links.append((path, name))
                elif not entry.folder:
                    yield Hit(ListedFile(path, name), entry.identity)
                elif depth is not None and name.count("/") + 1 >= depth:
                    continue
                elif _is_root(path):
                    yield Hit(ListedFile(path, name), fault=OTHER)
                else:
                    seen.add(entry.identity)
                    folders.append((path, name))
            continue
        path, name = links.popleft()
        if not os.path.exists(path):
            yield Hit(ListedFile(path, name), fault="a link that leads nowhere")
        elif not os.path.isdir(path):
            yield Hit(ListedFile(path, name), _identity(path))
        elif _identity(path) == root:
            yield Hit(ListedFile(path, name), fault=ROOT)
        elif _identity(path) in seen:
            yield Hit(ListedFile(path, name), fault="a link to a folder that is listed anyway")
        elif depth is not None and name.count("/") + 1 >= depth:
            continue
        elif _is_root(path):
            yield Hit(ListedFile(path, name), fault=OTHER)
        else:
            seen.add(_identity(path))
            folders.append((path, name))


def _is_root(folder: str) -> bool:
    return all(os.path.isdir(os.path.join(folder, name)) for name in MARKS)


class _Entry(NamedTuple):
    path: str
    name: str
    link: bool
    folder: bool
    identity: tuple[int, int]


def _entries(folder: str, prefix: str) -> Iterator[_Entry]:
    """Files, folders and links of a folder; sockets and the like are none."""
    device = os.stat(folder).st_dev
    with os.scandir(folder) as entries:
        for entry in entries:
            name = f"{prefix}/{entry.name}" if prefix else entry.name
            link = entry.is_symlink()
            if link or entry.is_dir() or entry.is_file():
                yield _Entry(entry.path, name, link, not link and entry.is_dir(), (device, entry.inode()))


def _identity(path: str) -> tuple[int, int]:
    status = os.stat(path)
    return status.st_dev, status.st_ino


# -- remote ------------------------------------------------------------------------------------------------------------
def _remote(path: str, root: str) -> tuple[str, Iterator[Hit]]:
    import fsspec

    fs, inner = fsspec.core.url_to_fs(path)
    fs.invalidate_cache()  # of what was listed earlier
    base, pattern = _split(inner.rstrip("/"), fs.exists, fs.isdir)
    protocol = path.split("://", 1)[0]
    own = f"{root.rstrip('/')}/"
    inside = f"{protocol}://{base.strip('/')}/".startswith(own)
    return pattern, _objects(fs, protocol, base, pattern, "" if inside or not root else own)


def _objects(fs: Any, protocol: str, base: str, pattern: str, root: str) -> Iterator[Hit]:
    infos: dict[str, dict[str, Any]] = fs.find(base, maxdepth=_depth(pattern), detail=True)
    folders = {key.rpartition("/")[0] for key in infos}
    roots = _roots([key[len(base) :].lstrip("/") for key in infos])
    for key, info in infos.items():
        name = key[len(base) :].lstrip("/")
        marker = key.endswith("/") or not name or (not info.get("size") and key in folders)
        if not marker and info.get("type") != "directory":
            file = ListedFile(f"{protocol}://{key.lstrip('/')}", name, mark(info))
            other = next((r for r in roots if name.startswith(f"{r}/")), "")
            if root and file.path.startswith(root):
                yield Hit(file, fault=ROOT)
            elif other:
                yield Hit(ListedFile(file.path, other), fault=OTHER)
            else:
                yield Hit(file, fault="hidden" if _hidden(pattern, name) else "")


def _roots(names: list[str]) -> set[str]:
    """The folders below which objects of these names lie as in a root."""
    below = [{name[:at] for name in names if (at := name.find(f"/{mark}/")) > 0} for mark in MARKS]
    return set.intersection(*below)


def mark(info: dict[str, Any]) -> tuple[int, str]:
    """What a store says of a file's content: its size, and whatever changes with it."""
    version = info.get("ETag") or info.get("mtime") or info.get("LastModified") or info.get("created")
    return int(info.get("size") or 0), str(version)
