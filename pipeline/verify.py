"""Integrity of a root: re-read what manifests promise, and remove what no manifest names."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

from hyperloom.pipeline import manifest
from hyperloom.pipeline.manifest import Manifest
from hyperloom.pipeline.storage import Storage, sha256
from hyperloom.pipeline.units import File, record_path

THREADS = 4


def manifests(storage: Storage) -> Iterator[Manifest]:
    """All manifests under a root. Raises IntegrityError for a torn one."""
    for stage in storage.names(""):
        for name in storage.names(stage):
            path = f"{stage}/{name}/manifest.json"
            try:
                yield manifest.read(storage, path)
            except FileNotFoundError:
                continue


def verify(storage: Storage, listed: list[Manifest]) -> list[str]:
    """Sentences, one for each file that is missing, cut short, or whose bytes changed. Empty means all is well."""
    files = {f.path: f for m in listed for f in m.all_files()}
    with ThreadPoolExecutor(THREADS) as threads:
        return [problem for problem in threads.map(lambda f: _check(storage, f, files), files.values()) if problem]


def _check(storage: Storage, file: File, files: dict[str, File]) -> str:
    try:
        data = storage.read(file.path)
    except FileNotFoundError:
        return f"{file.path} is missing"
    if len(data) == file.bytes and sha256(data) == file.sha256:
        return ""
    if file.path.endswith(".parquet") and (foreign := _foreign(storage, file, data, files)):
        return f"{file.path} {foreign}"
    if len(data) != file.bytes:
        return f"{file.path} has {len(data)} bytes instead of {file.bytes}"
    return f"{file.path} was changed: its checksum is not the one committed"


def _foreign(storage: Storage, file: File, data: bytes, files: dict[str, File]) -> str:
    """Of a changed file that is whole Parquet all the same: how its columns differ from those of its companions."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    folder = file.path.rpartition("/")[0]
    for other in files.values():
        if other.path.rpartition("/")[0] != folder or other is file or not other.path.endswith(".parquet"):
            continue
        try:
            got = pq.read_schema(pa.BufferReader(data))
            expected = pq.read_schema(pa.BufferReader(storage.read(other.path)))
        except (pa.ArrowInvalid, FileNotFoundError):
            return ""
        if got.equals(expected, check_metadata=True):
            return ""
        named = ", ".join(f"{f.name}: {f.type}" for f in got if f not in list(expected)) or "other metadata"
        return f"holds a foreign schema: expected {expected.names}, got {got.names} ({named})"
    return ""


def discard(storage: Storage, problems: list[str]) -> None:
    """Remove the files that `verify` named, so that the next run makes them again."""
    for problem in problems:
        storage.delete(problem.split(" ", 1)[0])


def garbage(storage: Storage) -> list[str]:
    """Data files and records that no manifest under the root names: leftovers of failed attempts and of replays."""
    named: set[str] = set()
    for each in manifests(storage):
        named.update(f.path for f in each.all_files())
        named.update(record_path(r.space, r.id) for r in each.records)
    out = []
    for top in storage.names(""):
        for sub in storage.names(top):
            for kind in ("data", "units"):
                folder = f"{top}/{sub}/{kind}"
                out += [f"{folder}/{n}" for n in storage.names(folder) if f"{folder}/{n}" not in named]
    return out
