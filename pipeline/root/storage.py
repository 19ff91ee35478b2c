"""The root: one folder on any fsspec file system, addressed by relative paths, and the only module that writes to it.

Promises: `write` is atomic (a reader sees the old bytes, the new bytes or nothing), `create` is exclusive (exactly one
of several writers gets True), and both leave nothing that looks whole when they fail. On local disk that is a
temporary file, fsync and link/rename; over SFTP the same with the server's renames (`pipeline.root.sftp`); on object
stores a single put, with the conditional put for `create`. A store that does not answer is given up after bounded
waits. Where a store does not keep the condition (some S3 servers overwrite), `exclusive` says so, and what must be
exclusive falls back to names of its own and reading back (pipeline.root.chain).
"""

from __future__ import annotations

import errno
import hashlib
import os
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import datetime
from typing import Any

from hyperloom.pipeline.errors import PluginError, StorageError, Torn
from hyperloom.pipeline.root import disk, sealed
from hyperloom.pipeline.root.sftp import Sftp

S3_CONFIG: dict[str, Any] = {
    "connect_timeout": 10,
    "read_timeout": 60,
    "retries": {"total_max_attempts": 2},
    "response_checksum_validation": "when_required",
}
"""Seconds to wait; s3fs tries again by itself, so the client below it need not. Some servers answer a range with the
checksum of the whole object; what is read is checked by digests of our own."""


