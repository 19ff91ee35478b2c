"""Integrity of a root: is every file under it what was written there? And away with what is not.

Every file is looked at: what manifests name is read again and compared with their digests, what carries a digest of
its own is held against it (`pipeline.root.inventory` says which is which). A problem is one file and one sentence, and
the look goes on after it. To mend is to remove: whatever is gone is made again by the next run, and whoever reads it
meanwhile takes it for not done. Large files are read side by side, small ones one after the other, since threads of
Python would only wait for each other there.
"""

from __future__ import annotations

import hashlib
import re
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from hyperloom.pipeline.commits import manifest
from hyperloom.pipeline.commits.manifest import Manifest
from hyperloom.pipeline.commits.units import File, record_path
from hyperloom.pipeline.errors import HyperloomError, Torn
from hyperloom.pipeline.root import chain, events, inventory, sealed
from hyperloom.pipeline.root.storage import Storage, sha256

THREADS, REMOTE_THREADS = 4, 16
AHEAD = 16
"""Files that wait for a thread, for each thread."""
SMALL = 1 << 18
"""Bytes up to which a file is read in one piece, and a local one in the thread that asks."""
_DIGEST = re.compile(r"-([0-9a-f]{12})\.\w+$")
"""The digest in the name of a file whose record or step may not be committed yet."""


@dataclass(frozen=True)
class Problem:
    """One file and what is wrong with it, as the rest of a sentence that begins with its path."""

    path: str
    what: str

    def __str__(self) -> str:
        return f"{self.path} {self.what}"


@dataclass
class Verified:
    """What was looked at, and what is wrong."""

    manifests: list[Manifest] = field(default_factory=list)
    files: int = 0
    problems: list[Problem] = field(default_factory=list)


Job = tuple[str, Callable[[str, Any], str], Any]
"""A file, what says what is wrong with it (in a few words, or nothing), and what that has to know."""


def verify(storage: Storage) -> Verified:
    """Look at every file under the root. Raises StorageError only where the root itself cannot be listed."""
    report = Verified()
    for path, form in _kinds(storage):
        if form == "manifest" and not path.endswith("/"):
            _read(storage, path, report)
    wrong = {p.path: p for p in _all(storage, _jobs(storage, report)) if p is not None}
    wrong.update((p.path, p) for p in report.problems)
    report.problems = [wrong[path] for path in sorted(wrong)]
    return report


def _kinds(storage: Storage) -> Iterator[tuple[str, inventory.Form]]:
    """The files under the root that can be looked at, and their forms; a folder in the place of one ends in a slash."""
    for path in storage.walk("", folders=True):
        kind = inventory.kind(path.rstrip("/"))
        if kind is not None and kind.form != "passing" and "/.tmp-" not in path:
            yield path, kind.form


def _jobs(storage: Storage, report: Verified) -> Iterator[Job]:
    """What is to be looked at beside manifests, one after the other: a root may have millions of files."""
    look, named = _Look(storage, report.manifests), set[str]()
    report.files = len(report.manifests)
    for file in (f for m in report.manifests for f in m.all_files()):
        if file.path not in named:
            named.add(file.path)
            report.files += 1
            yield file.path, look.by_manifest, file
    for path, form in _kinds(storage):
        if path.endswith("/"):
            report.problems.append(Problem(path.rstrip("/"), "is a folder, where a file belongs"))
        elif form != "manifest" and path not in named:
            report.files += 1
            yield path, look.by_name if form == "named" else look.by_seal, form


def mend(storage: Storage, problems: Iterable[Problem]) -> list[Problem]:
    """Remove what is not what it should be, so that the next run makes it again; the problems that stay."""
    left = []
    for problem in problems:
        try:
            storage.delete(problem.path)
        except HyperloomError as error:
            left.append(Problem(problem.path, f"cannot be removed: {error}"))
    return left


def manifests(storage: Storage) -> Iterator[Manifest]:
    """All manifests under a root. Raises Torn: nobody knows what a torn one names."""
    for stage in storage.names(""):
        for name in storage.names(stage):
            try:
                yield manifest.read(storage, f"{stage}/{name}/manifest.json")
            except FileNotFoundError:
                continue


