"""Content digests of files outside the root: raw data and weights. They make identity follow content, not paths.

A digest is kept beside the file's size and times (of its content and of its inode, which a copied time does not hide),
so planning again only asks the file system for those. `rehash` reads all files anew, where a file system's times lie.
It is kept under the digest of the file's path, which may hold what is nobody's business (`pipeline.secrets`).
The store is `{root}/digests.json`; losing it, or what another wrote at the same moment, costs time, never correctness:
what is remembered is compared with the file as it is now, whoever remembered it and however long ago.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

from hyperloom.pipeline.config import Config
from hyperloom.pipeline.errors import SourceError, StorageError, Torn
from hyperloom.pipeline.host import project
from hyperloom.pipeline.root import filelist
from hyperloom.pipeline.root.storage import Storage, sha256

STORE = "digests.json"
T = TypeVar("T")


@dataclass(frozen=True)
class FileDigest:
    """`path` opens the file; `name` is relative to the fixed part of the pattern and belongs to identity."""

    path: str
    name: str
    bytes: int
    sha256: str


class Digests:
    """Digests of local files and of any fsspec URL, remembered in the root. `once`: for one look at many recipes, in
    which what several read is listed once, as within one `look`."""

    def __init__(self, storage: Storage, rehash: bool = False, once: bool = False):
        self.storage, self.rehash = storage, rehash
        self._listed: dict[str, Any] | None = {} if once else None
        self.left_out: dict[str, dict[str, None]] = {}
        """Why files were left out -> their names, in order."""
        self._folders: dict[str, bool] = {}
        self._read: set[str] = set()
        self._known = self._stored()
        self._changed = False

    def _stored(self) -> dict[str, list[Any]]:
        try:
            return self.storage.read_json(STORE)
        except (FileNotFoundError, Torn, StorageError):
            return {}

    def file(self, path: str, name: str | None = None) -> FileDigest:
        """The digest of one file. Raises SourceError when it cannot be read."""
        path = filelist.local(path)
        try:
            if "://" in path:
                return self._remote(path, name or path.rsplit("/", 1)[-1])
            stat = os.stat(path)
            return self._digest(
                path, name or os.path.basename(path), [stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns]
            )
        except OSError as error:
            raise SourceError(f"cannot read {path}: {error}. Next: check the path in the recipe") from error

    def files(self, pattern: str) -> list[FileDigest]:
        """Digests of all files that a glob pattern, a folder (with all below it) or a single path names, by name (see
        `pipeline.root.filelist`), but not of the root. What is left out goes to `left_out`. Raises SourceError when
        nothing matches.
        """
        try:
            listed = filelist.find(pattern, str(self.storage))
        except OSError as error:
            raise SourceError(f"cannot list {pattern}: {error}. Next: check the path in the recipe") from error
        if not listed.files:
            outside = f" outside of the root {self.storage}" if listed.passed_by else ""
            none = f"no file matches {pattern!r}{outside}" + self._of_those(listed.left_out)
            raise SourceError(f"{none}. Next: check the path in the recipe (it is relative to {os.getcwd()})")
        self._folders[pattern] = listed.folder
        for name, why in listed.left_out.items():
            self.left_out.setdefault(why, {})[name] = None
        return [
            self._digest(f.path, f.name, list(f.mark)) if f.mark else self.file(f.path, f.name) for f in listed.files
        ]

    def is_folder(self, pattern: str) -> bool:
        """Does what `files` was given name a folder, as against a file or a pattern?"""
        return self._folders.get(pattern, False)

    @contextmanager
    def look(self) -> Iterator[None]:
        """While it lasts, what is listed twice is listed once."""
        before = self._listed
        self._listed = {} if before is None else before
        try:
            yield
        finally:
            self._listed = before

    def listed(self, what: str, reader: Config, look: Callable[[], T]) -> T:
        """What `look` gives, of what is asked of a `reader`, who is known by its fields (also those that it does not
        show, as who asks may see other files), and by the project it is of."""
        if self._listed is None:
            return look()
        key = f"{what} of {type(reader)!r} {reader.model_dump()!r} {project.current().folders}"
        if key not in self._listed:
            self._listed[key] = look()
        return self._listed[key]  # type: ignore[no-any-return]

    def leave_out(self, files: Iterable[FileDigest], why: str) -> None:
        """Note files that were listed and are not used."""
        for file in files:
            self.left_out.setdefault(why, {})[file.name] = None

    def save(self) -> None:
        """Remember what was computed, beside what others have computed meanwhile. A root that cannot be written costs
        only the remembering."""
        if not self._changed:
            return
        try:
            self.storage.write_json(STORE, {**self._stored(), **{key: self._known[key] for key in self._read}})
            self._changed = False
        except StorageError:
            pass

    def _of_those(self, left_out: dict[str, str]) -> str:
        if not left_out:
            return ""
        name, why = next(iter(left_out.items()))
        return f" but {len(left_out)} that are left out, such as {name!r} ({why})"

    def _remote(self, path: str, name: str) -> FileDigest:
        import fsspec

        fs, inner = fsspec.core.url_to_fs(path)
        return self._digest(path, name, list(filelist.mark(fs.info(inner))))

    def _digest(self, path: str, name: str, mark: list[Any]) -> FileDigest:
        """The digest of the file at `path`, remembered while its `mark` stays what it was."""
        key = sha256(os.fsencode(path))
        known = None if self.rehash and key not in self._read else self._known.get(key)
        if known is None or known[:-1] != mark:
            self._read.add(key)
            with _opened(path) as file:
                known = [*mark, hashlib.file_digest(file, "sha256").hexdigest()]
            self._known[key] = known
            self._changed = True
        return FileDigest(path, name, known[0], known[-1])


def _opened(path: str) -> Any:
    if "://" not in path:
        return open(path, "rb")
    import fsspec

    fs, inner = fsspec.core.url_to_fs(path)
    return fs.open(inner, "rb")