class Storage:
    """A root on a file system. Cheap to build from its URL, so it travels to workers as `str(storage)`."""

    def __init__(self, url: str):
        self.url = url.rstrip("/") if "://" in url else os.path.abspath(os.path.expanduser(url))
        self.is_local = "://" not in url or url.startswith(("file://", "local://"))
        self._fs: Any = None
        self._sftp: Sftp | None = None
        self._exclusive: bool | None = None
        if self.is_local:
            self.base = os.path.abspath(url.split("://", 1)[-1]) if "://" in url else self.url
            self.url = self.base
        elif self.url.startswith(("sftp://", "ssh://")):
            self._sftp = Sftp(self.url)
            self.base = "/" + self.url.split("://", 1)[1].partition("/")[2]
        else:
            import fsspec

            try:
                waits = {"config_kwargs": S3_CONFIG} if self.url.startswith(("s3://", "s3a://")) else {}
                self._fs, self.base = fsspec.core.url_to_fs(self.url, **waits)
            except (ImportError, ValueError) as error:
                raise StorageError(f"the root {url!r} cannot be used: {error}") from error

    def __str__(self) -> str:
        return self.url

    def __reduce__(self) -> tuple[Any, ...]:
        return Storage, (self.url,)

    def path(self, path: str) -> str:
        """The file system's own path of a relative path."""
        return f"{self.base}/{path}" if path else self.base

    def full(self, path: str) -> str:
        """A URL (or an absolute local path) that a person or another program can open."""
        return f"{self.url}/{path}"

    @property
    def fs(self) -> Any:
        """The fsspec file system (a local one for local roots; over SFTP the calling thread's own)."""
        if self._sftp is not None:
            return self._sftp.fs
        if self._fs is None:
            from fsspec.implementations.local import LocalFileSystem

            self._fs = LocalFileSystem()
        return self._fs

    # -- reading ---------------------------------------------------------------------------------------------------
    def read(self, path: str) -> bytes:
        """All bytes of a file. Raises FileNotFoundError, StorageError, Torn where a folder lies in its place."""
        if self.is_local:
            with self.open(path) as file:
                return self._local_read(path, file.read)
        return self._call("read", path, lambda: self.fs.cat_file(self.path(path)))

    def ranges(self, path: str, places: Sequence[tuple[int, int]]) -> list[bytes]:
        """The bytes of a file from start to stop, for each of `places`. Raises FileNotFoundError, StorageError."""
        starts, stops = [start for start, _ in places], [stop for _, stop in places]
        where = [self.path(path)] * len(places)
        return self._call("read", path, lambda: self.fs.cat_ranges(where, starts, stops, on_error="raise"))

    def lines(self, path: str) -> Iterator[bytes]:
        """The lines of a file, one after the other where the file system can. Raises FileNotFoundError."""
        if not self.is_local:
            yield from self.read(path).splitlines(keepends=True)
            return
        with self.open(path) as file:
            yield from file

    def read_json(self, path: str) -> Any:
        """What `write_json` or `create_json` put there. Raises FileNotFoundError, StorageError, Torn."""
        try:
            return sealed.load(path, self.read(path))
        except Torn as error:
            raise Torn(f"{self.full(path)}: {error}. Next: hyperloom verify --repair") from error

    def open(self, path: str) -> Any:
        """A seekable binary reader. Raises FileNotFoundError, StorageError, Torn where a folder lies in its place."""
        if self.is_local:
            return self._local_read(path, lambda: open(self.path(path), "rb"))
        return self._call("open", path, lambda: self.fs.open(self.path(path), "rb"))

    def exists(self, path: str) -> bool:
        if self.is_local:
            return os.path.exists(self.path(path))
        try:  # not fs.exists: to some file systems that is also what a connection that dropped looks like
            self._call("look for", path, lambda: self.fs.info(self.path(path)))
        except FileNotFoundError:
            return False
        return True

    def size(self, path: str) -> int | None:
        """Bytes of a file; None when it is not there."""
        try:
            if self.is_local:
                return os.stat(self.path(path)).st_size
            return self._call("look for", path, lambda: self.fs.size(self.path(path)))
        except FileNotFoundError:
            return None

    def names(self, folder: str) -> list[str]:
        """Names of what lies directly in a folder, sorted; empty when there is none. Temporary files are left out."""
        try:
            if self.is_local:
                names = os.listdir(self.path(folder))
            else:
                listed = self._call("list", folder, lambda: self._list(folder))
                names = [i["name"].rstrip("/").rsplit("/", 1)[-1] for i in listed]
        except (FileNotFoundError, NotADirectoryError):
            return []
        return sorted(n for n in names if not n.startswith(".tmp-") and n)

    def sizes(self, folder: str) -> dict[str, int]:
        """Name -> bytes of the files that lie directly in a folder; empty when there is none."""
        try:
            if self.is_local:
                return {name: about.st_size for name, about in disk.files(self.path(folder))}
            listed = self._call("list", folder, lambda: self._list(folder))
            return {i["name"].rsplit("/", 1)[-1]: i["size"] for i in listed}
        except (FileNotFoundError, NotADirectoryError):
            return {}

    def times(self, folder: str) -> dict[str, float]:
        """Name -> when the store last wrote it, in seconds by its own clock, of the files directly in a folder."""
        try:
            if self.is_local:
                return {name: about.st_mtime for name, about in disk.files(self.path(folder))}
            listed = self._call("list", folder, lambda: self._list(folder))
            return {i["name"].rsplit("/", 1)[-1]: _when(i) for i in listed}
        except (FileNotFoundError, NotADirectoryError):
            return {}

    def walk(self, folder: str, folders: bool = False) -> Iterator[str]:
        """Relative paths of all files below a folder, sorted; of `folders` too, ending in a slash, where the file
        system has any."""
        base = self.path(folder)
        if self.is_local:
            try:
                yield from disk.below(base, f"{folder}/" if folder else "", folders)
            except OSError as error:
                raise _explained("list", self.full(folder), error) from error
            return
        for path in sorted(self._call("list", folder, lambda: self._find(base))):
            yield f"{folder}/{path[len(base) :].lstrip('/')}" if folder else path[len(base) :].lstrip("/")

    # -- writing ---------------------------------------------------------------------------------------------------
    def write(self, path: str, data: bytes, durable: bool = True) -> None:
        """Put `data` there, atomically, replacing what was. One that need not be `durable` yet must be given to `sync`
        before anything says that it is there. Raises StorageError."""
        if self.is_local:
            self._local(path, data, exclusive=False, durable=durable)
        else:
            self._call("write", path, lambda: self._put(path, data, "overwrite"))

    def overwrite(self, path: str, data: bytes) -> None:
        """Replace what is at `path`, on a full local disk without room for a second copy: then not atomically, so it is
        for small files whose readers know a torn one. Raises StorageError."""
        try:
            self.write(path, data)
        except StorageError as error:
            if error.transient or not self.is_local:
                raise
            try:
                disk.overwrite(self.path(path), data)
            except OSError:
                raise error from None

    def sync(self, path: str) -> None:
        """Wait until a written file would outlive a power failure. Raises StorageError."""
        if not self.is_local:
            return
        try:
            disk.sync(self.path(path))
        except OSError as error:
            raise _explained("write", self.full(path), error) from error

    def create(self, path: str, data: bytes | Iterable[bytes]) -> bool:
        """Put `data` (bytes, or parts of them in order) there unless something is there already; True when this call
        made it. Raises StorageError."""
        if self.is_local:
            return self._local(path, data, exclusive=True)
        whole = data if isinstance(data, bytes) else b"".join(data)
        try:
            return self._call("create", path, lambda: self._put(path, whole, "create"))
        except FileExistsError:
            return False

    def write_json(self, path: str, value: Any) -> None:
        """Put a sealed document there (pipeline.root.sealed), as `write` does."""
        self.write(path, sealed.dump(path, value))

    def create_json(self, path: str, value: Any) -> bool:
        """Put a sealed document there unless something is there already, as `create` does."""
        return self.create(path, sealed.dump(path, value))

    def delete(self, path: str) -> None:
        """Remove a file or a folder with all below it; nothing happens when it is not there."""
        try:
            if self.is_local and not os.path.isdir(self.path(path)):
                os.unlink(self.path(path))
            else:
                where = self.path(path)
                self._call("delete", path, lambda: self.fs.info(where))  # rm takes a dropped connection for "not there"
                self._call("delete", path, lambda: self.fs.rm(where, recursive=True))
        except FileNotFoundError:
            pass

    def check_writable(self) -> None:
        """Raise StorageError, saying why, when nothing can be written below the root."""
        probe = f".probe-{uuid.uuid4().hex[:8]}"
        self.write(probe, b"hyperloom")
        self.delete(probe)

    @property
    def exclusive(self) -> bool:
        """Does this store keep the promise of `create`? Found out by the first question."""
        if self._exclusive is None:
            self._exclusive = self.probe_exclusive()
        return self._exclusive

    def probe_exclusive(self) -> bool:
        """Does this store refuse the second of two exclusive creations?"""
        if self.is_local:
            return True
        probe = f".probe-{uuid.uuid4().hex[:8]}"
        try:
            first, second = self.create(probe, b"1"), self.create(probe, b"2")
        except (NotImplementedError, ValueError):
            return False
        finally:
            self.delete(probe)
        return first and not second

    # -- inside ----------------------------------------------------------------------------------------------------
    def _local_read(self, path: str, function: Callable[[], Any]) -> Any:
        """What `function` gives, which reads a file on the local disk."""
        try:
            return function()
        except FileNotFoundError:
            raise
        except NotADirectoryError as error:
            raise FileNotFoundError(str(error)) from error
        except IsADirectoryError as error:
            raise Torn(
                f"{self.full(path)}: a folder lies in the place of a file. Next: hyperloom verify --repair"
            ) from error
        except OSError as error:
            raise _explained("read", self.full(path), error) from error

    def _local(self, path: str, data: bytes | Iterable[bytes], exclusive: bool, durable: bool = True) -> bool:
        parts: Iterable[bytes] = [data] if isinstance(data, bytes) else data
        try:
            return disk.write(self.path(path), parts, exclusive, durable)
        except OSError as error:
            raise _explained("write", self.full(path), error) from error

    def _put(self, path: str, data: bytes, mode: str) -> bool:
        if self._sftp is not None:
            return self._sftp.write(self.path(path), data, exclusive=mode == "create")
        self.fs.pipe_file(self.path(path), data, **({"mode": mode} if mode == "create" else {}))
        return True

    def _find(self, base: str) -> list[str]:
        self.fs.invalidate_cache()  # what was listed before may have changed
        return self.fs.find(base)

    def _list(self, folder: str) -> list[dict[str, Any]]:
        self.fs.invalidate_cache()
        return self.fs.ls(self.path(folder), detail=True)

    def _call(self, what: str, path: str, function: Callable[[], Any]) -> Any:
        """What `function` gives; everything but a missing or present file comes out as a StorageError."""
        try:
            return function()
        except (FileNotFoundError, FileExistsError, NotImplementedError, ValueError, PluginError):
            raise
        except Exception as error:  # fsspec back ends raise whatever their client library raises
            if self._sftp is not None:
                self._sftp.drop()
            raise _explained(what, self.full(path), error) from error


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _when(entry: dict[str, Any]) -> float:
    """When the store wrote what it lists so; file systems name it differently."""
    time = next((entry[k] for k in ("LastModified", "mtime", "last_modified", "created") if entry.get(k)), 0.0)
    return time.timestamp() if isinstance(time, datetime) else float(time)


def _explained(what: str, where: str, error: Exception) -> StorageError:
    code = getattr(error, "errno", None)
    advice = {
        errno.ENOSPC: "the disk is full: free some space, then run the same command again; what was committed is kept",
        errno.EDQUOT: "the disk quota is used up: free some space, then run the same command again",
        errno.EROFS: "the file system is read-only: give another root with --root",
        errno.EACCES: "permission denied: give another root with --root, or change its owner",
        errno.EPERM: "permission denied: give another root with --root, or change its owner",
        errno.EISDIR: "a folder lies in the place of a file: hyperloom verify --repair removes it",
        errno.ENOTDIR: "a part of this path is a file, not a folder: give another root with --root",
    }.get(code or 0, "run the same command again once the store answers; what was committed is kept")
    lasting = code in (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EISDIR, errno.ENOTDIR)
    return StorageError(f"cannot {what} {where}: {_said(error)}. Next: {advice}", transient=not lasting)


def _said(error: Exception) -> str:
    """Some client libraries raise without a word."""
    return str(error) or type(error).__name__
