"""Content digests of files outside the root: raw data and weights. They make identity follow content, not paths.

A digest is kept beside the file's size and modification time, so planning again only asks the file system for those.
It is kept under the digest of the file's path, which may hold what is nobody's business (`pipeline.secrets`).
The store is `{root}/digests.json`; losing it costs time, never correctness.
"""

from __future__ import annotations

import glob
import hashlib
import os
from dataclasses import dataclass
from typing import Any

from hyperloom.pipeline.errors import SourceError, StorageError, Torn
from hyperloom.pipeline.storage import Storage, sha256

STORE = "digests.json"


@dataclass(frozen=True)
class FileDigest:
    """`path` opens the file; `name` is relative to the fixed part of the pattern and belongs to identity."""

    path: str
    name: str
    bytes: int
    sha256: str


class Digests:
    """Digests of local files and of any fsspec URL, remembered in the root."""

    def __init__(self, storage: Storage):
        self.storage = storage
        try:
            self._known: dict[str, list[Any]] = storage.read_json(STORE)
        except (FileNotFoundError, Torn, StorageError):
            self._known = {}
        self._changed = False

    def file(self, path: str, name: str | None = None) -> FileDigest:
        """The digest of one file. Raises SourceError when it cannot be read."""
        try:
            if "://" in path:
                return self._remote(path, name or path.rsplit("/", 1)[-1])
            path = os.path.abspath(os.path.expanduser(path))
            stat = os.stat(path)
            mark = [stat.st_size, stat.st_mtime_ns]
            key = sha256(path.encode())
            known = self._known.get(key)
            if known is None or known[:2] != mark:
                with open(path, "rb") as file:
                    known = [*mark, hashlib.file_digest(file, "sha256").hexdigest()]
                self._known[key] = known
                self._changed = True
            return FileDigest(path, name or os.path.basename(path), known[0], known[2])
        except OSError as error:
            raise SourceError(f"cannot read {path}: {error}. Next: check the path in the recipe") from error

    def files(self, pattern: str) -> list[FileDigest]:
        """Digests of all files that a glob pattern, a folder (with all below it) or a single path names, by name.

        Hidden files are left out. Raises SourceError when nothing matches.
        """
        files = self._find_remote(pattern) if "://" in pattern else self._find_local(pattern)
        if not files:
            raise SourceError(
                f"no file matches {pattern!r}. Next: check the path in the recipe (it is relative to {os.getcwd()})"
            )
        return [self.file(path, name) for path, name in sorted(files, key=lambda f: f[1])]

    def save(self) -> None:
        """Remember what was computed. A root that cannot be written costs only the remembering."""
        if not self._changed:
            return
        try:
            self.storage.write_json(STORE, self._known)
            self._changed = False
        except StorageError:
            pass

    def _find_local(self, pattern: str) -> list[tuple[str, str]]:
        pattern = os.path.abspath(os.path.expanduser(pattern))
        if os.path.isdir(pattern):
            base, pattern = pattern, os.path.join(pattern, "**")
        elif glob.has_magic(pattern):
            fixed = pattern[: min(pattern.find(c) for c in "*?[" if c in pattern)]
            base = os.path.dirname(fixed + "x")
        else:
            base = os.path.dirname(pattern)
        return [(p, os.path.relpath(p, base)) for p in glob.iglob(pattern, recursive=True) if os.path.isfile(p)]

    def _find_remote(self, pattern: str) -> list[tuple[str, str]]:
        import fsspec

        fs, path = fsspec.core.url_to_fs(pattern)
        protocol = pattern.split("://", 1)[0]
        if not glob.has_magic(path):
            paths = fs.find(path)
            base = path if paths != [path] else path.rsplit("/", 1)[0]
        else:
            paths = [p for p in fs.glob(path) if fs.isfile(p)]
            base = path[: min(path.find(c) for c in "*?[" if c in path)].rsplit("/", 1)[0]
        return [(f"{protocol}://{p.lstrip('/')}", p[len(base) :].lstrip("/")) for p in paths]

    def _remote(self, path: str, name: str) -> FileDigest:
        import fsspec

        fs, inner = fsspec.core.url_to_fs(path)
        info = fs.info(inner)
        mark = [
            info["size"],
            str(info.get("ETag") or info.get("mtime") or info.get("LastModified") or info.get("created")),
        ]
        key = sha256(path.encode())
        known = self._known.get(key)
        if known is None or known[:2] != mark:
            with fs.open(inner, "rb") as file:
                known = [*mark, hashlib.file_digest(file, "sha256").hexdigest()]
            self._known[key] = known
            self._changed = True
        return FileDigest(path, name, known[0], known[2])
