"""Packs: copies of committed records, thousands in one file, so that a rerun reads hundreds of files and not a million.

    {space}/packs/{digest}.json    sealed (pipeline.root.sealed): a list of lines (pipeline.commits.records)

A unit's own record stays the commit, and its presence in a listing decides; a pack only saves reading it. So packs may
be torn, gone, or written twice by two drivers, and nothing is lost or done again. Whoever takes commits back drops the
packs of the space first: else a unit that is done again would have the record of its first time.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from threading import Lock

from hyperloom.pipeline.commits.records import id_of
from hyperloom.pipeline.errors import StorageError, Torn
from hyperloom.pipeline.root import sealed
from hyperloom.pipeline.root.storage import Storage, sha256

MOST, LEAST = 4096, 256
"""Records in a pack: when one is written, and how many are worth one at the end of a step."""
THREADS = 16


class Packer:
    """Gathers the lines of a step's records and writes a pack of a space whenever there are enough. Thread-safe."""

    def __init__(self, storage: Storage):
        self.storage = storage
        self._lines: dict[str, list[bytes]] = {}
        self._lock = Lock()

    def add(self, space: str, line: bytes) -> None:
        with self._lock:
            self._lines.setdefault(space, []).append(line)
            if len(self._lines[space]) >= MOST:
                self._write(space, self._lines.pop(space))

    def end(self) -> None:
        """Write what is left and worth it."""
        with self._lock:
            for space, lines in self._lines.items():
                if len(lines) >= LEAST:
                    self._write(space, lines)
            self._lines.clear()

    def _write(self, space: str, lines: list[bytes]) -> None:
        text = b"[\n" + b",\n".join(sorted(lines)) + b"\n]"
        path = f"{space}/packs/{sha256(text)[:12]}.json"
        try:
            self.storage.create(path, sealed.wrap(path, text))
        except StorageError:
            pass  # the records are there


def load(storage: Storage, space: str) -> dict[str, bytes]:
    """The lines of a space's packs by the unit's id. What is torn is left out."""
    paths = [f"{space}/packs/{name}" for name in storage.names(f"{space}/packs")]
    if storage.is_local or len(paths) < 2:
        return dict(pair for path in paths for pair in _pairs(storage, path))
    with ThreadPoolExecutor(THREADS) as threads:
        return dict(pair for pairs in threads.map(lambda path: list(_pairs(storage, path)), paths) for pair in pairs)


def drop(storage: Storage, spaces: Iterable[str]) -> None:
    """Remove all packs of these spaces."""
    for space in set(spaces):
        if storage.names(f"{space}/packs"):
            storage.delete(f"{space}/packs")


def _pairs(storage: Storage, path: str) -> Iterator[tuple[str, bytes]]:
    try:
        text = sealed.unwrap(path, storage.read(path))
    except (FileNotFoundError, Torn):
        return
    for line in text[2:-2].split(b",\n"):
        yield id_of(line), line