def garbage(storage: Storage) -> list[str]:
    """Data files and records that no manifest under the root names, leftovers of failed attempts and of replays, and
    temporary files of processes that died. Raises Torn when a manifest is."""
    named: set[str] = set()
    for each in manifests(storage):
        named.update(f.path for f in each.all_files())
        named.update(record_path(r.space, r.id) for r in each.records)
    out = []
    for top in storage.names(""):
        for sub in storage.names(top):
            loose = [p for kind in ("data", "units") for p in _files(storage, f"{top}/{sub}/{kind}") if p not in named]
            out += loose + (_files(storage, f"{top}/{sub}/packs") if loose else [])
    out += [path for path in storage.walk("") if "/.tmp-" in f"/{path}"]
    return out


def _files(storage: Storage, folder: str) -> list[str]:
    return [f"{folder}/{name}" for name in storage.names(folder)]


def _all(storage: Storage, jobs: Iterator[Job]) -> Iterator[Problem | None]:
    """Large files side by side, and small ones too where the store is far; else these in this thread. Some at a time:
    what waits takes memory."""
    count = THREADS if storage.is_local else REMOTE_THREADS
    with ThreadPoolExecutor(count) as threads:
        coming: deque[Future[Problem | None]] = deque()
        for job in jobs:
            about = job[2]
            if storage.is_local and not (isinstance(about, File) and about.bytes > SMALL):
                yield _done(job)
                continue
            coming.append(threads.submit(_done, job))
            while len(coming) > AHEAD * count or (coming and coming[0].done()):
                yield coming.popleft().result()
        yield from (future.result() for future in coming)


def _done(job: Job) -> Problem | None:
    path, check, about = job
    try:
        what = check(path, about)
    except FileNotFoundError:
        what = "is missing"
    except HyperloomError as error:
        what = f"cannot be read: {error}"
    return Problem(path, what) if what else None


def _read(storage: Storage, path: str, report: Verified) -> None:
    try:
        report.manifests.append(manifest.read(storage, path))
    except FileNotFoundError:
        pass  # somebody has taken it back meanwhile
    except HyperloomError as error:
        what = str(error).removeprefix(f"{storage.full(path)}: ").partition(". Next: ")[0]
        report.problems.append(Problem(path, f"is no whole manifest: {what}"))


class _Look:
    """How a file is compared with what is known of it: what `manifests` say of theirs."""

    def __init__(self, storage: Storage, manifests: list[Manifest]):
        self._storage, self._manifests = storage, manifests
        self._folders: dict[str, list[str]] = {}

    def by_manifest(self, path: str, file: File) -> str:
        if file.bytes > SMALL and self._storage.is_local:
            size, digest = self._streamed(path)
        else:
            data = self._storage.read(path)
            size, digest = len(data), sha256(data)
        if digest == file.sha256 and size == file.bytes:
            return ""
        if foreign := self._foreign(file):
            return foreign
        if size != file.bytes:
            return f"has {size} bytes instead of {file.bytes}"
        return "was changed: its checksum is not the one committed"

    def by_seal(self, path: str, form: inventory.Form) -> str:
        try:
            data = self._storage.read(path)
        except FileNotFoundError:
            return ""  # a driver has removed it meanwhile
        try:
            if form == "events":
                events.load(path, data)
            else:
                sealed.unwrap(chain.place(path), data)
        except Torn as error:
            return f"is torn: {error}"
        return ""

    def by_name(self, path: str, form: inventory.Form) -> str:
        """Of a file that is not committed yet, or whose manifest is gone."""
        digest = _DIGEST.search(path)
        try:
            same = digest is None or self._streamed(path)[1].startswith(digest[1])
        except FileNotFoundError:
            return ""  # removed meanwhile
        return "" if same else "was changed: its bytes are not those that its name promises"

    def _streamed(self, path: str) -> tuple[int, str]:
        with self._storage.open(path) as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
            return file.tell(), digest

    def _foreign(self, file: File) -> str:
        """Of a changed file that is whole Parquet all the same: how its columns differ from those of its companions."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        if not file.path.endswith(".parquet"):
            return ""
        if not self._folders:
            for path in (f.path for m in self._manifests for f in m.all_files()):
                if path.endswith(".parquet"):
                    self._folders.setdefault(path.rpartition("/")[0], []).append(path)
        for other in self._folders[file.path.rpartition("/")[0]][:2]:
            if other == file.path:
                continue
            try:
                got, expected = (pq.read_schema(pa.BufferReader(self._storage.read(p))) for p in (file.path, other))
            except (pa.ArrowException, OSError, HyperloomError):
                return ""
            if got.equals(expected, check_metadata=True):
                return ""
            named = ", ".join(f"{f.name}: {f.type}" for f in got if f not in list(expected)) or "other metadata"
            return f"holds a foreign schema: expected {expected.names}, got {got.names} ({named})"
        return ""
