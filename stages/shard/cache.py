"""A cache on the local disk for what comes from a remote store: pieces of files, named by where they come from.

    {folder}/{first two digits}/{sha256 of the name}      the piece, then the sha256 of name and piece

All processes of a node share it, and it needs no server: a piece appears by renaming, so a process that dies leaves
nothing that looks whole; a piece whose size or digest is wrong counts as absent and goes. Data files are never
rewritten under one name, so what is here is never out of date. When the pieces exceed the limit, the ones longest
unused go (a hit renews a piece's time), under a lock that dies with its holder. A disk that is full or read-only
costs the cache, not the training: then everything comes from the store.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import time
import uuid
from pathlib import Path

DIGEST = 32
SLACK = 0.9
"""Cleaning goes on until no more than this share of the limit is used, so that it happens seldom."""
STALE = 3600.0
"""Seconds after which a temporary file belongs to nobody."""


class DiskCache:
    """At most `limit` bytes below `folder`. Thread-safe. Cheap to build; processes may share a folder."""

    def __init__(self, folder: str | Path, limit: float):
        if limit <= 0:
            raise ValueError(f"the limit of a cache is a number of bytes above 0, got {limit}")
        self.folder, self.limit = Path(folder).expanduser(), int(limit)
        self._checked: set[str] = set()

    def get(self, name: str) -> bytes | None:
        """The piece, if it is here and whole. Its digest is compared once by each process, its size always."""
        path = self._path(name)
        try:
            data = path.read_bytes()
            os.utime(path)
        except OSError:
            return None
        body, digest = data[:-DIGEST], data[-DIGEST:]
        mark = f"{path.name}{len(data)}"
        if mark not in self._checked:
            if _digest(name, body) != digest:
                _remove(path)
                return None
            self._checked.add(mark)
        return body

    def put(self, name: str, data: bytes) -> None:
        """Keep a piece, and make room for it."""
        path, size = self._path(name), len(data) + DIGEST
        temporary = path.with_name(f".tmp-{uuid.uuid4().hex}")
        try:
            if size > self.limit or not self._reserve(size, temporary):
                return
            with temporary.open("r+b") as file:
                file.write(data)
                file.write(_digest(name, data))
            temporary.replace(path)
        except OSError:
            _remove(temporary)

    def _reserve(self, size: int, temporary: Path) -> bool:
        """Count `size` more bytes, over all processes; what was not used for longest goes where they are too many.

        They are there at once, as the size of the file `temporary`: who looks through the folder meanwhile counts them.
        """
        temporary.parent.mkdir(parents=True, exist_ok=True)
        with (self.folder / ".used").open("a+") as count:
            fcntl.flock(count, fcntl.LOCK_EX)
            count.seek(0)
            text = count.read()
            used = int(text) if text.isdigit() else self.limit
            used += size
            if used > self.limit:
                used = self._clean(int(SLACK * self.limit) - size) + size
            count.seek(0)
            count.truncate()
            count.write(str(used))
            if used > self.limit:
                return False
            with temporary.open("xb") as file:
                file.truncate(size)
        return True

    def _clean(self, room: int) -> int:
        """Remove what was not used for longest until no more than `room` bytes are left; how many those are."""
        pieces = sorted(self._pieces())
        used = sum(size for _, size, _ in pieces)
        for _, size, path in pieces:
            if used <= room:
                break
            _remove(path)
            used -= size
        return used

    def _pieces(self) -> list[tuple[float, int, Path]]:
        """When last used, bytes and path of every piece; temporary files that nobody writes any more go."""
        pieces = []
        for path in self.folder.glob("??/*"):
            try:
                about = path.stat()
            except OSError:
                continue
            if path.name.startswith(".tmp-") and time.time() - about.st_mtime > STALE:
                _remove(path)
            else:
                pieces.append((about.st_mtime, about.st_size, path))
        return pieces

    def _path(self, name: str) -> Path:
        digest = hashlib.sha256(name.encode()).hexdigest()
        return self.folder / digest[:2] / digest


def _digest(name: str, data: bytes) -> bytes:
    digest = hashlib.sha256(name.encode())
    digest.update(data)
    return digest.digest()


def _remove(path: Path) -> None:
    try:
        path.unlink()
    except OSError:
        pass
